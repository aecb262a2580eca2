"""Open-set identification equals a slow count by definition, and scikit-learn's DET curve."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import det_curve

from workbench.arrays import BAND_FPIRS, Floats, Integers
from workbench.evaluation import OpenSetResult, identification, open_set

quick = settings(max_examples=40, deadline=None)


class Case(NamedTuple):
    """Arguments of `open_set`."""

    probes: Floats
    gallery: Floats
    nonmated: Floats
    probe_ids: Integers
    gallery_ids: Integers


def _people(
    people: int = 30,
    each: int = 4,
    strangers: int = 200,
    noise: float = 0.8,
    dim: int = 17,
    seed: int = 0,
) -> Case:
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(people, dim))
    gallery_ids = rng.permutation(np.concatenate([np.arange(people), np.arange(0, people, 3)]))
    probe_ids = rng.permutation(np.repeat(np.arange(people), each))
    gallery, probes = (
        directions[numbers] + noise * rng.normal(size=(len(numbers), dim))
        for numbers in (gallery_ids, probe_ids)
    )
    return Case(probes, gallery, rng.normal(size=(strangers, dim)), probe_ids, gallery_ids)


@st.composite
def tied(draw: st.DrawFn) -> Case:
    """Few people whose embeddings have the coordinates 1 and -1, so that many scores are equal."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    enrolled, more, probes = (
        draw(st.integers(1, 5)),
        draw(st.integers(0, 4)),
        draw(st.integers(1, 8)),
    )
    gallery_ids = np.concatenate([np.arange(enrolled), rng.integers(0, enrolled, more)])

    def signs(count: int) -> Floats:
        return rng.choice([-1.0, 1.0], (count, 4))

    return Case(
        signs(probes),
        signs(len(gallery_ids)),
        signs(draw(st.integers(1, 12))),
        rng.integers(0, enrolled, probes),
        gallery_ids,
    )


def _by_person(images: Floats, case: Case) -> Floats:
    """(N, P) best score of each image with each person of the gallery."""
    one, other = (
        part / np.linalg.norm(part, axis=1, keepdims=True) for part in (images, case.gallery)
    )
    scores = one @ other.T
    return np.column_stack(
        [scores[:, case.gallery_ids == name].max(axis=1) for name in np.unique(case.gallery_ids)]
    )


def _slow(case: Case, rank: int | None, threshold: float) -> tuple[float, float]:
    """(FPIR, FNIR), search by search."""
    names, false, missed = np.unique(case.gallery_ids).tolist(), 0, 0
    for scores in _by_person(case.nonmated, case):
        false += any(score >= threshold for score in scores)
    for scores, person in zip(_by_person(case.probes, case), case.probe_ids, strict=True):
        own = scores[names.index(person)]
        place = sum(score >= own for score in scores)  # itself included; ties count against it
        missed += own < threshold or (rank is not None and place > rank)
    return false / len(case.nonmated), missed / len(case.probes)


def _assert_same(one: OpenSetResult, other: OpenSetResult, *besides: str) -> None:
    for field in fields(one):
        if field.name not in besides:
            np.testing.assert_equal(
                getattr(one, field.name), getattr(other, field.name), err_msg=field.name
            )


# The definitions


@quick
@given(
    tied(),
    st.sampled_from([1, 2, None]),
    st.sampled_from([0.01, 0.1, 0.25, 1 / 3, 0.5, 1.0]),
    st.sampled_from([1, 2, 2048]),
)
def test_fnir_at_fpir_is_the_lowest_that_the_fpir_allows(
    case: Case, rank: int | None, fpir: float, block: int
) -> None:
    result = open_set(*case, rank=rank, fpirs=[fpir], bootstrap=0, block=block)
    thresholds = [
        np.inf,
        *_by_person(case.probes, case).ravel(),
        *_by_person(case.nonmated, case).ravel(),
    ]
    found = [_slow(case, rank, threshold) for threshold in thresholds]
    assert result.fnir_at_fpir == {
        fpir: pytest.approx(min(fnir for false, fnir in found if false <= fpir + 1e-9))
    }
    at = result.rates_at(result.threshold_at(fpir))
    assert at[0] <= fpir + 1e-9
    assert at[1] == pytest.approx(result.fnir_at_fpir[fpir])


