"""Confidence intervals of figures of pairs in [0, 1], by a jackknife over folds or people.

Two pairs that share a person are not independent, so intervals that treat them as independent are
too narrow. A *delete-one-group jackknife* computes each figure again without one group of people at
a time (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 11; Bolle, Ratha and
Pankanti, "Error analysis of pattern recognition systems: the subsets bootstrap", Computer Vision
and Image Understanding 2004, explain why people and not pairs are the unit). If the folds of a
benchmark share no people, the folds are the groups.

A figure near 0 or 1 has a skewed distribution, for which "estimate +- 2 standard errors" is wrong.
The intervals are therefore those of Clopper and Pearson (Biometrika 1934), for the number of
independent trials that would give the same standard error (Korn and Graubard, "Confidence intervals
for proportions with small expected number of positive counts estimated from survey data", Survey
Methodology 1998). `benchmarks/interval_coverage.py` measures how often they cover the true value,
compared with other methods.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from workbench.arrays import Bools, Floats, Integers
from workbench.errors import WorkbenchError

LEVEL = 0.95
FEWEST_FOLDS = 5
"""With fewer folds, groups of people or pairs are formed: few folds give no reliable spread."""
GROUPS = 10
"""Number of groups of people or pairs where the folds cannot be the groups."""
MOST_TRIALS = 1e12
"""With more trials, the quantiles of the beta distribution lose their precision."""
WELL_SUPPORTED, SUPPORTED = 30.0, 10.0
"""Expected false accepts from which a TAR is well supported, and from which it is supported.

Doddington et al., "The NIST speaker recognition evaluation: overview, methodology, systems,
results, perspective", Speech Communication 2000: with 30 errors, the true error rate is within 30 %
of the observed one with 90 % confidence.
"""


class Groups(NamedTuple):
    """The groups of pairs that a jackknife leaves out, one at a time.

    Attributes:
        left_out: (G, P) True for the pairs that are left out with each group.
        people: number of people in the pairs; None where unknown.
        words: description of the groups, for captions.
    """

    left_out: Bools
    people: int | None
    words: str

    @property
    def degrees_of_freedom(self) -> int:
        """Degrees of freedom of the standard error: one less than the number of groups."""
        return len(self.left_out) - 1


def groups_of(
    same: Bools, folds: Integers, people: Integers | None = None, seed: int = 0
) -> Groups:
    """Form the groups of a jackknife: the folds, or groups of people, or groups of pairs.

    Args:
        same: (P,) True for genuine pairs.
        folds: (P,) fold of each pair, 0..F-1.
        people: (P, 2) identities of the two images of each pair; None where unknown.
        seed: seed of the random division into groups, if the folds are not the groups.

    Returns:
        The folds, if there are at least 5 and no person is known to be in two of them. Otherwise 10
        groups of people, each left out with all pairs of its people; a pair of people in two groups
        is then left out twice, which makes the intervals slightly too wide. Without known people,
        10 groups of pairs.
    """
    fold_count = int(folds.max()) + 1
    enough = fold_count >= FEWEST_FOLDS
    by_fold = folds == np.arange(fold_count)[:, None]
    rng = np.random.default_rng(seed)
    if people is None:
        if enough:
            assumed = "are assumed to hold disjoint people (who is on the pairs is not known)"
            return Groups(by_fold, None, f"{fold_count} folds, which {assumed}")
        group_of = _deal_pairs(same, rng)
        groups = int(group_of.max()) + 1
        assumed = "are assumed to share no people (who is on the pairs is not known)"
        by_group = group_of == np.arange(groups)[:, None]
        return Groups(by_group, None, f"{groups} groups of pairs, which {assumed}")
    identities, person = np.unique(people, return_inverse=True)
    person = person.reshape(people.shape)
    count = len(identities)
    if enough and _disjoint(person, folds):
        return Groups(
            by_fold, count, f"{fold_count} folds, which hold disjoint people ({count:,} in all)"
        )
    groups = min(GROUPS, count)
    group_of_pair = (rng.permutation(count) % groups)[person]
    left_out = (group_of_pair[:, 0] == np.arange(groups)[:, None]) | (
        group_of_pair[:, 1] == np.arange(groups)[:, None]
    )
    return Groups(left_out, count, f"{groups} groups of people ({count:,} in all)")


def _deal_pairs(same: Bools, rng: np.random.Generator) -> Integers:
    """Return the (P,) group of each pair; genuine and impostor pairs are divided evenly."""
    groups = max(2, min(GROUPS, int(same.sum()), int((~same).sum())))
    group_of = np.empty(len(same), dtype=np.int64)
    for kind in (same, ~same):
        group_of[kind] = rng.permutation(int(kind.sum())) % groups
    return group_of


def _disjoint(person: Integers, folds: Integers) -> bool:
    """Return whether no person is in pairs of two folds."""
    in_one_fold = np.unique(np.column_stack([person.ravel(), np.repeat(folds, 2)]), axis=0)
    return len(np.unique(in_one_fold[:, 0])) == len(in_one_fold)


def standard_error(without: ArrayLike) -> Floats:
    """Compute standard errors by the delete-one-group jackknife.

    The standard error is sqrt((G - 1) / G * sum of squared deviations from the mean).

    Args:
        without: (G, ...) figures without each of the groups.

    Returns:
        (...) standard errors.

    Example:
        >>> standard_error([0.9, 1.0, 0.8, 0.9]).round(4)
        np.float64(0.1225)
    """
    figures = np.asarray(without, dtype=np.float64)
    groups = len(figures)
    deviations = figures - figures.mean(axis=0)
    error: Floats = np.sqrt((groups - 1) / groups * np.sum(deviations**2, axis=0))
    return error


def t_quantile(degrees_of_freedom: int) -> float:
    """Return the half-width of a two-sided 95 % interval in standard errors, by Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees_of_freedom, (1 + LEVEL) / 2))


