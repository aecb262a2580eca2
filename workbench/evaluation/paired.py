"""Two results on the same pairs: the difference of their accuracies, with an interval that knows that the pairs are the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.errors import WorkbenchError
from workbench.evaluation.verification import LEVEL, Floats, SortedPairs, VerificationResult


@dataclass(frozen=True)
class Difference:
    """Accuracy of one result minus that of another.

    Attributes:
        value: the difference, in [-1, 1].
        interval: 95 % bootstrap interval (low, high).
        resamples: how many it is of.
    """

    value: float
    interval: tuple[float, float]
    resamples: int

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.interval[0] > 0 or self.interval[1] < 0

    def __str__(self) -> str:
        """In percentage points."""
        low, high = self.interval
        return f"{100 * self.value:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"


def paired_difference(first: VerificationResult, second: VerificationResult, *, bootstrap: int = 1000, seed: int = 0) -> Difference:
    """Accuracy of `first` minus that of `second`, on the same pairs.

    Both are resampled together: a resample draws pairs within each fold and kind, and what it draws counts for both, with
    thresholds chosen anew for each; from its scores, even where its own accuracy is one of a grid. What makes a pair hard for
    both then falls out, so that the interval is narrower than two separate ones suggest. It says nothing of another training run.

    Args:
        first, second: results on one benchmark.
        bootstrap: resamples, at least 1.
        seed: of the resampling.

    Raises:
        WorkbenchError: the pairs or folds are not the same.
    """
    if not np.array_equal(first.same, second.same) or not np.array_equal(first.folds, second.folds):
        raise WorkbenchError(
            f"{first.name} and {second.name}: not the same pairs and folds, so they cannot be compared pair by pair"
        )
    if bootstrap < 1:
        raise WorkbenchError(f"bootstrap must be a number of resamples, at least 1, got {bootstrap}")
    tables = [SortedPairs(result.scores, result.same, result.folds) for result in (first, second)]

    def difference(weights: Floats) -> float:
        """With each pair, in the order given, counting `weights` times."""
        one, other = (float(table.ten_fold(weights[table.order])[0].mean()) for table in tables)
        return one - other

    as_listed = SortedPairs(np.zeros(len(first.same)), first.same, first.folds)  # equal scores stay in their order
    draws = [difference(weights) for weights in as_listed.resamples(bootstrap, np.random.default_rng(seed))]
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Difference(difference(np.ones(len(first.same))), (float(low), float(high)), bootstrap)
