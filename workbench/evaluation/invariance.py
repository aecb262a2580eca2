"""Invariance: how the similarity of genuine pairs falls as their images differ in one factor.

The threshold is determined by the impostor pairs: it accepts a given share of them, the FAR.
Genuine pairs are sorted into bins by their gap, such as their difference in yaw. Where the median
similarity of a bin falls below the threshold, half of its genuine pairs are rejected. This gap is
called the crossing. It says up to which difference, in degrees or years, a run recognises a person.
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
    """A factor in which two images of a person can differ, and the unit of the difference."""

    title: str
    unit: str

    def text(self, gap: float) -> str:
        """Return a gap with its unit: 45°, 12 years, 30%."""
        return {"degrees": f"{gap:.0f}°", "years": f"{gap:.0f} years", "share": f"{gap:.0%}"}[
            self.unit
        ]


FACTORS = {
    "yaw": Factor("Difference in yaw", "degrees"),
    "age": Factor("Difference in age", "years"),
    "illumination": Factor("Difference in light angle", "degrees"),
    "occlusion": Factor("Difference in occluded share", "share"),
}
"""Attributes of a benchmark's images over which curves are drawn; shares are in [0, 1]."""
VARIED, NOTHING = "factor", "none"
"""Attribute that names the varied factor in a controlled sweep, and its value for no factor."""
MOST_LEVELS, QUANTILE_BINS = 20, 10
SPREAD = (0.1, 0.9)
MIN_RESAMPLED = 5
"""Bins with fewer people get no interval, as a bootstrap of so few is unreliable.

Pairs are counted where people are unknown.
"""


class Gaps(NamedTuple):
    """Differences between the two images of each pair."""

    by_factor: dict[str, Floats]
    """{factor: (P,) differences}; NaN where unknown or where another factor differs too"""
    people: Integers | None
    """(P, 2) identities of the two images; None if any is unknown"""
    controlled: bool
    """whether the images of each pair differ in one factor only"""


