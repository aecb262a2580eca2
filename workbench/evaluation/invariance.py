"""Invariance: how the similarity of genuine pairs falls as their two pictures differ more and more in one factor.

A threshold is fixed by the impostor pairs, as the one that lets through a given share of them (the FAR). Genuine pairs are
sorted into bins by their gap, such as the difference in yaw. Where the median of a bin falls below the threshold, every
second genuine pair is refused: that gap, the crossing, says in degrees or years how far a run's embeddings bear the factor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.arrays import Bools, Floats, Integers
from workbench.errors import WorkbenchError, unknown_name
from workbench.evaluation.intervals import LEVEL


class Factor(NamedTuple):
    """What two pictures of a person can differ in, and how the difference is written."""

    title: str
    unit: str

    def text(self, gap: float) -> str:
        """A gap as people read it: 45°, 12 years, 30 %."""
        return {"degrees": f"{gap:.0f}°", "years": f"{gap:.0f} years", "share": f"{gap:.0%}"}[
            self.unit
        ]


FACTORS = {
    "yaw": Factor("Difference in yaw", "degrees"),
    "age": Factor("Difference in age", "years"),
    "illumination": Factor("Difference in light angle", "degrees"),
    "occlusion": Factor("Difference in occluded share", "share"),
}
"""Attributes of a benchmark's images that curves are drawn over; shares are 0..1."""
VARIED, NOTHING = "factor", "none"
"""The attribute that says what an image of a controlled sweep varies, and its value for one that varies nothing."""
MOST_LEVELS, QUANTILE_BINS = 20, 10
SPREAD = (0.1, 0.9)
MIN_RESAMPLED = 5
"""Fewer people (or pairs, where people are not known) than that in a bin give no interval: a bootstrap would be blind."""


class Gaps(NamedTuple):
    """How far apart the two images of each pair are."""

    by_factor: dict[str, Floats]
    """(P,) for each factor, NaN where unknown or where something else differs too"""
    people: Integers | None
    """(P, 2) identities of the two images, where all are known"""
    controlled: bool
    """whether in each pair nothing but the one factor differs"""


@dataclass(frozen=True)
class InvarianceCurve:
    """Genuine similarity against the gap in one factor, in B bins.

    Attributes:
        factor: one of `FACTORS`.
        far, threshold: the lowest threshold that accepts no larger share of the impostor pairs.
        impostor_mean: mean similarity of the impostor pairs.
        gap: (B,) mean gap of each bin's genuine pairs, rising, in the factor's unit.
        count: (B,) genuine pairs.
        mean, median: (B,) their similarity; the median of an even number is the lower of the middle two.
        median_interval: (2, B) 95 % bootstrap interval of the median; NaN in bins of fewer than 5 people; None if not asked
            for or with fewer than 5 people in all.
        spread: (2, B) similarity that 10 % and 90 % of the genuine pairs stay below.
        tar: (B,) share of genuine pairs that the threshold accepts.
        tar_interval: (2, B) of it, the threshold being chosen anew in each resample.
        crossing: gap at which the median falls below the threshold for the first time, on a straight line between two bins;
            the smallest gap where it is below from the start, infinite where it never falls below.
        crossing_interval: of it; its upper end may be infinite.
    """

    factor: str
    far: float
    threshold: float
    impostor_mean: float
    gap: Floats
    count: Integers
    mean: Floats
    median: Floats
    median_interval: Floats | None
    spread: Floats
    tar: Floats
    tar_interval: Floats | None
    crossing: float
    crossing_interval: tuple[float, float] | None

    @property
    def title(self) -> str:
        """What the gap is: "Difference in yaw"."""
        return FACTORS[self.factor].title

    @property
    def unit(self) -> str:
        """degrees, years or share."""
        return FACTORS[self.factor].unit

    def text(self, gap: float) -> str:
        """A gap as people read it; an infinite one lies beyond all that was measured."""
        if np.isinf(gap):
            return f"> {FACTORS[self.factor].text(self.gap[-1])}"
        return FACTORS[self.factor].text(gap)

    @property
    def crossing_text(self) -> str:
        """The crossing with its interval: 74° [71°, 78°], > 90°."""
        at_once = self.crossing == self.gap[0] and self.median[0] < self.threshold
        text = f"≤ {self.text(self.crossing)}" if at_once else self.text(self.crossing)
        if self.crossing_interval is None or self.crossing_interval[0] == self.crossing_interval[1]:
            return text
        low, high = self.crossing_interval
        return f"{text} [{self.text(low)}, {self.text(high)}]"


# From attributes of images to gaps of pairs


