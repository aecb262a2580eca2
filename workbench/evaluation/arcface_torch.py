"""The figures of arcface_torch's eval/verification.py, digit for digit, by counting once instead of once a threshold.

For whoever must print the numbers that others print. Distances are sorted into the intervals between thresholds, fold by fold and
kind by kind; a cumulative sum then says how many lie below each threshold.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.arrays import Bools, Floats, Integers
from workbench.data.benchmark import consecutive_folds
from workbench.errors import WorkbenchError

Precision = TypeVar("Precision", bound=np.floating)
ACCURACY_THRESHOLDS = np.arange(0, 4, 0.01)
VAL_THRESHOLDS = np.arange(0, 4, 0.001)
FAR_TARGET = 1e-3


class ArcfaceTorch(NamedTuple):
    """What its `evaluate` returns, in that order."""

    tpr: Floats
    """(400,) mean over the folds of the share of genuine pairs below each of `ACCURACY_THRESHOLDS`"""
    fpr: Floats
    """(400,) likewise of impostor pairs"""
    accuracy: Floats
    """(F,) by fold, at the threshold that is best on the others; of equally good ones the lowest"""
    val: float
    """mean TAR over the folds at a threshold whose FAR on the others is `FAR_TARGET`"""
    val_std: float
    """population standard deviation of it"""
    far: float
    """mean FAR of the folds at that threshold"""


def evaluate(
    embeddings: NDArray[np.floating], issame: ArrayLike, nrof_folds: int = 10
) -> ArcfaceTorch:
    """The LFW protocol as arcface_torch has it: thresholds on squared distances, 10 consecutive folds.

    TAR at FAR is read at a threshold interpolated between those of `VAL_THRESHOLDS` on the other folds. Many of them have the
    same FAR there. arcface_torch hands them to `scipy.interpolate.interp1d(kind="slinear")`, which up to SciPy 1.8 went from
    the highest threshold with a FAR of at most the target to the next one (and gave 0 where the target is the highest FAR and
    several thresholds reach it), and which today raises "Expect x to not have duplicates". Here it is as with SciPy 1.8.1. Where
    no threshold has so high a FAR, it is 0.

    Args:
        embeddings: (2 P, D), pair i in rows 2 i and 2 i + 1, of length 1 as a rule; distances are computed in their precision and
            compared in float64, as by NumPy 2.
        issame: (P,) True for genuine pairs.
        nrof_folds: number of consecutive folds; 1 tests on the pairs that the threshold was chosen on.

    Raises:
        WorkbenchError: shapes do not fit, an embedding is not finite, or a fold is without genuine or without impostor pairs, so
            that it has no TAR or FAR (arcface_torch divides by zero).
    """
    labels = _check(embeddings, issame)
    distances = squared_distances(embeddings[0::2], embeddings[1::2]).astype(np.float64)
    if not np.isfinite(distances).all():  # which is quicker to see than among the embeddings
        _check_finite(embeddings)
    folds = (
        consecutive_folds(len(labels), nrof_folds)
        if nrof_folds != 1
        else np.zeros(len(labels), dtype=np.int64)
    )
    size = np.stack(
        [np.bincount(folds[labels == kind], minlength=nrof_folds) for kind in (True, False)]
    )  # (2, F)
    if len(empty := np.flatnonzero((size == 0).any(axis=0))):
        kind = "genuine" if size[0, empty[0]] == 0 else "impostor"
        raise WorkbenchError(
            f"fold {empty[0] + 1} of {nrof_folds} has no {kind} pairs; arcface_torch's TAR and FAR need some in each"
        )

    below = _below(distances, labels, folds, nrof_folds, ACCURACY_THRESHOLDS)
    right = below[0] + size[1][:, None] - below[1]
    best = _on_others(right).argmax(axis=1)
    accuracy = right[np.arange(nrof_folds), best] / size.sum(axis=0)
    tpr, fpr = (
        np.mean(count / total[:, None], axis=0) for count, total in zip(below, size, strict=True)
    )

    val, far = _at_target(distances, labels, folds, size)
    return ArcfaceTorch(
        tpr, fpr, accuracy, float(np.mean(val)), float(np.std(val)), float(np.mean(far))
    )


def squared_distances(first: NDArray[Precision], second: NDArray[Precision]) -> NDArray[Precision]:
    """(P, D), (P, D) -> (P,) squared Euclidean distances, in the embeddings' own precision."""
    apart = np.subtract(first, second)
    distances: NDArray[Precision] = np.sum(np.square(apart, out=apart), 1)
    return distances


