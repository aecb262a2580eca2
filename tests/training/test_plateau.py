"""The test for whether a loss has stopped falling, against dlib and an independent fit."""

from __future__ import annotations

import math

import dlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from workbench.training.plateau import (
    RunningGradient,
    count_steps_without_decrease,
    count_steps_without_decrease_robust,
)


def _fitted(values: list[float]) -> RunningGradient:
    line = RunningGradient()
    for value in values:
        line.add(value)
    return line


def _losses(kind: str, count: int, seed: int) -> list[float]:
    rng = np.random.default_rng(seed)
    steps = np.arange(count)
    curve = {
        "flat": np.full(count, 3.0),
        "falling": 8.0 - 0.02 * steps,
        "exponential": 8.0 * np.exp(-steps / (0.2 * count)) + 1.0,
        "rising": 1.0 + 0.01 * steps,
    }[kind]
    noise = rng.normal(0, 0.3, count) + 5 * (rng.random(count) < 0.03)
    return [float(value) for value in curve + noise]


@pytest.mark.parametrize("kind", ["flat", "falling", "exponential", "rising"])
@pytest.mark.parametrize("count", [3, 10, 57, 400])
@pytest.mark.parametrize("seed", range(3))
def test_the_counts_are_those_of_dlib(kind: str, count: int, seed: int) -> None:
    losses = _losses(kind, count, seed)
    for probability in (0.51, 0.9):
        assert count_steps_without_decrease(
            losses, probability
        ) == dlib.count_steps_without_decrease(losses, probability)
        for discard in (0.0, 0.1, 0.25):
            assert count_steps_without_decrease_robust(
                losses, probability, discard
            ) == dlib.count_steps_without_decrease_robust(losses, probability, discard)


@given(st.lists(st.floats(-100, 100).map(lambda x: round(x, 2)), max_size=40))
def test_any_losses_give_the_counts_of_dlib(losses: list[float]) -> None:
    assert count_steps_without_decrease(losses) == dlib.count_steps_without_decrease(losses)
    assert count_steps_without_decrease_robust(losses) == dlib.count_steps_without_decrease_robust(
        losses
    )


@pytest.mark.parametrize("losses", [[], [1.0], [2.0, 1.0], [1.0] * 20, [0.0] * 5, [5, 4, 3, 2, 1]])
def test_short_and_constant_losses_give_the_counts_of_dlib(losses: list[float]) -> None:
    assert count_steps_without_decrease(losses) == dlib.count_steps_without_decrease(losses)
    assert count_steps_without_decrease_robust(losses) == dlib.count_steps_without_decrease_robust(
        losses
    )


def test_a_few_large_losses_at_the_end_are_no_plateau() -> None:
    losses = [10 - 0.1 * step for step in range(90)] + [50.0] * 5
    assert count_steps_without_decrease(losses) > 50
    assert count_steps_without_decrease_robust(losses) < 20


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=60))
def test_the_line_is_the_least_squares_fit(values: list[float]) -> None:
    line = _fitted(values)
    positions = np.arange(len(values), dtype=np.float64)
    expected = stats.linregress(positions, np.array(values, dtype=np.float64))
    assert line.slope == pytest.approx(expected.slope, abs=1e-4)
    assert line.intercept == pytest.approx(expected.intercept, abs=1e-4)
    residual = np.square(values - (expected.slope * positions + expected.intercept)).sum()
    assert line.residual == pytest.approx(residual, rel=1e-3, abs=1e-3)


def test_the_probability_of_a_rise_is_that_of_a_normal_slope() -> None:
    values = _losses("falling", 50, seed=1)
    expected = stats.linregress(np.arange(50), values)
    line = _fitted(values)
    probability = stats.norm.cdf(expected.slope / expected.stderr)
    assert line.probability_of_rise() == pytest.approx(probability, rel=1e-4)
    mirrored = _fitted([-value for value in values])
    assert mirrored.probability_of_rise() == pytest.approx(1 - probability, rel=1e-4)


def test_two_values_have_no_standard_error() -> None:
    with pytest.raises(ValueError, match="fewer than three"):
        _fitted([1.0, 2.0]).probability_of_rise()


def test_a_loss_that_is_nan_is_no_plateau() -> None:
    assert math.isnan(_fitted([1.0, math.nan, 2.0]).probability_of_rise())
    assert count_steps_without_decrease([1.0, 1.0, 1.0, math.nan]) == 0
