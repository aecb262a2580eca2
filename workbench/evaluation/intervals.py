"""Confidence intervals of figures of pairs: a jackknife over folds or people, and intervals made for proportions.

Two pairs that share a person are not independent, so intervals that treat them as such are too narrow. A *delete-one-group
jackknife* (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 11; Bolle, Ratha and Pankanti, "Error
analysis of pattern recognition systems: the subsets bootstrap", Computer Vision and Image Understanding 2004, for
why people and not pairs are the unit) computes each figure again without one group of people at a time. Where the folds of a
benchmark hold disjoint people, the folds are the groups.

A figure near 0 or 1 has a skewed distribution, to which "estimate +- 2 standard errors" does not apply. Intervals are
therefore those of Clopper and Pearson (Biometrika 1934) for as many independent trials as would have the same standard error (Korn
and Graubard, "Confidence intervals for proportions with small expected number of positive counts estimated from survey data",
Survey Methodology 1998). `benchmarks/interval_coverage.py` measures how often they cover the truth, beside those of other methods.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from workbench.arrays import Bools, Floats, Integers
from workbench.errors import WorkbenchError

LEVEL = 0.95
FEWEST_FOLDS = 5
"""With fewer folds than that the groups are made otherwise: a spread of few numbers says little."""
GROUPS = 10
"""Groups that people, or pairs, are dealt into where the folds cannot be the groups."""
MOST_TRIALS = 1e12
"""Beyond that the beta distribution's quantiles lose their precision."""
WELL_SUPPORTED, SUPPORTED = 30.0, 10.0
"""Expected false accepts from which a TAR at that FAR is shown without reservation, and from which it is shown at all.

Doddington et al., "The NIST speaker recognition evaluation: overview, methodology, systems, results, perspective", Speech
Communication 2000: with 30 errors, the true error rate is within 30 % of the observed one with 90 % confidence.
"""


class Groups(NamedTuple):
    """What a jackknife leaves out, one group at a time.

    Attributes:
        left_out: (G, P) True for the pairs that are left out with each group.
        people: number of people in the pairs; None where it is not known who is on them.
        words: what the groups are, for captions.
    """

    left_out: Bools
    people: int | None
    words: str

    @property
    def degrees_of_freedom(self) -> int:
        return len(self.left_out) - 1


def groups_of(
    same: Bools, folds: Integers, people: Integers | None = None, seed: int = 0
) -> Groups:
    """The groups of a jackknife: the folds, or else groups of people, or else groups of pairs.

    Args:
        same: (P,) True for genuine pairs.
        folds: (P,) number of each pair's fold, 0..F-1.
        people: (P, 2) who is on the two images of each pair; None where it is not known.
        seed: of the dealing into groups, where the folds are not the groups.

    Returns:
        The folds, if there are at least 5 and no person is known to be in two of them. Otherwise 10 groups of people, each left
        out with all pairs that any of its people is in, which counts what only a pair of people has in common twice and makes
        intervals slightly too wide. Where people are not known, 10 groups of pairs.
    """
    fold_count = int(folds.max()) + 1
    enough = fold_count >= FEWEST_FOLDS
    by_fold = folds == np.arange(fold_count)[:, None]
    rng = np.random.default_rng(seed)
    if people is None:
        if enough:
            words = f"{fold_count} folds, which are assumed to hold disjoint people (who is on the pairs is not known)"
            return Groups(by_fold, None, words)
        group_of = _deal_pairs(same, rng)
        groups = int(group_of.max()) + 1
        words = f"{groups} groups of pairs, which are assumed to share no people (who is on the pairs is not known)"
        return Groups(group_of == np.arange(groups)[:, None], None, words)
    known, person = np.unique(people, return_inverse=True)
    person = person.reshape(people.shape)
    count = len(known)
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
    """(P,) group of each pair, each group with its share of the genuine and of the impostor pairs."""
    groups = max(2, min(GROUPS, int(same.sum()), int((~same).sum())))
    group_of = np.empty(len(same), dtype=np.int64)
    for kind in (same, ~same):
        group_of[kind] = rng.permutation(int(kind.sum())) % groups
    return group_of


def _disjoint(person: Integers, folds: Integers) -> bool:
    """Whether no person is in pairs of two folds."""
    in_one_fold = np.unique(np.column_stack([person.ravel(), np.repeat(folds, 2)]), axis=0)
    return len(np.unique(in_one_fold[:, 0])) == len(in_one_fold)


def standard_error(without: ArrayLike) -> Floats:
    """Standard error of figures by the delete-one-group jackknife: sqrt((G - 1) / G * sum of squared deviations).

    Args:
        without: (G, ...) the figures without each of the groups.

    Returns:
        (...) standard errors.
    """
    figures = np.asarray(without, dtype=np.float64)
    groups = len(figures)
    deviations = figures - figures.mean(axis=0)
    error: Floats = np.sqrt((groups - 1) / groups * np.sum(deviations**2, axis=0))
    return error


