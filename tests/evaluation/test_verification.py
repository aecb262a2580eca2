"""Every verification figure equals scikit-learn, or a slow version that counts pairs."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import brentq
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.model_selection import KFold

from workbench.arrays import BAND_FARS
from workbench.evaluation import VerificationResult, roc, verification

Pairs = tuple[NDArray[np.float64], NDArray[np.bool_]]
quick = settings(max_examples=40, deadline=None)


def _normal(genuine: int, impostor: int, apart: float = 1.5, seed: int = 0) -> Pairs:
    rng = np.random.default_rng(seed)
    scores = np.concatenate([rng.normal(apart, 1, genuine), rng.normal(0, 1, impostor)])
    order = rng.permutation(len(scores))
    return scores[order], (np.arange(len(scores)) < genuine)[order]


def _tied(seed: int = 0) -> Pairs:
    scores, same = _normal(150, 170, seed=seed)
    return np.round(scores), same


@st.composite
def some_pairs(draw: st.DrawFn) -> Pairs:
    """4 to 40 pairs of both kinds, with few distinct scores."""
    scores = draw(st.lists(st.integers(-6, 6), min_size=4, max_size=40))
    same = draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    same[:2] = [True, False]
    return np.array(scores, dtype=float), np.array(same)


def _thresholds(scores: NDArray[np.float64]) -> list[float]:
    """All that make a difference, strictest first."""
    return [np.inf, *sorted(set(scores.tolist()), reverse=True)]


def _slow_folds(
    scores: NDArray[np.float64], same: NDArray[np.bool_], folds: NDArray[np.int64]
) -> list[float]:
    """Accuracy by fold: the highest of the best thresholds, moved halfway to the next score."""
    found = []
    for fold in np.unique(folds):
        best, kept = -1, np.inf
        others = _thresholds(scores[folds != fold])
        for threshold in others:
            right = sum(
                (s >= threshold) == y
                for s, y, f in zip(scores, same, folds, strict=True)
                if f != fold
            )
            if right > best:
                best, kept = right, threshold
        lower = [score for score in others if score < kept]
        if np.isfinite(kept) and lower:
            kept = (kept + lower[0]) / 2
        elif lower:  # nothing of the other folds is accepted
            kept = np.nextafter(lower[0], np.inf)
        answers = [
            (s >= kept) == y for s, y, f in zip(scores, same, folds, strict=True) if f == fold
        ]
        found.append(sum(answers) / len(answers))
    return found


def _slow_tar(scores: NDArray[np.float64], same: NDArray[np.bool_], far: float) -> float:
    allowed = int(far * (~same).sum() + 1e-6)
    tars = [
        (scores[same] >= t).mean()
        for t in _thresholds(scores)
        if (scores[~same] >= t).sum() <= allowed
    ]
    return float(max(tars))


def _slow_eer(scores: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    far, tar, _ = roc_curve(same, scores, drop_intermediate=False)
    return float(brentq(lambda rate: 1 - rate - np.interp(rate, far, tar), -1e-9, 1, xtol=1e-14))


# Against others


@pytest.mark.parametrize(
    "pairs", [_normal(200, 300), _tied(), _normal(1, 50), (np.zeros(9), np.arange(9) < 4)]
)
def test_roc_is_scikit_learns(pairs: Pairs) -> None:
    far, tar, thresholds = roc(*pairs)
    for mine, theirs in zip(
        (far, tar, thresholds), roc_curve(pairs[1], pairs[0], drop_intermediate=False), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, atol=1e-12)


@quick
@given(some_pairs())
def test_auc_is_scikit_learns_whatever_is_tied(pairs: Pairs) -> None:
    assert verification(*pairs, folds=2, intervals=False).auc == pytest.approx(
        roc_auc_score(pairs[1], pairs[0])
    )


@quick
@given(some_pairs())
def test_eer_is_where_the_interpolated_roc_meets_the_diagonal(pairs: Pairs) -> None:
    assert verification(*pairs, folds=2, intervals=False).eer == pytest.approx(
        _slow_eer(*pairs), abs=1e-8
    )


def test_eer_of_many_pairs() -> None:
    pairs = _normal(3000, 3000)
    eer = verification(*pairs, intervals=False).eer
    assert eer == pytest.approx(_slow_eer(*pairs), abs=1e-8)
    assert eer == pytest.approx(NormalDist().cdf(-0.75), abs=0.02)


@quick
@given(some_pairs(), st.sampled_from([1e-3, 0.1, 0.2, 0.25, 1 / 3, 0.5, 1.0]))
def test_tar_at_far_is_the_highest_tar_that_the_far_allows(pairs: Pairs, far: float) -> None:
    result = verification(*pairs, folds=2, fars=[far], intervals=False)
    assert result.tar_at_far == {far: pytest.approx(_slow_tar(*pairs, far))}


@pytest.mark.parametrize("far", [0.1, 0.2, 0.3, 0.6, 0.7])
def test_three_of_thirty_false_accepts_are_a_far_of_a_tenth(far: float) -> None:
    scores = np.arange(60.0)
    same = np.arange(60) % 2 == 0
    accepted = round(30 * far)
    expected = (
        scores[same] >= np.sort(scores[~same])[-accepted]
    ).sum() + 1  # genuine pairs just below it cost nothing
    assert verification(scores, same, fars=[far], intervals=False).tar_at_far[far] == pytest.approx(
        expected / 30
    )


@quick
@given(some_pairs(), st.integers(2, 4), st.integers(0, 9))
def test_fold_accuracy_is_that_of_trying_every_threshold(
    pairs: Pairs, count: int, seed: int
) -> None:
    folds = np.random.default_rng(seed).permutation(np.arange(len(pairs[0])) % count)
    result = verification(*pairs, folds=folds, intervals=False)
    expected = _slow_folds(*pairs, folds)
    np.testing.assert_allclose(result.fold_accuracy, expected)
    assert result.accuracy == pytest.approx(np.mean(expected))
    assert result.std == pytest.approx(np.std(expected))


def test_of_equally_good_thresholds_the_strictest_is_taken() -> None:
    # On the other fold, a genuine pair is above an impostor pair, which is above a genuine pair:
    # accepting the first or all three is equally good.
    scores = np.array([3.0, 2.0, 1.0, 1.5, 0.5, 0.2])
    same = np.array([True, False, True, True, False, True])
    result = verification(scores, same, folds=[0, 0, 0, 1, 1, 1], intervals=False)
    assert result.fold_threshold[1] == 2.5  # in the middle between that and the next score
    assert result.fold_accuracy[1] == pytest.approx(1 / 3)


@pytest.mark.parametrize(("count", "folds"), [(20, 10), (23, 10), (7, 3), (10, 10)])
def test_a_number_of_folds_cuts_as_kfold_does(count: int, folds: int) -> None:
    scores, same = np.arange(count), np.arange(count) % 2 == 0
    given_folds = verification(scores, same, folds=folds, intervals=False).folds
    expected = [test for _, test in KFold(folds, shuffle=False).split(scores)]
    assert [np.flatnonzero(given_folds == fold).tolist() for fold in range(folds)] == [
        test.tolist() for test in expected
    ]


def _arcface_torch(distance: NDArray[np.float64], same: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Accuracy by fold as in arcface_torch's verification.py, with a grid of squared distances."""
    grid = np.arange(0, 4, 0.01)
    found = []
    for train, test in KFold(10, shuffle=False).split(distance):
        right = [((distance[train] < threshold) == same[train]).mean() for threshold in grid]
        found.append(((distance[test] < grid[np.argmax(right)]) == same[test]).mean())
    return np.array(found)