def two_sided_p(value: float, error: float, degrees_of_freedom: int) -> float:
    """Return the two-sided p value of a difference from 0, by Student's t distribution."""
    from scipy.special import stdtr

    if error == 0:
        return 1.0 if value == 0 else 0.0
    return float(2 * stdtr(degrees_of_freedom, -abs(value / error)))


def proportion_interval(
    estimate: ArrayLike,
    error: ArrayLike,
    degrees_of_freedom: int,
    units: int,
    most: ArrayLike = np.inf,
) -> tuple[Floats, Floats]:
    """Compute the 95 % interval of a figure in [0, 1] (Korn and Graubard 1998).

    The interval is that of Clopper and Pearson for n trials, where
    n = estimate * (1 - estimate) / error^2 gives the same standard error. It is then reduced,
    because the standard error is itself an estimate.

    Args:
        estimate: (...) figures in [0, 1].
        error: (...) their standard errors.
        degrees_of_freedom: degrees of freedom of the standard errors.
        units: number of trials that is assumed where the data show no variation, for example if all
            pairs are decided correctly: the number of people, or of pairs where people are unknown.
        most: (...) largest possible n: the number of pairs that the figure is a share of.

    Returns:
        (...) low and high, in [0, 1].
    """
    from scipy.special import ndtri

    share, spread = np.asarray(estimate, dtype=np.float64), np.asarray(error, dtype=np.float64)
    no_spread = (spread <= 0) | (share <= 0) | (share >= 1)
    ratio = float(ndtri((1 + LEVEL) / 2)) / t_quantile(degrees_of_freedom)
    with np.errstate(all="ignore"):
        trials = np.minimum(share * (1 - share) / spread**2 * ratio**2, most)
    low, high = clopper_pearson(share, np.where(no_spread, units, np.minimum(trials, MOST_TRIALS)))
    unknown = np.isnan(spread)
    return np.where(unknown, 0.0, low), np.where(unknown, 1.0, high)


