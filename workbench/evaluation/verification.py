"""Verification: from scores of pairs to accuracy, ROC, AUC, EER and TAR at FAR, each with a confidence interval.

A score is a similarity, higher for pairs that look more alike; a pair is accepted as genuine where its score reaches the
threshold. TAR is the share of genuine pairs accepted, FAR the share of impostor pairs accepted.

Everything is exact: all scores are candidates for the threshold, not a grid. How intervals are made is in `intervals.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from workbench.arrays import BAND_FARS, Bools, Floats, Integers
from workbench.data.benchmark import consecutive_folds
from workbench.errors import WorkbenchError
from workbench.evaluation.intervals import (
    LEVEL,
    WELL_SUPPORTED,
    Groups,
    bounds_with_few_false_accepts,
    check_people,
    groups_of,
    proportion_interval,
    standard_error,
    supported,
)

FARS = (1e-1, 1e-2, 1e-3, 1e-4)


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
            all other folds (of equally good ones the strictest, in the middle of the gap between two scores that it lies in). The
            standard deviation says how much the folds differ, not how exact the accuracy is; that is its interval.
        fold_accuracy, fold_threshold: (F,) the same by fold.
        auc: area under the ROC, ties counted half.
        eer: the rate at which FAR and 1 - TAR meet.
        tar_at_far: {FAR: highest TAR whose false accepts do not exceed FAR}.
        intervals: 95 % interval (low, high) of "accuracy", "auc", "eer", "tar@0.1", ...; empty if not asked for, or where
            there are too few people to make one.
        band: (2, len(BAND_FARS)) low and high TAR at each of `BAND_FARS`, pointwise, or None.
        scores, same, folds: (P,) the input.
        people: (P, 2) who is on the two images of each pair; None where it is not known.
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
    same: Bools
    folds: Integers
    name: str = ""
    note: str = ""
    protocol: dict[str, Any] = field(default_factory=dict)
    people: Integers | None = None

    @property
    def threshold(self) -> float:
        """Mean of the folds' thresholds."""
        return float(self.fold_threshold.mean())

    @property
    def impostors(self) -> int:
        return int((~self.same).sum())

    def supported(self, far: float) -> bool:
        """Whether at least 10 false accepts are expected at this FAR. With fewer, the TAR at it is biased upwards."""
        return supported(self.impostors, far)

    def well_supported(self, far: float) -> bool:
        """Whether at least 30 false accepts are expected at this FAR (Doddington's rule of 30)."""
        return supported(self.impostors, far, WELL_SUPPORTED)

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
    people: ArrayLike | None = None,
    candidates: ArrayLike | None = None,
    fars: Sequence[float] = FARS,
    intervals: bool = True,
) -> VerificationResult:
    """Evaluate scored pairs.

    Args:
        scores: (P,) similarities; any scale, finite.
        same: (P,) True for genuine pairs.
        folds: (P,) number of each pair's fold, or how many consecutive folds to cut the pairs into, as
            `KFold(folds, shuffle=False)` does.
        people: (P, 2) who is on the two images of each pair, as integers; -1 where it is not known. Intervals need it, as pairs
            that share a person are not independent. Without it pairs of different folds are assumed to share nobody.
        candidates: (T,) thresholds to choose the folds' from, where others use a grid; by default any threshold. All
            other figures are exact either way.
        fars: false accept rates to give the TAR at, in (0, 1].
        intervals: compute 95 % intervals, by a jackknife over folds or people (`intervals.py`). They say nothing of another
            training run. Where fewer than 10 false accepts are expected, a TAR at FAR has a lower and an upper bound instead.

    Raises:
        WorkbenchError: shapes do not fit, a score or candidate is NaN or infinite, or there are no genuine or no impostor pairs.
    """
    checked_scores, checked_same = _check(scores, same)
    checked_folds = _check_folds(folds, len(checked_scores))
    checked_people = check_people(people, len(checked_scores))
    if any(not 0 < far <= 1 for far in fars):
        raise WorkbenchError(f"false accept rates must be in (0, 1], got {list(fars)}")
    grid = None if candidates is None else _check_candidates(candidates)
    table = SortedPairs(checked_scores, checked_same, checked_folds, grid)
    figures = table.figures(np.ones(len(checked_scores)), fars)
    found = _Intervals({}, None, "none")
    if intervals:
        groups = groups_of(checked_same, checked_folds, checked_people)
        found = _intervals(table, figures, groups, fars, _units(checked_same, checked_people))
    return VerificationResult(
        accuracy=figures.summary["accuracy"],
        std=float(figures.fold_accuracy.std()),
        fold_accuracy=figures.fold_accuracy,
        fold_threshold=figures.fold_threshold,
        auc=figures.summary["auc"],
        eer=figures.summary["eer"],
        tar_at_far={far: figures.summary[f"tar@{far:g}"] for far in fars},
        intervals=found.by_figure,
        band=found.band,
        scores=checked_scores,
        same=checked_same,
        folds=checked_folds,
        protocol={
            "folds": int(checked_folds.max()) + 1,
            "threshold": f"best on the other folds, of equally good ones the strictest; {_candidates_in_words(grid)}",
            "interval": found.words,
        },
        people=checked_people,
    )