@dataclass(frozen=True)
class InvarianceCurve:
    """Similarity of genuine pairs against the gap in one factor, in B bins.

    Attributes:
        factor: one of `FACTORS`.
        far: wanted false accept rate.
        threshold: lowest threshold at which no larger share of the impostor pairs is accepted.
        impostor_mean: mean similarity of the impostor pairs.
        gap: (B,) mean gap of the genuine pairs in each bin, ascending, in the factor's unit.
        count: (B,) number of genuine pairs in each bin.
        mean: (B,) mean similarity in each bin.
        median: (B,) median similarity in each bin; of an even number, the lower of the middle two.
        median_interval: (2, B) 95 % bootstrap interval of the median; NaN in bins of fewer than 5
            people; None if not requested or with fewer than 5 people in all.
        spread: (2, B) 10 % and 90 % quantiles of the similarity in each bin.
        tar: (B,) share of genuine pairs that are accepted.
        tar_interval: (2, B) its 95 % interval; the threshold is chosen anew in each resample.
        crossing: gap at which the median first falls below the threshold, interpolated linearly
            between two bins; the smallest gap if the first median is below; infinite if none is.
        crossing_interval: its 95 % interval; the upper end may be infinite.
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
        """Title of the gap, such as "Difference in yaw"."""
        return FACTORS[self.factor].title

    @property
    def unit(self) -> str:
        """Unit of the gap: degrees, years or share."""
        return FACTORS[self.factor].unit

    def text(self, gap: float) -> str:
        """Return a gap with its unit; an infinite one as "> " and the largest measured gap."""
        if np.isinf(gap):
            return f"> {FACTORS[self.factor].text(self.gap[-1])}"
        return FACTORS[self.factor].text(gap)

    @property
    def crossing_text(self) -> str:
        """The crossing with its interval, such as 74° [71°, 78°] or > 90°."""
        at_once = self.crossing == self.gap[0] and self.median[0] < self.threshold
        text = f"≤ {self.text(self.crossing)}" if at_once else self.text(self.crossing)
        if self.crossing_interval is None or self.crossing_interval[0] == self.crossing_interval[1]:
            return text
        low, high = self.crossing_interval
        return f"{text} [{self.text(low)}, {self.text(high)}]"


# From attributes of images to gaps of pairs


def gaps(attributes: Mapping[str, NDArray[Any]], pairs: Integers) -> dict[str, Floats]:
    """Compute the absolute difference between the two images of each pair, for every known factor.

    A difference to the left counts as the same difference to the right.

    Args:
        attributes: {name: (M,) values of the images}; only those in `FACTORS` are used.
        pairs: (P, 2) numbers of images.

    Returns:
        {factor: (P,) differences}.

    Raises:
        WorkbenchError: if the values of a factor are not numbers.
    """
    by_factor = {}
    for factor in FACTORS:
        if factor in attributes:
            if attributes[factor].dtype.kind not in "biuf":
                raise WorkbenchError(
                    f"attribute {factor!r} holds {attributes[factor].dtype}, expected numbers"
                )
            values = attributes[factor].astype(np.float64)
            by_factor[factor] = np.abs(values[pairs[:, 0]] - values[pairs[:, 1]])
    return by_factor


def alone(varied: NDArray[Any], pairs: Integers, factor: str) -> Bools:
    """Find the pairs of a controlled sweep whose images differ in nothing but one factor.

    At least one image of such a pair varies nothing; the other varies the factor or nothing.

    Args:
        varied: (M,) factor that is varied in each image: "none", "yaw", ...
        pairs: (P, 2) numbers of images.
        factor: one of the names in `varied`.

    Returns:
        (P,) True for these pairs.
    """
    both = varied[pairs]
    is_pair: Bools = np.isin(both, (NOTHING, factor)).all(axis=1) & (both == NOTHING).any(axis=1)
    return is_pair


def pair_gaps(
    attributes: Mapping[str, NDArray[Any]],
    pairs: Integers,
    same: Bools,
    identities: Integers | None = None,
) -> Gaps | None:
    """Compute the gaps of a benchmark's pairs, as far as curves can be drawn over them.

    Args:
        attributes: {name: (M,) values of the images}; if "factor" is among them, the benchmark is a
            controlled sweep, and pairs in which another factor differs get NaN.
        pairs: (P, 2) numbers of images.
        same: (P,) True for genuine pairs.
        identities: (M,) identity of each image; -1 where unknown.

    Returns:
        The gaps of the factors in which genuine pairs differ; None if there are none.

    Raises:
        WorkbenchError: if the values of a factor are not numbers.
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
    people = None
    if identities is not None and (identities[pairs] >= 0).all():
        people = identities[pairs].astype(np.int64)
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
    """Compute similarity and TAR of genuine pairs against their gap in one factor.

    Args:
        scores: (P,) similarities, finite.
        same: (P,) True for genuine pairs. All impostor pairs determine the threshold, whatever
            their gap.
        gap: (P,) difference in the factor, >= 0; genuine pairs with NaN are left out.
        factor: one of `FACTORS`, which gives the unit.
        far: false accept rate that determines the threshold, in (0, 1).
        edges: (B + 1,) ascending edges of the bins; the last bin includes its upper edge. By
            default, each distinct gap, rounded to three decimals, has a bin if there are at most 20
            of them; otherwise gap 0 has a bin, and the other pairs are divided into ten bins of
            equal size. Bins without a genuine pair are left out.
        bootstrap: resamples for the 95 % intervals; 0 for none.
        people: (P, 2) identities of the two images. Pairs that share a person are not independent,
            so people are resampled, and a pair occurs as often as the product of its people
            (Snijders and Borgatti, "Non-parametric standard errors and tests for network
            statistics", Connections 1999). Without `people`, pairs are resampled, and the intervals
            are too narrow.
        seed: seed of the resampling.

    Returns:
        The curve.

    Raises:
        WorkbenchError: if the shapes do not match, a score is NaN or infinite, a gap is negative,
            no genuine pair has a gap, or there are fewer than 1 / FAR impostor pairs.
    """
    if factor not in FACTORS:
        raise unknown_name("factor", factor, FACTORS)
    if not 0 < far < 1:
        raise WorkbenchError(f"the false accept rate must be between 0 and 1, got {far}")
    if bootstrap < 0:
        raise WorkbenchError(
            f"bootstrap must be a number of resamples or 0 for none, got {bootstrap}"
        )
    values, genuine, distance, units = _check(scores, same, gap, people, factor)
    impostors = int((~genuine).sum())
    if impostors * far < 1 - 1e-9:
        needed = int(np.ceil(1 / far - 1e-9))
        raise WorkbenchError(
            f"a false accept rate of {far:g} needs at least {needed:,} impostor pairs, there are "
            f"{impostors:,}"
        )
    bin_of = np.where(genuine, _bins(distance, genuine, edges), -1)
    if not (bin_of >= 0).any():
        raise WorkbenchError(f"no genuine pair has a known difference in {factor} within the bins")
    kept = (bin_of >= 0) | ~genuine
    table = _Table(values[kept], bin_of[kept], far)
    members = [np.flatnonzero(bin_of == number) for number in range(table.bins)]
    centres = np.array([distance[pairs].mean() for pairs in members])

    point = table.figures(np.ones(len(table.scores)), centres)
    intervals = _Intervals(None, None, None)
    if bootstrap and len(np.unique(units[kept])) >= MIN_RESAMPLED:
        resamples = _resamples(units[kept], bootstrap, np.random.default_rng(seed))
        draws = [table.figures(weights, centres) for weights in resamples]
        few = [len(np.unique(units[pairs, 0])) < MIN_RESAMPLED for pairs in members]
        intervals = _intervals(draws, point, few)
    return InvarianceCurve(
        factor=factor,
        far=far,
        threshold=point.threshold,
        impostor_mean=float(values[~genuine].mean()),
        gap=centres,
        count=np.array([len(pairs) for pairs in members]),
        mean=np.array([values[pairs].mean() for pairs in members]),
        median=point.median,
        median_interval=intervals.median,
        spread=np.array([np.quantile(values[pairs], SPREAD) for pairs in members]).T,
        tar=point.tar,
        tar_interval=intervals.tar,
        crossing=point.crossing,
        crossing_interval=intervals.crossing,
    )


