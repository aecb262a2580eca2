"""Differences of accuracies on the same pairs."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import Complaint
from scipy import stats

from workbench.evaluation import (
    Difference,
    VerificationResult,
    clearly_best,
    differences,
    paired_difference,
    verification,
)


def results(
    noise: float = 0.1, shift: float = 0.0, seed: int = 0, count: int = 400
) -> tuple[VerificationResult, VerificationResult]:
    """Two results with equally difficult pairs; the first separates the kinds by `shift` more."""
    rng = np.random.default_rng(seed)
    same = np.tile([True, False], count // 2)
    shared = 0.8 * same + rng.normal(0, 0.5, count)
    first = shared + shift * same + rng.normal(0, noise, count)
    second = shared + rng.normal(0, noise, count)
    return verification(first, same, 10), verification(second, same, 10)


def test_the_value_is_the_difference_of_the_accuracies() -> None:
    first, second = results(shift=0.5)
    found = paired_difference(first, second)
    assert found.value == pytest.approx(first.accuracy - second.accuracy, abs=1e-12)
    assert found.interval[0] <= found.value <= found.interval[1]
    assert "jackknife over 10 folds" in found.words


def test_the_interval_is_students_over_folds() -> None:
    """Over folds it is SciPy's paired t test of their accuracies."""
    first, second = results(shift=0.3)
    found = paired_difference(first, second)
    expected = stats.ttest_rel(first.fold_accuracy, second.fold_accuracy)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.p_value == pytest.approx(expected.pvalue)


def test_ties_are_treated_as_verification_does() -> None:
    rng = np.random.default_rng(1)
    same = rng.random(60) < 0.5
    rounded = [
        verification(rng.integers(0, 4, 60) + same, same, 3, intervals=False) for _ in range(2)
    ]
    found = paired_difference(*rounded)
    assert found.value == pytest.approx(rounded[0].accuracy - rounded[1].accuracy, abs=1e-12)


def test_a_result_does_not_differ_from_itself() -> None:
    first, _ = results()
    found = paired_difference(first, first)
    assert (found.value, found.interval, found.p_value, found.clear) == (
        0.0,
        (0.0, 0.0),
        1.0,
        False,
    )


def test_it_is_narrower_than_an_interval_by_itself() -> None:
    first, second = results(noise=0.05)
    found = paired_difference(first, second)
    low, high = first.intervals["accuracy"]
    assert found.interval[1] - found.interval[0] < 0.8 * (high - low)


def test_turned_round_it_is_the_negative() -> None:
    first, second = results(shift=0.3)
    there, back = paired_difference(first, second), paired_difference(second, first)
    assert back.value == pytest.approx(-there.value)
    assert back.interval == pytest.approx((-there.interval[1], -there.interval[0]))


def test_the_interval_covers_the_truth() -> None:
    """With no true difference, 0 is inside nineteen times of twenty or so."""
    inside = [
        not paired_difference(*results(noise=0.4, seed=seed, count=200)).clear for seed in range(60)
    ]
    assert sum(inside) >= 52


def test_a_difference_without_spread_proves_nothing() -> None:
    same = np.tile([True, False], 2)
    first = verification([4, 1, 4, 1], same, [0, 0, 1, 1], intervals=False)
    second = verification([1, 4, 1, 4], same, [0, 0, 1, 1], intervals=False)
    found = paired_difference(first, second)
    assert found.value > 0
    assert (found.interval, found.p_value, found.clear) == ((-1.0, 1.0), 1.0, False)


def test_what_is_clear() -> None:
    assert Difference(0.1, (0.05, 0.2), 0.01, "").clear
    assert Difference(-0.1, (-0.2, -0.01), 0.01, "").clear
    assert not Difference(0.1, (-0.05, 0.2), 0.2, "").clear
    assert str(Difference(0.123, (-0.05, 0.2), 0.2, "")) == "+12.3 points [-5.0, +20.0]"


def test_all_differences_are_corrected_for_their_number() -> None:
    first, second = results(shift=0.3)
    third, _ = results(shift=0.1)
    found = differences({"a": first, "b": second, "c": third})
    assert list(found) == [("a", "b"), ("a", "c"), ("b", "c")]
    plain = paired_difference(first, second)
    assert found["a", "b"].value == plain.value
    assert plain.p_value <= found["a", "b"].p_value <= min(3 * plain.p_value, 1)


def test_a_best_is_called_only_where_it_is_better_than_every_other() -> None:
    good, plain = results(shift=1.5)
    assert clearly_best({"good": good, "plain": plain}) == "good"
    assert clearly_best({"good": good, "same": good, "plain": plain}) is None
    assert clearly_best({"good": good}) is None
    assert clearly_best({}) is None


def test_other_pairs_cannot_be_compared(complaint: Complaint) -> None:
    first, second = results()
    fewer, _ = results(count=200)
    with complaint("not the same pairs"):
        paired_difference(first, fewer)
    known = verification(
        second.scores, second.same, second.folds, people=np.arange(800).reshape(400, 2)
    )
    with complaint("not the same pairs, folds and people"):
        paired_difference(first, known)
