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
MANY_PAIRS = 200_000
"""A thousand resamples of so many pairs take about a minute."""
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
    candidates: ArrayLike | None = None,
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
        candidates: (T,) thresholds to choose the folds' from, where others use a grid; by default the scores themselves. All
            other figures are exact either way.
        fars: false accept rates to give the TAR at, in (0, 1].
        bootstrap: resamples for the 95 % intervals; 0 for none. Pairs are redrawn within each fold and kind, thresholds
            chosen anew. Pairs that share an image or a person are not independent, so the intervals are, if anything,
            too narrow; and they say nothing of another training run.
        seed: of the resampling.

    Raises:
        WorkbenchError: shapes do not fit, a score or candidate is NaN or infinite, or there are no genuine or no impostor pairs.
    """
    checked_scores, checked_same = _check(scores, same)
    checked_folds = _check_folds(folds, len(checked_scores))
    if any(not 0 < far <= 1 for far in fars):
        raise WorkbenchError(f"false accept rates must be in (0, 1], got {list(fars)}")
    if bootstrap < 0:
        raise WorkbenchError(f"bootstrap must be a number of resamples or 0 for none, got {bootstrap}")
    grid = None if candidates is None else _check_candidates(candidates)
    table = SortedPairs(checked_scores, checked_same, checked_folds, grid)
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
            "threshold": f"best on the other folds, of equally good ones the strictest; candidates are {_told(grid)}",
            "interval": f"{LEVEL:.0%} percentile bootstrap over pairs, {bootstrap} resamples" if bootstrap else "none",
        },
    )


def roc(scores: ArrayLike, same: ArrayLike) -> Roc:
    """ROC curve with one point per distinct score, from (0, 0) at threshold infinity to (1, 1).

    Raises:
        WorkbenchError: as `verification`.
    """
    checked_scores, checked_same = _check(scores, same)
    table = SortedPairs(checked_scores, checked_same, np.zeros(len(checked_scores), dtype=np.int64))
    far, tar = table.curve(np.ones(len(checked_scores)))
    return Roc(far, tar, np.concatenate([[np.inf], table.scores[table.ends]]))


class _Figures(NamedTuple):
    summary: dict[str, float]
    fold_accuracy: Floats
    fold_threshold: Floats
    band: Floats


class SortedPairs:
    """Pairs sorted once, highest score first, so that each bootstrap resample is a reweighting and a cumulative sum."""

    def __init__(self, scores: Floats, same: NDArray[np.bool_], folds: NDArray[np.int64], candidates: Floats | None = None) -> None:
        self.order = np.argsort(-scores, kind="stable")
        self.scores, self.same, self.folds = scores[self.order], same[self.order], folds[self.order]
        # A threshold cannot part equal scores: only the last of each run of them is an operating point.
        self.ends = np.flatnonzero(np.append(np.diff(self.scores) != 0, True))
        self.in_fold = self.folds == np.arange(self.folds.max() + 1)[:, None]  # (F, P)
        # Thresholds that a fold's is chosen from, the strictest first, and how many pairs each accepts.
        if candidates is None:  # accepting nothing means a threshold above all scores
            self.points = np.append(np.nextafter(self.scores[0], np.inf), self.scores[self.ends])
            self.accepted = np.append(0, self.ends + 1)
        else:
            self.points = candidates[::-1]
            self.accepted = np.searchsorted(-self.scores, -self.points, side="right")

    def resamples(self, count: int, rng: np.random.Generator) -> Iterator[Floats]:
        """How often each of the sorted pairs is drawn, pairs of one fold and kind among themselves."""
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
        fold_accuracy, fold_threshold = self.ten_fold(weights)
        summary = {
            "accuracy": float(fold_accuracy.mean()),
            "auc": float(np.trapezoid(tar, far)),
            "eer": equal_error_rate(far, tar),
        }
        summary |= {f"tar@{rate:g}": float(tar_at(far, tar, rate)) for rate in fars}
        return _Figures(summary, fold_accuracy, fold_threshold, tar_at(far, tar, BAND_FARS))

    def ten_fold(self, weights: Floats) -> tuple[Floats, Floats]:
        """Accuracy and threshold of each fold, the sorted pairs counting `weights` times."""
        # Accepting a genuine pair is one right decision more, accepting an impostor one less. gain[k]: right decisions
        # won by accepting everything down to candidate k. Fold by fold, as all folds at once would take ten times the memory.
        won = np.where(self.same, weights, -weights)
        in_all = self._gain(won)
        accuracy, threshold = np.empty(len(self.in_fold)), np.empty(len(self.in_fold))
        for fold, inside in enumerate(self.in_fold):
            gain = self._gain(won * inside)
            best = int(np.argmax(in_all - gain))  # on the other folds; the first is the strictest
            right = weights[inside & ~self.same].sum() + gain[best]
            accuracy[fold], threshold[fold] = right / weights[inside].sum(), self.points[best]
        return accuracy, threshold

    def _gain(self, won: Floats) -> Floats:
        """(T,) sum of what is won down to each candidate."""
        gain: Floats = np.append(0.0, np.cumsum(won))[self.accepted]
        return gain


def tar_at(far: Floats, tar: Floats, rate: float | Floats) -> Any:
    """Highest TAR with FAR <= rate (a hair more, so that 3 of 30 is a rate of 0.1)."""
    return tar[np.searchsorted(far, np.asarray(rate) * (1 + 1e-9), side="right") - 1]


def equal_error_rate(far: Floats, tar: Floats) -> float:
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


def _check_candidates(candidates: ArrayLike) -> Floats:
    """The candidates, ascending."""
    values = np.asarray(candidates, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise WorkbenchError(f"candidates have shape {values.shape}; expected (T,) finite thresholds, at least one")
    return np.sort(values)


def _told(candidates: Floats | None) -> str:
    return "the scores" if candidates is None else f"{len(candidates)} thresholds from {candidates[0]:g} to {candidates[-1]:g}"


def affordable(bootstrap: int, pairs: int) -> int:
    """Resamples for so many pairs: as many as asked for up to `MANY_PAIRS`, then fewer, as each takes longer, but not below 100."""
    return min(bootstrap, max(100, bootstrap * MANY_PAIRS // max(pairs, 1)))


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
