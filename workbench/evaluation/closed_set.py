"""Closed-set classification: a class of the training set is predicted for each image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.arrays import Floats, Integers
from workbench.errors import WorkbenchError, printable
from workbench.evaluation.angles import CHUNK, normalised
from workbench.evaluation.intervals import LEVEL
from workbench.evaluation.kinds import Headline, Result, interval_in_words, register_result

NEAREST_MEAN = "nearest class mean"
"""Beginning of the protocol's entry "prediction" where no class centres were learned."""


@register_result
@dataclass(frozen=True)
class ClosedSetResult(Result):
    """Accuracy on the classes of the training set.

    Attributes:
        accuracy: share of images whose class is predicted correctly: by the highest logit without
            margin, or by the nearest class mean (`nearest_mean`) if there are no class centres.
        interval: 95 % Wilson interval of the accuracy.
        labels: (N,) true class of each image.
        predicted: (N,) predicted class of each image.
        class_names: names of the C classes.
    """

    accuracy: float
    interval: tuple[float, float]
    labels: Integers
    predicted: Integers
    class_names: list[str]

    kind: ClassVar[str] = "closed-set"
    description: ClassVar[str] = "is a closed set, with classes instead of pairs"

    @cached_property
    def confusion(self) -> Integers:
        """(C, C) numbers of images; rows are true classes, columns are predicted classes."""
        count = len(self.class_names)
        return np.bincount(self.labels * count + self.predicted, minlength=count * count).reshape(
            count, count
        )

    @property
    def headline(self) -> Headline:
        """The accuracy."""
        return Headline("accuracy", "Accuracy", self.accuracy, self.interval)

    def summary(self) -> str:
        """The accuracy with its interval, in one line."""
        return f"accuracy {self.accuracy:.2%} {interval_in_words(self.interval)}"

    def figures(self) -> dict[str, Any]:
        """What is stored in the .json file."""
        return {
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "class_names": [printable(name) for name in self.class_names],
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is stored in the .npz file."""
        return {"labels": self.labels, "predicted": self.predicted}

    @classmethod
    def from_stored(cls, figures: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Build the result from stored figures and arrays."""
        low, high = figures["interval"]
        return cls(
            accuracy=figures["accuracy"],
            interval=(low, high),
            labels=arrays["labels"],
            predicted=arrays["predicted"],
            class_names=list(figures["class_names"]),
        )


def closed_set(labels: ArrayLike, predicted: ArrayLike, class_names: list[str]) -> ClosedSetResult:
    """Compare predicted classes with true classes.

    Args:
        labels: (N,) true classes, integers 0..C-1.
        predicted: (N,) predicted classes, integers 0..C-1.
        class_names: names of the C classes.

    Returns:
        The accuracy with its 95 % interval.

    Raises:
        WorkbenchError: if the shapes do not match, or a class is out of range.

    Example:
        >>> result = closed_set([0, 1, 1, 0], [0, 1, 0, 0], ["cat", "dog"])
        >>> result.accuracy
        0.75
        >>> result.confusion
        array([[2, 0],
               [1, 1]])
    """
    true, guess = np.asarray(labels), np.asarray(predicted)
    if true.shape != guess.shape or true.ndim != 1 or not len(true):
        raise WorkbenchError(
            f"labels have shape {true.shape} and predictions {guess.shape}, expected (N,) both, N "
            "> 0"
        )
    for what, values in (("labels", true), ("predictions", guess)):
        if values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= len(class_names):
            raise WorkbenchError(f"{what} must be integers 0 to {len(class_names) - 1}")
    right = int((true == guess).sum())
    return ClosedSetResult(
        right / len(true),
        wilson(right, len(true)),
        true.astype(np.int64),
        guess.astype(np.int64),
        list(class_names),
    )


def identity_means(embeddings: NDArray[np.floating], labels: Integers) -> Floats:
    """Compute the mean direction of each class, which replaces class centres that were not learned.

    Args:
        embeddings: (N, D) embeddings of any length.
        labels: (N,) class of each embedding, 0..C-1.

    Returns:
        (C, D) sums of the directions, as only their direction matters; 0 for a class without
        images.
    """
    unit = normalised(embeddings)
    sums = np.zeros((int(labels.max()) + 1, unit.shape[1]))
    np.add.at(sums, labels, unit)
    return sums


def nearest_mean(
    training: NDArray[np.floating],
    labels: Integers,
    embeddings: NDArray[np.floating] | None = None,
) -> Integers:
    """Predict the class whose mean direction is nearest, by cosine.

    Args:
        training: (M, D) embeddings of training images.
        labels: (M,) their classes, 0..C-1; a class without training images is never predicted.
        embeddings: (N, D) embeddings to classify. By default the training embeddings themselves,
            each left out of the mean of its class: otherwise the mean would be biased towards it,
            and even random embeddings would be classified correctly. The only image of a class is
            then given another class.

    Returns:
        (N,) predicted classes.
    """
    sums = identity_means(training, labels)
    unit = normalised(training if embeddings is None else embeddings)
    means, counts = normalised(sums), np.bincount(labels)
    classes = np.empty(len(unit), dtype=np.int64)
    for begin in range(0, len(unit), CHUNK):  # the (N, C) cosines may not fit into memory
        part = slice(begin, begin + CHUNK)
        cosines = np.where(counts > 0, unit[part] @ means.T, -np.inf)
        if embeddings is None:
            own = labels[part]
            to_rest = np.einsum("nd,nd->n", unit[part], normalised(sums[own] - unit[part]))
            cosines[np.arange(len(own)), own] = np.where(counts[own] > 1, to_rest, -np.inf)
        classes[part] = cosines.argmax(axis=1)
    return classes


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Compute the confidence interval of a proportion at `LEVEL`.

    Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the
    American Statistical Association 1927.

    Args:
        successes: number of successes.
        trials: number of trials, at least 1.

    Returns:
        (low, high), both in [0, 1].

    Example:
        >>> low, high = wilson(8, 10)
        >>> round(low, 3), round(high, 3)
        (0.49, 0.943)
    """
    from statistics import NormalDist

    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    share = successes / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = (
        z / (1 + z * z / trials) * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2))
    )
    # Rounding could put the share itself outside of the interval.
    low = max(0.0, min(float(middle - half), share))
    high = min(1.0, max(float(middle + half), share))
    return low, high
