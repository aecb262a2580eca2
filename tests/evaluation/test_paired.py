"""Differences of accuracies on the same pairs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import pytest

from workbench.evaluation import Difference, VerificationResult, paired_difference, verification

Complaint = Callable[..., AbstractContextManager[None]]


def results(
    noise: float = 0.1, shift: float = 0.0, seed: int = 0, count: int = 400, bootstrap: int = 0
) -> tuple[VerificationResult, VerificationResult]:
    """Two results whose scores share what makes a pair hard; the first parts the kinds by `shift` more."""
    rng = np.random.default_rng(seed)
    same = np.tile([True, False], count // 2)
    shared = 0.8 * same + rng.normal(0, 0.5, count)
    first = shared + shift * same + rng.normal(0, noise, count)
    second = shared + rng.normal(0, noise, count)
    return verification(first, same, 5, bootstrap=bootstrap), verification(second, same, 5, bootstrap=bootstrap)


def test_the_value_is_the_difference_of_the_accuracies() -> None:
    first, second = results(shift=0.5)
    found = paired_difference(first, second, bootstrap=50)
    assert found.value == pytest.approx(first.accuracy - second.accuracy, abs=1e-12)
    assert found.interval[0] <= found.interval[1]
    assert found.resamples == 50


def test_ties_are_treated_as_verification_does() -> None:
    rng = np.random.default_rng(1)
    same = rng.random(60) < 0.5
    rounded = [verification(rng.integers(0, 4, 60) + same, same, 3, bootstrap=0) for _ in range(2)]
    found = paired_difference(*rounded, bootstrap=1)
    assert found.value == pytest.approx(rounded[0].accuracy - rounded[1].accuracy, abs=1e-12)


def test_a_result_does_not_differ_from_itself() -> None:
    first, _ = results()
    assert paired_difference(first, first, bootstrap=20) == Difference(0.0, (0.0, 0.0), 20)


def test_it_is_narrower_than_an_interval_by_itself() -> None:
    first, second = results(noise=0.05, bootstrap=200)
    found = paired_difference(first, second, bootstrap=200)
    low, high = first.intervals["accuracy"]
    assert found.interval[1] - found.interval[0] < 0.8 * (high - low)


def test_turned_round_it_is_the_negative() -> None:
    first, second = results(shift=0.3)
    there, back = paired_difference(first, second, bootstrap=100), paired_difference(second, first, bootstrap=100)
    assert back.value == pytest.approx(-there.value)
    assert back.interval == pytest.approx((-there.interval[1], -there.interval[0]))


def test_the_interval_covers_the_truth() -> None:
    """With no true difference, 0 is inside nineteen times of twenty or so."""
    inside = [not paired_difference(*results(noise=0.4, seed=seed, count=200), bootstrap=80).clear for seed in range(30)]
    assert sum(inside) >= 25


def test_what_is_clear() -> None:
    assert Difference(0.1, (0.05, 0.2), 10).clear
    assert Difference(-0.1, (-0.2, -0.01), 10).clear
    assert not Difference(0.1, (-0.05, 0.2), 10).clear
    assert str(Difference(0.123, (-0.05, 0.2), 10)) == "+12.3 points [-5.0, +20.0]"


def test_other_pairs_cannot_be_compared(complaint: Complaint) -> None:
    first, second = results()
    fewer, _ = results(count=200)
    with complaint("not the same pairs"):
        paired_difference(first, fewer)
    with complaint("bootstrap must be a number"):
        paired_difference(first, second, bootstrap=0)