def gaps(attributes: Mapping[str, NDArray[Any]], pairs: Integers) -> dict[str, Floats]:
    """|difference| between the two images of each pair in every known factor: a sweep to both sides is one sweep.

    Args:
        attributes: {name: (M,) values}, of which those in `FACTORS` are used.
        pairs: (P, 2) numbers of images.

    Raises:
        WorkbenchError: a factor's values are not numbers.
    """
    found = {}
    for factor in FACTORS:
        if factor in attributes:
            if attributes[factor].dtype.kind not in "biuf":
                raise WorkbenchError(
                    f"attribute {factor!r} holds {attributes[factor].dtype}, expected numbers"
                )
            values = attributes[factor].astype(np.float64)
            found[factor] = np.abs(values[pairs[:, 0]] - values[pairs[:, 1]])
    return found


def alone(varied: NDArray[Any], pairs: Integers, factor: str) -> Bools:
    """Pairs of a controlled sweep in which nothing but `factor` differs.

    They are those of a picture that varies nothing with one that varies the factor, or with another that varies nothing.

    Args:
        varied: (M,) what each image varies: "none", "yaw", ...
        pairs: (P, 2) numbers of images.
        factor: one of the names in `varied`.
    """
    both = varied[pairs]
    found: Bools = np.isin(both, (NOTHING, factor)).all(axis=1) & (both == NOTHING).any(axis=1)
    return found


def pair_gaps(
    attributes: Mapping[str, NDArray[Any]],
    pairs: Integers,
    same: Bools,
    identities: Integers | None = None,
) -> Gaps | None:
    """The gaps that a benchmark's attributes allow to draw curves over; None where no genuine pair differs in a known factor.

    Args:
        attributes: {name: (M,) values}; with "factor" among them, pairs in which something else differs too get NaN.
        pairs: (P, 2) numbers of images.
        same: (P,) True for genuine pairs.
        identities: (M,) who is on each image, -1 where not known.

    Raises:
        WorkbenchError: a factor's values are not numbers.
    """
    controlled = VARIED in attributes and bool((attributes[VARIED] == NOTHING).any())
    by_factor = gaps(attributes, pairs)
    if controlled:
        varied = attributes[VARIED]
        by_factor = {
            factor: np.where(alone(varied, pairs, factor), gap, np.nan)
            for factor, gap in by_factor.items()
        }
    by_factor = {factor: gap for factor, gap in by_factor.items() if (gap[same] > 0).any()}
    if not by_factor:
        return None
    people = (
        None
        if identities is None or (identities[pairs] < 0).any()
        else identities[pairs].astype(np.int64)
    )
    return Gaps(by_factor, people, controlled)


# From scores and gaps to a curve