class _Figures(NamedTuple):
    threshold: float
    median: Floats
    tar: Floats
    crossing: float


class _Intervals(NamedTuple):
    median: Floats | None
    tar: Floats | None
    crossing: tuple[float, float] | None


def _intervals(draws: list[_Figures], point: _Figures, few: list[bool]) -> _Intervals:
    """Return the intervals over all resamples; those of bins with too few people are NaN."""
    median = _interval(np.array([draw.median for draw in draws]), point.median)
    tar = _interval(np.array([draw.tar for draw in draws]), point.tar)
    low, high = _interval(np.array([draw.crossing for draw in draws]), np.array(point.crossing))
    crossing = (float(low), float(high))
    return _Intervals(np.where(few, np.nan, median), np.where(few, np.nan, tar), crossing)


class _Table:
    """Pairs that are sorted once, so that a resample needs only a cumulative sum of weights."""

    def __init__(self, scores: Floats, bin_of: Integers, far: float) -> None:
        """Sort the pairs; `bin_of` is the bin of each genuine pair, and -1 for impostor pairs."""
        self.scores, self.far, self.bins = scores, far, int(bin_of.max()) + 1
        impostors = np.flatnonzero(bin_of < 0)
        # Impostor pairs with the highest score first; genuine pairs by bin, with the lowest first.
        self.impostors = impostors[np.argsort(-scores[impostors], kind="stable")]
        self.genuine = np.lexsort((scores, bin_of))[len(impostors) :]
        self.bin_of = bin_of[self.genuine]
        self.ends = np.searchsorted(self.bin_of, np.arange(self.bins), side="right") - 1

    def figures(self, weights: Floats, centres: Floats) -> _Figures:
        threshold, median = self.threshold(weights), self.medians(weights)
        return _Figures(
            threshold, median, self.tar(weights, threshold), _crossing(centres, median, threshold)
        )

    def threshold(self, weights: Floats) -> float:
        """Return the threshold just above the first rejected impostor pair; NaN without any."""
        accepted = np.cumsum(weights[self.impostors])
        if not accepted[-1]:
            return float("nan")
        first = int(np.argmax(accepted > self.far * (1 + 1e-9) * accepted[-1]))
        return float(np.nextafter(self.scores[self.impostors[first]], np.inf))

    def medians(self, weights: Floats) -> Floats:
        """Return the lowest score that half of a bin's pairs do not exceed; NaN if it is empty."""
        total = np.cumsum(weights[self.genuine])
        after = total[self.ends]
        before = np.append(0.0, after[:-1])
        middle = np.searchsorted(total, (before + after) / 2)
        return np.where(after > before, self.scores[self.genuine[middle]], np.nan)

    def tar(self, weights: Floats, threshold: float) -> Floats:
        """Return the share of each bin's pairs that are accepted; NaN for an empty bin."""
        of_genuine = weights[self.genuine]
        if np.isnan(threshold):
            return np.full(self.bins, np.nan)
        total = np.bincount(self.bin_of, of_genuine)
        accepted = np.bincount(self.bin_of, of_genuine * (self.scores[self.genuine] >= threshold))
        return np.where(total > 0, accepted / np.maximum(total, 1), np.nan)


