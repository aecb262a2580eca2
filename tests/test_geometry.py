"""The fit of a similarity transform, checked against known transforms and a numerical solver."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import least_squares

from workbench.geometry import ARCFACE, umeyama


def _similarity(angle: float, scale: float) -> NDArray[np.float64]:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(-3.1, 3.1), st.floats(0.1, 10), st.floats(-50, 50))
def test_it_recovers_a_known_transform(seed: int, angle: float, scale: float, away: float) -> None:
    source = np.random.RandomState(seed).uniform(-1, 1, (5, 2))
    expected = _similarity(angle, scale)
    matrix, offset = umeyama(source, source @ expected.T + [away, -away])
    assert np.allclose(matrix, expected, atol=1e-8 * scale)
    assert np.allclose(offset, [away, -away], atol=1e-7)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_it_is_the_least_squares_solution(seed: int, mirrored: bool) -> None:
    draw = np.random.RandomState(seed)
    source, target = (
        ARCFACE + draw.uniform(-20, 20, (5, 2)),
        ARCFACE + draw.uniform(-20, 20, (5, 2)),
    )
    if mirrored:
        target = target * [-1, 1]
    matrix, offset = umeyama(source, target)
    assert matrix[0, 0] == pytest.approx(matrix[1, 1])
    assert matrix[0, 1] == pytest.approx(-matrix[1, 0])
    assert np.linalg.det(matrix) > 0  # a rotation, never a reflection

    def residuals(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return (source @ np.array([[p[0], -p[1]], [p[1], p[0]]]).T + p[2:] - target).ravel()

    best = least_squares(residuals, np.array([1.0, 0.1, 0, 0])).cost
    ours = ((source @ matrix.T + offset - target) ** 2).sum() / 2
    assert ours == pytest.approx(best, rel=1e-6, abs=1e-9)


def test_the_template_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        ARCFACE[0, 0] = 0.0