def t_quantile(degrees_of_freedom: int) -> float:
    """How many standard errors a two-sided 95 % interval reaches to each side, by Student's t distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees_of_freedom, (1 + LEVEL) / 2))


def two_sided_p(value: float, error: float, degrees_of_freedom: int) -> float:
    """Probability of a value at least so far from 0 if the truth is 0, by Student's t distribution."""
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
    """95 % interval of a figure between 0 and 1, after Korn and Graubard (1998).

    The interval is that of Clopper and Pearson for n trials, where n is chosen to give the same standard error,
    estimate * (1 - estimate) / error^2, and is lowered because the error itself is only estimated.

    Args:
        estimate: (...) figures in [0, 1].
        error: (...) their standard errors.
        degrees_of_freedom: of the standard errors.
        units: trials to count where the data show no spread, as when no pair is judged wrongly: the number of people, or of
            pairs where people are not known.
        most: (...) the largest n that can be: the number of pairs that the figure is a share of.

    Returns:
        (...) low and high, each in [0, 1].
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
    """Exact interval of a proportion (Clopper and Pearson, "The use of confidence or fiducial limits ...", Biometrika 1934).

    Args:
        share: (...) observed proportions in [0, 1].
        trials: (...) numbers of trials, which need not be whole.

    Returns:
        (...) low and high. Without any success in n trials the upper limit is 1 - 0.025^(1/n), about 3.7 / n.
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
    """Whether so many impostor pairs, or searches, give the expected number of false accepts at this FAR."""
    return impostors * far >= expected * (1 - 1e-9)


def bounds_with_few_false_accepts(
    far: Floats, tar: Floats, rates: ArrayLike, impostors: int, units: int
) -> tuple[Floats, Floats]:
    """Limits of the TAR at a FAR that so few impostor pairs are expected to exceed that it can hardly be estimated.

    The threshold that has the wanted FAR among all impostors is accepted by a binomial number of those at hand, so it lies between
    two of their scores (as in the interval of a quantile by order statistics). The lower limit is that of the TAR at the
    stricter of the two, the upper limit that of the TAR at the laxer; each of the four statements that enter holds with
    probability 1 - 0.0125, so together they hold with at least 95 %.

    Args:
        far, tar: (T,) points of the ROC curve, from the strictest threshold on.
        rates: (R,) the false accept rates.
        impostors: number of impostor pairs.
        units: trials that the TAR is a share of: people with genuine pairs, or genuine pairs where people are not known.

    Returns:
        (R,) low and high. The low one is 0 where the threshold may lie above all scores at hand.
    """
    wanted = np.asarray(rates, dtype=np.float64)
    level = (1 + LEVEL) / 2  # two limits at this level each are right together with `LEVEL`
    fewest, most = _binomial_quantiles(impostors, wanted, (1 - level) / 2)
    strict = np.minimum(
        np.searchsorted(far, fewest / impostors * (1 - 1e-9), side="left"), len(tar) - 1
    )
    lax = np.searchsorted(far, most / impostors * (1 + 1e-9), side="right") - 1
    low, _ = clopper_pearson(tar[strict], units, level)
    _, high = clopper_pearson(tar[lax], units, level)
    return np.where(fewest == 0, 0.0, low), high


def _binomial_quantiles(trials: int, rates: Floats, tail: float) -> tuple[Floats, Floats]:
    """The numbers below and above which a binomial number is with probability `tail` at most each."""
    from scipy.special import bdtr

    found = np.empty((2, len(rates)))
    for place, rate in enumerate(rates.tolist()):
        spread = 6 * np.sqrt(trials * rate * (1 - rate)) + 6
        numbers = np.arange(
            max(0, int(trials * rate - spread)), min(trials, int(trials * rate + spread)) + 1
        )
        below = bdtr(numbers, trials, rate) if rate < 1 else (numbers >= trials).astype(float)
        found[:, place] = numbers[np.argmax(below > tail)], numbers[np.argmax(below >= 1 - tail)]
    return found[0], found[1]


def holm(p_values: ArrayLike) -> Floats:
    """P values of several comparisons, raised so that any of them is below 0.05 by chance in 5 % of cases at most.

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.

    Args:
        p_values: (K,) in [0, 1].

    Returns:
        (K,) adjusted, in the same order.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    raised = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(raised, 1.0)
    return adjusted


def bootstrap_in_words(units: str, resamples: int) -> str:
    """What a caption says of a percentile bootstrap over `units`, such as "100 people"."""
    return f"{LEVEL:.0%}, pointwise in curves, bootstrap over {units}, {resamples:,} resamples"


def check_people(people: ArrayLike | None, count: int) -> Integers | None:
    """The people of pairs, or None where any of them is not known (-1).

    Raises:
        WorkbenchError: not whole numbers of shape (P, 2).
    """
    if people is None:
        return None
    given = np.asarray(people)
    if given.shape != (count, 2) or given.dtype.kind not in "iu":
        raise WorkbenchError(
            f"people are {given.dtype} of shape {given.shape}, expected integers of shape ({count}, 2)"
        )
    return None if count == 0 or given.min() < 0 else given.astype(np.int64)
