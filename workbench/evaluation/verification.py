"""Verification: from scores of pairs to accuracy, ROC, AUC, EER and TAR at FAR, each with a bootstrap interval.

A score is a similarity, higher for pairs that look more alike; a pair is accepted as genuine where its score reaches the
threshold. TAR is the share of genuine pairs accepted, FAR the share of impostor pairs accepted.

Everything is exact: the candidate thresholds are the scores themselves, not a grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.data.benchmark import consecutive_folds
from workbench.errors import WorkbenchError

Floats = NDArray[np.float64]
FARS = (1e-1, 1e-2, 1e-3, 1e-4)
LEVEL = 0.95
BAND_FARS = np.logspace(-4, 0, 81)
"""False accept rates at which the ROC's confidence band is given."""


class Roc(NamedTuple):
    """Operating points from the strictest threshold (nothing accepted) to the laxest (all accepted)."""

    far: Floats
    tar: Floats
    thresholds: Floats


@dataclass(frozen=True)
class VerificationResult:
    """What one set of scored pairs says.

    Attributes:
        accuracy, std: mean and population standard deviation over the folds, each tested at the threshold that is best on
            all other folds (of equally good ones the strictest).
        fold_accuracy, fold_threshold: (F,) the same by fold.
        auc: area under the ROC, ties counted half.
        eer: the rate at which FAR and 1 - TAR meet.
        tar_at_far: {FAR: highest TAR whose false accepts do not exceed FAR}.
        intervals: bootstrap interval (low, high) of "accuracy", "auc", "eer", "tar@0.1", ...; empty if not asked for.
        band: (2, len(BAND_FARS)) low and high TAR of the ROC's band at `BAND_FARS`, or None.
        scores, same, folds: (P,) the input.
        protocol: how the figures were made, to be printed beside them.
    """

    accuracy: float
    std: float
    fold_accuracy: Floats
    fold_threshold: Floats
    auc: float
    eer: float
    tar_at_far: dict[float, float]
    intervals: dict[str, tuple[float, float]]
    band: Floats | None
    scores: Floats
    same: NDArray[np.bool_]
    folds: NDArray[np.int64]
    name: str = ""
    note: str = ""
    protocol: dict[str, Any] = field(default_factory=dict)

    @property
    def threshold(self) -> float:
        """Mean of the folds' thresholds."""
        return float(self.fold_threshold.mean())

    @property
    def impostors(self) -> int:
        return int((~self.same).sum())

    def supported(self, far: float) -> bool:
        """Can this FAR be told from 0 at all? It takes 1 / FAR impostor pairs."""
        return self.impostors * far >= 1.0 - 1e-9

    @cached_property
    def roc(self) -> Roc:
        """The ROC curve, one point a distinct score."""
        return roc(self.scores, self.same)

    def rates_at(self, threshold: float) -> tuple[float, float]:
        """(FAR, TAR) at a threshold."""
        accepted = self.scores >= threshold
        return float(accepted[~self.same].mean()), float(accepted[self.same].mean())


