"""The painted skin: each kind of paint changes the right texels, in the same way on every day."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from workbench.synthfaces.anatomy import Anatomy
from workbench.synthfaces.hair import hairline
from workbench.synthfaces.paint import Look, hairline_at, paint
from workbench.synthfaces.person import Person, person
from workbench.synthfaces.shot import session

Image = NDArray[np.float32]


@pytest.fixture(scope="module")
def man(head: Anatomy) -> Person:
    return replace(
        person(head, 5),
        tone=0.2,
        skin=np.array([0.6, 0.4, 0.3]),
        hair=np.array([0.03, 0.02, 0.015]),
        beard=1.0,
    )


@pytest.fixture(scope="module")
def bare(man: Person) -> Look:
    """Only skin, without make-up, beard and hair."""
    return Look(
        age=30.0,
        tan=0.0,
        lipstick=np.array([0.3, 0.05, 0.05]),
        lipstick_strength=0.0,
        eyeshadow=0.0,
        blush=0.0,
        beard=0.0,
        moustache=1.0,
        chin=1.0,
        cheeks=1.0,
        hair=man.hair,
        cover=0.0,
        hairline=hairline(man, 30.0),
    )


def _difference(head: Anatomy, who: Person, look: Look, **changes: Any) -> NDArray[np.bool_]:
    """The texels that change with the look."""
    before, after = paint(head, who, look)[0], paint(head, who, replace(look, **changes))[0]
    return np.asarray(np.abs(after - before).max(axis=2) > 1e-6)


def _on(head: Anatomy) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(head.atlas_place[..., 0]))


@pytest.mark.parametrize("number", range(12))
def test_albedo_is_a_share_of_the_light(head: Anatomy, number: int) -> None:
    who = person(head, number)
    for day, age in enumerate((21.0, 50.0, 85.0)):
        albedo, gloss = paint(head, who, session(who, day, age).look)
        assert albedo.shape == (*head.atlas_lips.shape, 3)
        assert gloss.shape == head.atlas_lips.shape
        assert albedo.dtype == gloss.dtype == np.float32
        assert np.isfinite(albedo).all()
        assert np.isfinite(gloss).all()
        assert albedo.min() > 0
        assert albedo.max() <= 1
        assert 0 <= gloss.min() <= gloss.max() <= 1


def test_the_fairest_and_the_darkest_skin_stay_within_bounds(head: Anatomy) -> None:
    crowd = [person(head, number) for number in range(500)]
    for who in (
        max(crowd, key=lambda who: float(who.skin.max())),
        min(crowd, key=lambda who: float(who.skin.min())),
    ):
        albedo, _ = paint(head, who, session(who, 0, 30.0, plain=True).look)
        assert 0 < albedo.min() <= albedo.max() <= 1


def test_skin_is_of_the_persons_colour(head: Anatomy, man: Person, bare: Look) -> None:
    albedo, _ = paint(head, man, bare)
    cheeks = _on(head) & (np.abs(head.atlas_place[..., 2]) < 0.4) & (head.atlas_lips < 0.01)
    assert np.median(albedo[cheeks], axis=0) == pytest.approx(man.skin, rel=0.2)
    tanned, _ = paint(head, man, replace(bare, tan=0.15))
    assert np.median((tanned / albedo)[cheeks]) == pytest.approx(1 - 0.9 * 0.15, abs=0.02)


def test_lipstick_covers_the_lips(head: Anatomy, man: Person, bare: Look) -> None:
    changed = _difference(head, man, bare, lipstick_strength=0.7)
    assert (head.atlas_lips[changed] > 0).all()
    lips = _on(head) & (head.atlas_lips > 0.9)
    assert changed[lips].all()
    painted = paint(head, man, replace(bare, lipstick_strength=1.0))[0][lips]
    assert np.median(painted, axis=0) == pytest.approx(bare.lipstick, rel=0.25)


@pytest.mark.parametrize(
    ("what", "low", "high"), [("eyeshadow", -0.15, 0.45), ("blush", -1.0, 0.15)]
)
def test_make_up_is_in_its_place(
    head: Anatomy, man: Person, bare: Look, what: str, low: float, high: float
) -> None:
    before, after = paint(head, man, bare)[0], paint(head, man, replace(bare, **{what: 1.0}))[0]
    changed = np.abs(after - before).max(axis=2)
    x, y, z = head.atlas_place[changed > 0.25 * changed.max()].T
    assert low < y.min() < y.max() < high
    assert np.abs(x).min() > 0.02
    assert (x > 0).mean() == pytest.approx(0.5, abs=0.1)
    assert z.min() > -0.6


def test_a_beard_grows_below_the_nose(head: Anatomy, man: Person, bare: Look) -> None:
    changed = _difference(head, man, bare, beard=1.0)
    nose, left, right = head.mean[head.landmarks]
    middle = changed & (np.abs(head.atlas_place[..., 0]) < 0.5 * left[0])
    assert head.atlas_place[middle][:, 1].max() < nose[1]
    assert head.atlas_place[changed][:, 1].max() < 0.1  # it meets the hair in front of the ears
    assert not changed[head.atlas_lips > 0.7].any()
    y = head.atlas_place[..., 1]
    sparse = replace(bare, moustache=0.0, chin=0.0, cheeks=0.0)
    only = {
        part: _difference(head, man, sparse, **{"beard": 1.0, part: 1.0})
        for part in ("moustache", "chin", "cheeks")
    }
    assert y[only["moustache"]].min() > left[1] - 0.05
    assert y[only["chin"]].max() < right[1]
    assert not (only["moustache"] & only["chin"]).any()
    assert np.abs(head.atlas_place[only["cheeks"]][:, 0]).min() > 0.15
    woman = replace(man, female=True, beard=0.0)
    assert session(woman, 0, 30.0).look.beard == 0


def test_hair_covers_what_is_above_the_hairline(head: Anatomy, man: Person, bare: Look) -> None:
    on = _on(head)
    x, _, z = head.atlas_place[on].T
    line = np.full(on.shape, np.nan)
    line[on] = [hairline_at(bare.hairline, *place) for place in zip(x, z, strict=True)]
    above = head.atlas_place[..., 1] - line
    changed = _difference(head, man, bare, cover=0.95)
    assert above[changed].min() > -0.1
    assert changed[on & (above > 0.1)].all()
    covered = paint(head, man, replace(bare, cover=1.0))[0][on & (above > 0.15)]
    assert np.median(covered, axis=0) == pytest.approx(man.hair, rel=0.3)


def test_hairline_at_reads_the_table(bare: Look) -> None:
    line = np.linspace(0.7, -0.5, 91).astype(np.float32)
    for degrees in (0.0, 2.0, 33.0, 90.0, 171.0, 180.0, -45.0):
        x, z = 0.5 * np.sin(np.radians(degrees)), -0.7 + 0.5 * np.cos(np.radians(degrees))
        assert hairline_at(line, x, z) == pytest.approx(0.7 - 1.2 * abs(degrees) / 180, abs=1e-4)


def test_folds_darken_with_the_years(head: Anatomy, man: Person, bare: Look) -> None:
    young, old = (paint(head, man, replace(bare, age=age))[0].mean(axis=2) for age in (25.0, 80.0))
    ratio = old / young
    _, left, _ = head.mean[head.landmarks]
    x, y, z = np.moveaxis(head.atlas_place, 2, 0)
    front = _on(head) & (z > -0.3)
    from_nose_to_mouth = front & (np.abs(np.abs(x) - 0.27) < 0.12) & (y > left[1]) & (y < -0.38)
    assert np.quantile(ratio[from_nose_to_mouth], 0.1) < 0.92
    assert np.median(ratio[front]) > 0.95  # the skin between the folds is unchanged
    assert np.quantile(ratio[front], 0.02) < np.quantile(
        1 / ratio[front], 0.02
    )  # hardly any skin becomes lighter
    forehead = front & (y > 0.5) & (y < 0.85) & (np.abs(x) < 0.25)
    assert (
        old[forehead].std() / old[forehead].mean()
        > 1.2 * young[forehead].std() / young[forehead].mean()
    )


def test_moles_stay_where_they_are(head: Anatomy, man: Person, bare: Look) -> None:
    spots = np.array([[0.3, -0.5, 0.03, 0.8], [-0.35, -0.35, 0.025, 0.7]], dtype=np.float32)
    marked, plain = replace(man, moles=spots), replace(man, moles=spots[:0])
    found = []
    for look in (bare, replace(bare, tan=0.1, age=60.0)):
        with_moles, without = paint(head, marked, look)[0], paint(head, plain, look)[0]
        assert (with_moles <= without + 1e-6).all()
        found.append(np.abs(with_moles - without).max(axis=2) > 1e-6)
    assert np.array_equal(*found)
    places = head.atlas_place[found[0]]
    nearest = np.linalg.norm(places[:, None, :2] - spots[None, :, :2], axis=2)
    assert nearest.min(axis=1).max() < 1.5 * 0.03
    assert (nearest.min(axis=0) < 0.01).all()
    assert places[:, 2].min() > -0.4


def test_blotches_are_the_persons_own(head: Anatomy, man: Person, bare: Look) -> None:
    assert np.array_equal(paint(head, man, bare)[0], paint(head, man, bare)[0])
    other = paint(head, replace(man, pattern=man.pattern + 1), bare)[0]
    front = _on(head) & (head.atlas_place[..., 2] > -0.2)
    assert (np.abs(other - paint(head, man, bare)[0])[front].max(axis=1) > 1e-4).mean() > 0.9


def test_brows_lie_above_the_eyes_and_freckles_on_the_face(
    head: Anatomy, man: Person, bare: Look
) -> None:
    shifted = replace(man, brow=man.brow + np.array([0, 0, 0, 0, 0, 0.8]))
    changed = np.abs(paint(head, shifted, bare)[0] - paint(head, man, bare)[0]).max(axis=2) > 1e-6
    x, y, _ = head.atlas_place[changed].T
    assert 0.1 < y.min() < y.max() < 0.6
    assert np.abs(x).max() < 0.75
    freckled = paint(head, replace(man, freckles=0.9), bare)[0]
    plain = paint(head, replace(man, freckles=0.0), bare)[0]
    assert (freckled <= plain + 1e-6).all()
    assert head.atlas_place[(plain - freckled).max(axis=2) > 1e-3][:, 2].min() > -0.6
