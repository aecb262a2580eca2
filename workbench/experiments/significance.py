"""Which differences between settings are significant, with seeds and people as random effects.

Two runs of the same settings with different seeds differ, often clearly. A statement about settings
(a loss, a backbone) therefore needs several seeds, and the run is the unit of the statistics. Two
claims are kept apart:

- *On this benchmark*: runs with other seeds would differ in the same direction, on the same images.
  This is the t test of Welch (Biometrika 1947) on the figures of the runs.
- *On other people too*: so would runs with other seeds on a benchmark with other people. Seeds and
  people are then crossed random effects. The variance of a difference of means is the variance due
  to the seeds, plus that due to the people (from a paired bootstrap over people), minus that of
  their interaction, which both contain (Cameron, Gelbach and Miller, "Robust inference with
  multiway clustering", Journal of Business and Economic Statistics 2011, section 2.2). Its degrees
  of freedom follow from Satterthwaite's approximation (Biometrics Bulletin 1946).

In the bootstrap over people, a pair counts as often as both of its people were drawn (Owen, "The
pigeonhole bootstrap", Annals of Applied Statistics 2007). All runs are measured on the same
resamples, so that what is difficult for all of them cancels out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from workbench.arrays import Bools, Floats, Integers
from workbench.errors import WorkbenchError, unknown_name
from workbench.evaluation import IdentificationResult, Result, VerificationResult
from workbench.evaluation.intervals import LEVEL, holm
from workbench.evaluation.verification import SortedPairs, right_decisions

RESAMPLES = 1000
POWER = 0.8
"""Probability with which a true difference should be found, for the number of seeds needed."""
MOST_SEEDS = 10_000
"""If more seeds would be needed, the number is not computed."""
CHUNK = 4_000_000
"""Number of weights that are held in memory at a time."""

Key = tuple[str, str]
"""(row, column) of a table."""


class DifferenceTest(NamedTuple):
    """One test of a difference.

    Attributes:
        interval: 95 % interval (low, high) of the difference, for this comparison alone.
        p_value: Probability of a difference at least this large if there was none. In the results
            of `compare`, it is adjusted by Holm's method.
    """

    interval: tuple[float, float]
    p_value: float

    @property
    def significant(self) -> bool:
        """Whether the p value is below 0.05."""
        return self.p_value < 1 - LEVEL


@dataclass(frozen=True)
class Comparison:
    """The difference between two rows of a table, in one column.

    Attributes:
        first: The row with the better mean.
        second: The other row.
        column: The column.
        difference: By how much the mean of `first` is better, at least 0.
        seeds: Numbers of runs of the two rows.
        on_benchmark: The test with seeds as random effect; None if a row has one run only.
        on_people: The test with seeds and people as random effects; None if a row has one run only,
            or if it is not known which decisions of the benchmark are right.
        on_pairs: The same with single pairs instead of people, which assumes that no two pairs
            share a person. Without known people, `on_people` is None and this test replaces it.
        people: Number of people of the benchmark; None where unknown.
        seeds_needed: Number of seeds of each row with which a true difference as large as the
            observed one would be found with a probability of 80 %; None if unknown or very large.
    """

    first: str
    second: str
    column: str
    difference: float
    seeds: tuple[int, int]
    on_benchmark: DifferenceTest | None
    on_people: DifferenceTest | None
    on_pairs: DifferenceTest | None
    people: int | None
    seeds_needed: int | None

    @property
    def beyond_benchmark(self) -> DifferenceTest | None:
        """The test that is not limited to this benchmark: over people, or over pairs."""
        return self.on_pairs if self.on_people is None else self.on_people

    @property
    def told_apart(self) -> bool:
        """Whether the two rows differ significantly, at least on this benchmark."""
        return self.on_benchmark is not None and self.on_benchmark.significant

    @property
    def verdict(self) -> str:
        """What may be said about the two rows, in words."""
        if self.on_benchmark is None:
            return "no claim: with one seed, a difference may be due to the seeds alone"
        if not self.told_apart:
            return "cannot be told apart"
        other = self.beyond_benchmark
        if other is None:
            return f"{self.first} is better on this benchmark"
        units = "people" if self.on_people is not None else "pairs"
        if other.significant:
            return f"{self.first} is better, on other {units} too"
        return (
            f"{self.first} is better on this benchmark; on other {units} they cannot be told apart"
        )


def compare(
    results: Mapping[Key, Sequence[Result]], *, resamples: int = RESAMPLES, seed: int = 0
) -> list[Comparison]:
    """Compares all rows of a table with each other, in each column.

    Args:
        results: {(row, column): results of the runs with different seeds}, all on one benchmark.
        resamples: Number of bootstrap resamples.
        seed: Seed of the resamples.

    Returns:
        One comparison for each two rows in a column. Their p values are adjusted by Holm's method,
        over all comparisons of this benchmark and separately for each kind of test.

    Raises:
        WorkbenchError: if the results are not on the same pairs.

    Example:
        >>> import numpy as np
        >>> from workbench.evaluation import verification
        >>> from workbench.experiments import compare
        >>> rng, same = np.random.default_rng(0), np.arange(200) % 2 == 0
        >>> def runs_of(quality):
        ...     return [verification(rng.normal(quality * same), same) for _ in range(3)]
        >>> results = {("arcface", "r18"): runs_of(4), ("softmax", "r18"): runs_of(1)}
        >>> compare(results)[0].verdict
        'arcface is better, on other pairs too'
    """
    runs = [run for group in results.values() for run in group]
    values = np.array([run.headline.score for run in runs])
    ends = np.cumsum([len(group) for group in results.values()])
    columns_of = {
        key: np.arange(end - len(group), end)
        for (key, group), end in zip(results.items(), ends, strict=True)
    }
    decisions = _decisions(runs)
    over_people = over_pairs = None
    if decisions is not None:
        rng = np.random.default_rng(seed)
        over_pairs = _resampled(decisions, None, resamples, rng)
        if decisions.people is not None:
            over_people = _resampled(decisions, decisions.people, resamples, rng)
    comparisons = []
    for one, other in combinations(columns_of, 2):
        if one[1] != other[1] or not len(columns_of[one]) or not len(columns_of[other]):
            continue
        first, second = one, other
        if values[columns_of[other]].mean() > values[columns_of[one]].mean():
            first, second = other, one
        comparisons.append(
            _compare_two(
                (first, columns_of[first]),
                (second, columns_of[second]),
                values,
                None if decisions is None else decisions.units,
                0 if decisions is None else len(decisions.weight),
                over_people,
                over_pairs,
            )
        )
    for kind in ("on_benchmark", "on_people", "on_pairs"):
        comparisons = _adjusted(comparisons, kind)
    return comparisons


def against_baseline(
    figures: Mapping[Key, Sequence[float]], baseline: str
) -> dict[Key, DifferenceTest]:
    """Tests, in each column of a table, which rows differ from one row, with seeds as runs.

    It is the t test of Welch, as in `compare`, but for figures of any kind and for the comparisons
    with one row only. These are fewer, so that Holm's method costs less power.

    Args:
        figures: {(row, column): figures of the runs with different seeds}.
        baseline: The row with which the others are compared.

    Returns:
        {(row, column): test of the mean of the row minus that of the baseline}, for rows and
        baselines of at least two runs. The p values are adjusted by Holm's method over all rows of
        a column.

    Raises:
        WorkbenchError: if there is no row of this name.

    Example:
        >>> from workbench.experiments import against_baseline
        >>> figures = {("softmax", "pose"): [0.88, 0.89], ("arcface", "pose"): [0.93, 0.94]}
        >>> round(against_baseline(figures, "softmax")["arcface", "pose"].p_value, 3)
        0.019
    """
    if baseline not in {row for row, _ in figures}:
        raise unknown_name("row", baseline, {row for row, _ in figures})
    tests: dict[Key, DifferenceTest] = {}
    for column in dict.fromkeys(column for _, column in figures):
        theirs = figures.get((baseline, column), ())
        of_column = {
            key: _welch(values, theirs)
            for key, values in figures.items()
            if key[1] == column and key[0] != baseline and min(len(values), len(theirs)) > 1
        }
        adjusted = holm([test.p_value for test in of_column.values()]).tolist()
        for (key, test), p_value in zip(of_column.items(), adjusted, strict=True):
            tests[key] = test._replace(p_value=p_value)
    return tests


def _welch(ours: Sequence[float], theirs: Sequence[float]) -> DifferenceTest:
    variances = [
        (float(np.var(group, ddof=1)) / len(group), len(group) - 1) for group in (ours, theirs)
    ]
    return _test(float(np.mean(ours) - np.mean(theirs)), variances)


def seeds_needed(difference: float, sd: float, *, power: float = POWER) -> int | None:
    """Computes how many seeds of each setting are needed to find a difference.

    The number is the smallest for which the two-sided t test of two groups at the 5 % level finds a
    true difference with the given probability. For many seeds, it approaches 2 * 2.8^2 * (sd /
    difference)^2. It does not take into account that p values are adjusted for many comparisons.

    Args:
        difference: True difference of the means.
        sd: Standard deviation over the seeds, in the same unit.
        power: Probability of finding the difference.

    Returns:
        Number of runs of each of the two settings, at least 2; None if it is above 10,000.

    Example:
        >>> from workbench.experiments import seeds_needed
        >>> seeds_needed(difference=0.01, sd=0.009), seeds_needed(difference=0.02, sd=0.009)
        (14, 5)
    """
    from scipy.special import stdtrit
    from scipy.stats import nct

    if not (np.isfinite(sd) and np.isfinite(difference)) or difference == 0:
        return None
    if sd == 0:
        return 2

    def is_enough(count: int) -> bool:
        freedom = 2 * (count - 1)
        effect = abs(difference) / sd * np.sqrt(count / 2)
        limit = stdtrit(freedom, (1 + LEVEL) / 2)
        found = nct.sf(limit, freedom, effect) + nct.cdf(-limit, freedom, effect)
        # For very large effects scipy returns NaN; such differences are always found.
        return bool(np.isnan(found) or found >= power)

    low, high = 1, 2
    while not is_enough(high):
        low, high = high, 2 * high
        if low > MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high if high <= MOST_SEEDS else None


def pooled_sd(groups: Sequence[Sequence[float]]) -> float:
    """Computes the standard deviation over seeds, pooled over several settings.

    Args:
        groups: Figures of the runs of each setting.

    Returns:
        The root of the mean variance, weighted by degrees of freedom; NaN if no setting has two
        runs.

    Example:
        >>> from workbench.experiments import pooled_sd
        >>> round(pooled_sd([[0.90, 0.92], [0.80, 0.84]]), 4)
        0.0224
    """
    freedom = sum(len(group) - 1 for group in groups if len(group) > 1)
    squares = sum(float(np.var(group)) * len(group) for group in groups if len(group) > 1)
    return float(np.sqrt(squares / freedom)) if freedom else float("nan")


class _Decisions(NamedTuple):
    """Which decisions of all runs on one benchmark are right.

    Attributes:
        right: (R, N) True where run r decides item n (a pair, or a search) correctly.
        weight: (N,) share of an item in the accuracy.
        strata: (N,) group of an item: genuine or impostor pairs; their shares stay fixed.
        people: (N, 2) identities of an item, equal if it has only one; None where unknown.
    """

    right: Bools
    weight: Floats
    strata: Integers
    people: Integers | None

    @property
    def units(self) -> int | None:
        """Number of people; None where unknown."""
        return None if self.people is None else len(np.unique(self.people))


def _decisions(runs: Sequence[Result]) -> _Decisions | None:
    """Collects the decisions of all runs; None if the kind of result does not tell them."""
    pairs = [run for run in runs if isinstance(run, VerificationResult) and run.has_accuracy]
    searches = [run for run in runs if isinstance(run, IdentificationResult)]
    if runs and len(pairs) == len(runs):
        return _of_pairs(pairs)
    if runs and len(searches) == len(runs):
        return _of_searches(searches)
    return None


def _of_pairs(runs: Sequence[VerificationResult]) -> _Decisions:
    first = runs[0]
    for run in runs:
        if not (np.array_equal(run.same, first.same) and np.array_equal(run.folds, first.folds)):
            raise WorkbenchError(
                f"{run.name}: the runs were not evaluated on the same pairs; evaluate them again"
            )
    right = []
    for run in runs:
        table = SortedPairs(run.scores, run.same, run.folds)
        _, thresholds = table.fold_accuracies(np.ones(len(run.same)))
        right.append(right_decisions(run.scores, run.same, run.folds, thresholds))
    sizes = np.bincount(first.folds)
    weight = 1.0 / (len(sizes) * sizes[first.folds])
    return _Decisions(np.array(right), weight, first.same.astype(np.int64), first.people)


def _of_searches(runs: Sequence[IdentificationResult]) -> _Decisions | None:
    first = runs[0]
    if not all(np.array_equal(run.identities, first.identities) for run in runs):
        raise WorkbenchError(
            f"{first.name}: the runs were not evaluated on the same probes; evaluate them again"
        )
    count = len(first.identities)
    return _Decisions(
        right=np.array([run.ranks == 1 for run in runs]),
        weight=np.full(count, 1.0 / count),
        strata=np.zeros(count, dtype=np.int64),
        people=np.column_stack([first.identities, first.identities]),
    )


def _resampled(
    decisions: _Decisions, people: Integers | None, resamples: int, rng: np.random.Generator
) -> Floats:
    """Computes the accuracy of each run on bootstrap resamples.

    Args:
        decisions: The decisions of the runs.
        people: (N, 2) identities that are drawn; None to draw single pairs.
        resamples: Number of resamples.
        rng: Random generator.

    Returns:
        (B, R) accuracies, scaled so that their variance is unbiased. Resamples without any genuine
        or any impostor pair are left out.
    """
    count = len(decisions.weight)
    units, places = count, np.column_stack([np.arange(count), np.arange(count)])
    if people is not None:
        identities, inverse = np.unique(people, return_inverse=True)
        units, places = len(identities), inverse.reshape(people.shape)
    has_two = places[:, 0] != places[:, 1]
    parts = []
    step = max(1, CHUNK // max(count, 1))
    for start in range(0, resamples, step):
        drawn = rng.multinomial(units, np.full(units, 1 / units), min(step, resamples - start))
        weights = drawn[:, places[:, 0]] * np.where(has_two, drawn[:, places[:, 1]], 1)
        parts.append(_accuracies(decisions, weights * decisions.weight))
    accuracies = np.concatenate(parts)
    accuracies = accuracies[np.isfinite(accuracies).all(axis=1)]
    centre = accuracies.mean(axis=0)
    scaled: Floats = centre + (accuracies - centre) * np.sqrt(units / max(units - 1, 1))
    return scaled


def _accuracies(decisions: _Decisions, weights: Floats) -> Floats:
    """Returns the (B, R) accuracies under (B, N) weights, with fixed shares of the strata."""
    total = np.zeros((len(weights), len(decisions.right)))
    for stratum in np.unique(decisions.strata):
        inside = decisions.strata == stratum
        share = decisions.weight[inside].sum() / decisions.weight.sum()
        chosen = weights[:, inside]
        with np.errstate(invalid="ignore", divide="ignore"):
            means = chosen @ decisions.right[:, inside].T / chosen.sum(axis=1, keepdims=True)
        total += share * means
    return total


def _compare_two(
    one: tuple[Key, Integers],
    other: tuple[Key, Integers],
    values: Floats,
    units: int | None,
    items: int,
    over_people: Floats | None,
    over_pairs: Floats | None,
) -> Comparison:
    (first, ours), (second, theirs) = one, other
    difference = float(values[ours].mean() - values[theirs].mean())
    on_benchmark = on_people = on_pairs = needed = None
    if len(ours) > 1 and len(theirs) > 1:
        # Variance of each mean due to the seeds, with its degrees of freedom.
        of_seeds = [
            (float(np.var(values[group], ddof=1)) / len(group), len(group) - 1)
            for group in (ours, theirs)
        ]
        on_benchmark = _test(difference, of_seeds)
        if over_people is not None and units is not None:
            extra = _beyond_seeds(over_people, ours, theirs)
            on_people = _wider(_test(difference, [*of_seeds, (extra, units - 1)]), on_benchmark)
        if over_pairs is not None:
            extra = _beyond_seeds(over_pairs, ours, theirs)
            on_pairs = _wider(_test(difference, [*of_seeds, (extra, items - 1)]), on_benchmark)
        needed = seeds_needed(
            difference, pooled_sd([values[ours].tolist(), values[theirs].tolist()])
        )
    return Comparison(
        first=first[0],
        second=second[0],
        column=first[1],
        difference=difference,
        seeds=(len(ours), len(theirs)),
        on_benchmark=on_benchmark,
        on_people=on_people,
        on_pairs=on_pairs,
        people=units,
        seeds_needed=needed,
    )


def _beyond_seeds(resampled: Floats, ours: Integers, theirs: Integers) -> float:
    """Returns the variance of a difference of means that the seeds do not explain.

    It is the variance over the resamples, minus the part in which runs of the same settings differ
    from each other: the spread of the figures over seeds contains that part already.
    """
    difference = resampled[:, ours].mean(axis=1) - resampled[:, theirs].mean(axis=1)
    variance = float(np.var(difference, ddof=1))
    for group in (ours, theirs):
        inside = resampled[:, group]
        deviations = inside - inside.mean(axis=1, keepdims=True)
        of_one_run = float(np.var(deviations, axis=0, ddof=1).sum()) / (len(group) - 1)
        variance -= of_one_run / len(group)
    return max(variance, 0.0)


def _test(difference: float, variances: Sequence[tuple[float, int]]) -> DifferenceTest:
    """Tests whether a difference is 0, by Student's t with Satterthwaite's degrees of freedom.

    Args:
        difference: The difference.
        variances: The independent parts of its variance, each with its degrees of freedom.
    """
    from scipy.special import stdtr, stdtrit

    total = sum(variance for variance, _ in variances)
    if total == 0:  # all runs have exactly the same figure, as on a benchmark without errors
        equal = difference == 0
        return DifferenceTest((difference, difference) if equal else (-1.0, 1.0), 1.0)
    freedom = total**2 / sum(variance**2 / degrees for variance, degrees in variances)
    error = np.sqrt(total)
    reach = float(stdtrit(freedom, (1 + LEVEL) / 2)) * error
    p_value = float(2 * stdtr(freedom, -abs(difference) / error))
    return DifferenceTest((difference - reach, difference + reach), p_value)


def _wider(test: DifferenceTest, narrower: DifferenceTest) -> DifferenceTest:
    """Returns a test of a wider claim, which is never more certain than a narrower one.

    With few seeds, Satterthwaite's degrees of freedom can grow more than the variance if a precise
    part is added to it.
    """
    low, high = test.interval
    return DifferenceTest(
        (min(low, narrower.interval[0]), max(high, narrower.interval[1])),
        max(test.p_value, narrower.p_value),
    )


def _adjusted(comparisons: Sequence[Comparison], kind: str) -> list[Comparison]:
    """Adjusts the p values of one kind of test by Holm's method."""
    tests: list[DifferenceTest | None] = [getattr(comparison, kind) for comparison in comparisons]
    adjusted = iter(holm([test.p_value for test in tests if test is not None]).tolist())
    return [
        comparison
        if test is None
        else _with_test(comparison, kind, test._replace(p_value=next(adjusted)))
        for comparison, test in zip(comparisons, tests, strict=True)
    ]


def _with_test(comparison: Comparison, kind: str, test: DifferenceTest) -> Comparison:
    changes: dict[str, Any] = {kind: test}
    return replace(comparison, **changes)