class _Intervals(NamedTuple):
    by_figure: dict[str, tuple[float, float]]
    band: Floats | None
    words: str


class _Units(NamedTuple):
    """Independent trials to count where the data show no spread, as when no pair is judged wrongly."""

    of: dict[str, int]
    genuine: int


def _units(same: Bools, people: Integers | None) -> _Units:
    """People, or pairs where it is not known who is on them."""
    if people is not None:
        count = len(np.unique(people))
        return _Units({"accuracy": count, "auc": count, "eer": count}, len(np.unique(people[same])))
    genuine, impostors = int(same.sum()), int((~same).sum())
    fewer = min(genuine, impostors)
    return _Units({"accuracy": len(same), "auc": fewer, "eer": fewer}, genuine)


def _intervals(
    table: SortedPairs, figures: _Figures, groups: Groups, fars: Sequence[float], units: _Units
) -> _Intervals:
    """Intervals of all figures, from what they are without each of the groups."""
    kept = ~groups.left_out[:, table.order]
    if not ((kept & table.same).any(axis=1) & (kept & ~table.same).any(axis=1)).all():
        return _Intervals(
            {}, None, "none: without one of the people there are no genuine or no impostor pairs"
        )
    without = [table.figures(weights.astype(np.float64), fars) for weights in kept]
    genuine, impostors = table.genuine, table.impostors
    right = right_decisions(table.scores, table.same, table.folds, figures.fold_threshold)
    errors = {
        key: float(standard_error([other.summary[key] for other in without]))
        for key in figures.summary
    }
    errors["accuracy"] = float(standard_error(accuracy_without(right, table.folds, ~kept)))
    errors["auc"] = max(errors["auc"], auc_standard_error(table.scores, table.same))
    most = {"accuracy": len(table.same), "auc": np.inf, "eer": 4 / (1 / genuine + 1 / impostors)}
    found: dict[str, tuple[float, float]] = {}
    for key, value in figures.summary.items():
        counted = units.of.get(key, units.genuine)
        low, high = proportion_interval(
            value, errors[key], groups.degrees_of_freedom, counted, most.get(key, genuine)
        )
        found[key] = (float(low), float(high))
    far, tar = table.curve(np.ones(len(table.same)))
    rare = [rate for rate in fars if not supported(impostors, rate)]
    low, high = bounds_with_few_false_accepts(far, tar, rare, impostors, units.genuine)
    found |= {
        f"tar@{rate:g}": (float(a), float(b)) for rate, a, b in zip(rare, low, high, strict=True)
    }

    band_errors = standard_error([other.band for other in without])
    edges = np.array(
        proportion_interval(
            figures.band, band_errors, groups.degrees_of_freedom, units.genuine, genuine
        )
    )
    few = np.array([not supported(impostors, rate) for rate in BAND_FARS])
    edges[:, few] = bounds_with_few_false_accepts(
        far, tar, BAND_FARS[few], impostors, units.genuine
    )
    edges[0] = np.minimum.accumulate(edges[0][::-1])[
        ::-1
    ]  # TAR rises with FAR, and so do its limits
    edges[1] = np.maximum.accumulate(edges[1])
    edges[:, BAND_FARS >= 1] = 1.0
    words = f"{LEVEL:.0%}, pointwise in curves, jackknife over {groups.words}"
    return _Intervals(found, edges, words)


