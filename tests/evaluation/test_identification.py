"""Identification equals scikit-learn, and a slow version that ranks every candidate."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import fields
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import top_k_accuracy_score

from workbench.arrays import Floats, Integers
from workbench.evaluation import IdentificationResult, identification

quick = settings(max_examples=40, deadline=None)


class Case(NamedTuple):
    """Arguments of `identification`."""

    probes: Floats
    gallery: Floats
    distractors: Floats
    probe_ids: Integers
    gallery_ids: Integers


def _people(
    people: int = 30,
    each: int = 4,
    distractors: int = 200,
    noise: float = 0.8,
    dim: int = 17,
    seed: int = 0,
) -> Case:
    """Embeddings around one direction per person; all scores differ."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(people, dim))
    gallery_ids = rng.permutation(np.concatenate([np.arange(people), np.arange(0, people, 3)]))
    probe_ids = rng.permutation(np.repeat(np.arange(people), each))
    gallery, probes = (
        directions[numbers] + noise * rng.normal(size=(len(numbers), dim))
        for numbers in (gallery_ids, probe_ids)
    )
    return Case(
        probes, gallery, rng.normal(size=(distractors, dim)), 7 * probe_ids + 3, 7 * gallery_ids + 3
    )


@st.composite
def tied(draw: st.DrawFn, most_distractors: int = 6) -> Case:
    """Few people with coordinates 1 and -1, so that many of the cosines are equal."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    enrolled, more, probes = (
        draw(st.integers(1, 5)),
        draw(st.integers(0, 4)),
        draw(st.integers(1, 8)),
    )
    gallery_ids = np.concatenate([np.arange(enrolled), rng.integers(0, enrolled, more)])

    def signs(count: int) -> Floats:
        return rng.choice([-1.0, 1.0], (count, 4))

    distractors = signs(draw(st.integers(1, most_distractors)))
    return Case(
        signs(probes),
        signs(len(gallery_ids)),
        distractors,
        rng.integers(0, enrolled, probes),
        gallery_ids,
    )


def _cosines(one: Floats, other: Floats) -> Floats:
    return (one / np.linalg.norm(one, axis=1, keepdims=True)) @ (
        other / np.linalg.norm(other, axis=1, keepdims=True)
    ).T


def _by_person(case: Case) -> Floats:
    """(Q, P) best score of each probe with each person of the gallery."""
    scores = _cosines(case.probes, case.gallery)
    return np.column_stack(
        [scores[:, case.gallery_ids == name].max(axis=1) for name in np.unique(case.gallery_ids)]
    )


def _slow_ranks(case: Case, distractors: Floats) -> list[int]:
    names = np.unique(case.gallery_ids).tolist()
    ranks = []
    for probe, person, enrolled in zip(case.probes, case.probe_ids, _by_person(case), strict=True):
        own = names.index(person)
        rivals = [score for place, score in enumerate(enrolled) if place != own]
        rivals += _cosines(probe[None], distractors)[0].tolist() if len(distractors) else []
        ranks.append(1 + sum(score >= enrolled[own] for score in rivals))
    return ranks


def _slow_tar(case: Case, far: float) -> float:
    scores = _cosines(case.probes, case.gallery)
    genuine = scores[case.probe_ids[:, None] == case.gallery_ids]
    impostor = _cosines(case.probes, case.distractors).ravel()
    thresholds = [np.inf, *genuine, *impostor]
    return max(
        float((genuine >= t).mean())
        for t in thresholds
        if (impostor >= t).sum() <= far * len(impostor) + 1e-6
    )


def _assert_same(one: IdentificationResult, other: IdentificationResult, *besides: str) -> None:
    for field in fields(one):
        if field.name not in besides:
            np.testing.assert_equal(
                getattr(one, field.name), getattr(other, field.name), err_msg=field.name
            )


# Against others


def test_cmc_is_scikit_learns_top_k_accuracy() -> None:
    case = _people()
    result = identification(*case, bootstrap=0)
    scores = np.hstack([_by_person(case), _cosines(case.probes, case.distractors)])
    true = np.searchsorted(np.unique(case.gallery_ids), case.probe_ids)
    for k in (1, 2, 3, 10, 50, 100):
        expected = top_k_accuracy_score(true, scores, k=k, labels=np.arange(scores.shape[1]))
        assert result.cmc[k - 1] == pytest.approx(expected)
    assert 0.2 < result.accuracy < 0.9


@quick
@given(tied())
def test_ranks_are_those_of_a_slow_count_and_ties_are_misses(case: Case) -> None:
    result = identification(*case, bootstrap=0)
    expected = np.array(_slow_ranks(case, case.distractors))
    np.testing.assert_array_equal(result.ranks, expected)
    np.testing.assert_allclose(
        result.cmc, [(expected <= k).mean() for k in range(1, len(result.cmc) + 1)]
    )


@quick
@given(tied())
def test_rank_one_among_fewer_distractors_is_the_mean_over_all_subsets(case: Case) -> None:
    result = identification(*case, bootstrap=0)
    for count, rate in zip(result.distractor_counts, result.distractor_rates, strict=True):
        subsets = combinations(range(len(case.distractors)), int(count))
        found = [
            np.mean(np.array(_slow_ranks(case, case.distractors[list(chosen)])) == 1)
            for chosen in subsets
        ]
        assert rate == pytest.approx(np.mean(found))


@quick
@given(tied(), st.sampled_from([1e-3, 0.1, 0.2, 1 / 3, 0.5, 1.0]), st.sampled_from([1, 2, 2048]))
def test_tar_at_far_is_the_highest_tar_that_the_far_allows(
    case: Case, far: float, block: int
) -> None:
    result = identification(*case, fars=[far], bootstrap=0, block=block)
    assert result.tar_at_far == {far: pytest.approx(_slow_tar(case, far))}


def test_tar_at_many_fars_of_many_scores() -> None:
    case = _people(noise=1.3)
    fars = (0.5, 0.1, 1e-2, 1e-3, 1e-4)
    result = identification(*case, fars=fars, bootstrap=0, block=16)
    assert result.tar_at_far == {far: pytest.approx(_slow_tar(case, far)) for far in fars}
    assert 0 < result.tar_at_far[1e-4] < result.tar_at_far[0.5] < 1


# What must hold


@quick
@given(tied())
def test_the_cmc_rises_from_rank_one_to_certainty(case: Case) -> None:
    result = identification(*case, bootstrap=0)
    assert result.cmc[0] == result.accuracy == result.distractor_rates[-1]
    assert (np.diff(result.cmc) >= 0).all()
    assert result.cmc[-1] == 1  # all candidates
    assert len(result.cmc) == result.enrolled + len(case.distractors)
    shorter = identification(*case, bootstrap=0, max_rank=2).cmc
    np.testing.assert_array_equal(shorter, result.cmc[:2])


@quick
@given(tied(most_distractors=12), st.integers(1, 11))
def test_more_distractors_never_raise_rank_one(case: Case, fewer: int) -> None:
    some = identification(*case._replace(distractors=case.distractors[:fewer]), bootstrap=0)
    every = identification(*case, bootstrap=0)
    assert (every.ranks >= some.ranks).all()
    assert every.accuracy <= some.accuracy
    assert (np.diff(every.distractor_rates) <= 0).all()


@quick
@given(st.integers(0, 10**6))
def test_the_order_of_images_does_not_matter(seed: int) -> None:
    case, rng = _people(people=6, distractors=30, seed=seed), np.random.default_rng(seed)
    asked, enrolled, strangers = (rng.permutation(len(part)) for part in case[:3])
    shuffled = Case(
        case.probes[asked],
        case.gallery[enrolled],
        case.distractors[strangers],
        case.probe_ids[asked],
        case.gallery_ids[enrolled],
    )
    one, other = identification(*case, bootstrap=10), identification(*shuffled, bootstrap=10)
    np.testing.assert_array_equal(other.ranks, one.ranks[asked])
    for name in (
        "distractor_rates",
        "cmc_band",
        "distractor_band",
    ):  # sums of fractions in another order
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-12)
    _assert_same(
        one,
        other,
        "ranks",
        "identities",
        "interval",
        "distractor_rates",
        "cmc_band",
        "distractor_band",
    )


@pytest.mark.parametrize("block", [1, 2, 7, 64, 10_000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_blocks_of_any_size_agree_to_the_last_bit(block: int, dtype: type) -> None:
    case = _people(people=11, distractors=90)
    case = Case(*(part.astype(dtype) for part in case[:3]), *case[3:])
    copies = case._replace(
        distractors=np.concatenate([case.distractors, case.gallery[:5]])
    )  # scores equal in every bit
    _assert_same(
        identification(*copies, bootstrap=10, block=block), identification(*copies, bootstrap=10)
    )


def test_a_distractor_that_looks_just_like_the_right_person_comes_first() -> None:
    case = _people(people=5, distractors=3, noise=0.01, dim=40)
    assert identification(*case, bootstrap=0).accuracy == 1
    copied = case._replace(distractors=3 * case.gallery)
    assert identification(*copied, bootstrap=0).accuracy == 0


def test_the_length_of_embeddings_does_not_matter() -> None:
    case = _people()
    longer = Case(
        *(part * 2.0 ** np.arange(len(part) % 7, len(part) % 7 + 1) for part in case[:3]), *case[3:]
    )
    _assert_same(identification(*case, bootstrap=10), identification(*longer, bootstrap=10))


def test_people_are_ranked_by_the_best_of_their_images_and_count_once() -> None:
    gallery = np.array([[1.0, 0.1], [-1.0, 0.0], [0.9, 0.3], [0.9, 0.31], [0.0, 1.0]])
    result = identification(
        np.array([[1.0, 0.0]]), gallery, np.array([[-1.0, 1.0]]), [4], [4, 4, 9, 9, 2], bootstrap=0
    )
    assert result.ranks.tolist() == [1]
    result = identification(
        np.array([[1.0, 0.0]]), gallery, np.array([[1.0, 0.0]]), [2], [4, 4, 9, 9, 2], bootstrap=0
    )
    assert result.ranks.tolist() == [4]  # after two people and a distractor
    assert (result.enrolled, result.genuine, result.impostors) == (3, 1, 1)


def test_no_matrix_of_probes_and_distractors_is_made() -> None:
    case = _people(people=50, each=6, distractors=100_000, dim=4)
    tracemalloc.start()
    try:
        identification(*case, bootstrap=0, block=256)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6  # the matrix has 240e6 bytes


def test_distractor_counts_are_round_and_end_with_all_of_them() -> None:
    case = _people(people=3)
    assert identification(*case, bootstrap=0).distractor_counts.tolist() == [
        1,
        2,
        5,
        10,
        20,
        50,
        100,
        200,
    ]
    one = identification(*case._replace(distractors=case.distractors[:1]), bootstrap=0)
    assert one.distractor_counts.tolist() == [1]
    assert one.distractors == 1


def test_a_far_below_ten_false_accepts_expected_of_different_people_is_not_supported() -> None:
    result = identification(*_people(), bootstrap=0)
    assert result.impostors == 30 * 4 * 200
    assert [far for far in result.tar_at_far if not result.supported(far)] == [
        1e-3,
        1e-4,
        1e-5,
        1e-6,
    ]  # 30 x 200 comparisons


# MegaFace's rule


def _pairs(case: Case) -> list[tuple[int, float, Floats]]:
    """For each probe and mate: the person, their cosine, and the cosines with the distractors."""
    images, ids = (
        np.concatenate([case.gallery, case.probes]),
        np.concatenate([case.gallery_ids, case.probe_ids]),
    )
    scores, strangers = _cosines(images, images), _cosines(images, case.distractors)
    return [
        (int(ids[probe]), float(scores[probe, mate]), strangers[probe])
        for probe in range(len(ids))
        for mate in np.flatnonzero(ids == ids[probe])
        if mate != probe
    ]


@quick
@given(tied(), st.sampled_from([1, 3, 2048]))
def test_by_megafaces_rule_each_other_image_of_the_person_is_the_only_mate(
    case: Case, block: int
) -> None:
    pairs = _pairs(case)
    fars = (0.05, 0.2, 1 / 3, 1.0)
    result = identification(*case, candidates="megaface", bootstrap=0, block=block, fars=fars)
    expected = sorted((who, 1 + int((strangers >= score).sum())) for who, score, strangers in pairs)
    assert sorted(zip(result.identities.tolist(), result.ranks.tolist(), strict=True)) == expected
    ranks = np.array([rank for _, rank in expected])
    assert result.accuracy == (ranks == 1).mean()
    np.testing.assert_allclose(
        result.cmc, [(ranks <= k).mean() for k in range(1, len(case.distractors) + 2)]
    )
    for count, rate in zip(result.distractor_counts, result.distractor_rates, strict=True):
        subsets = [
            list(chosen) for chosen in combinations(range(len(case.distractors)), int(count))
        ]
        first = [
            np.mean([(strangers[chosen] < score).all() for chosen in subsets])
            for _, score, strangers in pairs
        ]
        assert rate == pytest.approx(np.mean(first))
    probes = {
        who: np.sum(np.concatenate([case.gallery_ids, case.probe_ids]) == who)
        for who, _, _ in pairs
    }
    assert (result.probes, result.enrolled, result.genuine) == (
        sum(probes.values()),
        len(probes),
        len(pairs),
    )
    images = np.concatenate([case.gallery, case.probes])[
        np.isin(np.concatenate([case.gallery_ids, case.probe_ids]), list(probes))
    ]
    impostor, genuine = (
        _cosines(images, case.distractors).ravel(),
        np.array([score for _, score, _ in pairs]),
    )
    for far in fars:
        best = [
            (genuine >= t).mean()
            for t in (np.inf, *genuine)
            if (impostor >= t).sum() <= far * len(impostor) + 1e-6
        ]
        assert result.tar_at_far[far] == pytest.approx(max(best))


def test_by_megafaces_rule_it_does_not_matter_which_images_are_enrolled() -> None:
    case = _people(people=8, distractors=60)
    turned = Case(case.gallery, case.probes, case.distractors, case.gallery_ids, case.probe_ids)
    one, other = (
        identification(*each, candidates="megaface", bootstrap=10) for each in (case, turned)
    )
    assert sorted(one.ranks) == sorted(other.ranks)
    _assert_same(one, other, "ranks", "interval", "cmc_band", "distractor_band", "distractor_rates")
    np.testing.assert_allclose(one.distractor_rates, other.distractor_rates)
    assert "MegaFace" in one.protocol["candidates"]


def test_by_megafaces_rule_other_people_are_no_candidates_and_those_with_one_image_no_probes() -> (
    None
):
    axes = np.eye(4)
    gallery, probes = (
        axes[[0, 1, 2]],
        axes[[1]],
    )  # person 0 looks in its other picture just like person 1
    among = identification(probes, gallery, axes[[3]], [0], [0, 1, 2], bootstrap=0)
    assert among.ranks.tolist() == [4]  # 0 for the right person, as much for all but person 1
    result = identification(
        probes, gallery, -axes[[0, 1]], [0], [0, 1, 2], candidates="megaface", bootstrap=0
    )
    assert result.ranks.tolist() == [2, 2]  # each of two distractors ties with the mate once, at 0
    assert (result.probes, result.enrolled, result.impostors) == (2, 1, 4)


def test_an_unknown_rule_is_an_error(complaint: Callable[..., Any]) -> None:
    with complaint("megafaces", "did you mean 'megaface'"):
        identification(*GOOD, candidates="megafaces")  # type: ignore[arg-type]


# Streamed distractors


@pytest.mark.parametrize("candidates", ["gallery", "megaface"])
@pytest.mark.parametrize("sizes", [(200,), (1, 2, 0, 97, 100), (7,) * 29])
def test_distractors_may_come_in_blocks_of_any_kind(
    candidates: Any, sizes: tuple[int, ...], tmp_path: Path
) -> None:
    case = _people(people=9)
    case = case._replace(distractors=case.distractors.astype(np.float32))
    whole = identification(*case, candidates=candidates, bootstrap=10)
    case.distractors.tofile(tmp_path / "strangers")
    mapped = np.memmap(tmp_path / "strangers", np.float32, "r", shape=case.distractors.shape)
    cut = np.split(case.distractors, np.cumsum(sizes)[:-1])
    for given_ in (cut, (block for block in cut), mapped):
        _assert_same(
            whole,
            identification(
                *case._replace(distractors=given_), candidates=candidates, bootstrap=10, block=64
            ),
        )


def test_memory_is_bounded_by_the_block(tmp_path: Path) -> None:
    case = _people(people=20, distractors=1, dim=32)
    rng = np.random.default_rng(0)
    count, rows = 120_000, rng.normal(size=(2000, 32)).astype(np.float32)
    mapped = np.memmap(tmp_path / "strangers", np.float32, "w+", shape=(count, 32))
    for begin in range(0, count, len(rows)):
        mapped[begin : begin + len(rows)] = rows
    for given_ in (mapped, (rows for _ in range(count // len(rows)))):  # 31 MB in float64
        for candidates in ("gallery", "megaface"):
            if not isinstance(given_, np.ndarray) and candidates == "megaface":
                continue  # a generator is used up
            tracemalloc.start()
            try:
                result = identification(
                    *case._replace(distractors=given_),
                    candidates=candidates,
                    bootstrap=0,
                    block=512,
                )  # type: ignore[arg-type]
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert result.distractors == count
            assert peak < 8e6
    assert result.supported(1e-5)


def test_a_bad_block_is_named(complaint: Callable[..., Any]) -> None:
    blocks = np.split(_nan(_people(people=3, distractors=40).distractors), [1, 2, 30])
    with complaint("number 2 of the distractors is not finite"):
        identification(*GOOD._replace(distractors=blocks))  # type: ignore[arg-type]
    with complaint("distractors have shape (17,)", "(E, D)"):
        identification(*GOOD._replace(distractors=list(GOOD.distractors)))  # type: ignore[arg-type]
    with complaint("no distractors", "at least one row"):
        identification(*GOOD._replace(distractors=iter([])))  # type: ignore[arg-type]


# Intervals


def test_the_interval_is_that_of_people_not_of_probes() -> None:
    axes = np.eye(20)
    wrong = (
        np.arange(20) % 2 == 0
    )  # half of the people look like a stranger on all of their 30 probes
    probes = np.where(wrong[:, None], np.roll(axes, 1, axis=1)[:, ::-1], axes)
    case = Case(
        np.repeat(probes, 30, axis=0),
        axes,
        np.roll(axes, 1, axis=1)[:, ::-1][wrong],
        np.repeat(np.arange(20), 30),
        np.arange(20),
    )
    result = identification(*case, bootstrap=4000)
    assert result.accuracy == 0.5
    assert result.interval == pytest.approx(
        (0.3, 0.7), abs=0.051
    )  # binomial of 20; of 600 it would be 0.46 to 0.54
    assert result.cmc_band is not None
    assert result.distractor_band is not None
    assert (result.cmc_band[0, 0], result.cmc_band[1, 0]) == result.interval
    assert (result.distractor_band[0, -1], result.distractor_band[1, -1]) == result.interval


def test_intervals_hold_the_rates_and_are_repeated_with_their_seed_only() -> None:
    case = _people()
    one, again, other = (identification(*case, bootstrap=200, seed=seed) for seed in (1, 1, 2))
    _assert_same(one, again)
    assert one.interval != other.interval
    assert one.cmc_band is not None
    assert one.distractor_band is not None
    assert (one.cmc_band[0] <= one.cmc).all()
    assert (one.cmc_band[1] >= one.cmc).all()
    assert (one.distractor_band[0] <= one.distractor_rates).all()
    assert (one.distractor_band[1] >= one.distractor_rates).all()
    assert "200 resamples" in one.protocol["interval"]


def test_people_with_many_probes_weigh_more_in_each_resample() -> None:
    case = _people(people=8, noise=0.0)
    some = np.flatnonzero(case.probe_ids % 14 == 3)[
        :10
    ]  # of half of the people there are fewer probes
    uneven = np.concatenate([some, np.flatnonzero(case.probe_ids % 14 != 3)])
    result = identification(
        *case._replace(probes=case.probes[uneven], probe_ids=case.probe_ids[uneven]), bootstrap=50
    )
    assert result.interval == (1.0, 1.0)


def test_without_resamples_or_of_one_person_there_is_no_interval() -> None:
    for result in (
        identification(*_people(), bootstrap=0),
        identification(*_people(people=1), bootstrap=50),
    ):
        assert result.interval is result.cmc_band is result.distractor_band is None
        assert result.protocol["interval"] == "none"


# Bad input


def _nan(array: Floats) -> Floats:
    changed = array.copy()
    changed[2, 1] = np.nan
    return changed


GOOD = _people(people=3, distractors=5)


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"probes": GOOD.probes[:, :5]}, "(12, 5)"),
        ({"probes": GOOD.probes[0]}, "(Q, D)"),
        ({"gallery": GOOD.gallery[:0]}, "at least one row"),
        ({"distractors": GOOD.distractors[:0]}, "at least one row"),
        ({"distractors": GOOD.distractors[None]}, "(E, D)"),
        ({"probes": _nan(GOOD.probes)}, "number 2 of the probes is not finite"),
        ({"distractors": _nan(GOOD.distractors) * np.inf}, "of the distractors is not finite"),
        ({"probe_ids": GOOD.probe_ids[:-1]}, "probe_ids"),
        ({"probe_ids": GOOD.probe_ids.astype(float)}, "expected integers"),
        ({"gallery_ids": GOOD.gallery_ids[:, None]}, "gallery_ids"),
        ({"probe_ids": GOOD.probe_ids + 1000}, "not in the gallery"),
        ({"fars": [0.1, 0.0]}, "(0, 1]"),
        ({"fars": [1.5]}, "(0, 1]"),
        ({"bootstrap": -1}, "bootstrap"),
        ({"max_rank": 0}, "max_rank"),
        ({"block": 0}, "block"),
    ],
)
def test_bad_input_is_one_readable_line(
    changes: dict[str, Any], hint: str, complaint: Callable[..., Any]
) -> None:
    with complaint(hint):
        identification(**(GOOD._asdict() | changes))
