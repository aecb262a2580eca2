"""Every hairstyle is a valid mesh outside the skin, on every head."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from valid_piece import check

from workbench.synthfaces.anatomy import SKIN, Anatomy
from workbench.synthfaces.hair import (
    ANGLES,
    MEN,
    MIDDLE,
    WOMEN,
    Piece,
    Style,
    beard_pieces,
    hair_pieces,
    hairline,
    hat_piece,
    style_of_day,
)
from workbench.synthfaces.person import Person, head_of, person, stream
from workbench.synthfaces.shade import CLOTH, HAIR

DRAWS = 200
Worn = tuple[Person, float, Style]


@pytest.fixture(scope="module")
def worn(head: Anatomy) -> list[Worn]:
    """The styles of many people on a day, half of them women."""
    found = []
    for number in range(DRAWS):
        who = person(head, number)
        age = (22.0, 35.0, 50.0, 70.0, 85.0)[number % 5]
        found.append((who, age, style_of_day(who, age, stream(77, number))))
    return found


@pytest.fixture(scope="module")
def shells(head: Anatomy, worn: list[Worn]) -> list[tuple[Worn, NDArray[np.float32], list[Piece]]]:
    found = []
    for who, age, style in worn:
        shaped = head_of(head, who, age)
        found.append(((who, age, style), shaped, hair_pieces(head, shaped, style, who.pattern)))
    return found


def test_every_style_is_worn_by_somebody(worn: list[Worn]) -> None:
    assert {style.name for who, _, style in worn if who.female} == set(WOMEN)
    assert {style.name for who, _, style in worn if not who.female} == set(MEN)
    assert {who.texture for who, _, _ in worn} == {0, 1, 2, 3}
    for _, _, style in worn:
        assert style.hairline.shape == ANGLES.shape
        assert np.isfinite(style.hairline).all()
        assert style.top >= 0
        assert style.side >= 0
        assert style.layers >= 1
        assert 0 <= style.rough <= 1
        assert style.length is None or -2.6 < style.length < 0


def test_every_style_is_a_valid_mesh(
    shells: list[tuple[Worn, NDArray[np.float32], list[Piece]]],
) -> None:
    for (_, _, style), _, pieces in shells:
        if style.name == "shaved":
            assert pieces == []
            continue
        assert len(pieces) >= style.layers
        for piece in pieces:
            check(piece)
            assert piece.material == HAIR
        hanging = min(float(piece.vertices[:, 1].min()) for piece in pieces)
        assert style.length is None or hanging == pytest.approx(style.length, abs=0.25)


def test_shells_lie_outside_the_skin(
    head: Anatomy, shells: list[tuple[Worn, NDArray[np.float32], list[Piece]]]
) -> None:
    scalp = np.unique(head.triangles[head.part == SKIN])
    scalp = scalp[head.mean[scalp, 1] > 0.3]
    for (_, _, style), shaped, pieces in shells[::4]:
        if not pieces:
            continue
        corners = shaped[head.triangles[head.part == SKIN]]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
        middles = corners.mean(axis=1)
        tree = cKDTree(middles)
        for piece in pieces[: style.layers]:
            high = np.unique(piece.triangles)
            high = high[piece.vertices[high, 1] > 0.3]
            nearest = tree.query(piece.vertices[high])[1]
            out = ((piece.vertices[high] - middles[nearest]) * normals[nearest]).sum(axis=1)
            assert out.min() > -0.03, style.name  # the edges of the mesh are about 1.5 cm long
            assert (out > 0).mean() > 0.97


def test_layers_lie_one_on_another(
    shells: list[tuple[Worn, NDArray[np.float32], list[Piece]]],
) -> None:
    for (_, _, style), _, pieces in shells:
        lifted = [
            np.linalg.norm(piece.vertices - MIDDLE, axis=1) for piece in pieces[: style.layers]
        ]
        for below, above in pairwise(lifted):
            assert (above >= below - 0.02).all()  # the random lumps cause small dents
            assert (above > below + 0.01).any()


def test_nobody_without_hair_has_shells(head: Anatomy, worn: list[Worn]) -> None:
    who, age, style = worn[1]
    for bald in (replace(style, name="shaved"), replace(style, top=0.0)):
        assert hair_pieces(head, head_of(head, who, age), bald, 0) == []


def test_hair_is_the_same_for_the_same_seed(head: Anatomy, worn: list[Worn]) -> None:
    who, age, style = next(one for one in worn if one[2].length is not None)
    shaped = head_of(head, who, age)
    once, again, other = (hair_pieces(head, shaped, style, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a.vertices, b.vertices) for a, b in zip(once, again, strict=True))
    assert not np.array_equal(once[0].vertices, other[0].vertices)


def test_hairlines_recede_with_the_years(head: Anatomy, worn: list[Worn]) -> None:
    for who, _, _ in worn[:40]:
        young, old = hairline(who, 25.0), hairline(who, 75.0)
        assert (old >= young - 1e-6).all()
        assert np.isfinite(old).all()
        if who.female:
            assert np.array_equal(old, young)
        elif who.balding > 0.5:
            assert old[ANGLES < 60].mean() > young[ANGLES < 60].mean() + 0.02
        assert young[0] > 0.4  # above the brows
        assert young[-1] < 0  # down to the neck


@pytest.mark.parametrize("length", [0.03, 0.08])
def test_a_full_beard_lies_on_jaw_and_chin(head: Anatomy, worn: list[Worn], length: float) -> None:
    who, age, _ = worn[1]
    shaped = head_of(head, who, age)
    pieces = beard_pieces(head, shaped, length)
    assert pieces
    chin = shaped[head.landmarks[1:], 1].mean()
    for piece in pieces:
        check(piece)
        drawn = piece.vertices[piece.cover > 0.3]
        assert drawn[:, 1].max() < 0.15
        assert drawn[:, 1].min() < chin - 0.2
        mouth = piece.rest[piece.cover > 0][:, :2] - head.mean[head.landmarks[1:], :2].mean(axis=0)
        assert np.linalg.norm(mouth * [0.5, 1], axis=1).min() > 0.05


@pytest.mark.parametrize("low", [0.42, 0.6])
def test_a_cap_covers_the_crown_and_spares_the_eyes(
    head: Anatomy, worn: list[Worn], low: float
) -> None:
    for who, age, style in worn[:12]:
        shaped = head_of(head, who, age)
        cap = hat_piece(head, shaped, style, low)
        check(cap)
        assert cap.material == CLOTH
        drawn = np.unique(cap.triangles)
        assert (cap.cover[drawn] == 2).all()
        assert cap.vertices[drawn, 1].max() > shaped[:, 1].max()
        front = drawn[cap.rest[drawn, 2] > 0]
        assert cap.rest[front, 1].min() > low - 0.15