def right_decisions(scores: Floats, same: Bools, folds: Integers, thresholds: Floats) -> Bools:
    """(P,) whether each pair is judged rightly at its fold's threshold."""
    right: Bools = (scores >= thresholds[folds]) == same
    return right


def accuracy_without(right: Bools, folds: Integers, left_out: Bools) -> Floats:
    """Accuracy, the mean over the folds, without each group of pairs; thresholds stay as they are.

    Thresholds that are chosen anew jump from group to group and would make the accuracy look less certain than it is. Near
    the best threshold the accuracy itself hardly depends on it. With the folds as groups, the jackknife's standard error is
    then that of the mean of the folds' accuracies, which is what LFW's authors report.

    Args:
        right: (P,) whether each pair is judged rightly.
        folds: (P,) number of its fold.
        left_out: (G, P) the pairs of each group.

    Returns:
        (G,) accuracies.
    """
    kept = (~left_out).astype(np.float64)
    by_fold = (folds == np.arange(folds.max() + 1)[:, None]).T.astype(np.float64)  # (P, F)
    counts = kept @ by_fold
    rights = kept @ (by_fold * right[:, None])
    with np.errstate(invalid="ignore"):
        accuracies: Floats = np.nanmean(
            rights / counts, axis=1
        )  # a fold that is left out whole has none
    return accuracies


def auc_standard_error(scores: Floats, same: Bools) -> float:
    """Standard error of the AUC of independent pairs, below which no other estimate of it can be believed.

    DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating characteristic
    curves", Biometrics 1988: the variances of the share of impostors that each genuine pair exceeds, and the other way round.
    """
    genuine, impostor = np.sort(scores[same]), np.sort(scores[~same])
    variance = 0.0
    for ours, theirs in ((genuine, impostor), (impostor, genuine)):
        if len(ours) > 1:
            beaten = (
                np.searchsorted(theirs, ours, side="left")
                + np.searchsorted(theirs, ours, side="right")
            ) / (2 * len(theirs))
            variance += float(beaten.var(ddof=1)) / len(ours)
    return float(np.sqrt(variance))


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
    """Pairs sorted once, highest score first, so that figures without some of them are a reweighting and a cumulative sum."""

    def __init__(
        self,
        scores: Floats,
        same: Bools,
        folds: Integers,
        candidates: Floats | None = None,
    ) -> None:
        self.order = np.argsort(-scores, kind="stable")
        self.scores, self.same, self.folds = scores[self.order], same[self.order], folds[self.order]
        # A threshold cannot part equal scores: only the last of each run of them is an operating point.
        self.ends = np.flatnonzero(np.append(np.diff(self.scores) != 0, True))
        self.in_fold = self.folds == np.arange(self.folds.max() + 1)[:, None]  # (F, P)
        self.genuine, self.impostors = int(same.sum()), int((~same).sum())
        # How many pairs each threshold that a fold's is chosen from accepts, the strictest first.
        self.candidates = None if candidates is None else candidates[::-1]
        if self.candidates is None:
            self.accepted = np.append(0, self.ends + 1)
        else:
            self.accepted = np.searchsorted(-self.scores, -self.candidates, side="right")

    def curve(self, weights: Floats) -> tuple[Floats, Floats]:
        """(FAR, TAR) at every operating point, the empty one first."""
        genuine = np.cumsum(weights * self.same)[self.ends]
        impostor = np.cumsum(weights * ~self.same)[self.ends]
        return np.append(0.0, impostor / impostor[-1]), np.append(0.0, genuine / genuine[-1])

    def figures(self, weights: Floats, fars: Sequence[float]) -> _Figures:
        far, tar = self.curve(weights)
        fold_accuracy, fold_threshold = self.ten_fold(weights)
        summary = {
            "accuracy": float(fold_accuracy.mean()) if len(fold_accuracy) else np.nan,
            "auc": float(np.trapezoid(tar, far)),
            "eer": equal_error_rate(far, tar),
        }
        summary |= {f"tar@{rate:g}": float(tar_at(far, tar, rate)) for rate in fars}
        return _Figures(summary, fold_accuracy, fold_threshold, tar_at(far, tar, BAND_FARS))

    def ten_fold(self, weights: Floats) -> tuple[Floats, Floats]:
        """Accuracy and threshold of each fold that has pairs and others beside it, the sorted pairs counting `weights` times."""
        accuracy, threshold = [], []
        for inside in self.in_fold:
            counts, others = weights[inside], np.where(inside, 0.0, weights)
            if counts.any() and others.any():
                chosen = self._best_threshold(others)
                right = (self.scores[inside] >= chosen) == self.same[inside]
                accuracy.append(float(counts[right].sum() / counts.sum()))
                threshold.append(chosen)
        return np.array(accuracy), np.array(threshold)

    def _best_threshold(self, weights: Floats) -> float:
        """The threshold with the most right decisions on pairs that count `weights` times; of equally good ones the strictest."""
        # Accepting a genuine pair is one right decision more, accepting an impostor one less.
        won = np.append(0.0, np.cumsum(np.where(self.same, weights, -weights)))[self.accepted]
        best = int(np.argmax(won))
        if self.candidates is not None:
            return float(self.candidates[best])
        counted = np.flatnonzero(weights > 0)
        reached = int(np.searchsorted(counted, self.accepted[best]))
        if reached == 0:  # accepting nothing means a threshold above all scores
            return float(np.nextafter(self.scores[counted[0]], np.inf))
        above = self.scores[counted[reached - 1]]
        if reached == len(counted):
            return float(above)
        # Any threshold between two scores decides alike on these pairs. The middle is the fairest to others.
        below = self.scores[counted[reached]]
        middle = below + (above - below) / 2
        return float(middle if middle > below else above)


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


