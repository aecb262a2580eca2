"""Reproduces the figures of arcface_torch's eval/verification.py, without its loop over thresholds.

The distances are counted once in the intervals between thresholds, separately for each fold and for
genuine and impostor pairs. A cumulative sum then gives the number of pairs below each threshold.
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
    """The return values of arcface_torch's `evaluate`, in its order."""

    tpr: Floats
    """(400,) share of genuine pairs below each of `ACCURACY_THRESHOLDS`, mean over the folds"""
    fpr: Floats
    """(400,) share of impostor pairs below each of `ACCURACY_THRESHOLDS`, mean over the folds"""
    accuracy: Floats
    """(F,) accuracy of each fold at the best threshold on the other folds, the lowest of ties"""
    val: float
    """TAR at a threshold whose FAR on the other folds is `FAR_TARGET`, mean over the folds"""
    val_std: float
    """population standard deviation of that TAR over the folds"""
    far: float
    """FAR at that threshold, mean over the folds"""


def evaluate(
    embeddings: NDArray[np.floating], issame: ArrayLike, nrof_folds: int = 10
) -> ArcfaceTorch:
    """Evaluate pairs by the LFW protocol of arcface_torch: squared distances, 10 consecutive folds.

    The threshold for TAR at FAR is interpolated between those of `VAL_THRESHOLDS` on the other
    folds. Many of these thresholds have the same FAR. arcface_torch passes them to
    `scipy.interpolate.interp1d(kind="slinear")`, which up to SciPy 1.8 interpolated between the
    highest threshold whose FAR does not exceed the target and the next one. It returned 0 where the
    target is the highest FAR and several thresholds reach it. Today it raises "Expect x to not have
    duplicates". This function does what SciPy 1.8.1 did. If no threshold reaches the target FAR,
    the threshold is 0.

    Args:
        embeddings: (2 P, D) embeddings, usually of length 1; pair i is in rows 2 i and 2 i + 1.
            Distances are computed in their precision and compared in float64, as by NumPy 2.
        issame: (P,) True for genuine pairs.
        nrof_folds: number of consecutive folds; with 1, the pairs are tested at the threshold that
            was chosen on them.

    Returns:
        TAR, FAR and accuracy, as arcface_torch returns them.

    Raises:
        WorkbenchError: if the shapes do not match, an embedding is not finite, or a fold has no
            genuine or no impostor pairs, where arcface_torch would divide by zero.

    Example:
        >>> import numpy as np
        >>> pairs = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]] * 2)
        >>> evaluate(pairs, [True, False, True, False], nrof_folds=2).accuracy
        array([1., 1.])
    """
    labels = _check(embeddings, issame)
    distances = squared_distances(embeddings[0::2], embeddings[1::2]).astype(np.float64)
    # Distances are fewer than numbers in embeddings, so they are quicker to check.
    if not np.isfinite(distances).all():
        _check_finite(embeddings)
    folds = np.zeros(len(labels), dtype=np.int64)
    if nrof_folds != 1:
        folds = consecutive_folds(len(labels), nrof_folds)
    size = _fold_sizes(labels, folds, nrof_folds)

    below = _below(distances, labels, folds, nrof_folds, ACCURACY_THRESHOLDS)
    correct = below[0] + size[1][:, None] - below[1]
    best = _on_other_folds(correct).argmax(axis=1)
    accuracy = correct[np.arange(nrof_folds), best] / size.sum(axis=0)
    tpr, fpr = (
        np.mean(count / total[:, None], axis=0) for count, total in zip(below, size, strict=True)
    )

    val, far = _at_target(distances, labels, folds, size)
    return ArcfaceTorch(
        tpr, fpr, accuracy, float(np.mean(val)), float(np.std(val)), float(np.mean(far))
    )


def _fold_sizes(labels: Bools, folds: Integers, nrof_folds: int) -> Integers:
    """Return the (2, F) numbers of genuine and of impostor pairs in each fold, none of them 0."""
    size: Integers = np.stack(
        [np.bincount(folds[labels == kind], minlength=nrof_folds) for kind in (True, False)]
    )
    if len(empty := np.flatnonzero((size == 0).any(axis=0))):
        kind = "genuine" if size[0, empty[0]] == 0 else "impostor"
        raise WorkbenchError(
            f"fold {empty[0] + 1} of {nrof_folds} has no {kind} pairs; arcface_torch's TAR and FAR "
            "need some in each"
        )
    return size


def squared_distances(first: NDArray[Precision], second: NDArray[Precision]) -> NDArray[Precision]:
    """Compute squared Euclidean distances, in the precision of the embeddings.

    Args:
        first: (P, D) embeddings.
        second: (P, D) embeddings.

    Returns:
        (P,) squared distances.
    """
    difference = np.subtract(first, second)
    distances: NDArray[Precision] = np.sum(np.square(difference, out=difference), 1)
    return distances


def _at_target(
    distances: Floats, labels: Bools, folds: Integers, size: Integers
) -> tuple[Floats, Floats]:
    """Return each fold's TAR and FAR at the threshold with the target FAR on the other folds."""
    count = size.shape[1]
    impostors = _below(distances, labels, folds, count, VAL_THRESHOLDS)[1]
    rates = _on_other_folds(impostors) / _on_other_folds(size[1][:, None])
    thresholds = np.array([_threshold_at_target(far) for far in rates])
    accepted = distances < thresholds[folds]
    val, far = (
        np.bincount(folds[accepted & (labels == kind)], minlength=count) / total
        for kind, total in zip((True, False), size, strict=True)
    )
    return val, far


def _below(
    distances: Floats, labels: Bools, folds: Integers, count: int, thresholds: Floats
) -> tuple[Integers, Integers]:
    """Return the (F, T) numbers of genuine and of impostor pairs below each threshold, by fold."""
    # Number of the first threshold above each distance.
    interval = np.searchsorted(thresholds, distances, side="right")
    columns = len(thresholds) + 1
    by_kind = []
    for kind in (True, False):
        cells = folds[labels == kind] * columns + interval[labels == kind]
        counts = np.bincount(cells, minlength=count * columns).reshape(count, columns)
        by_kind.append(counts.cumsum(axis=1)[:, :-1])
    return by_kind[0], by_kind[1]


def _on_other_folds(by_fold: Integers) -> Integers:
    """Return, for each fold, the sum over all other folds; a single fold keeps its own value."""
    total: Integers = by_fold.sum(axis=0)
    return total - by_fold if len(by_fold) > 1 else by_fold


def _threshold_at_target(rates: Floats) -> float:
    """Interpolate the threshold at the target FAR as a spline of order 1 does with repeated rates.

    Args:
        rates: (T,) FAR at each of `VAL_THRESHOLDS`.
    """
    if rates.max() < FAR_TARGET:
        return 0.0
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
            f"embeddings have shape {embeddings.shape} and issame {labels.shape}, expected (2 P, "
            "D) and (P,)"
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
