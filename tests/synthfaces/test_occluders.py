"""Glasses, masks and hands: valid meshes in the right places."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from valid_piece import check

from workbench.synthfaces.anatomy import TORSO, Anatomy
from workbench.synthfaces.hair import Piece
from workbench.synthfaces.occluders import glasses_piece, hand_piece, mask_piece
from workbench.synthfaces.person import head_of, person, stream
from workbench.synthfaces.raster import rasterise
from workbench.synthfaces.shade import CLOTH, FRAME

share = st.floats(0, 1)
EYES = np.array([[0.29, 0.02, 0.0], [-0.29, 0.02, 0.0]], dtype=np.float32)


def _hides(piece: Piece, places: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which of the (N, 2) places x, y the piece hides from a distant camera."""
    side = 300
    points = piece.vertices.copy()
    points[:, :2] = points[:, :2] * 100 + side / 2
    seen = np.full((side, side), -1, dtype=np.int32)
    rasterise(
        points, piece.triangles, 0, False, np.full((side, side), -np.inf, dtype=np.float32), seen
    )
    column, row = (np.asarray(places) * 100 + side / 2).astype(int).T
    return np.asarray(seen[row, column] >= 0)


@settings(max_examples=60, deadline=None)
@given(st.tuples(share, share, share, share), st.booleans())
def test_glasses_of_every_form(form: tuple[float, float, float, float], dark: bool) -> None:
    piece = glasses_piece(EYES, np.array(form), dark)
    check(piece)
    assert piece.material == FRAME
    assert (piece.cover == 2).all()
    x, y, z = piece.vertices.T
    mirrored = np.sort(np.round(np.stack([np.abs(x), y, z], axis=1), 4), axis=0)
    assert x.max() == pytest.approx(-x.min(), abs=1e-5)
    assert np.allclose(mirrored[::2], mirrored[1::2], atol=0.05)
    assert (
        z[np.abs(x) < 0.5].min() > EYES[:, 2].max() + 0.1
    )  # in front of the eyes; the arms reach back to the ears
    assert z.min() < -0.8
    assert np.abs(y - 0.02).max() < 0.35
    assert _hides(piece, EYES[:, :2]).all() == dark
    assert not _hides(piece, np.array([[0.0, -0.4], [0.0, 0.6]])).any()


def test_larger_numbers_are_larger_glasses() -> None:
    small, large = (glasses_piece(EYES, np.full(4, value), dark=False) for value in (0.0, 1.0))
    front_small, front_large = (
        piece.vertices[piece.vertices[:, 2] > 0.1] for piece in (small, large)
    )
    assert np.ptp(front_large[:, 0]) > np.ptp(front_small[:, 0])
    assert np.ptp(front_large[:, 1]) > np.ptp(front_small[:, 1])


@pytest.mark.parametrize(
    ("top", "bottom", "thickness"),
    [(-0.2, -1.2, 0.05), (-0.08, -1.2, 0.05), (-0.62, -1.9, 0.13), (-0.35, -1.9, 0.13)],
)
def test_cloth_hides_the_mouth_and_spares_the_eyes(
    head: Anatomy, top: float, bottom: float, thickness: float
) -> None:
    for number in range(6):
        shaped = head_of(head, person(head, number), 30.0)
        piece = mask_piece(head, shaped, top, bottom, thickness)
        check(piece)
        assert piece.material == CLOTH
        assert (piece.cover == 2).all()
        _, left, right = shaped[head.landmarks]
        eyes = np.array([shaped[head.eye_vertices == eye].mean(axis=0) for eye in (1, 2)])
        assert _hides(
            piece, np.array([left[:2] * 0.8 + right[:2] * 0.2, (left + right)[:2] / 2])
        ).all()
        assert not _hides(piece, eyes[:, :2]).any()
        # The cloth is in front of the skin that it covers.
        assert piece.vertices[:, 2].max() > shaped[head.landmarks[1:], 2].max()


@settings(max_examples=40, deadline=None)
@given(st.floats(-0.45, 0.45), st.floats(-0.85, 0.1), st.floats(-1, 1), st.integers(0, 1000))
def test_a_hand_is_where_it_is_put(x: float, y: float, turn: float, seed: int) -> None:
    place = np.array([x, y, 0.62])
    piece = hand_piece(place, turn, stream(5, seed))
    check(piece)
    assert piece.material == TORSO
    assert (piece.cover == 2).all()
    near = np.stack(np.meshgrid(*[np.linspace(-0.2, 0.2, 9)] * 2), axis=-1).reshape(-1, 2)
    assert _hides(piece, place[:2] + near).mean() > 0.5
    assert np.linalg.norm(piece.vertices - place, axis=1).max() < 1.0  # a hand is at most 2 dm long
    straight = hand_piece(place, 0.0, stream(5, seed))
    assert np.linalg.norm(piece.vertices - place, axis=1) == pytest.approx(
        np.linalg.norm(straight.vertices - place, axis=1), abs=1e-4
    )
