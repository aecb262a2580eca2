"""Compares results on the same pairs by the paired difference of their accuracies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np

from workbench.arrays import Floats, Integers
from workbench.errors import WorkbenchError
from workbench.evaluation.intervals import (
    LEVEL,
    groups_of,
    holm,
    standard_error,
    t_quantile,
    two_sided_p,
)
from workbench.evaluation.verification import (
    SortedPairs,
    VerificationResult,
    accuracy_without,
    right_decisions,
)


@dataclass(frozen=True)
class Difference:
    """Accuracy of one result minus that of another.

    Attributes:
        value: the difference, in [-1, 1].
        interval: 95 % interval (low, high); (-1, 1) if there are too few people or pairs.
        p_value: probability of a difference at least this large if both were equally accurate.
        words: how the interval was computed, for captions.
    """

    value: float
    interval: tuple[float, float]
    p_value: float
    words: str

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 0.

        This is a statement about these two runs and not about their losses, because runs with
        other seeds differ.
        """
        return self.interval[0] > 0 or self.interval[1] < 0

    def __str__(self) -> str:
        """Return the difference and its interval in percentage points."""
        low, high = self.interval
        return f"{100 * self.value:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"


def paired_difference(first: VerificationResult, second: VerificationResult) -> Difference:
    """Compute the accuracy of `first` minus that of `second`, on the same pairs.

    The difference is computed again without one fold, or group of people, at a time (a
    delete-one-group jackknife; with folds that share no people, it is the paired t test of the
    folds' accuracies). What is difficult for both runs, pairs or people, cancels out, so the
    interval is narrower than two separate intervals suggest: overlapping intervals do not mean that
    two results are equally good. The interval does not cover the variation between training runs.
    Accuracies are computed from the scores with exact thresholds, even if a result's own accuracy
    used a grid.

    Args:
        first: result on a benchmark.
        second: result on the same benchmark.

    Returns:
        The difference with its interval.

    Raises:
        WorkbenchError: if the pairs, folds or people differ.

    Example:
        >>> from workbench.evaluation import verification
        >>> same = [True, False] * 10
        >>> better = verification([0.9, 0.1] * 10, same, folds=5)
        >>> worse = verification([0.9, 0.1, 0.1, 0.9] * 5, same, folds=5)
        >>> paired_difference(better, worse).value
        0.5
    """
    return _difference(_Accuracies.of(first), _Accuracies.of(second), first, second)


def differences(results: Mapping[str, VerificationResult]) -> dict[tuple[str, str], Difference]:
    """Compute all paired differences of several results, with p values adjusted by Holm's method.

    Args:
        results: {name: result} on one benchmark.

    Returns:
        {(first name, second name): difference}, once for each combination. `interval` and `clear`
        are not adjusted: they are those of a single comparison.

    Raises:
        WorkbenchError: if the pairs, folds or people differ.
    """
    accuracies = {name: _Accuracies.of(result) for name, result in results.items()}
    by_names = {
        (a, b): _difference(accuracies[a], accuracies[b], results[a], results[b])
        for a, b in combinations(results, 2)
    }
    adjusted = holm([difference.p_value for difference in by_names.values()])
    return {
        names: replace(difference, p_value=float(p_value))
        for (names, difference), p_value in zip(by_names.items(), adjusted, strict=True)
    }


def clearly_best(results: Mapping[str, VerificationResult]) -> str | None:
    """Find the result that is more accurate than all others, after Holm's correction.

    If all results are equally good, one of them is named by mistake on at most 5 % of benchmarks,
    however many results there are.

    Args:
        results: {name: result} on one benchmark.

    Returns:
        Name of the best result; None if none is clearly the best.

    Raises:
        WorkbenchError: if the pairs, folds or people differ.
    """
    if len(results) < 2:
        return None
    best = max(results, key=lambda name: results[name].accuracy)
    p_values = [one.p_value for names, one in differences(results).items() if best in names]
    return best if all(p_value < 1 - LEVEL for p_value in p_values) else None


class _Accuracies(NamedTuple):
    """Accuracy of a result from its scores, on all pairs and without each of the groups."""

    value: float
    without: Floats
    degrees_of_freedom: int
    words: str

    @classmethod
    def of(cls, result: VerificationResult) -> _Accuracies:
        table = SortedPairs(result.scores, result.same, result.folds)
        accuracy, threshold = table.fold_accuracies(np.ones(len(result.same)))
        correct = right_decisions(result.scores, result.same, result.folds, threshold)
        groups = groups_of(result.same, result.folds, result.people)
        without = accuracy_without(correct, result.folds, groups.left_out)
        return cls(
            float(accuracy.mean()),
            without,
            groups.degrees_of_freedom,
            f"jackknife over {groups.words}",
        )


def _difference(
    one: _Accuracies, other: _Accuracies, first: VerificationResult, second: VerificationResult
) -> Difference:
    if not all(
        np.array_equal(a, b)
        for a, b in (
            (first.same, second.same),
            (first.folds, second.folds),
            (_people(first), _people(second)),
        )
    ):
        raise WorkbenchError(
            f"{first.name} and {second.name}: not the same pairs, folds and people, so they cannot "
            "be compared pair by pair"
        )
    value = one.value - other.value
    error = float(standard_error(one.without - other.without))
    if not np.isfinite(error) or (error == 0 and value != 0):
        words = f"{one.words}: the spread between the groups is 0 or unknown"
        return Difference(value, (-1.0, 1.0), 1.0, words)
    reach = t_quantile(one.degrees_of_freedom) * error
    p_value = two_sided_p(value, error, one.degrees_of_freedom)
    return Difference(value, (value - reach, value + reach), p_value, one.words)


def _people(result: VerificationResult) -> Integers:
    return np.empty((0, 2), dtype=np.int64) if result.people is None else result.people