@quick
@given(tied(), st.sampled_from([1, 2, None]))
def test_the_curve_has_the_rates_of_every_threshold(case: Case, rank: int | None) -> None:
    result = open_set(*case, rank=rank, bootstrap=0)
    curve = result.curve
    assert set(curve.thresholds) == {np.inf, *result.mated, *result.nonmated}
    assert (np.diff(curve.thresholds) < 0).all()
    for point in zip(*curve, strict=True):
        assert point[:2] == pytest.approx(_slow(case, rank, float(point[2])))
        assert point[:2] == pytest.approx(result.rates_at(float(point[2])))
    assert (curve.fpir[0], curve.fnir[0], curve.fpir[-1]) == (0, 1, 1)


def test_without_regard_to_rank_it_is_scikit_learns_det_curve() -> None:
    result = open_set(*_people(), rank=None, bootstrap=0)
    kind = np.repeat([1, 0], [len(result.mated), len(result.nonmated)])
    fpir, fnir, thresholds = det_curve(kind, np.concatenate([result.mated, result.nonmated]))
    for false, missed, threshold in zip(fpir, fnir, thresholds, strict=True):
        assert result.rates_at(threshold) == pytest.approx((false, missed))


def test_at_the_laxest_threshold_only_those_ranked_behind_others_are_missed() -> None:
    case = _people()
    result = open_set(*case, fpirs=(1.0,), bootstrap=0)
    closed = identification(*case, bootstrap=0)
    assert result.fnir_at_fpir[1.0] == pytest.approx(
        1 - closed.distractor_rates[0], abs=0.05
    )  # one distractor hardly matters
    assert (
        result.fnir_at_fpir[1.0]
        == (result.ranks > 1).mean()
        == pytest.approx(result.curve.fnir[-1])
    )
    assert open_set(*case, rank=None, fpirs=(1.0,), bootstrap=0).fnir_at_fpir[1.0] == 0


def test_more_ranks_and_more_false_alarms_mean_fewer_misses() -> None:
    case, fpirs = _people(noise=1.2), (0.005, 0.01, 0.1, 0.5)
    misses = np.array(
        [
            list(open_set(*case, rank=rank, fpirs=fpirs, bootstrap=0).fnir_at_fpir.values())
            for rank in (1, 2, 5, None)
        ]
    )
    assert (np.diff(misses, axis=0) <= 0).all()
    assert (np.diff(misses, axis=1) <= 0).all()
    assert misses[0, 0] > misses[-1, -1]


def test_a_larger_gallery_takes_more_strangers_for_somebody() -> None:
    case = _people(people=60)
    few = case.gallery_ids < 10
    asked = case.probe_ids < 10
    part = Case(
        case.probes[asked],
        case.gallery[few],
        case.nonmated,
        case.probe_ids[asked],
        case.gallery_ids[few],
    )
    small, large = open_set(*part, bootstrap=0), open_set(*case, bootstrap=0)
    assert (small.nonmated <= large.nonmated).all()
    assert (small.enrolled, large.enrolled) == (10, 60)


# Blocks


@pytest.mark.parametrize("block", [1, 7, 64, 10_000])
def test_blocks_of_any_size_and_kind_agree_to_the_last_bit(block: int) -> None:
    case = _people(people=11, strangers=90)
    copies = case._replace(
        nonmated=np.concatenate([case.nonmated, case.gallery[:5]]).astype(np.float32)
    )
    whole = open_set(*copies, bootstrap=10)
    _assert_same(open_set(*copies, bootstrap=10, block=block), whole)
    pieces = np.split(copies.nonmated, [1, 1, 40])
    _assert_same(
        open_set(*copies._replace(nonmated=(piece for piece in pieces)), bootstrap=10, block=block),
        whole,
    )  # type: ignore[arg-type]


def test_memory_is_bounded_by_the_block(tmp_path: Path) -> None:
    case = _people(people=20, strangers=1, dim=32)
    mapped = np.memmap(tmp_path / "strangers", np.float32, "w+", shape=(60_000, 32))
    mapped[:] = np.random.default_rng(0).normal(size=mapped.shape)
    tracemalloc.start()
    try:
        result = open_set(*case._replace(nonmated=mapped), bootstrap=3, block=512)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(result.nonmated) == 60_000
    assert peak < 8e6  # the strangers have 15e6 bytes in float64


# Intervals


def test_intervals_hold_the_rates_and_are_repeated_with_their_seed_only() -> None:
    case = _people()
    one, again, other = (open_set(*case, bootstrap=200, seed=seed) for seed in (1, 1, 2))
    _assert_same(one, again)
    assert one.intervals != other.intervals
    for fpir, (low, high) in one.intervals.items():
        assert low <= one.fnir_at_fpir[fpir] <= high
    assert one.band is not None
    assert one.band.shape == (2, len(BAND_FPIRS))
    assert (
        np.diff(one.band, axis=1) <= 1e-12
    ).all()  # misses fall as more false alarms are allowed
    assert one.band[:, -41].tolist() == pytest.approx(one.intervals[0.01])  # the grid has it too
    assert "200 resamples" in one.protocol["interval"]


