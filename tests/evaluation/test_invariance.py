"""Invariance curves against slow versions, known answers, and what must hold for any pairs."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from workbench.arrays import Floats
from workbench.evaluation import FACTORS, InvarianceCurve, invariance, verification
from workbench.evaluation.invariance import alone, gaps, pair_gaps

Sweep = tuple[Floats, NDArray[np.bool_], Floats, NDArray[np.int64]]
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")
quick = settings(max_examples=40, deadline=None)
LEVELS = np.array([0.0, 30.0, 60.0, 90.0])


def sweep(
    people: int = 20, noise: float = 0.05, slope: float = 0.01, impostors: int = 300, seed: int = 0
) -> Sweep:
    """Scores, kinds, gaps and people; the score of a genuine pair falls by `slope` per degree."""
    rng = np.random.default_rng(seed)
    who, level = np.repeat(np.arange(people), len(LEVELS)), np.tile(LEVELS, people)
    genuine = 0.8 - slope * level + rng.normal(0, noise, len(level))
    one = rng.integers(people, size=impostors)
    other = (one + rng.integers(1, people, size=impostors)) % people
    scores = np.concatenate([genuine, rng.normal(0, 0.15, impostors)])
    couples = np.concatenate([np.stack([who, who], 1), np.stack([one, other], 1)])
    return (
        scores,
        np.arange(len(scores)) < len(genuine),
        np.concatenate([level, np.full(impostors, np.nan)]),
        couples,
    )


@st.composite
def some_pairs(draw: st.DrawFn) -> Sweep:
    """10 to 60 pairs of both kinds with few distinct scores and gaps."""
    count = draw(st.integers(10, 60))
    scores = np.array(
        draw(st.lists(st.integers(-6, 6), min_size=count, max_size=count)), dtype=float
    )
    same = np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    same[:2] = [True, False]
    gap = np.array(
        draw(st.lists(st.sampled_from([0.0, 10.0, 20.0, np.nan]), min_size=count, max_size=count))
    )
    gap[0] = 10.0
    first = np.array(draw(st.lists(st.integers(0, 9), min_size=count, max_size=count)))
    return scores, same, gap, np.stack([first, np.where(same, first, (first + 1) % 10)], 1)


def curve(pairs: Sweep, **options: Any) -> InvarianceCurve:
    scores, same, gap, people = pairs
    plain: dict[str, Any] = {"factor": "yaw", "people": people, "bootstrap": 50, "far": 0.1}
    return invariance(scores, same, gap, **plain | options)


def enough(pairs: Sweep, far: float) -> bool:
    return bool((~pairs[1]).sum() * far >= 1)


def assert_equal(one: InvarianceCurve, other: InvarianceCurve, rtol: float = 0) -> None:
    for field in fields(InvarianceCurve):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if mine is None or isinstance(mine, str):
            assert mine == theirs
        else:
            np.testing.assert_allclose(mine, theirs, rtol=rtol, err_msg=field.name)


# What is in a curve


@quick
@given(pairs=some_pairs(), far=st.sampled_from([0.1, 0.25, 0.5]))
def test_each_bin_holds_the_figures_of_its_pairs(pairs: Sweep, far: float) -> None:
    scores, same, gap, _ = pairs
    if not enough(pairs, far):
        return
    found = curve(pairs, far=far, bootstrap=0)
    levels = sorted(
        {float(g) for g, genuine in zip(gap, same, strict=True) if genuine and not np.isnan(g)}
    )
    assert found.gap.tolist() == levels
    impostors = scores[~same]
    for number, level in enumerate(levels):
        mine = scores[same & (gap == level)]
        assert found.count[number] == len(mine)
        assert found.mean[number] == pytest.approx(mine.mean())
        assert found.median[number] == np.quantile(mine, 0.5, method="inverted_cdf")
        np.testing.assert_allclose(found.spread[:, number], np.quantile(mine, [0.1, 0.9]))
        assert found.tar[number] == pytest.approx(
            np.mean([score >= found.threshold for score in mine])
        )
    assert found.impostor_mean == pytest.approx(impostors.mean())
    # The threshold lets through no more than the FAR, and any lower one would let through more.
    assert (impostors >= found.threshold).mean() <= far + 1e-9
    assert (impostors >= np.nextafter(found.threshold, -np.inf)).mean() > far


@quick
@given(pairs=some_pairs(), far=st.sampled_from([0.1, 0.25, 0.5]))
def test_the_bins_add_up_to_the_tar_of_verification(pairs: Sweep, far: float) -> None:
    scores, same, gap, _ = pairs
    if not enough(pairs, far):
        return
    found = curve(pairs, far=far, bootstrap=0)
    used = ~same | np.isfinite(gap)
    overall = verification(scores[used], same[used], 2, fars=(far,), intervals=False).tar_at_far[
        far
    ]
    assert np.average(found.tar, weights=found.count) == pytest.approx(overall)


@quick
@given(pairs=some_pairs(), data=st.data())
def test_a_laxer_rate_accepts_more_and_crosses_later(pairs: Sweep, data: st.DataObject) -> None:
    strict, lax = sorted(data.draw(st.lists(st.floats(0.02, 0.98), min_size=2, max_size=2)))
    if not enough(pairs, strict):
        return
    one, other = (curve(pairs, far=far, bootstrap=0) for far in (strict, lax))
    assert one.threshold >= other.threshold
    assert (one.tar <= other.tar).all()
    assert one.crossing <= other.crossing
    np.testing.assert_array_equal(one.median, other.median)


@quick
@given(pairs=some_pairs(), seed=st.integers(0, 99))
def test_the_order_of_pairs_and_within_pairs_does_not_matter(pairs: Sweep, seed: int) -> None:
    if not enough(pairs, 0.1):
        return
    order = np.random.default_rng(seed).permutation(len(pairs[0]))
    scores, same, gap, people = (column[order] for column in pairs)
    assert_equal(curve(pairs), curve((scores, same, gap, people[:, ::-1])), rtol=1e-12)


@quick
@given(pairs=some_pairs(), by_people=st.booleans())
def test_intervals_hold_their_points(pairs: Sweep, by_people: bool) -> None:
    if not enough(pairs, 0.1):
        return
    found = curve(pairs, **({} if by_people else {"people": None}))
    if found.crossing_interval is None:
        assert found.median_interval is None
        assert found.tar_interval is None
        return
    assert found.crossing_interval[0] <= found.crossing <= found.crossing_interval[1]
    for interval, point in ((found.median_interval, found.median), (found.tar_interval, found.tar)):
        assert interval is not None
        known = np.isfinite(interval).all(axis=0)
        assert (interval[0] <= point)[known].all()
        assert (point <= interval[1])[known].all()


# Crossing


@pytest.mark.parametrize("slope", [0.02, 0.008, 0.0071])
def test_the_crossing_of_a_straight_line_is_where_it_meets_the_threshold(slope: float) -> None:
    found = curve(sweep(noise=0, slope=slope), far=0.01)
    assert found.crossing == pytest.approx((0.8 - found.threshold) / slope, rel=1e-9)
    assert found.crossing_interval is not None
    # Without noise only the threshold moves, and with it the crossing along the line.
    low, high = found.crossing_interval
    assert low < found.crossing < high
    assert found.text(found.crossing) == f"{(0.8 - found.threshold) / slope:.0f}°"


def test_a_crossing_beyond_all_that_was_measured_is_infinite() -> None:
    found = curve(sweep(noise=0, slope=0.001))
    assert (found.crossing, found.crossing_interval) == (np.inf, (np.inf, np.inf))
    assert found.crossing_text == "> 90°"


def test_a_median_below_the_threshold_from_the_start_crosses_at_the_smallest_gap() -> None:
    scores, same, gap, people = sweep(noise=0)
    found = curve((np.where(same, scores - 2, scores), same, gap, people))
    assert found.crossing == 0
    assert found.crossing_text == "≤ 0°"
    assert (found.tar == 0).all()


def test_the_first_of_several_crossings_counts() -> None:
    medians = np.array([1.0, 0.0, 1.0, 0.0])
    scores = np.concatenate([np.repeat(medians, 5), np.linspace(0.0, 0.5, 21)])
    same, gap = np.arange(len(scores)) < 20, np.concatenate([np.repeat(LEVELS, 5), np.zeros(21)])
    found = invariance(scores, same, gap, factor="yaw", far=1 / 20, bootstrap=0)
    assert found.threshold == pytest.approx(0.475)
    assert found.crossing == pytest.approx(30 * (1 - 0.475))


def test_the_interval_of_a_crossing_may_have_no_upper_end() -> None:
    found = curve(sweep(people=30, noise=0.2, slope=0.0066), bootstrap=200)
    assert found.crossing_interval is not None
    assert np.isfinite(found.crossing_interval[0])
    assert found.crossing_interval[1] == np.inf
    assert found.crossing_text.endswith(", > 90°]")


# Intervals


def test_intervals_hold_the_true_median_about_95_times_in_100() -> None:
    held = []
    for seed in range(60):
        found = curve(sweep(people=40, noise=0.1, impostors=100, seed=seed), bootstrap=150)
        assert found.median_interval is not None
        low, high = found.median_interval
        true = 0.8 - 0.01 * LEVELS
        held += ((low <= true) & (true <= high)).tolist()
    assert 0.91 <= np.mean(held) <= 0.99


def test_redrawing_people_is_honest_where_pairs_of_one_person_are_alike() -> None:
    """40 people with 25 pairs of equal score each, so 40 independent values, not 1,000."""
    person = np.random.default_rng(0).normal(0.5, 0.1, 40)
    who = np.repeat(np.arange(40), 25)
    impostors = np.linspace(0, 0.3, 100)
    scores, same = np.concatenate([person[who], impostors]), np.arange(1100) < 1000
    first = np.concatenate([who, np.arange(100) % 40])
    people = np.stack([first, np.where(same, first, (first + 1) % 40)], 1)
    both = [
        invariance(scores, same, np.zeros(1100), factor="age", people=p, bootstrap=400)
        for p in (people, None)
    ]
    widths = [
        np.ptp(found.median_interval[:, 0]) for found in both if found.median_interval is not None
    ]
    assert widths[0] > 2.5 * widths[1]
    assert widths[0] == pytest.approx(2 * 1.96 * 0.1 * np.sqrt(np.pi / 80), rel=0.4)


def test_few_people_have_no_interval() -> None:
    assert curve(sweep(people=4)).median_interval is None
    assert curve(sweep(), bootstrap=0).tar_interval is None
    scores, same, gap, people = sweep()
    gap[same & (gap == 90) & (people[:, 0] >= 4)] = np.nan
    found = curve((scores, same, gap, people))
    assert found.count.tolist() == [20, 20, 20, 4]
    for interval in (found.median_interval, found.tar_interval):
        assert interval is not None
        assert np.isfinite(interval).all(axis=0).tolist() == [True, True, True, False]


def test_a_seed_gives_the_same_intervals_and_another_seed_others() -> None:
    assert_equal(curve(sweep()), curve(sweep()))
    one, other = curve(sweep()), curve(sweep(), seed=1)
    assert one.median_interval is not None
    assert not np.array_equal(one.median_interval, other.median_interval)


# Bins


def test_levels_that_differ_by_rounding_alone_are_one_bin() -> None:
    scores, same, gap, people = sweep()
    shaken = gap + np.where(same, np.tile([0.0, 1e-5], len(gap) // 2), 0)
    np.testing.assert_allclose(curve((scores, same, shaken, people)).gap, LEVELS, atol=1e-4)


def test_many_gaps_are_ten_bins_with_equally_many_pairs_and_one_for_none() -> None:
    rng = np.random.default_rng(0)
    gap = np.concatenate([np.zeros(50), rng.uniform(0.01, 0.6, 500), np.full(50, np.nan)])
    same = np.arange(600) < 550
    found = invariance(rng.normal(size=600), same, gap, factor="occlusion", far=0.1, bootstrap=0)
    assert found.gap[0] == 0
    assert found.count.tolist() == [50] * 11
    np.testing.assert_allclose(found.gap[1:], np.sort(gap[50:550]).reshape(10, 50).mean(axis=1))


def test_given_edges_are_taken_and_empty_bins_left_out() -> None:
    found = curve(sweep(), edges=[0, 30, 40, 50, 60])
    assert found.gap.tolist() == [
        0,
        30,
        60,
    ]  # nothing in [40, 50); the last bin has its upper edge; 90 is outside
    assert found.count.tolist() == [20, 20, 20]


@pytest.mark.parametrize("edges", [[0], [], [0, 0], [1, 0], [0, np.nan], [[0, 1]]])
def test_edges_that_do_not_rise_are_an_error(edges: Any, complaint: Any) -> None:
    with complaint("edges"):
        curve(sweep(), edges=edges)


# What goes wrong


def test_too_few_impostors_for_the_rate_are_an_error(complaint: Any) -> None:
    assert curve(sweep(impostors=1000), far=1e-3).threshold > 0
    with complaint("0.001", "at least 1,000 impostor pairs", "there are 999"):
        curve(sweep(impostors=999), far=1e-3)
    scores, same, gap, people = sweep()
    with complaint("there are 0"):
        curve((scores[same], same[same], gap[same], people[same]))


def test_no_genuine_pair_with_a_gap_is_an_error(complaint: Any) -> None:
    scores, same, gap, people = sweep()
    for nothing in (np.full(len(gap), np.nan), np.where(same, np.nan, 5.0)):
        with complaint("no genuine pair", "yaw"):
            curve((scores, same, nothing, people))
    with complaint("no genuine pair"):
        curve((scores, same, gap, people), edges=[100, 200])


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (0, np.nan, "score number 3 is nan"),
        (0, np.inf, "inf"),
        (2, -1.0, "0 or more"),
        (2, np.inf, "finite"),
    ],
)
def test_impossible_values_are_an_error(
    column: int, value: float, message: str, complaint: Any
) -> None:
    pairs = sweep()
    pairs[column][3] = value
    with complaint(message):
        curve(pairs)


def test_what_does_not_fit_together_is_an_error(complaint: Any) -> None:
    scores, same, gap, people = sweep()
    with complaint("(P,)"):
        curve((scores[1:], same, gap, people))
    with complaint("same must hold"):
        curve((scores, same + 1, gap, people))
    for wrong in (people[:, 0], people[1:], people.astype(float)):
        with complaint("people"):
            curve((scores, same, gap, wrong))
    with complaint("did you mean 'yaw'"):
        curve(sweep(), factor="yawn")
    for far in (0, 1, -0.1, np.nan):
        with complaint("between 0 and 1"):
            curve(sweep(), far=far)
    with complaint("bootstrap"):
        curve(sweep(), bootstrap=-1)


# Attributes


def test_a_gap_is_the_difference_without_its_sign() -> None:
    yaw, pairs = np.array([0, 30, -45], dtype=np.int16), np.array([[0, 1], [0, 2], [2, 1], [1, 1]])
    found = gaps({"yaw": yaw, "glasses": np.array([True, False, True])}, pairs)
    assert list(found) == ["yaw"]
    assert found["yaw"].tolist() == [30, 45, 75, 0]


@quick
@given(
    varied=st.lists(st.sampled_from(["none", "yaw", "age"]), min_size=2, max_size=12),
    seed=st.integers(0, 99),
)
def test_alone_are_pairs_that_vary_one_factor_from_nothing(varied: list[str], seed: int) -> None:
    pairs = np.random.default_rng(seed).integers(len(varied), size=(30, 2))
    found = alone(np.array(varied), pairs, "yaw")
    allowed = ({"none"}, {"none", "yaw"})
    assert found.tolist() == [{varied[i], varied[j]} in allowed for i, j in pairs]
    np.testing.assert_array_equal(alone(np.array(varied), pairs[:, ::-1], "yaw"), found)


def test_pairs_of_a_sweep_in_which_more_differs_have_no_gap() -> None:
    attributes = {
        "yaw": np.array([0.0, 0.0, 45.0, 0.0, 0.0]),
        "age": np.array([30.0, 30.0, 30.0, 60.0, 30.0]),
        "illumination": np.zeros(5),
        "factor": np.array(["none", "none", "yaw", "age", "none"]),
    }
    pairs = np.array([[0, 1], [0, 2], [3, 0], [2, 3], [0, 4]])
    same = np.array([True, True, True, True, False])
    found = pair_gaps(attributes, pairs, same, np.array([7, 7, 7, 7, 8]))
    assert found is not None
    assert found.controlled
    assert list(found.by_factor) == ["yaw", "age"]  # the light never changes
    np.testing.assert_array_equal(found.by_factor["yaw"], [0, 45, np.nan, np.nan, 0])
    np.testing.assert_array_equal(found.by_factor["age"], [0, np.nan, 30, np.nan, 0])
    assert found.people is not None
    assert found.people.tolist() == [[7, 7]] * 4 + [[7, 8]]


@pytest.mark.parametrize("varied", [None, ["", "", ""]])
def test_without_a_sweep_all_pairs_have_their_gaps(varied: list[str] | None) -> None:
    attributes = {"age": np.array([20.0, 30.0, 50.0])} | (
        {} if varied is None else {"factor": np.array(varied)}
    )
    found = pair_gaps(attributes, np.array([[0, 1], [1, 2]]), np.array([True, False]))
    assert found is not None
    assert not found.controlled
    assert found.people is None
    assert found.by_factor["age"].tolist() == [10, 20]


def test_attributes_without_a_known_factor_or_a_difference_give_no_gaps(complaint: Any) -> None:
    pairs, same = np.array([[0, 1], [1, 2]]), np.array([True, False])
    assert pair_gaps({}, pairs, same) is None
    assert pair_gaps({"glasses": np.ones(3)}, pairs, same) is None
    assert pair_gaps({"yaw": np.array([5.0, 5.0, 9.0])}, pairs, same) is None
    assert (
        pair_gaps({"yaw": np.array([1.0, 2.0, 3.0])}, pairs, same, np.array([0, -1, 1])).people
        is None
    )  # type: ignore[union-attr]
    with complaint("'yaw'", "numbers"):
        pair_gaps({"yaw": np.array(["left", "right", "left"])}, pairs, same)


def test_gaps_are_written_in_their_units() -> None:
    assert {
        factor: FACTORS[factor].text(0.304 if factor == "occlusion" else 30.4) for factor in FACTORS
    } == {
        "yaw": "30°",
        "age": "30 years",
        "illumination": "30°",
        "occlusion": "30%",
    }
