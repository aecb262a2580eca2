"""Jackknife, proportions and bounds, against SciPy's distributions and closed formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from workbench.evaluation import verification
from workbench.evaluation.intervals import (
    bounds_with_few_false_accepts,
    clopper_pearson,
    groups_of,
    holm,
    proportion_interval,
    standard_error,
    supported,
    t_quantile,
    two_sided_p,
)
from workbench.evaluation.verification import auc_standard_error, roc

quick = settings(max_examples=60, deadline=None)


# Groups


def _pairs_of_people(
    people: int, folds: int, per_fold: int, seed: int = 0
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Kinds, folds and people of pairs; the people of a fold are in no other."""
    rng = np.random.default_rng(seed)
    fold_of = np.repeat(np.arange(folds), per_fold)
    who = rng.integers(0, people // folds, (len(fold_of), 2)) * folds + fold_of[:, None]
    return who[:, 0] == who[:, 1], fold_of, who


def test_folds_with_disjoint_people_are_the_groups() -> None:
    same, folds, who = _pairs_of_people(60, 10, 30)
    groups = groups_of(same, folds, who)
    np.testing.assert_array_equal(groups.left_out, folds == np.arange(10)[:, None])
    assert groups.people == len(np.unique(who))
    assert groups.degrees_of_freedom == 9
    assert "10 folds, which hold disjoint people" in groups.words


def test_folds_whose_people_are_not_known_are_the_groups_and_the_words_say_what_is_assumed() -> (
    None
):
    same, folds, _ = _pairs_of_people(60, 10, 30)
    groups = groups_of(same, folds)
    np.testing.assert_array_equal(groups.left_out, folds == np.arange(10)[:, None])
    assert groups.people is None
    assert "assumed" in groups.words


@pytest.mark.parametrize("folds", [2, 10])
def test_where_folds_share_people_a_person_is_left_out_with_all_pairs(folds: int) -> None:
    same, fold_of, who = _pairs_of_people(60, 1, 300)
    fold_of = np.arange(300) % folds
    groups = groups_of(same, fold_of, who)
    assert len(groups.left_out) == 10
    for left_out in groups.left_out:
        gone, still = np.unique(who[left_out]), np.unique(who[~left_out])
        assert len(np.setdiff1d(gone, still)) in (
            5,
            6,
        )  # a tenth of the people is in no pair that is kept
        assert np.isin(who[left_out], np.setdiff1d(gone, still)).any(axis=1).all()
    assert groups.left_out.any(axis=0).all()


def test_few_folds_of_unknown_people_become_groups_of_pairs() -> None:
    same = np.arange(100) < 40
    groups = groups_of(same, np.arange(100) % 2)
    assert groups.left_out.sum(axis=0).tolist() == [1] * 100
    assert {int((left_out & same).sum()) for left_out in groups.left_out} == {4}


# Standard errors


@quick
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=30))
def test_the_jackknife_of_a_mean_is_its_standard_error(values: list[float]) -> None:
    array = np.array(values)
    without = [np.delete(array, number).mean() for number in range(len(array))]
    assert standard_error(without) == pytest.approx(stats.sem(array), abs=1e-9)


def test_the_standard_error_of_an_auc_is_delongs() -> None:
    """Against the definition, pair by pair."""
    rng = np.random.default_rng(0)
    scores = np.round(rng.normal(size=90) + np.repeat([1.0, 0.0], 45), 1)
    same = np.arange(90) < 45
    wins = (scores[same][:, None] > scores[~same]) + 0.5 * (scores[same][:, None] == scores[~same])
    expected = np.sqrt(wins.mean(axis=1).var(ddof=1) / 45 + wins.mean(axis=0).var(ddof=1) / 45)
    assert auc_standard_error(scores, same) == pytest.approx(expected)


@pytest.mark.parametrize("degrees", [1, 4, 9, 100])
def test_student(degrees: int) -> None:
    assert t_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees))
    assert two_sided_p(1.0, 0.4, degrees) == pytest.approx(2 * stats.t.sf(2.5, degrees))
    assert two_sided_p(-1.0, 0.4, degrees) == pytest.approx(2 * stats.t.sf(2.5, degrees))
    assert two_sided_p(0.0, 0.0, degrees) == 1.0


# Proportions


@quick
@given(st.integers(1, 500), st.data())
def test_clopper_pearson_is_scipys(trials: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials))
    expected = stats.binomtest(successes, trials).proportion_ci(0.95, "exact")
    low, high = clopper_pearson(successes / trials, trials)
    assert (float(low), float(high)) == (
        pytest.approx(expected.low, abs=1e-9),
        pytest.approx(expected.high, abs=1e-9),
    )


def test_a_proportion_with_the_spread_of_independent_trials_gets_their_interval() -> None:
    error = np.sqrt(0.9 * 0.1 / 200)
    low, high = proportion_interval(0.9, error, 10**6, 50)
    expected = stats.binomtest(180, 200).proportion_ci(0.95, "exact")
    assert (float(low), float(high)) == (
        pytest.approx(expected.low, abs=1e-4),
        pytest.approx(expected.high, abs=1e-4),
    )