def test_the_bootstrap_redraws_people_and_strangers_alike() -> None:
    axes = np.eye(40)
    wrong = (
        np.arange(20) % 2 == 0
    )  # half of the people look like a stranger on all of their 30 probes
    probes = np.repeat(np.where(wrong[:, None], axes[20:], axes[:20]), 30, axis=0)
    ids = np.repeat(np.arange(20), 30)
    strangers = np.tile(axes[30], (50, 1))
    result = open_set(
        probes, axes[:20], strangers, ids, np.arange(20), fpirs=(0.5,), bootstrap=4000
    )
    assert result.fnir_at_fpir[0.5] == 0.5
    assert result.intervals[0.5] == pytest.approx(
        (0.3, 0.7), abs=0.051
    )  # binomial of 20; of 600 it would be 0.46 to 0.54
    # One stranger in 20 resembles person 0 and determines the threshold at FPIR 1 %, except in the
    # 36 % of the resamples that do not contain it.
    one = np.concatenate([0.5 * axes[[0]] + axes[[30]], np.tile(axes[30], (19, 1))])
    unlike = (
        axes[:20] + np.sqrt(5.0) * axes[[35]]
    )  # a score of 1 / sqrt(6) = 0.408, below the stranger's 0.447
    far = open_set(
        unlike,
        axes[:20],
        one,
        np.arange(20),
        np.arange(20),
        rank=None,
        fpirs=(0.01,),
        bootstrap=400,
    )
    assert far.fnir_at_fpir[0.01] == 1
    assert far.intervals[0.01] == (0.0, 1.0)
    same = open_set(
        unlike,
        axes[:20],
        one,
        np.arange(20),
        np.arange(20),
        np.full(20, 99),
        rank=None,
        fpirs=(0.01,),
        bootstrap=400,
    )
    assert same.intervals == {}  # one stranger alone cannot be redrawn


def test_strangers_without_a_number_are_all_different() -> None:
    case = _people()
    numbers = np.where(np.arange(200) % 2, -1, 1000 + np.arange(200))
    _assert_same(
        open_set(*case, numbers, bootstrap=20),
        open_set(*case, 5000 + np.arange(200), bootstrap=20),
        "intervals",
        "band",
    )
    assert (
        open_set(*case, bootstrap=20).intervals
        == open_set(*case, np.full(200, -1), bootstrap=20).intervals
    )


def test_without_resamples_there_is_no_interval() -> None:
    for result in (open_set(*_people(), bootstrap=0), open_set(*_people(people=1), bootstrap=50)):
        assert result.intervals == {}
        assert result.band is None
        assert result.protocol["interval"] == "none"


def test_an_fpir_below_ten_expected_false_positives_is_not_supported() -> None:
    result = open_set(*_people(strangers=100), bootstrap=0)
    assert [fpir for fpir in result.fnir_at_fpir if result.supported(fpir)] == [0.1]


# Bad input

GOOD = _people(people=3, strangers=5)


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"nonmated": GOOD.nonmated[:0]}, "no non-mated probes"),
        ({"nonmated": GOOD.nonmated[:, :3]}, "non-mated probes have shape (5, 3)"),
        ({"nonmated": GOOD.nonmated * np.nan}, "number 0 of the non-mated probes is not finite"),
        ({"probes": GOOD.probes[0]}, "(Q, D)"),
        ({"probe_ids": GOOD.probe_ids + 10}, "not in the gallery"),
        (
            {"nonmated_ids": [0, 7, 8, 9, 10]},
            "identity 0 is on a non-mated probe and in the gallery",
        ),
        ({"nonmated_ids": [7, 8]}, "shape (2,)"),
        ({"nonmated_ids": [0.5] * 5}, "expected integers"),
        ({"fpirs": [0.0]}, "(0, 1]"),
        ({"rank": 0}, "rank"),
        ({"block": 0}, "block"),
        ({"bootstrap": -1}, "bootstrap"),
    ],
)
def test_bad_input_is_one_readable_line(
    changes: dict[str, Any], hint: str, complaint: Callable[..., Any]
) -> None:
    with complaint(hint):
        open_set(**(GOOD._asdict() | changes))