def _at_target(
    distances: Floats, labels: Bools, folds: Integers, size: Integers
) -> tuple[Floats, Floats]:
    """TAR and FAR of each fold at the threshold that has the target FAR on the others."""
    count = size.shape[1]
    impostors = _below(distances, labels, folds, count, VAL_THRESHOLDS)[1]
    rates = _on_others(impostors) / _on_others(size[1][:, None])
    thresholds = np.array(
        [_interpolated(of_others) if of_others.max() >= FAR_TARGET else 0.0 for of_others in rates]
    )
    accepted = distances < thresholds[folds]
    val, far = (
        np.bincount(folds[accepted & (labels == kind)], minlength=count) / total
        for kind, total in zip((True, False), size, strict=True)
    )
    return val, far


def _below(
    distances: Floats, labels: Bools, folds: Integers, count: int, thresholds: Floats
) -> tuple[Integers, Integers]:
    """(F, T) numbers of genuine and of impostor pairs below each threshold, by fold."""
    interval = np.searchsorted(
        thresholds, distances, side="right"
    )  # the first threshold above has this number
    columns = len(thresholds) + 1
    found = []
    for kind in (True, False):
        cells = folds[labels == kind] * columns + interval[labels == kind]
        found.append(
            np.bincount(cells, minlength=count * columns)
            .reshape(count, columns)
            .cumsum(axis=1)[:, :-1]
        )
    return found[0], found[1]


def _on_others(by_fold: Integers) -> Integers:
    """Sum over all folds but one, for each of them; a single fold is its own other."""
    total: Integers = by_fold.sum(axis=0)
    return total - by_fold if len(by_fold) > 1 else by_fold


def _interpolated(rates: Floats) -> float:
    """The threshold of `VAL_THRESHOLDS` at the target FAR, on the line that a spline of order 1 takes through repeated rates."""
    last = len(rates) - 2
    at = min(int(np.searchsorted(rates, FAR_TARGET, side="right")) - 1, last)
    low, high = rates[at], rates[at + 1]
    if low == high:
        return 0.0
    slope = 1.0 / (high - low)
    return float(
        VAL_THRESHOLDS[at] * (slope * (high - FAR_TARGET))
        + VAL_THRESHOLDS[at + 1] * (slope * (FAR_TARGET - low))
    )


def _check(embeddings: NDArray[np.floating], issame: ArrayLike) -> Bools:
    labels = np.asarray(issame)
    if (
        embeddings.ndim != 2
        or labels.ndim != 1
        or len(embeddings) != 2 * len(labels)
        or not len(labels)
    ):
        raise WorkbenchError(
            f"embeddings have shape {embeddings.shape} and issame {labels.shape}, expected (2 P, D) and (P,)"
        )
    if labels.dtype != np.bool_ and not np.isin(labels, (0, 1)).all():
        raise WorkbenchError("issame must hold True or False (or 1 and 0) for each pair")
    return labels.astype(bool)


def _check_finite(embeddings: NDArray[np.floating]) -> None:
    if not np.isfinite(embeddings).all():
        bad = int(np.flatnonzero(~np.isfinite(embeddings).all(axis=1))[0])
        raise WorkbenchError(
            f"embedding number {bad} is not finite; all embeddings must be finite numbers"
        )