def invariance(
    scores: ArrayLike,
    same: ArrayLike,
    gap: ArrayLike,
    *,
    factor: str,
    far: float = 1e-2,
    edges: ArrayLike | None = None,
    bootstrap: int = 1000,
    people: ArrayLike | None = None,
    seed: int = 0,
) -> InvarianceCurve:
    """Similarity of genuine pairs, and the share of them that is accepted, against their gap in one factor.

    Args:
        scores: (P,) similarities, finite.
        same: (P,) True for genuine pairs. All impostor pairs count for the threshold, whatever their gap.
        gap: (P,) difference in the factor, >= 0; genuine pairs with NaN are left out.
        factor: one of `FACTORS`, for the units.
        far: false accept rate that fixes the threshold, in (0, 1).
        edges: (B + 1,) rising edges of the bins, the last bin with its upper edge. By default a bin for each of the gaps that
            there are, to three decimals, where those are at most 20; else one for gap 0, and ten with equally many pairs.
            Bins without a genuine pair are left out.
        bootstrap: resamples for the 95 % intervals; 0 for none.
        people: (P, 2) identities of the two images. Pairs that share a person are not independent, so people are redrawn, and
            a pair is there as often as both its people are (Snijders and Borgatti, "Non-parametric standard errors and tests
            for network statistics", Connections 1999). Without it pairs are redrawn, and the intervals are too narrow.
        seed: of the resampling.

    Raises:
        WorkbenchError: shapes do not fit, a score is NaN or infinite, a gap negative, no genuine pair has a gap, or there are
            fewer than 1 / FAR impostor pairs.
    """
    if factor not in FACTORS:
        raise unknown_name("factor", factor, FACTORS)
    if not 0 < far < 1:
        raise WorkbenchError(f"the false accept rate must be between 0 and 1, got {far}")
    if bootstrap < 0:
        raise WorkbenchError(
            f"bootstrap must be a number of resamples or 0 for none, got {bootstrap}"
        )
    values, genuine, distance, drawn = _check(scores, same, gap, people, factor)
    impostors = int((~genuine).sum())
    if impostors * far < 1 - 1e-9:
        needed = int(np.ceil(1 / far - 1e-9))
        raise WorkbenchError(
            f"a false accept rate of {far:g} takes at least {needed:,} impostor pairs, there are {impostors:,}"
        )
    bin_of = np.where(genuine, _bins(distance, genuine, edges), -1)
    if not (bin_of >= 0).any():
        raise WorkbenchError(f"no genuine pair has a known difference in {factor} within the bins")
    kept = (bin_of >= 0) | ~genuine
    table = _Table(values[kept], bin_of[kept], far)
    members = [np.flatnonzero(bin_of == number) for number in range(table.bins)]
    centres = np.array([distance[pairs].mean() for pairs in members])

    point = table.figures(np.ones(len(table.scores)), centres)
    median_interval = tar_interval = crossing_interval = None
    if bootstrap and len(np.unique(drawn[kept])) >= MIN_RESAMPLED:
        resamples = _resamples(drawn[kept], bootstrap, np.random.default_rng(seed))
        draws = [table.figures(weights, centres) for weights in resamples]
        few = [len(np.unique(drawn[pairs, 0])) < MIN_RESAMPLED for pairs in members]
        median_interval = np.where(
            few, np.nan, _interval(np.array([draw.median for draw in draws]), point.median)
        )
        tar_interval = np.where(
            few, np.nan, _interval(np.array([draw.tar for draw in draws]), point.tar)
        )
        low, high = _interval(np.array([draw.crossing for draw in draws]), np.array(point.crossing))
        crossing_interval = (float(low), float(high))
    return InvarianceCurve(
        factor=factor,
        far=far,
        threshold=point.threshold,
        impostor_mean=float(values[~genuine].mean()),
        gap=centres,
        count=np.array([len(pairs) for pairs in members]),
        mean=np.array([values[pairs].mean() for pairs in members]),
        median=point.median,
        median_interval=median_interval,
        spread=np.array([np.quantile(values[pairs], SPREAD) for pairs in members]).T,
        tar=point.tar,
        tar_interval=tar_interval,
        crossing=point.crossing,
        crossing_interval=crossing_interval,
    )


class _Figures(NamedTuple):
    threshold: float
    median: Floats
    tar: Floats
    crossing: float


class _Table:
    """Pairs sorted once, so that each bootstrap resample is a reweighting and a cumulative sum."""

    def __init__(self, scores: Floats, bin_of: Integers, far: float) -> None:
        """bin_of: bin of each genuine pair, -1 for impostor pairs."""
        self.scores, self.far, self.bins = scores, far, int(bin_of.max()) + 1
        impostors = np.flatnonzero(bin_of < 0)
        self.impostors = impostors[np.argsort(-scores[impostors], kind="stable")]  # highest first
        self.genuine = np.lexsort((scores, bin_of))[
            len(impostors) :
        ]  # bin by bin, lowest score first
        self.bin_of = bin_of[self.genuine]
        self.ends = np.searchsorted(self.bin_of, np.arange(self.bins), side="right") - 1

    def figures(self, weights: Floats, centres: Floats) -> _Figures:
        threshold, median = self.threshold(weights), self.medians(weights)
        return _Figures(
            threshold, median, self.tar(weights, threshold), _crossing(centres, median, threshold)
        )

    def threshold(self, weights: Floats) -> float:
        """Just above the first impostor pair that must be refused; NaN where the resample has none."""
        accepted = np.cumsum(weights[self.impostors])
        if not accepted[-1]:
            return float("nan")
        first = int(np.argmax(accepted > self.far * (1 + 1e-9) * accepted[-1]))
        return float(np.nextafter(self.scores[self.impostors[first]], np.inf))

    def medians(self, weights: Floats) -> Floats:
        """Lowest score that half of a bin's pairs do not exceed; NaN for a bin that the resample left empty."""
        upto = np.cumsum(weights[self.genuine])
        after = upto[self.ends]
        before = np.append(0.0, after[:-1])
        middle = np.searchsorted(upto, (before + after) / 2)
        return np.where(after > before, self.scores[self.genuine[middle]], np.nan)

    def tar(self, weights: Floats, threshold: float) -> Floats:
        """Share of each bin's pairs that are accepted; NaN for an empty bin."""
        drawn = weights[self.genuine]
        if np.isnan(threshold):
            return np.full(self.bins, np.nan)
        total = np.bincount(self.bin_of, drawn)
        accepted = np.bincount(self.bin_of, drawn * (self.scores[self.genuine] >= threshold))
        return np.where(total > 0, accepted / np.maximum(total, 1), np.nan)