def _embedded_distances(seed: int, pairs: int = 1200) -> Pairs:
    """Squared distances of unit vectors; genuine pairs share half of what they are made of."""
    rng = np.random.default_rng(seed)
    same = np.tile(np.repeat([True, False], 60), pairs // 120)
    first, other = rng.normal(size=(2, pairs, 32))
    second = np.where(same[:, None], first * 0.6 + other, other)
    unit = [vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (first, second)]
    return ((unit[0] - unit[1]) ** 2).sum(axis=1), same


@pytest.mark.parametrize("seed", range(4))
def test_accuracy_is_that_of_arcface_torch_but_for_its_grid(seed: int) -> None:
    distance, same = _embedded_distances(seed)
    in_one_step = np.histogram(distance, np.arange(0, 4, 0.01))[0].max() / len(distance)
    exact = verification(1 - distance / 2, same, intervals=False)  # the cosine
    assert abs(exact.accuracy - _arcface_torch(distance, same).mean()) <= in_one_step


@pytest.mark.parametrize("seed", range(4))
def test_accuracy_is_exactly_that_of_arcface_torch_where_its_grid_loses_nothing(seed: int) -> None:
    distance, same = _embedded_distances(seed)
    in_the_middle = (np.floor(distance / 0.01) + 0.5) * 0.01
    np.testing.assert_allclose(
        verification(-in_the_middle, same, intervals=False).fold_accuracy,
        _arcface_torch(in_the_middle, same),
    )


# What must not matter


def _same_figures(one: VerificationResult, other: VerificationResult) -> None:
    np.testing.assert_allclose(one.fold_accuracy, other.fold_accuracy)
    assert (one.auc, one.eer) == (pytest.approx(other.auc), pytest.approx(other.eer))
    assert one.tar_at_far == pytest.approx(other.tar_at_far)


@quick
@given(some_pairs(), st.sampled_from([np.exp, np.cbrt, lambda s: 5 * s - 3, lambda s: s**3 * 1e9]))
def test_a_monotone_transform_of_the_scores_changes_nothing_but_where_the_middle_between_two_lies(
    pairs: Pairs, transform: Callable[[Any], Any]
) -> None:
    scores, same = pairs
    plain, transformed = (verification(s, same, folds=2) for s in (scores, transform(scores)))
    assert (plain.auc, plain.eer) == (
        pytest.approx(transformed.auc),
        pytest.approx(transformed.eer),
    )
    assert plain.tar_at_far == pytest.approx(transformed.tar_at_far)
    for key, interval in plain.intervals.items():
        if (
            key != "accuracy"
        ):  # the middle between two scores may decide differently about a score between them
            assert transformed.intervals[key] == pytest.approx(interval), key


@quick
@given(some_pairs(), st.integers(0, 99))
def test_the_order_of_pairs_within_their_folds_changes_nothing(pairs: Pairs, seed: int) -> None:
    scores, same = pairs
    folds = np.arange(len(scores)) % 2
    order = np.random.default_rng(seed).permutation(len(scores))
    one = verification(scores, same, folds, intervals=False)
    other = verification(scores[order], same[order], folds[order], intervals=False)
    _same_figures(one, other)
    np.testing.assert_array_equal(one.fold_threshold, other.fold_threshold)


def test_the_numbers_that_folds_go_by_do_not_matter() -> None:
    scores, same = _tied()
    folds = np.arange(len(scores)) % 3
    odd_numbers = np.array([-5, 7, 1000])[folds]
    _same_figures(
        verification(scores, same, folds, intervals=False),
        verification(scores, same, odd_numbers, intervals=False),
    )


@quick
@given(some_pairs())
def test_reversed_scores_have_the_complementary_auc(pairs: Pairs) -> None:
    scores, same = pairs
    aucs = [verification(s, same, folds=2, intervals=False).auc for s in (scores, -scores)]
    assert sum(aucs) == pytest.approx(1.0)


@quick
@given(st.integers(2, 20), st.integers(2, 20), st.floats(1e-6, 1e6))
def test_perfect_separation_is_perfect(genuine: int, impostor: int, gap: float) -> None:
    scores = np.append(np.full(genuine, gap), np.zeros(impostor))
    same = np.arange(len(scores)) < genuine
    folds = np.append(np.arange(genuine) % 2, np.arange(impostor) % 2)
    result = verification(scores, same, folds)
    assert (result.accuracy, result.std, result.auc, result.eer) == (1.0, 0.0, 1.0, 0.0)
    assert set(result.tar_at_far.values()) == {1.0}
    # Without any error, the lower limit is that of Clopper and Pearson, where low^n = 0.025.
    low, high = result.intervals["accuracy"]
    assert (low ** (genuine + impostor), high) == (pytest.approx(0.025), 1.0)


@pytest.mark.parametrize("count", [4, 20, 60])
def test_perfectly_separated_pairs_of_many_scores_are_all_judged_rightly(count: int) -> None:
    """The highest threshold is itself a genuine score and rejects lower scores of the test fold."""
    rng = np.random.default_rng(0)
    same = np.arange(count) % 2 == 0
    assert verification(10.0 * same + rng.random(count), same, folds=2).accuracy == 1.0


@quick
@given(some_pairs(), st.floats(0.1, 10), st.integers(-5, 5))
def test_scores_in_another_unit_have_the_same_figures(pairs: Pairs, unit: float, zero: int) -> None:
    scores, same = pairs
    _same_figures(
        verification(scores, same, folds=2, intervals=False),
        verification(scores * 2, same, folds=2, intervals=False),
    )


def test_labels_may_be_ones_and_zeros_and_scores_a_list() -> None:
    result = verification([1, 2, 3, 4], [0, 0, 1, 1], folds=[0, 1, 0, 1], intervals=False)
    assert result.auc == 1.0
    assert result.same.dtype == bool


# Odd sets


def test_all_scores_equal_is_chance() -> None:
    result = verification(np.zeros(40), np.arange(40) % 2 == 0)
    assert (result.accuracy, result.auc, result.eer) == (0.5, 0.5, 0.5)
    assert set(result.tar_at_far.values()) == {0.0}
    assert np.isfinite(result.fold_threshold).all()


def test_one_genuine_pair_among_many() -> None:
    scores, same = _normal(1, 5000, apart=3.0)
    result = verification(scores, same)
    assert result.auc == pytest.approx(roc_auc_score(same, scores))
    np.testing.assert_allclose(result.accuracy, (5000 + np.array([0, 1])) / 5001, atol=2 / 5001)
    assert set(result.tar_at_far.values()) <= {0.0, 1.0}


def test_one_impostor_pair_among_many() -> None:
    scores, same = _normal(2000, 1)
    result = verification(scores, same)
    assert not result.supported(1.0)
    assert result.tar_at_far[0.1] == _slow_tar(scores, same, 0.1)


@pytest.mark.parametrize("intervals", [False, True])
def test_a_fold_may_hold_pairs_of_one_kind_only(intervals: bool) -> None:
    scores, same = _normal(30, 30)
    folds = np.where(same, np.arange(60) % 2, np.arange(60) % 3)  # fold 2 has impostors alone
    assert not same[folds == 2].any()
    result = verification(scores, same, folds, intervals=intervals)
    np.testing.assert_allclose(result.fold_accuracy, _slow_folds(scores, same, folds))
    for low, high in result.intervals.values():
        assert 0 <= low <= high <= 1


def test_scores_may_lie_anywhere() -> None:
    scores, same = _normal(20, 20)
    plain = verification(scores, same, intervals=False)
    _same_figures(plain, verification(scores * 1e280, same, intervals=False))
    _same_figures(plain, verification(scores * 1e-280, same, intervals=False))


@pytest.mark.timeout(60)
def test_six_thousand_pairs_with_intervals_take_seconds() -> None:
    result = verification(*_normal(3000, 3000))
    assert set(result.intervals) == {
        "accuracy",
        "auc",
        "eer",
        "tar@0.1",
        "tar@0.01",
        "tar@0.001",
        "tar@0.0001",
    }


# What is derived


def test_a_far_is_supported_from_ten_expected_false_accepts_on_and_well_from_thirty() -> None:
    result = verification(*_normal(10, 1000), intervals=False)
    assert result.impostors == 1000
    assert [result.supported(far) for far in (0.1, 1e-2, 0.9e-2, 1e-3)] == [
        True,
        True,
        False,
        False,
    ]
    assert [result.well_supported(far) for far in (0.1, 0.03, 0.029, 1e-2)] == [
        True,
        True,
        False,
        False,
    ]


def test_rates_at_a_threshold_are_shares_of_accepted_pairs() -> None:
    result = verification(
        [1.0, 2.0, 2.0, 3.0, 4.0], [False, False, True, True, True], folds=2, intervals=False
    )
    assert result.rates_at(2.0) == (0.5, 1.0)
    assert result.rates_at(2.5) == (0.0, pytest.approx(2 / 3))
    assert result.rates_at(9.0) == (0.0, 0.0)
    assert result.rates_at(-9.0) == (1.0, 1.0)


def test_the_rates_at_the_points_of_the_roc_are_its_points() -> None:
    result = verification(*_tied(), intervals=False)
    for far, tar, threshold in zip(*result.roc, strict=True):
        assert result.rates_at(threshold) == (pytest.approx(far), pytest.approx(tar))


def test_the_threshold_is_the_mean_of_the_folds_thresholds() -> None:
    result = verification(*_normal(50, 50), intervals=False)
    assert result.threshold == pytest.approx(result.fold_threshold.mean())


def test_the_protocol_says_what_was_done() -> None:
    protocol = verification(*_normal(20, 20), folds=8).protocol
    assert protocol["folds"] == 8
    assert "jackknife over 8 folds" in protocol["interval"]
    assert verification(*_normal(20, 20), intervals=False).protocol["interval"] == "none"


# Intervals


def test_intervals_contain_the_figures_they_belong_to() -> None:
    result = verification(*_normal(300, 300))
    figures = {"accuracy": result.accuracy, "auc": result.auc, "eer": result.eer}
    figures |= {f"tar@{far:g}": tar for far, tar in result.tar_at_far.items()}
    assert figures.keys() == result.intervals.keys()
    for key, value in figures.items():
        low, high = result.intervals[key]
        assert 0 <= low <= value <= high <= 1, key
    assert result.intervals["auc"][0] < result.intervals["auc"][1]


def test_the_band_lies_around_the_roc_and_rises() -> None:
    result = verification(*_normal(300, 300))
    assert result.band is not None
    assert result.band.shape == (2, len(BAND_FARS))
    tar = [_slow_tar(result.scores, result.same, far) for far in BAND_FARS]
    assert (result.band[0] <= tar).all()
    assert (result.band[1] >= tar).all()
    assert (np.diff(result.band) >= 0).all()
    np.testing.assert_array_equal(result.band[:, -1], 1.0)


def test_intervals_can_be_left_out() -> None:
    result = verification(*_normal(30, 30), intervals=False)
    assert result.intervals == {}
    assert result.band is None


@pytest.mark.parametrize("figure", ["auc", "accuracy", "eer"])
def test_intervals_shrink_with_the_root_of_the_number_of_pairs(figure: str) -> None:
    widths = []
    for count in (100, 1600):
        drawn = [
            verification(*_normal(count, count, seed=seed)).intervals[figure] for seed in range(3)
        ]
        widths.append(np.mean([high - low for low, high in drawn]))
    assert 2.8 < widths[0] / widths[1] < 5.6  # 4, give or take


# Bad input

GOOD = ([1.0, 2.0, 3.0, 4.0], [False, True, False, True])


@pytest.mark.parametrize(
    ("scores", "same", "said"),
    [
        ([1.0, np.nan, 3.0, 4.0], GOOD[1], "score number 1 is nan"),
        ([1.0, 2.0, np.inf, 4.0], GOOD[1], "score number 2 is inf"),
        ([1.0, 2.0, 3.0], GOOD[1], "(3,)"),
        ([GOOD[0]], [GOOD[1]], "(1, 4)"),
        (1.0, True, "must be (P,)"),
        ([], [], "0 genuine and 0 impostor"),
        (GOOD[0], [True] * 4, "4 genuine and 0 impostor"),
        (GOOD[0], [False] * 4, "0 genuine and 4 impostor"),
        (GOOD[0], [0, 1, 2, 1], "True or False"),
        (GOOD[0], [0, 1, np.nan, 1], "True or False"),
    ],
)
def test_bad_pairs_are_one_readable_line(scores: Any, same: Any, said: str, complaint: Any) -> None:
    with complaint(said):
        verification(scores, same, folds=2)
    with complaint(said):
        roc(scores, same)


@pytest.mark.parametrize(
    ("folds", "said"),
    [
        (1, "4 pairs cannot be cut into 1 folds"),
        (0, "at least 2"),
        (-3, "at least 2"),
        (5, "4 pairs cannot be cut into 5"),
        (10**12, "at least 2"),
        (2.0, "expected integers"),
        ("ten", "expected integers"),
        ([0, 0, 0, 0], "all pairs are in one fold"),
        ([0, 1, 0], "shape (3,)"),
        ([0.0, 1.0, 0.0, 1.0], "expected integers"),
        ([0, 1, 0, np.nan], "expected integers"),
        ([[0, 1, 0, 1]], "shape (1, 4)"),
    ],
)
def test_bad_folds_are_one_readable_line(folds: Any, said: str, complaint: Any) -> None:
    with complaint(said):
        verification(*GOOD, folds=folds)


@pytest.mark.parametrize("far", [0.0, -0.1, 1.5, np.nan, np.inf])
def test_a_far_that_is_no_rate_is_one_readable_line(far: float, complaint: Any) -> None:
    with complaint("false accept rates must be in (0, 1]"):
        verification(*GOOD, folds=2, fars=[0.1, far])