def verification(
    scores: ArrayLike,
    same: ArrayLike,
    folds: int | ArrayLike = 10,
    *,
    fars: Sequence[float] = FARS,
    bootstrap: int = 1000,
    seed: int = 0,
) -> VerificationResult:
    """Evaluate scored pairs.

    Args:
        scores: (P,) similarities; any scale, finite.
        same: (P,) True for genuine pairs.
        folds: (P,) number of each pair's fold, or how many consecutive folds to cut the pairs into, as
            `KFold(folds, shuffle=False)` does.
        fars: false accept rates to give the TAR at, in (0, 1].
        bootstrap: resamples for the 95 % intervals; 0 for none. Pairs are redrawn within each fold and kind, thresholds
            chosen anew. Pairs that share an image or a person are not independent, so the intervals are, if anything,
            too narrow; and they say nothing of another training run.
        seed: of the resampling.

    Raises:
        WorkbenchError: shapes do not fit, a score is NaN or infinite, or there are no genuine or no impostor pairs.
    """
    checked_scores, checked_same = _check(scores, same)
    checked_folds = _check_folds(folds, len(checked_scores))
    if any(not 0 < far <= 1 for far in fars):
        raise WorkbenchError(f"false accept rates must be in (0, 1], got {list(fars)}")
    if bootstrap < 0:
        raise WorkbenchError(f"bootstrap must be a number of resamples or 0 for none, got {bootstrap}")
    table = _Sorted(checked_scores, checked_same, checked_folds)
    figures = table.figures(np.ones(len(checked_scores)), fars)
    intervals: dict[str, tuple[float, float]] = {}
    band = None
    if bootstrap:
        draws = [table.figures(weights, fars) for weights in table.resamples(bootstrap, np.random.default_rng(seed))]
        tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
        for key in draws[0].summary:
            low, high = np.quantile([draw.summary[key] for draw in draws], tails)
            intervals[key] = (float(low), float(high))
        band = np.quantile([draw.band for draw in draws], tails, axis=0)
    return VerificationResult(
        accuracy=figures.summary["accuracy"],
        std=float(figures.fold_accuracy.std()),
        fold_accuracy=figures.fold_accuracy,
        fold_threshold=figures.fold_threshold,
        auc=figures.summary["auc"],
        eer=figures.summary["eer"],
        tar_at_far={far: figures.summary[f"tar@{far:g}"] for far in fars},
        intervals=intervals,
        band=band,
        scores=checked_scores,
        same=checked_same,
        folds=checked_folds,
        protocol={
            "folds": int(checked_folds.max()) + 1,
            "threshold": "best on the other folds, of equally good ones the strictest; candidates are the scores",
            "interval": f"{LEVEL:.0%} percentile bootstrap over pairs, {bootstrap} resamples" if bootstrap else "none",
        },
    )


def roc(scores: ArrayLike, same: ArrayLike) -> Roc:
    """ROC curve with one point per distinct score, from (0, 0) at threshold infinity to (1, 1).

    Raises:
        WorkbenchError: as `verification`.
    """
    checked_scores, checked_same = _check(scores, same)
    table = _Sorted(checked_scores, checked_same, np.zeros(len(checked_scores), dtype=np.int64))
    far, tar = table.curve(np.ones(len(checked_scores)))
    return Roc(far, tar, np.concatenate([[np.inf], table.scores[table.ends]]))


class _Figures(NamedTuple):
    summary: dict[str, float]
    fold_accuracy: Floats
    fold_threshold: Floats
    band: Floats


