"""Results on the same pairs: the difference of their accuracies, with an interval that knows that the pairs are the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
        interval: 95 % interval (low, high); (-1, 1) where there are too few people or pairs to make one.
        p_value: probability of a difference at least so large if the two were equally accurate on all people.
        words: what the interval was made of, for captions.
    """

    value: float
    interval: tuple[float, float]
    p_value: float
    words: str

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0. It speaks of these two runs, not of their losses: another seed gives another run."""
        return self.interval[0] > 0 or self.interval[1] < 0

    def __str__(self) -> str:
        """In percentage points."""
        low, high = self.interval
        return f"{100 * self.value:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"


def paired_difference(first: VerificationResult, second: VerificationResult) -> Difference:
    """Accuracy of `first` minus that of `second`, on the same pairs.

    The difference is computed again without one fold, or group of people, at a time (a delete-one-group jackknife; with folds
    that hold disjoint people it is the paired t test of the folds' accuracies). What makes a pair or a person hard for both
    cancels, so that the interval is narrower than two separate ones suggest: two intervals that overlap do not mean that two
    results cannot be told apart. It says nothing of another training run. A result's scores count, even where its own accuracy
    is one of a grid.

    Args:
        first, second: results on one benchmark.

    Raises:
        WorkbenchError: the pairs, folds or people are not the same.
    """
    return _difference(_Accuracies.of(first), _Accuracies.of(second), first, second)


def differences(results: Mapping[str, VerificationResult]) -> dict[tuple[str, str], Difference]:
    """All paired differences of several results, their p values raised for the number of comparisons (Holm).

    Args:
        results: {name: result} on one benchmark.

    Returns:
        {(first name, second name): difference}, each couple once. `interval` and `clear` are of one comparison by itself.

    Raises:
        WorkbenchError: as `paired_difference`.
    """
    known = {name: _Accuracies.of(result) for name, result in results.items()}
    found = {
        (a, b): _difference(known[a], known[b], results[a], results[b])
        for a, b in combinations(results, 2)
    }
    raised = holm([one.p_value for one in found.values()])
    return {
        couple: Difference(one.value, one.interval, float(p_value), one.words)
        for (couple, one), p_value in zip(found.items(), raised, strict=True)
    }


def clearly_best(results: Mapping[str, VerificationResult]) -> str | None:
    """The result that is more accurate than every other one on the same pairs, after Holm's correction; None if there is none.

    Among equally good results one is called the best in at most 5 % of benchmarks, however many results there are.

    Raises:
        WorkbenchError: as `paired_difference`.
    """
    if len(results) < 2:
        return None
    best = max(results, key=lambda name: results[name].accuracy)
    of_best = [one for couple, one in differences(results).items() if best in couple]
    return best if all(one.p_value < 1 - LEVEL for one in of_best) else None


class _Accuracies(NamedTuple):
    """Accuracy of a result by its scores, with all pairs and without each of the groups."""

    value: float
    without: Floats
    degrees_of_freedom: int
    words: str

    @classmethod
    def of(cls, result: VerificationResult) -> _Accuracies:
        table = SortedPairs(result.scores, result.same, result.folds)
        accuracy, threshold = table.ten_fold(np.ones(len(result.same)))
        right = right_decisions(result.scores, result.same, result.folds, threshold)
        groups = groups_of(result.same, result.folds, result.people)
        without = accuracy_without(right, result.folds, groups.left_out)
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
            f"{first.name} and {second.name}: not the same pairs, folds and people, so they cannot be compared pair by pair"
        )
    value = one.value - other.value
    error = float(standard_error(one.without - other.without))
    if not np.isfinite(error) or (error == 0 and value != 0):
        return Difference(value, (-1.0, 1.0), 1.0, f"{one.words}: no spread to be seen")
    reach = t_quantile(one.degrees_of_freedom) * error
    p_value = two_sided_p(value, error, one.degrees_of_freedom)
    return Difference(value, (value - reach, value + reach), p_value, one.words)


def _people(result: VerificationResult) -> Integers:
    return np.empty((0, 2), dtype=np.int64) if result.people is None else result.people