def clopper_pearson(
    share: ArrayLike, trials: ArrayLike, level: float = LEVEL
) -> tuple[Floats, Floats]:
    """Compute the exact interval of a proportion.

    Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the
    binomial", Biometrika 1934.

    Args:
        share: (...) observed proportions in [0, 1].
        trials: (...) numbers of trials, which need not be integers.
        level: confidence level.

    Returns:
        (...) low and high. Without any success in n trials, the upper limit is 1 - 0.025^(1/n),
        about 3.7 / n.

    Example:
        >>> low, high = clopper_pearson(0.5, 10)
        >>> float(low.round(3)), float(high.round(3))
        (0.187, 0.813)
    """
    from scipy.special import betaincinv

    proportion, count = np.broadcast_arrays(
        np.asarray(share, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    )
    successes = proportion * count
    failures = np.maximum(count - successes, 0)
    tail = (1 - level) / 2
    with np.errstate(invalid="ignore"):
        low = np.where(
            successes > 0, betaincinv(np.maximum(successes, 1e-300), failures + 1, tail), 0.0
        )
        high = np.where(
            failures > 0, betaincinv(successes + 1, np.maximum(failures, 1e-300), 1 - tail), 1.0
        )
    return low, high


def supported(impostors: int, far: float, expected: float = SUPPORTED) -> bool:
    """Return whether enough false accepts are expected at a FAR.

    Args:
        impostors: number of impostor pairs, or of searches.
        far: false accept rate.
        expected: number of false accepts that is enough.

    Example:
        >>> supported(3000, 0.01), supported(3000, 0.001)
        (True, False)
    """
    return impostors * far >= expected * (1 - 1e-9)


def bounds_with_few_false_accepts(
    far: Floats, tar: Floats, rates: ArrayLike, impostors: int, units: int
) -> tuple[Floats, Floats]:
    """Compute bounds of TAR at FARs where too few false accepts are expected to estimate it.

    Consider the threshold that has the wanted FAR in the whole population of impostor pairs. The
    number of sampled impostor pairs that reach it is binomial, so it lies between two of their
    scores (as in the interval of a quantile by order statistics). The lower limit is that of TAR at
    the higher of the two scores, the upper limit is that of TAR at the lower one. Each of the four
    one-sided limits involved (two of the threshold, two of TAR) holds with probability 1 - 0.0125,
    so all of them hold together with probability at least 95 %.

    Args:
        far: (T,) FAR at the points of the ROC curve, from the highest threshold on.
        tar: (T,) TAR at these points.
        rates: (R,) false accept rates.
        impostors: number of impostor pairs.
        units: number of trials of the TAR: people with genuine pairs, or genuine pairs where people
            are unknown.

    Returns:
        (R,) low and high. The low limit is 0 where the threshold may be above all scores.
    """
    wanted = np.asarray(rates, dtype=np.float64)
    level = (1 + LEVEL) / 2  # two limits at this level hold together with probability `LEVEL`
    fewest, most = _binomial_quantiles(impostors, wanted, (1 - level) / 2)
    strict = np.minimum(
        np.searchsorted(far, fewest / impostors * (1 - 1e-9), side="left"), len(tar) - 1
    )
    lax = np.searchsorted(far, most / impostors * (1 + 1e-9), side="right") - 1
    low, _ = clopper_pearson(tar[strict], units, level)
    _, high = clopper_pearson(tar[lax], units, level)
    return np.where(fewest == 0, 0.0, low), high


def _binomial_quantiles(trials: int, rates: Floats, tail: float) -> tuple[Floats, Floats]:
    """Return the lower and upper quantiles of binomial numbers.

    The probability of a number below the lower quantile is at most `tail`, and so is that of a
    number above the upper quantile.
    """
    from scipy.special import bdtr

    quantiles = np.empty((2, len(rates)))
    for place, rate in enumerate(rates.tolist()):
        # All numbers within 6 standard deviations of the mean.
        mean, spread = trials * rate, 6 * np.sqrt(trials * rate * (1 - rate)) + 6
        numbers = np.arange(max(0, int(mean - spread)), min(trials, int(mean + spread)) + 1)
        below = bdtr(numbers, trials, rate) if rate < 1 else (numbers >= trials).astype(float)
        lower, upper = np.argmax(below > tail), np.argmax(below >= 1 - tail)
        quantiles[:, place] = numbers[lower], numbers[upper]
    return quantiles[0], quantiles[1]


def holm(p_values: ArrayLike) -> Floats:
    """Adjust p values for multiple comparisons.

    With adjusted p values, the probability that any of them is below 0.05 by chance is at most 5 %.
    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 1979.

    Args:
        p_values: (K,) p values in [0, 1].

    Returns:
        (K,) adjusted p values, in the same order.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        array([0.03, 0.06, 0.06])
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    ascending = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(ascending, 1.0)
    return adjusted


def bootstrap_in_words(units: str, resamples: int) -> str:
    """Return the description of a percentile bootstrap over `units`, such as "100 people"."""
    return f"{LEVEL:.0%}, pointwise in curves, bootstrap over {units}, {resamples:,} resamples"


def check_people(people: ArrayLike | None, count: int) -> Integers | None:
    """Check the people of pairs.

    Args:
        people: (P, 2) identities of the two images; None where unknown.
        count: number of pairs.

    Returns:
        (P, 2) identities; None if any of them is unknown (-1).

    Raises:
        WorkbenchError: if they are not integers of shape (P, 2).
    """
    if people is None:
        return None
    values = np.asarray(people)
    if values.shape != (count, 2) or values.dtype.kind not in "iu":
        raise WorkbenchError(
            f"people are {values.dtype} of shape {values.shape}, expected integers of shape "
            f"({count}, 2)"
        )
    return None if count == 0 or values.min() < 0 else values.astype(np.int64)