def _bins(gap: Floats, genuine: Bools, edges: ArrayLike | None) -> Integers:
    """Bin of each pair, numbered so that each has a genuine pair; -1 for pairs in none."""
    limits = (
        _default_edges(gap[genuine & np.isfinite(gap)])
        if edges is None
        else np.asarray(edges, dtype=np.float64)
    )
    if limits.ndim != 1 or len(limits) < 2 or not (np.diff(limits) > 0).all():
        raise WorkbenchError(f"edges must be at least two rising numbers, got {limits.tolist()}")
    inside = (gap >= limits[0]) & (gap <= limits[-1])
    place = np.minimum(np.searchsorted(limits, gap, side="right") - 1, len(limits) - 2)
    used = np.unique(place[inside & genuine])
    number = np.full(len(limits) - 1, -1, dtype=np.int64)
    number[used] = np.arange(len(used))
    return np.where(inside, number[place], -1)


def _default_edges(known: Floats) -> Floats:
    levels = np.unique(known.round(3))
    if len(levels) <= MOST_LEVELS:
        return np.concatenate([[-np.inf], (levels[:-1] + levels[1:]) / 2, [np.inf]])
    apart = known[known > 0]
    return np.unique(np.append(0.0, np.quantile(apart, np.linspace(0, 1, QUANTILE_BINS + 1))))


def _resamples(units: Integers, count: int, rng: np.random.Generator) -> Iterator[Floats]:
    """How often each pair is there when people are redrawn; units: (P, 2) people, or twice the pair itself."""
    numbers, which = np.unique(units, return_inverse=True)
    first, second = which.reshape(units.shape).T
    for _ in range(count):
        times = np.bincount(
            rng.integers(len(numbers), size=len(numbers)), minlength=len(numbers)
        ).astype(np.float64)
        yield np.where(first == second, times[first], times[first] * times[second])


def _crossing(gap: Floats, median: Floats, threshold: float) -> float:
    """Where the line through the medians first falls below the threshold."""
    if np.isnan(threshold):
        return float("nan")
    gap, height = gap[np.isfinite(median)], (median - threshold)[np.isfinite(median)]
    below = np.flatnonzero(height < 0)
    if not len(below):
        return float("inf")
    after = int(below[0])
    if after == 0:
        return float(gap[0])
    share = height[after - 1] / (height[after - 1] - height[after])
    return float(gap[after - 1] + share * (gap[after] - gap[after - 1]))


def _interval(draws: Floats, point: Floats) -> Floats:
    """(2, ...) percentile interval at `LEVEL` over the draws that are numbers, infinite ones among them; it holds the point."""
    ordered, numbers = np.sort(draws, axis=0), (~np.isnan(draws)).sum(axis=0)  # NaN come last
    ends = []
    for share, rounded, further in (
        ((1 - LEVEL) / 2, np.floor, np.minimum),
        ((1 + LEVEL) / 2, np.ceil, np.maximum),
    ):
        place = np.maximum(rounded(share * (numbers - 1)), 0).astype(np.int64)
        ends.append(further(np.take_along_axis(ordered, place[None], axis=0)[0], point))
    return np.array(ends)


def _check(
    scores: ArrayLike, same: ArrayLike, gap: ArrayLike, people: ArrayLike | None, factor: str
) -> tuple[Floats, Bools, Floats, Integers]:
    """Scores, kinds, gaps, and what is redrawn for each pair: its two people, or twice the pair itself."""
    values, kinds, distance = (
        np.asarray(scores, dtype=np.float64),
        np.asarray(same),
        np.asarray(gap, dtype=np.float64),
    )
    if values.ndim != 1 or not values.shape == kinds.shape == distance.shape:
        raise WorkbenchError(
            f"scores {values.shape}, same {kinds.shape} and gap {distance.shape} must be (P,) all three"
        )
    if kinds.dtype != np.bool_ and not np.isin(kinds, (0, 1)).all():
        raise WorkbenchError("same must hold True or False (or 1 and 0) for each pair")
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values))[0])
        raise WorkbenchError(
            f"score number {bad} is {values[bad]}; all scores must be finite numbers"
        )
    if (distance < 0).any() or np.isinf(distance).any():
        raise WorkbenchError(
            f"the difference in {factor} must be 0 or more and finite (NaN where it is not known)"
        )
    if people is None:
        drawn = np.repeat(np.arange(len(values))[:, None], 2, axis=1)
    else:
        drawn = np.asarray(people)
        if drawn.shape != (len(values), 2) or drawn.dtype.kind not in "iu":
            raise WorkbenchError(
                f"people are {drawn.dtype} of shape {drawn.shape}, expected integers of shape ({len(values)}, 2)"
            )
    return values, kinds.astype(bool), distance, drawn.astype(np.int64)
