"""Pairs drawn from any data set are balanced, never repeated, and have no person in two folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from workbench import data
from workbench.errors import WorkbenchError


def people(counts: Sequence[int], seed: int = 0) -> data.Dataset:
    """Returns a data set in which person i has counts[i] images, in random order."""
    identities = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    images = np.zeros((len(identities), 1, 1, 3), dtype=np.uint8)
    return data.Dataset("people", images, identities, [f"p{i}" for i in range(len(counts))])


def check(bench: data.Benchmark, per_fold: int) -> None:
    assert bench.identities is not None
    who = bench.identities[bench.pairs]
    assert np.array_equal(who[:, 0] == who[:, 1], bench.same)
    assert (bench.pairs[:, 0] != bench.pairs[:, 1]).all()
    assert len({frozenset(pair) for pair in bench.pairs.tolist()}) == len(bench.pairs)
    folds = range(int(bench.folds.max()) + 1)
    for fold in folds:
        inside = bench.folds == fold
        assert 1 <= bench.same[inside].sum() == (~bench.same[inside]).sum() <= per_fold
    in_fold = [set(who[bench.folds == fold].ravel().tolist()) for fold in folds]
    assert sum(map(len, in_fold)) == len(set.union(*in_fold))


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 6), min_size=4, max_size=40).filter(
        lambda counts: sum(n > 1 for n in counts) >= 4
    ),
    folds=st.integers(2, 10),
    per_fold=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_any_set_gives_balanced_folds_of_strangers(
    counts: list[int], folds: int, per_fold: int, seed: int
) -> None:
    bench = data.draw_pairs(people(counts, seed), folds, per_fold, seed)
    check(bench, per_fold)
    assert int(bench.folds.max()) + 1 == min(folds, sum(n > 1 for n in counts) // 2)


def test_each_fold_gets_the_wanted_number_of_pairs() -> None:
    bench = data.draw_pairs(people([10] * 100))
    check(bench, 300)
    assert np.bincount(bench.folds).tolist() == [600] * 10


def test_pairs_are_spread_over_all_people() -> None:
    bench = data.draw_pairs(people([30] * 20), folds=2, per_fold=20)
    assert bench.identities is not None
    genuine = bench.identities[bench.pairs[bench.same][:, 0]]
    assert np.bincount(genuine).tolist() == [2] * 20


def test_the_draw_is_repeated_with_its_seed_only() -> None:
    first, again, other = (data.draw_pairs(people([5] * 30), seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.pairs, again.pairs)
    assert not np.array_equal(first.pairs, other.pairs)
    assert "seed 1" in first.note


@pytest.mark.parametrize("counts", [[5], [5, 5, 5], [1] * 50, [9, 9, 9, 1, 1]])
def test_too_few_people_is_an_error(counts: list[int], complaint: Callable[..., Any]) -> None:
    with complaint("people", "at least 4"):
        data.draw_pairs(people(counts))


@pytest.mark.timeout(30)
def test_a_set_of_the_size_of_casia_webface_takes_seconds() -> None:
    bench = data.draw_pairs(people([47] * 10_575))
    assert np.bincount(bench.folds).tolist() == [600] * 10


@settings(max_examples=60, deadline=None)
@given(folds=st.integers(2, 12), more=st.integers(0, 300))
def test_consecutive_folds_are_those_of_scikit_learn(folds: int, more: int) -> None:
    ours = data.consecutive_folds(folds + more, folds)
    for fold, (_, test) in enumerate(KFold(folds, shuffle=False).split(np.zeros(folds + more))):
        assert np.flatnonzero(ours == fold).tolist() == test.tolist()


@pytest.mark.parametrize(("count", "folds"), [(1, 1), (3, 4), (10, 1), (0, 2), (10, 0)])
def test_folds_that_cannot_be_cut_are_an_error(
    count: int, folds: int, complaint: Callable[..., Any]
) -> None:
    with complaint(f"{count} pairs", f"{folds} folds"):
        data.consecutive_folds(count, folds)


def test_a_benchmark_whose_parts_do_not_fit_is_refused() -> None:
    images = np.zeros((3, 1, 1, 3), dtype=np.uint8)
    pairs, same, folds = np.array([[0, 1], [1, 2]]), np.array([True, False]), np.array([0, 1])
    data.Benchmark("good", images, pairs, same, folds)
    for odd in (
        (pairs, same[:1], folds),
        (pairs, same, folds[:1]),
        (pairs[:1], same, folds),
        (pairs.ravel(), same, folds),
    ):
        with pytest.raises(WorkbenchError, match="odd"):
            data.Benchmark("odd", images, *odd)
    for outside in (3, -1):
        with pytest.raises(WorkbenchError, match="odd"):
            data.Benchmark("odd", images, np.array([[0, 1], [1, outside]]), same, folds)
    column = {"yaw": np.zeros(3)}
    made = data.Benchmark("fine", images, pairs, same, folds, attributes=column)
    assert made.fingerprint() == data.Benchmark("fine", images, pairs, same, folds).fingerprint()
    for wrong in (np.zeros(2), np.zeros((3, 1)), np.float64(0)):
        with pytest.raises(WorkbenchError, match="odd: attribute 'yaw'"):
            data.Benchmark("odd", images, pairs, same, folds, attributes={"yaw": wrong})


# Identification


def _identification(**changes: Any) -> data.Identification:
    """Returns an identification with Ann (0) and Bob (1) in the gallery and on probes.

    Two other people are distractors, one of them without an identity.
    """
    good: dict[str, Any] = {
        "images": np.zeros((7, 1, 1, 3), dtype=np.uint8),
        "identities": np.array([0, 0, 1, 1, 5, -1, 1]),
        "gallery": np.array([0, 2]),
        "probes": np.array([1, 3, 6]),
        "distractors": np.array([4, 5]),
    }
    return data.Identification("among", **(good | changes))


def test_an_identification_whose_parts_fit_is_taken() -> None:
    made = _identification(attributes={"yaw": np.zeros(7)}, identity_names=("ann", "bob"))
    assert made.attributes["yaw"].shape == (7,)
    assert dict(_identification().attributes) == {}


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"identities": np.arange(6)}, "identities of shape (6,)"),
        ({"gallery": np.array([0, 7])}, "gallery name image 7, there are 7"),
        ({"probes": np.array([1, -1])}, "probes name image -1"),
        ({"distractors": np.array([], dtype=np.int64)}, "distractors are int64 of shape (0,)"),
        ({"distractors": np.array([[4, 5]])}, "shape (1, 2)"),
        ({"probes": np.array([1.0])}, "probes are float64"),
        ({"distractors": np.array([4, 4])}, "distractors name an image twice"),
        ({"gallery": np.array([0, 2, 3])}, "image 3 is both in the gallery and a probe"),
        ({"gallery": np.array([0])}, "identity 1 is on a probe, but not in the gallery"),
        (
            {"distractors": np.array([4, 6]), "probes": np.array([1, 3])},
            "identity 1 is in the gallery and on a distractor",
        ),
        ({"gallery": np.array([0, 2, 5]), "distractors": np.array([4])}, "has no identity"),
        ({"attributes": {"yaw": np.zeros(6)}}, "attribute 'yaw' has shape (6,), expected (7,)"),
    ],
)
def test_an_identification_whose_parts_do_not_fit_is_refused(
    changes: dict[str, Any], hint: str, complaint: Callable[..., Any]
) -> None:
    with complaint("among", hint):
        _identification(**changes)


def test_the_fingerprint_of_an_identification_covers_identities_and_parts() -> None:
    fingerprint = _identification().fingerprint()
    assert fingerprint == _identification(attributes={"yaw": np.zeros(7)}, note="x").fingerprint()
    variants = (
        {"identities": np.array([0, 0, 1, 1, 6, -1, 1])},
        {"probes": np.array([1, 3])},
        {"gallery": np.array([0, 2, 3]), "probes": np.array([1, 6])},
        {"distractors": np.array([5, 4])},
    )
    fingerprints = {_identification(**changes).fingerprint() for changes in variants}
    assert len(fingerprints | {fingerprint}) == 5
    assert len(fingerprint) == 16
