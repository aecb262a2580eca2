"""Verification: from scores of pairs to accuracy, ROC, AUC, EER and TAR at FAR, with intervals.

A score is a similarity: the more alike the two images of a pair, the higher. A pair is accepted as
genuine if its score reaches the threshold. TAR is the share of genuine pairs that are accepted, FAR
the share of impostor pairs that are accepted.

All figures are exact: every score is a candidate for the threshold, not only those on a grid.
`intervals.py` describes how the confidence intervals are computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
from workbench.evaluation.kinds import (
    Headline,
    Result,
    interval_in_words,
    joined,
    rates_in_words,
    register_result,
    tar_columns,
)

FARS = (1e-1, 1e-2, 1e-3, 1e-4)
IJB_PROTOCOL, IJB_FAR = "IJB 1:1", 1e-4
"""Name of IJB's protocol in results, and the FAR that publications on IJB-C compare at."""
SAME_SCORE = 1e-6
"""Largest difference up to which two cosines of float32 embeddings are taken to be equal."""


class Roc(NamedTuple):
    """Operating points, from the highest threshold (none accepted) to the lowest (all)."""

    far: Floats
    tar: Floats
    thresholds: Floats


@register_result
@dataclass(frozen=True)
class VerificationResult(Result):
    """Verification figures of one set of scored pairs.

    Attributes:
        accuracy: mean accuracy over the folds. Each fold is tested at the threshold that is best on
            all other folds. This threshold lies in the middle between two neighbouring scores; if
            several are equally good, it is the highest.
        std: population standard deviation of the folds' accuracies. It shows how much the folds
            differ; the interval of the accuracy shows how precise it is.
        fold_accuracy: (F,) accuracy of each fold.
        fold_threshold: (F,) threshold of each fold.
        auc: area under the ROC curve; ties count half.
        eer: the rate at which FAR and 1 - TAR are equal.
        tar_at_far: {FAR: highest TAR at which FAR is not exceeded}.
        intervals: 95 % interval (low, high) of "accuracy", "auc", "eer", "tar@0.1", ...; empty if
            not requested, or if there are too few people.
        band: (2, len(BAND_FARS)) low and high TAR at each of `BAND_FARS`, pointwise, or None.
        scores: (P,) scores of the pairs.
        same: (P,) True for genuine pairs.
        folds: (P,) fold of each pair.
        people: (P, 2) identities of the two images of each pair; None where unknown.
        name: name of the evaluation.
        note: what a reader of the figures must know.
        protocol: how the figures were made.
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
    people: Integers | None = None

    kind: ClassVar[str] = "verification"
    description: ClassVar[str] = "is a benchmark of pairs"

    @property
    def threshold(self) -> float:
        """Mean threshold over the folds."""
        return float(self.fold_threshold.mean())

    @property
    def impostors(self) -> int:
        """Number of impostor pairs."""
        return int((~self.same).sum())

    def supported(self, far: float) -> bool:
        """Whether at least 10 false accepts are expected at a FAR.

        With fewer, the TAR at this FAR is biased upwards.
        """
        return supported(self.impostors, far)

    def well_supported(self, far: float) -> bool:
        """Whether at least 30 false accepts are expected at a FAR (Doddington's rule of 30)."""
        return supported(self.impostors, far, WELL_SUPPORTED)

    @cached_property
    def roc(self) -> Roc:
        """The ROC curve, with one point per distinct score."""
        return roc(self.scores, self.same)

    def rates_at(self, threshold: float) -> tuple[float, float]:
        """Return (FAR, TAR) at a threshold."""
        accepted = self.scores >= threshold
        return float(accepted[~self.same].mean()), float(accepted[self.same].mean())

    @property
    def has_accuracy(self) -> bool:
        """Whether the accuracy is shown.

        It is not shown for IJB, where nearly all pairs are impostor pairs.
        """
        return self.protocol.get("protocol") != IJB_PROTOCOL

    @property
    def headline(self) -> Headline:
        """The accuracy; for IJB, the TAR at a FAR of 1e-4."""
        if self.has_accuracy:
            return Headline("accuracy", "Accuracy", self.accuracy, self.intervals.get("accuracy"))
        column = f"tar@{IJB_FAR:g}"
        tar = self.tar_at_far.get(IJB_FAR, np.nan)
        return Headline(column, f"TAR at FAR {IJB_FAR:g}", tar, self.intervals.get(column))

    def summary(self) -> str:
        """Accuracy, AUC, EER and TAR at the supported FARs, in one line."""
        rates = rates_in_words("TAR at FAR", self.tar_at_far, self.supported)
        others = joined(f"AUC {self.auc:.4f}", f"EER {self.eer:.2%}", rates)
        if not self.has_accuracy:
            return others
        interval = interval_in_words(self.intervals.get("accuracy"))
        spread = f"standard deviation of the folds {self.std:.2%}"
        return f"accuracy {self.accuracy:.2%} {interval} ({spread}), {others}"

    def columns(self) -> dict[str, Any]:
        """The figures of the leaderboard's row, each with its interval where there is one."""
        row: dict[str, Any] = {"accuracy": self.accuracy} if self.has_accuracy else {}
        row |= tar_columns(self.tar_at_far, self.supported)
        row |= {"auc": self.auc, "eer": self.eer}
        if self.has_accuracy:
            row["std"] = self.std
        for key, (low, high) in self.intervals.items():
            if key in row:
                row |= {f"{key}_low": low, f"{key}_high": high}
        return row

    def details(self) -> dict[str, Any]:
        """The protocol, after the numbers of pairs."""
        genuine = int(self.same.sum())
        pairs = f"{genuine:,} genuine, {self.impostors:,} impostor"
        return {"pairs": pairs, **self.protocol}

    def remark(self) -> str:
        """Says whether all scores are equal, so that the network has collapsed."""
        if np.ptp(self.scores) > SAME_SCORE:
            return ""
        return (
            f"all {len(self.scores):,} scores are equal: the network maps every image to the same "
            "embedding, so it has collapsed"
        )

    def figures(self) -> dict[str, Any]:
        """What is stored in the .json file."""
        return {
            "accuracy": self.accuracy,
            "std": self.std,
            "auc": self.auc,
            "eer": self.eer,
            "tar_at_far": {f"{far:g}": tar for far, tar in self.tar_at_far.items()},
            "intervals": {key: list(interval) for key, interval in self.intervals.items()},
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is stored in the .npz file."""
        stored = {key: getattr(self, key) for key in (*_ARRAYS, *_OPTIONAL_ARRAYS)}
        return {key: values for key, values in stored.items() if values is not None}

    @classmethod
    def from_stored(cls, figures: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Build the result from stored figures and arrays."""
        stored: dict[str, Any] = {key: arrays[key] for key in _ARRAYS}
        stored |= {key: arrays.get(key) for key in _OPTIONAL_ARRAYS}
        return cls(
            accuracy=figures["accuracy"],
            std=figures["std"],
            auc=figures["auc"],
            eer=figures["eer"],
            tar_at_far={float(far): tar for far, tar in figures["tar_at_far"].items()},
            intervals={key: (low, high) for key, (low, high) in figures["intervals"].items()},
            **stored,
        )


_ARRAYS = ("scores", "same", "folds", "fold_accuracy", "fold_threshold")
_OPTIONAL_ARRAYS = ("people", "band")


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
    """Compute verification figures from scored pairs.

    Args:
        scores: (P,) similarities of any scale, finite.
        same: (P,) True for genuine pairs.
        folds: (P,) fold of each pair; or the number of consecutive folds, cut as by
            `KFold(folds, shuffle=False)`.
        people: (P, 2) identities of the two images of each pair, as integers; -1 where unknown.
            Intervals need them, as pairs that share a person are not independent. Without them,
            pairs of different folds are assumed to share no person.
        candidates: (T,) thresholds from which the folds' thresholds are chosen, for protocols with
            a grid; by default any threshold. All other figures are exact in both cases.
        fars: false accept rates at which TAR is computed, in (0, 1].
        intervals: whether 95 % intervals are computed, by a jackknife over folds or people. They do
            not cover the variation between training runs. If fewer than 10 false accepts are
            expected at a FAR, the interval of its TAR consists of a lower and an upper bound.

    Returns:
        The figures, with the scores they were computed from.

    Raises:
        WorkbenchError: if the shapes do not match, a score or candidate is NaN or infinite, or
            there are no genuine or no impostor pairs.

    Example:
        >>> result = verification([0.9, 0.2, 0.8, 0.1], [True, False, True, False], folds=2)
        >>> result.accuracy, result.auc, result.eer
        (1.0, 1.0, 0.0)
    """
    checked_scores, checked_same = _check(scores, same)
    checked_folds = _check_folds(folds, len(checked_scores))
    checked_people = check_people(people, len(checked_scores))
    if any(not 0 < far <= 1 for far in fars):
        raise WorkbenchError(f"false accept rates must be in (0, 1], got {list(fars)}")
    grid = None if candidates is None else _check_candidates(candidates)
    table = SortedPairs(checked_scores, checked_same, checked_folds, grid)
    figures = table.figures(np.ones(len(checked_scores)), fars)
    uncertainty = _Intervals({}, None, "none")
    if intervals:
        groups = groups_of(checked_same, checked_folds, checked_people)
        units = _units(checked_same, checked_people)
        uncertainty = _intervals(table, figures, groups, fars, units)
    return VerificationResult(
        accuracy=figures.summary["accuracy"],
        std=float(figures.fold_accuracy.std()),
        fold_accuracy=figures.fold_accuracy,
        fold_threshold=figures.fold_threshold,
        auc=figures.summary["auc"],
        eer=figures.summary["eer"],
        tar_at_far={far: figures.summary[f"tar@{far:g}"] for far in fars},
        intervals=uncertainty.by_figure,
        band=uncertainty.band,
        scores=checked_scores,
        same=checked_same,
        folds=checked_folds,
        protocol={
            "folds": int(checked_folds.max()) + 1,
            "threshold": (
                "best on the other folds, of equally good ones the strictest; "
                f"{_candidates_in_words(grid)}"
            ),
            "interval": uncertainty.words,
        },
        people=checked_people,
    )


class _Intervals(NamedTuple):
    by_figure: dict[str, tuple[float, float]]
    band: Floats | None
    words: str


class _Units(NamedTuple):
    """Numbers of independent trials that are assumed for a figure if the data show no variation."""

    of: dict[str, int]
    """{figure: trials}"""
    genuine: int
    """trials of a TAR"""


def _units(same: Bools, people: Integers | None) -> _Units:
    """Count people, or pairs where people are unknown."""
    if people is not None:
        count = len(np.unique(people))
        return _Units({"accuracy": count, "auc": count, "eer": count}, len(np.unique(people[same])))
    genuine, impostors = int(same.sum()), int((~same).sum())
    fewer = min(genuine, impostors)
    return _Units({"accuracy": len(same), "auc": fewer, "eer": fewer}, genuine)


def _intervals(
    table: SortedPairs, figures: _Figures, groups: Groups, fars: Sequence[float], units: _Units
) -> _Intervals:
    """Compute the intervals of all figures by a jackknife over the groups."""
    kept = ~groups.left_out[:, table.order]
    if not ((kept & table.same).any(axis=1) & (kept & ~table.same).any(axis=1)).all():
        words = "none: without one of the people there are no genuine or no impostor pairs"
        return _Intervals({}, None, words)
    without = [table.figures(weights.astype(np.float64), fars) for weights in kept]
    by_figure = _figure_intervals(table, figures, without, groups, kept, units)
    # At a FAR with few expected false accepts, the jackknife is replaced by bounds.
    far, tar = table.curve(np.ones(len(table.same)))
    rare = [rate for rate in fars if not supported(table.impostors, rate)]
    low, high = bounds_with_few_false_accepts(far, tar, rare, table.impostors, units.genuine)
    for rate, lower, upper in zip(rare, low, high, strict=True):
        by_figure[f"tar@{rate:g}"] = (float(lower), float(upper))
    words = f"{LEVEL:.0%}, pointwise in curves, jackknife over {groups.words}"
    return _Intervals(by_figure, _band(table, figures, without, groups, units), words)


def _figure_intervals(
    table: SortedPairs,
    figures: _Figures,
    without: Sequence[_Figures],
    groups: Groups,
    kept: Bools,
    units: _Units,
) -> dict[str, tuple[float, float]]:
    """Compute the interval of each single figure.

    Args:
        table: the sorted pairs.
        figures: the figures on all pairs.
        without: the figures without each of the groups.
        groups: the groups of the jackknife.
        kept: (G, P) True for the sorted pairs that are kept without each group.
        units: numbers of independent trials that are assumed if the data show no variation.
    """
    correct = right_decisions(table.scores, table.same, table.folds, figures.fold_threshold)
    errors = {
        key: float(standard_error([figure.summary[key] for figure in without]))
        for key in figures.summary
    }
    errors["accuracy"] = float(standard_error(accuracy_without(correct, table.folds, ~kept)))
    errors["auc"] = max(errors["auc"], auc_standard_error(table.scores, table.same))
    # Numbers of pairs that a figure is a share of; a TAR is a share of the genuine pairs.
    genuine, impostors = table.genuine, table.impostors
    most = {"accuracy": len(table.same), "auc": np.inf, "eer": 4 / (1 / genuine + 1 / impostors)}
    by_figure: dict[str, tuple[float, float]] = {}
    for key, value in figures.summary.items():
        low, high = proportion_interval(
            value,
            errors[key],
            groups.degrees_of_freedom,
            units.of.get(key, units.genuine),
            most.get(key, genuine),
        )
        by_figure[key] = (float(low), float(high))
    return by_figure


def _band(
    table: SortedPairs,
    figures: _Figures,
    without: Sequence[_Figures],
    groups: Groups,
    units: _Units,
) -> Floats:
    """Compute the (2, len(BAND_FARS)) band of the ROC curve."""
    low_and_high = proportion_interval(
        figures.band,
        standard_error([figure.band for figure in without]),
        groups.degrees_of_freedom,
        units.genuine,
        table.genuine,
    )
    band = np.array(low_and_high)
    few = np.array([not supported(table.impostors, rate) for rate in BAND_FARS])
    far, tar = table.curve(np.ones(len(table.same)))
    band[:, few] = bounds_with_few_false_accepts(
        far, tar, BAND_FARS[few], table.impostors, units.genuine
    )
    # TAR rises with FAR, and so do the limits of its interval.
    band[0] = np.minimum.accumulate(band[0][::-1])[::-1]
    band[1] = np.maximum.accumulate(band[1])
    band[:, BAND_FARS >= 1] = 1.0
    return band


def right_decisions(scores: Floats, same: Bools, folds: Integers, thresholds: Floats) -> Bools:
    """Return which pairs are decided correctly at the threshold of their fold.

    Args:
        scores: (P,) scores.
        same: (P,) True for genuine pairs.
        folds: (P,) fold of each pair.
        thresholds: (F,) threshold of each fold.

    Returns:
        (P,) True where the decision is correct.
    """
    correct: Bools = (scores >= thresholds[folds]) == same
    return correct


def accuracy_without(correct: Bools, folds: Integers, left_out: Bools) -> Floats:
    """Compute the accuracy, as mean over the folds, without each group of pairs.

    The thresholds stay the same. If they were chosen anew, they would change from group to group,
    and the accuracy would look less certain than it is: near the best threshold it hardly depends
    on the threshold. With the folds as groups, the standard error of the jackknife is that of the
    mean of the folds' accuracies, which is what the authors of LFW report.

    Args:
        correct: (P,) True where a pair is decided correctly.
        folds: (P,) fold of each pair.
        left_out: (G, P) True for the pairs of each group.

    Returns:
        (G,) accuracies.
    """
    kept = (~left_out).astype(np.float64)
    in_fold = (folds == np.arange(folds.max() + 1)[:, None]).T.astype(np.float64)  # (P, F)
    counts = kept @ in_fold
    correct_counts = kept @ (in_fold * correct[:, None])
    # A fold that is left out completely has no accuracy: 0 / 0 is NaN, which is then ignored.
    with np.errstate(invalid="ignore"):
        accuracies: Floats = np.nanmean(correct_counts / counts, axis=1)
    return accuracies


def auc_standard_error(scores: Floats, same: Bools) -> float:
    """Compute the standard error of the AUC for independent pairs.

    It is used as a lower limit for other estimates of the standard error. DeLong, DeLong and
    Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating
    characteristic curves", Biometrics 1988, compute it from two variances: that of the share of
    impostor scores below each genuine score, and that of the share of genuine scores below each
    impostor score.

    Args:
        scores: (P,) scores.
        same: (P,) True for genuine pairs.

    Returns:
        The standard error.
    """
    genuine, impostor = np.sort(scores[same]), np.sort(scores[~same])
    variance = 0.0
    for ours, theirs in ((genuine, impostor), (impostor, genuine)):
        if len(ours) > 1:
            below = np.searchsorted(theirs, ours, side="left")
            up_to = np.searchsorted(theirs, ours, side="right")
            exceeded = (below + up_to) / (2 * len(theirs))  # ties count half
            variance += float(exceeded.var(ddof=1)) / len(ours)
    return float(np.sqrt(variance))


def roc(scores: ArrayLike, same: ArrayLike) -> Roc:
    """Compute the ROC curve, with one point per distinct score.

    Args:
        scores: (P,) similarities, finite.
        same: (P,) True for genuine pairs.

    Returns:
        Points from (0, 0) at an infinite threshold to (1, 1).

    Raises:
        WorkbenchError: if the shapes do not match, a score is NaN or infinite, or there are no
            genuine or no impostor pairs.

    Example:
        >>> curve = roc([0.9, 0.6, 0.7, 0.1], [True, True, False, False])
        >>> curve.far, curve.tar
        (array([0. , 0. , 0.5, 0.5, 1. ]), array([0. , 0.5, 0.5, 1. , 1. ]))
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
    """Pairs that are sorted once, so that figures without some pairs need only a cumulative sum.

    Args:
        scores: (P,) scores.
        same: (P,) True for genuine pairs.
        folds: (P,) fold of each pair.
        candidates: (T,) thresholds to choose from, ascending; None for any threshold.
    """

    def __init__(
        self,
        scores: Floats,
        same: Bools,
        folds: Integers,
        candidates: Floats | None = None,
    ) -> None:
        self.order = np.argsort(-scores, kind="stable")
        self.scores, self.same, self.folds = scores[self.order], same[self.order], folds[self.order]
        # A threshold cannot separate equal scores, so only the last of them is an operating point.
        self.ends = np.flatnonzero(np.append(np.diff(self.scores) != 0, True))
        self.in_fold = self.folds == np.arange(self.folds.max() + 1)[:, None]  # (F, P)
        self.genuine, self.impostors = int(same.sum()), int((~same).sum())
        # Number of pairs that each candidate threshold accepts, the highest threshold first.
        self.candidates = None if candidates is None else candidates[::-1]
        if self.candidates is None:
            self.accepted = np.append(0, self.ends + 1)
        else:
            self.accepted = np.searchsorted(-self.scores, -self.candidates, side="right")

    def curve(self, weights: Floats) -> tuple[Floats, Floats]:
        """Return FAR and TAR at every operating point, first where no pair is accepted."""
        genuine = np.cumsum(weights * self.same)[self.ends]
        impostor = np.cumsum(weights * ~self.same)[self.ends]
        return np.append(0.0, impostor / impostor[-1]), np.append(0.0, genuine / genuine[-1])

    def figures(self, weights: Floats, fars: Sequence[float]) -> _Figures:
        """Compute all figures. Each pair counts as often as its weight says."""
        far, tar = self.curve(weights)
        fold_accuracy, fold_threshold = self.fold_accuracies(weights)
        summary = {
            "accuracy": float(fold_accuracy.mean()) if len(fold_accuracy) else np.nan,
            "auc": float(np.trapezoid(tar, far)),
            "eer": equal_error_rate(far, tar),
        }
        summary |= {f"tar@{rate:g}": float(tar_at(far, tar, rate)) for rate in fars}
        return _Figures(summary, fold_accuracy, fold_threshold, tar_at(far, tar, BAND_FARS))

    def fold_accuracies(self, weights: Floats) -> tuple[Floats, Floats]:
        """Compute the accuracy and the threshold of each fold, with weighted pairs.

        Folds without pairs, or without pairs in other folds, are left out.
        """
        accuracy, threshold = [], []
        for inside in self.in_fold:
            in_fold, in_others = weights[inside], np.where(inside, 0.0, weights)
            if in_fold.any() and in_others.any():
                chosen = self._best_threshold(in_others)
                correct = (self.scores[inside] >= chosen) == self.same[inside]
                accuracy.append(float(in_fold[correct].sum() / in_fold.sum()))
                threshold.append(chosen)
        return np.array(accuracy), np.array(threshold)

    def _best_threshold(self, weights: Floats) -> float:
        """Return the threshold with the most correct decisions (the highest of several)."""
        # Accepting a genuine pair adds a correct decision, accepting an impostor pair removes one.
        gain = np.append(0.0, np.cumsum(np.where(self.same, weights, -weights)))[self.accepted]
        best = int(np.argmax(gain))
        if self.candidates is not None:
            return float(self.candidates[best])
        counted = np.flatnonzero(weights > 0)
        reached = int(np.searchsorted(counted, self.accepted[best]))
        if reached == 0:  # no pair is accepted, so the threshold is above all scores
            return float(np.nextafter(self.scores[counted[0]], np.inf))
        above = self.scores[counted[reached - 1]]
        if reached == len(counted):
            return float(above)
        # All thresholds between two scores give the same decisions here; the middle is neutral.
        below = self.scores[counted[reached]]
        middle = below + (above - below) / 2
        return float(middle if middle > below else above)


def tar_at(far: Floats, tar: Floats, rate: float | Floats) -> Any:
    """Return the highest TAR with FAR <= rate.

    A tolerance for rounding ensures that 3 of 30 false accepts count as a rate of 0.1.
    """
    return tar[np.searchsorted(far, np.asarray(rate) * (1 + 1e-9), side="right") - 1]


def equal_error_rate(far: Floats, tar: Floats) -> float:
    """Return the rate where FAR = 1 - TAR, interpolated linearly between two operating points."""
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
            f"scores have shape {values.shape} and same {labels.shape}, both must be (P,)"
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
            f"{labels.sum()} genuine and {(~labels).sum()} impostor pairs; at least one of each is "
            "needed"
        )
    return values, labels


def _check_candidates(candidates: ArrayLike) -> Floats:
    """Return the candidates in ascending order."""
    values = np.asarray(candidates, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise WorkbenchError(
            f"candidates have shape {values.shape}; expected (T,) finite thresholds, at least one"
        )
    return np.sort(values)


def _candidates_in_words(candidates: Floats | None) -> str:
    if candidates is None:
        return "in the middle between two scores"
    limits = f"from {candidates[0]:g} to {candidates[-1]:g}"
    return f"candidates are {len(candidates)} thresholds {limits}"


def _check_folds(folds: int | ArrayLike, count: int) -> Integers:
    if isinstance(folds, int | np.integer):
        return consecutive_folds(count, int(folds))
    values = np.asarray(folds)
    if values.shape != (count,) or values.dtype.kind not in "iu":
        raise WorkbenchError(
            f"folds are {values.dtype} of shape {values.shape}, expected integers of shape "
            f"({count},)"
        )
    numbers, renumbered = np.unique(values, return_inverse=True)
    if len(numbers) < 2:
        raise WorkbenchError(
            "all pairs are in one fold; the threshold is chosen on the other folds, so at least 2 "
            "are needed"
        )
    return renumbered.astype(np.int64)
