"""Closed-set classification: images of classes the run knows, labelled by the highest logit."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.errors import WorkbenchError
from workbench.evaluation.verification import LEVEL


@dataclass(frozen=True)
class ClosedSetResult:
    """Accuracy on classes known from training.

    Attributes:
        accuracy: share of images whose highest logit, without margin, is that of their class.
        interval: 95 % Wilson interval of it.
        labels, predicted: (N,) class numbers.
        class_names: C names.
    """

    accuracy: float
    interval: tuple[float, float]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    class_names: list[str]
    name: str = ""
    note: str = ""
    protocol: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """(C, C) counts, a row per true class, a column per predicted one."""
        count = len(self.class_names)
        return np.bincount(self.labels * count + self.predicted, minlength=count * count).reshape(count, count)


def closed_set(labels: ArrayLike, predicted: ArrayLike, class_names: list[str]) -> ClosedSetResult:
    """Compare predicted classes with the true ones.

    Args:
        labels, predicted: (N,) integers 0..C-1.
        class_names: C names.

    Raises:
        WorkbenchError: shapes or ranges do not fit.
    """
    true, guessed = np.asarray(labels), np.asarray(predicted)
    if true.shape != guessed.shape or true.ndim != 1 or not len(true):
        raise WorkbenchError(f"labels have shape {true.shape} and predictions {guessed.shape}, expected (N,) both, N > 0")
    for what, values in (("labels", true), ("predictions", guessed)):
        if values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= len(class_names):
            raise WorkbenchError(f"{what} must be integers 0 to {len(class_names) - 1}")
    right = int((true == guessed).sum())
    return ClosedSetResult(
        right / len(true), wilson(right, len(true)), true.astype(np.int64), guessed.astype(np.int64), list(class_names)
    )


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Interval of a proportion at `LEVEL`: Wilson, "Probable inference, the law of succession", JASA 1927."""
    from statistics import NormalDist

    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    share = successes / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2))
    return max(0.0, min(float(middle - half), share)), min(1.0, max(float(middle + half), share))  # rounding may part them
