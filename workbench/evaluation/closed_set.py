"""Closed-set classification: images of classes the run knows, labelled by the highest logit or the nearest mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.arrays import Floats, Integers
from workbench.errors import WorkbenchError
from workbench.evaluation.angles import CHUNK, normalised
from workbench.evaluation.intervals import LEVEL

NEAREST_MEAN = "nearest class mean"
"""How the protocol's "prediction" begins where no class centres were learned."""


@dataclass(frozen=True)
class ClosedSetResult:
    """Accuracy on classes known from training.

    Attributes:
        accuracy: share of images whose highest logit, without margin, is that of their class; of a run without class
            centres, those whose nearest mean is (`nearest_mean`).
        interval: 95 % Wilson interval of it.
        labels, predicted: (N,) class numbers.
        class_names: C names.
    """

    accuracy: float
    interval: tuple[float, float]
    labels: Integers
    predicted: Integers
    class_names: list[str]
    name: str = ""
    note: str = ""
    protocol: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def confusion(self) -> Integers:
        """(C, C) counts, a row per true class, a column per predicted one."""
        count = len(self.class_names)
        return np.bincount(self.labels * count + self.predicted, minlength=count * count).reshape(
            count, count
        )


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
        raise WorkbenchError(
            f"labels have shape {true.shape} and predictions {guessed.shape}, expected (N,) both, N > 0"
        )
    for what, values in (("labels", true), ("predictions", guessed)):
        if values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= len(class_names):
            raise WorkbenchError(f"{what} must be integers 0 to {len(class_names) - 1}")
    right = int((true == guessed).sum())
    return ClosedSetResult(
        right / len(true),
        wilson(right, len(true)),
        true.astype(np.int64),
        guessed.astype(np.int64),
        list(class_names),
    )


def identity_means(embeddings: NDArray[np.floating], labels: Integers) -> Floats:
    """Mean direction of each class, to stand for the centres that a loss without centres has not learned.

    Args:
        embeddings: (N, D).
        labels: (N,) 0..C-1.

    Returns:
        (C, D), summed up: cosines take no notice of the length. Zeros for a class of which there is no image.
    """
    unit = normalised(embeddings)
    sums = np.zeros((int(labels.max()) + 1, unit.shape[1]))
    np.add.at(sums, labels, unit)
    return sums


def nearest_mean(
    known: NDArray[np.floating],
    labels: Integers,
    embeddings: NDArray[np.floating] | None = None,
) -> Integers:
    """Class of the nearest mean direction, by cosine.

    Args:
        known: (M, D) embeddings of training images.
        labels: (M,) their classes, 0..C-1; nothing is taken for one that is not among them.
        embeddings: (N, D) to be classified. By default the known ones themselves, each left out of the mean of its class:
            else it would be drawn towards itself, and even random embeddings would be told apart. The only image of a
            class is then given another.

    Returns:
        (N,) classes.
    """
    sums = identity_means(known, labels)
    unit, means, counts = (
        normalised(known if embeddings is None else embeddings),
        normalised(sums),
        np.bincount(labels),
    )
    classes = np.empty(len(unit), dtype=np.int64)
    for begin in range(0, len(unit), CHUNK):  # (N, C) may be large
        part = slice(begin, begin + CHUNK)
        cosines = np.where(counts > 0, unit[part] @ means.T, -np.inf)
        if embeddings is None:
            own = labels[part]
            to_others = np.einsum("nd,nd->n", unit[part], normalised(sums[own] - unit[part]))
            cosines[np.arange(len(own)), own] = np.where(counts[own] > 1, to_others, -np.inf)
        classes[part] = cosines.argmax(axis=1)
    return classes


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Interval of a proportion at `LEVEL`: Wilson, "Probable inference, the law of succession", JASA 1927."""
    from statistics import NormalDist

    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    share = successes / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = (
        z / (1 + z * z / trials) * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2))
    )
    return max(0.0, min(float(middle - half), share)), min(
        1.0, max(float(middle + half), share)
    )  # rounding may part them
