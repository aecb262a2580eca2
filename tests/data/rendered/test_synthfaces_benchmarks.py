"""Benchmarks of synthetic people: folds of strangers, equally many pairs, and a condition that
gives nothing away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from workbench import data
from workbench.data.rendered.benchmarks import Drawn, Joined, cross_pairs, sweep_pairs

ALBUMS = ("wild", "frontal", "pose", "age", "light", "occlusion")


def check(drawn: Drawn | data.Benchmark, people: NDArray[np.int64]) -> None:
    """Kinds agree with who is on the pictures, no pair is there twice, nobody is in two folds."""
    who = people[drawn.pairs]
    assert np.array_equal(who[:, 0] == who[:, 1], drawn.same)
    assert (drawn.pairs[:, 0] != drawn.pairs[:, 1]).all()
    assert len({frozenset(pair) for pair in drawn.pairs.tolist()}) == len(drawn.pairs)
    in_fold = [set(who[drawn.folds == fold].ravel().tolist()) for fold in np.unique(drawn.folds)]
    assert sum(map(len, in_fold)) == len(set.union(*in_fold))


@settings(max_examples=60, deadline=None)
@given(
    folds=st.integers(2, 6),
    a_fold=st.integers(2, 6),
    more=st.integers(0, 5),
    half=st.integers(1, 4),
    draw=st.data(),
)
def test_pairs_across_a_condition(
    folds: int, a_fold: int, more: int, half: int, draw: st.DataObject
) -> None:
    people, images = folds * a_fold + min(more, folds - 1), 2 * half
    per_fold = draw.draw(st.integers(1, half * half * a_fold))
    drawn = cross_pairs(people, images, folds, per_fold, seed=draw.draw(st.integers(0, 9)))
    of = np.repeat(np.arange(people), images)
    check(drawn, of)
    for fold in range(folds):
        inside = drawn.folds == fold
        assert drawn.same[inside].sum() == (~drawn.same[inside]).sum() == per_fold
        for kind in (True, False):
            couples = Counter(
                frozenset(of[pair].tolist()) for pair in drawn.pairs[inside & (drawn.same == kind)]
            )
            if (
                per_fold >= (a_fold if kind else a_fold * (a_fold - 1) // 2)
                and people == folds * a_fold
            ):
                assert max(couples.values()) - min(couples.values()) <= 1
    number = drawn.pairs % images
    assert (number[:, 0] < half).all()
    assert (number[:, 1] >= half).all()


def test_either_of_a_couple_comes_first_in_impostor_pairs() -> None:
    drawn = cross_pairs(100, 12)
    first_is_lower = (drawn.pairs[:, 0] < drawn.pairs[:, 1])[~drawn.same]
    assert 0.45 < first_is_lower.mean() < 0.55


def test_every_picture_is_used_in_both_kinds_of_pairs_about_equally() -> None:
    drawn = cross_pairs(100, 12)
    for kind in (True, False):
        times = np.bincount(drawn.pairs[drawn.same == kind].ravel(), minlength=1200)
        assert times.mean() == 5
        assert times.std() < 2.5


@pytest.mark.parametrize("call", [(19, 12), (100, 11), (30, 4), (10, 12), (0, 12)])
def test_too_few_people_or_images_are_an_error(
    call: tuple[int, int], complaint: Callable[..., Any]
) -> None:
    with complaint(f"{call[0]} people with {call[1]} images"):
        cross_pairs(*call)


@settings(max_examples=40, deadline=None)
@given(folds=st.integers(2, 6), a_fold=st.integers(2, 6), images=st.integers(2, 8))
def test_pairs_of_a_sweep(folds: int, a_fold: int, images: int) -> None:
    people = folds * a_fold
    drawn = sweep_pairs(people, images, folds)
    check(drawn, np.repeat(np.arange(people), images))
    assert (drawn.pairs[:, 0] % images == 0).all()
    assert drawn.same.sum() == people * (images - 1)
    assert (~drawn.same).sum() == people * (images - 1) * (a_fold - 1)
    # Each picture stands against its own reference once, and once against that of each other person
    # of the fold.
    second, times = np.unique(drawn.pairs[:, 1], return_counts=True)
    assert np.array_equal(second, [number for number in range(people * images) if number % images])
    assert (times == a_fold).all()


@pytest.mark.parametrize("album", ALBUMS)
@pytest.mark.usefixtures("squares", "common_cache")
def test_a_benchmark_has_ten_folds_of_300_pairs_of_each_kind(album: str) -> None:
    bench = data.benchmark(f"synthfaces-{album}")
    assert isinstance(bench, data.Benchmark)
    assert bench.name == f"synthfaces-{album}"
    assert len(bench.images) == 1200
    assert bench.identities is not None
    check(bench, bench.identities)
    assert np.bincount(bench.folds).tolist() == [600] * 10
    assert np.bincount(bench.folds[bench.same]).tolist() == [300] * 10
    assert len(np.unique(bench.identities[bench.pairs])) == 100
    assert bench.identity_names[3] == "person 1000003"
    assert "no training set" in bench.note
    assert "landmarks" not in bench.attributes
    again = data.benchmark(f"synthfaces-{album}")
    assert isinstance(again, data.Benchmark)
    assert np.array_equal(again.pairs, bench.pairs)


@pytest.mark.parametrize(
    ("album", "attribute", "first", "second"),
    [
        ("pose", "yaw", (-12, 12), (60, 90)),
        ("age", "age", (20, 35), (60, 85)),
        ("light", "illumination", (0, 20), (45, 90)),
        ("occlusion", "occlusion", (0, 0), (0.1, 0.6)),
    ],
)
@pytest.mark.usefixtures("squares", "common_cache")
def test_both_kinds_of_pairs_are_across_the_condition(
    album: str, attribute: str, first: tuple[float, float], second: tuple[float, float]
) -> None:
    bench = data.benchmark(f"synthfaces-{album}")
    assert isinstance(bench, data.Benchmark)
    values = bench.attributes[attribute][bench.pairs]
    for column, (low, high) in enumerate((first, second)):
        assert ((values[:, column] >= low) & (values[:, column] <= high)).all()


@pytest.mark.usefixtures("squares", "common_cache")
def test_invariance_differs_in_one_factor_from_the_reference() -> None:
    bench = data.benchmark("synthfaces-invariance")
    assert isinstance(bench, data.Benchmark)
    assert bench.identities is not None
    check(bench, bench.identities)
    assert len(bench.images) == 60 * 8
    assert bench.same.sum() == 60 * 7
    assert (~bench.same).sum() == 5 * 60 * 7
    assert np.bincount(bench.folds).tolist() == [6 * 7 * 6] * 10
    factors = bench.attributes["factor"][bench.pairs]
    assert set(factors[:, 0]) == {"none"}
    genuine, impostor = (
        Counter(factors[bench.same, 1].tolist()),
        Counter(factors[~bench.same, 1].tolist()),
    )
    assert genuine == {"none": 60, "yaw": 120, "age": 60, "illumination": 60, "occlusion": 120}
    assert impostor == {factor: 5 * count for factor, count in genuine.items()}


@pytest.mark.usefixtures("squares", "common_cache")
def test_identification_is_among_strangers() -> None:
    bench = data.benchmark("synthfaces-id")
    assert isinstance(bench, data.Identification)
    assert (len(bench.gallery), len(bench.probes), len(bench.distractors)) == (100, 500, 1000)
    assert len(bench.images) == 1600
    assert sorted([*bench.gallery, *bench.probes, *bench.distractors]) == list(range(1600))
    assert sorted(bench.identities[bench.gallery]) == list(range(100))
    assert Counter(bench.identities[bench.probes].tolist()) == dict.fromkeys(range(100), 5)
    assert sorted(bench.identities[bench.distractors]) == list(range(100, 1100))
    assert len(set(bench.identity_names)) == 1100
    assert bench.identity_names[99:101] == ("person 1000099", "person 1100000")
    assert {len(column) for column in bench.attributes.values()} == {1600}
    assert bench.images[0].shape == bench.images[1599].shape == (112, 112, 3)


@pytest.mark.parametrize("kind", ["synthfaces", "synthfaces-mini", "synthfaces-large"])
@pytest.mark.usefixtures("squares", "common_cache")
def test_a_training_set_is_measured_on_people_it_does_not_hold(
    kind: str, complaint: Callable[..., Any]
) -> None:
    bench = data.benchmark(kind)
    assert bench.name == "synthfaces-wild"
    with complaint("500x20", "training set", "synthfaces-pose"):
        data.benchmark(f"{kind}:500x20")


@pytest.mark.usefixtures("squares", "common_cache")
def test_a_seed_gives_other_people_under_the_same_protocol() -> None:
    usual, other = data.benchmark("synthfaces-pose"), data.benchmark("synthfaces-pose:seed=7")
    assert isinstance(usual, data.Benchmark)
    assert isinstance(other, data.Benchmark)
    assert other.name == "synthfaces-pose-seed7"
    assert np.array_equal(other.pairs, usual.pairs)
    assert not np.array_equal(other.images[0], usual.images[0])
    assert data.benchmark("synthfaces-pose:seed=0").name == "synthfaces-pose"
    assert data.benchmark("synthfaces-id:seed=7").name == "synthfaces-id-seed7"


@pytest.mark.parametrize("album", [*ALBUMS, "invariance", "id"])
@pytest.mark.parametrize("path", ["20x10", "seed=", "seed=-1", "seed=4294967296", "size=64"])
def test_the_only_option_of_a_benchmark_is_a_seed(
    album: str, path: str, complaint: Callable[..., Any]
) -> None:
    for call in (data.benchmark, data.render):
        with complaint(f"synthfaces-{album}:{path}", "only option", "seed=N"):
            call(f"synthfaces-{album}:{path}")


def test_a_benchmark_is_not_trained_on(complaint: Callable[..., Any]) -> None:
    with complaint("synthfaces-pose", "is a benchmark"):
        data.open("synthfaces-pose")


def test_readers_are_joined_one_behind_the_other() -> None:
    readers = [np.full((count, 1, 1, 3), count, dtype=np.uint8) for count in (2, 1, 3)]
    both = Joined(tuple(readers))
    assert [int(both[number][0, 0, 0]) for number in range(len(both))] == [2, 2, 1, 3, 3, 3]
    assert int(both[-4][0, 0, 0]) == 1
    for outside in (6, -7):
        with pytest.raises(IndexError):
            both[outside]