def _bins(gap: Floats, genuine: Bools, edges: ArrayLike | None) -> Integers:
    """Return the bin of each pair, -1 for none; bins without a genuine pair have no number."""
    if edges is None:
        edges = _default_edges(gap[genuine & np.isfinite(gap)])
    limits = np.asarray(edges, dtype=np.float64)
    if limits.ndim != 1 or len(limits) < 2 or not (np.diff(limits) > 0).all():
        raise WorkbenchError(f"edges must be at least two ascending numbers, got {limits.tolist()}")
    inside = (gap >= limits[0]) & (gap <= limits[-1])
    place = np.minimum(np.searchsorted(limits, gap, side="right") - 1, len(limits) - 2)
    used = np.unique(place[inside & genuine])
    number = np.full(len(limits) - 1, -1, dtype=np.int64)
    number[used] = np.arange(len(used))
    return np.where(inside, number[place], -1)


def _default_edges(gap: Floats) -> Floats:
    """Return edges of one bin per distinct gap, or of ten bins of equal size for many gaps."""
    levels = np.unique(gap.round(3))
    if len(levels) <= MOST_LEVELS:
        return np.concatenate([[-np.inf], (levels[:-1] + levels[1:]) / 2, [np.inf]])
    quantiles = np.quantile(gap[gap > 0], np.linspace(0, 1, QUANTILE_BINS + 1))
    return np.unique(np.append(0.0, quantiles))


def _resamples(units: Integers, count: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Yield how often each pair occurs in each resample of people.

    Args:
        units: (P, 2) the two people of each pair; where people are unknown, twice the number of the
            pair.
        count: number of resamples.
        rng: random numbers.
    """
    numbers, which = np.unique(units, return_inverse=True)
    first, second = which.reshape(units.shape).T
    for _ in range(count):
        times = np.bincount(
            rng.integers(len(numbers), size=len(numbers)), minlength=len(numbers)
        ).astype(np.float64)
        yield np.where(first == second, times[first], times[first] * times[second])


def _crossing(gap: Floats, median: Floats, threshold: float) -> float:
    """Return the gap at which the line through the medians first falls below the threshold."""
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
    """Return the (2, ...) percentile interval over the resamples, extended to include the point.

    Resamples that are NaN are left out; infinite ones count.
    """
    ordered, numbers = np.sort(draws, axis=0), (~np.isnan(draws)).sum(axis=0)  # NaN are last
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
    """Check the arguments.

    Returns:
        Scores, kinds, gaps, and the units that are resampled: (P, 2) the two people of each pair,
        or twice the number of the pair.
    """
    values, kinds = np.asarray(scores, dtype=np.float64), np.asarray(same)
    distance = np.asarray(gap, dtype=np.float64)
    if values.ndim != 1 or not values.shape == kinds.shape == distance.shape:
        raise WorkbenchError(
            f"scores {values.shape}, same {kinds.shape} and gap {distance.shape} must all be (P,)"
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
        units = np.repeat(np.arange(len(values))[:, None], 2, axis=1)
    else:
        units = np.asarray(people)
        if units.shape != (len(values), 2) or units.dtype.kind not in "iu":
            raise WorkbenchError(
                f"people are {units.dtype} of shape {units.shape}, expected integers of shape "
                f"({len(values)}, 2)"
            )
    return values, kinds.astype(bool), distance, units.astype(np.int64)