class _Sorted:
    """Pairs sorted once, highest score first, so that each bootstrap resample is a reweighting and a cumulative sum."""

    def __init__(self, scores: Floats, same: NDArray[np.bool_], folds: NDArray[np.int64]) -> None:
        order = np.argsort(-scores, kind="stable")
        self.scores, self.same, self.folds = scores[order], same[order], folds[order]
        # A threshold cannot part equal scores: only the last of each run of them is an operating point.
        self.ends = np.flatnonzero(np.append(np.diff(self.scores) != 0, True))
        self.in_fold = self.folds == np.arange(self.folds.max() + 1)[:, None]  # (F, P)

    def resamples(self, count: int, rng: np.random.Generator) -> Iterator[Floats]:
        """How often each pair is drawn, pairs of one fold and kind among themselves."""
        strata = [np.flatnonzero(fold & kind) for fold in self.in_fold for kind in (self.same, ~self.same)]
        for _ in range(count):
            weights = np.zeros(len(self.scores))
            for members in strata:
                if len(members):
                    weights[members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)))
            yield weights

    def curve(self, weights: Floats) -> tuple[Floats, Floats]:
        """(FAR, TAR) at every operating point, the empty one first."""
        genuine = np.cumsum(weights * self.same)[self.ends]
        impostor = np.cumsum(weights * ~self.same)[self.ends]
        return np.append(0.0, impostor / impostor[-1]), np.append(0.0, genuine / genuine[-1])

    def figures(self, weights: Floats, fars: Sequence[float]) -> _Figures:
        far, tar = self.curve(weights)
        fold_accuracy, fold_threshold = self._ten_fold(weights)
        summary = {
            "accuracy": float(fold_accuracy.mean()),
            "auc": float(np.trapezoid(tar, far)),
            "eer": _equal_error_rate(far, tar),
        }
        summary |= {f"tar@{rate:g}": float(_tar_at(far, tar, rate)) for rate in fars}
        return _Figures(summary, fold_accuracy, fold_threshold, _tar_at(far, tar, BAND_FARS))

    def _ten_fold(self, weights: Floats) -> tuple[Floats, Floats]:
        """Accuracy and threshold of each fold."""
        # Accepting a genuine pair is one right decision more, accepting an impostor one less. gain[f, k]: right decisions
        # won in fold f by accepting everything down to operating point k; k = 0 accepts nothing.
        gain = np.cumsum(np.where(self.same, weights, -weights) * self.in_fold, axis=1)[:, self.ends]
        gain = np.pad(gain, ((0, 0), (1, 0)))
        best = np.argmax(gain.sum(axis=0) - gain, axis=1)  # on the other folds; the first is the strictest
        impostors = (weights * ~self.same * self.in_fold).sum(axis=1)
        size = (weights * self.in_fold).sum(axis=1)
        right = impostors + gain[np.arange(len(gain)), best]
        # Accepting nothing means a threshold above all scores.
        points = np.append(np.nextafter(self.scores[0], np.inf), self.scores[self.ends])
        return right / size, points[best]


def _tar_at(far: Floats, tar: Floats, rate: float | Floats) -> Any:
    """Highest TAR with FAR <= rate (a hair more, so that 3 of 30 is a rate of 0.1)."""
    return tar[np.searchsorted(far, np.asarray(rate) * (1 + 1e-9), side="right") - 1]


def _equal_error_rate(far: Floats, tar: Floats) -> float:
    """Where FAR = 1 - TAR, on the straight line between the two operating points around it."""
    gap = far - (1.0 - tar)  # rises from -1 to 1
    after = int(np.argmax(gap >= 0))
    before = max(after - 1, 0)
    if gap[after] == gap[before]:
        return float(far[after])
    share = -gap[before] / (gap[after] - gap[before])
    return float(far[before] + share * (far[after] - far[before]))


def _check(scores: ArrayLike, same: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    values, labels = np.asarray(scores, dtype=np.float64), np.asarray(same)
    if values.ndim != 1 or values.shape != labels.shape:
        raise WorkbenchError(f"scores have shape {values.shape} and same {labels.shape}, expected (P,) both")
    if labels.dtype != np.bool_ and not np.isin(labels, (0, 1)).all():
        raise WorkbenchError("same must hold True or False (or 1 and 0) for each pair")
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values))[0])
        raise WorkbenchError(f"score number {bad} is {values[bad]}; all scores must be finite numbers")
    labels = labels.astype(bool)
    if not labels.any() or labels.all():
        raise WorkbenchError(f"{labels.sum()} genuine and {(~labels).sum()} impostor pairs; at least one of each is needed")
    return values, labels


def _check_folds(folds: int | ArrayLike, count: int) -> NDArray[np.int64]:
    if isinstance(folds, int | np.integer):
        return consecutive_folds(count, int(folds))
    given = np.asarray(folds)
    if given.shape != (count,) or given.dtype.kind not in "iu":
        raise WorkbenchError(f"folds are {given.dtype} of shape {given.shape}, expected integers of shape ({count},)")
    numbers, renumbered = np.unique(given, return_inverse=True)
    if len(numbers) < 2:
        raise WorkbenchError("all pairs are in one fold; the threshold is chosen on the others, so there must be at least 2")
    return renumbered.astype(np.int64)