def _check(scores: ArrayLike, same: ArrayLike) -> tuple[Floats, Bools]:
    values, labels = np.asarray(scores, dtype=np.float64), np.asarray(same)
    if values.ndim != 1 or values.shape != labels.shape:
        raise WorkbenchError(
            f"scores have shape {values.shape} and same {labels.shape}, expected (P,) both"
        )
    if labels.dtype != np.bool_ and not np.isin(labels, (0, 1)).all():
        raise WorkbenchError("same must hold True or False (or 1 and 0) for each pair")
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values))[0])
        raise WorkbenchError(
            f"score number {bad} is {values[bad]}; all scores must be finite numbers"
        )
    labels = labels.astype(bool)
    if not labels.any() or labels.all():
        raise WorkbenchError(
            f"{labels.sum()} genuine and {(~labels).sum()} impostor pairs; at least one of each is needed"
        )
    return values, labels


def _check_candidates(candidates: ArrayLike) -> Floats:
    """The candidates, ascending."""
    values = np.asarray(candidates, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise WorkbenchError(
            f"candidates have shape {values.shape}; expected (T,) finite thresholds, at least one"
        )
    return np.sort(values)


def _candidates_in_words(candidates: Floats | None) -> str:
    if candidates is None:
        return "in the middle between two scores"
    return (
        f"candidates are {len(candidates)} thresholds from {candidates[0]:g} to {candidates[-1]:g}"
    )


def _check_folds(folds: int | ArrayLike, count: int) -> Integers:
    if isinstance(folds, int | np.integer):
        return consecutive_folds(count, int(folds))
    given = np.asarray(folds)
    if given.shape != (count,) or given.dtype.kind not in "iu":
        raise WorkbenchError(
            f"folds are {given.dtype} of shape {given.shape}, expected integers of shape ({count},)"
        )
    numbers, renumbered = np.unique(given, return_inverse=True)
    if len(numbers) < 2:
        raise WorkbenchError(
            "all pairs are in one fold; the threshold is chosen on the others, so there must be at least 2"
        )
    return renumbered.astype(np.int64)