def test_fewer_degrees_of_freedom_and_more_spread_give_wider_intervals() -> None:
    def width(error: float, degrees: int) -> float:
        low, high = proportion_interval(0.9, error, degrees, 50)
        return float(high - low)

    assert width(0.02, 1000) < width(0.02, 9) < width(0.02, 2)
    assert width(0.02, 9) < width(0.04, 9)


@pytest.mark.parametrize("estimate", [0.0, 1.0, 0.7])
def test_without_any_spread_the_units_are_the_trials(estimate: float) -> None:
    low, high = proportion_interval(estimate, 0.0, 9, 40)
    expected = stats.binomtest(round(estimate * 40), 40).proportion_ci(0.95, "exact")
    assert (float(low), float(high)) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_no_more_trials_are_counted_than_there_are_pairs() -> None:
    low, high = proportion_interval([0.9, 0.9], [1e-6, 1e-6], 9, 40, [100, np.inf])
    expected = stats.binomtest(90, 100).proportion_ci(0.95, "exact")
    assert (low[0], high[0]) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert high[1] - low[1] < 1e-4


@quick
@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 30), st.integers(1, 1000))
def test_an_interval_of_a_proportion_is_within_its_range_and_around_it(
    p: float, error: float, degrees: int, units: int
) -> None:
    low, high = proportion_interval(p, error, degrees, units)
    assert 0 <= low <= p + 1e-9
    assert p - 1e-9 <= high <= 1


# TAR where few false accepts are expected


@pytest.mark.parametrize("far", [0.001, 0.01])
def test_bounds_with_few_false_accepts_cover_the_truth(far: float) -> None:
    truth = stats.norm.sf(stats.norm.isf(far) - 2.0)
    hits = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        scores = np.concatenate([rng.normal(2, 1, 300), rng.normal(0, 1, 300)])
        curve = roc(scores, np.arange(600) < 300)
        low, high = bounds_with_few_false_accepts(curve.far, curve.tar, [far], 300, 300)
        hits += bool(low[0] <= truth <= high[0])
    assert hits >= 188  # of 200 intervals with 95 % coverage, fewer cover the truth in 2 % of cases


def test_where_no_false_accept_can_be_expected_there_is_no_lower_bound() -> None:
    curve = roc([4.0, 3.0, 2.0, 1.0], [True, True, False, False])
    low, high = bounds_with_few_false_accepts(curve.far, curve.tar, [1e-4], 2, 2)
    assert (float(low[0]), float(high[0])) == (0.0, 1.0)


def test_supported_counts_expected_false_accepts() -> None:
    assert supported(1000, 0.01)
    assert not supported(999, 0.01)
    assert supported(3000, 0.01, 30)


def test_four_pairs_say_next_to_nothing() -> None:
    """Such a pack was once shown with an interval of no width."""
    result = verification([0.9, 0.1, 0.4, 0.3], [True, False, False, True], folds=[0, 0, 1, 1])
    low, high = result.intervals["accuracy"]
    assert high - low > 0.6
    for low, high in result.intervals.values():
        assert 0 <= low < high <= 1


def test_two_people_are_too_few_for_intervals_and_the_protocol_says_so() -> None:
    people = [[0, 0], [0, 1], [1, 1], [0, 1]]
    result = verification([4, 1, 3, 2], [True, False, True, False], folds=2, people=people)
    assert result.intervals == {}
    assert result.band is None
    assert (
        "without one of the people there are no genuine or no impostor pairs"
        in result.protocol["interval"]
    )


@pytest.mark.slow
def test_intervals_over_folds_cover_the_truth_where_pairs_share_people() -> None:
    """100 people in 10 folds; the effects of people are 40 % of the variance."""
    apart, share, hits = 2.0, 0.4, 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        same, folds, who = _pairs_of_people(100, 10, 400, seed)
        of_person = rng.normal(0, share**0.5, (2, 100))
        effect = np.where(
            same,
            of_person[0, who[:, 0]],
            (of_person[1, who[:, 0]] + of_person[1, who[:, 1]]) / 2**0.5,
        )
        scores = apart * same + effect + rng.normal(0, (1 - share) ** 0.5, len(same))
        low, high = verification(scores, same, folds, people=who).intervals["auc"]
        hits += bool(low <= stats.norm.cdf(apart / 2**0.5) <= high)
    assert hits >= 52  # of 60 x 95 %, fewer happen in 1 % of cases


# Many comparisons


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert holm([]).tolist() == []
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]


@quick
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferronis_and_keeps_the_order(
    p_values: list[float],
) -> None:
    raised = holm(p_values)
    assert (raised >= p_values).all()
    assert (raised <= np.minimum(np.array(p_values) * len(p_values), 1) + 1e-12).all()
    assert (np.diff(raised[np.argsort(p_values, kind="stable")]) >= 0).all()


@pytest.mark.parametrize("people", [[[0, 1]], [0, 1, 2, 3], [[0.5, 1]] * 4, "who"])
def test_people_of_another_shape_are_one_readable_line(people: Any, complaint: Any) -> None:
    with complaint("people are", "expected integers of shape (4, 2)"):
        verification([4, 1, 3, 2], [True, False, True, False], folds=2, people=people)
