"""The figures equal those of arcface_torch's own procedure bit by bit, threshold by threshold."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.preprocessing import normalize

from workbench.evaluation import arcface_torch, verification
from workbench.evaluation.angles import normalised
from workbench.evaluation.protocol import PRESETS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
Set = tuple[NDArray[np.floating], NDArray[np.bool_]]


def _script() -> Any:
    """benchmarks/verification.py as a module."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = spec_from_file_location("verification_benchmark", BENCHMARKS / "verification.py")
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


SCRIPT = _script()
reference: Callable[..., Any] = SCRIPT.reference


def _assert_equal(embeddings: NDArray[np.floating], same: Any, folds: int = 10) -> None:
    mine, theirs = (
        arcface_torch.evaluate(embeddings, same, folds),
        reference(embeddings, np.asarray(same), folds),
    )
    for name, one, other in zip(mine._fields, mine, theirs, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)


@st.composite
def some_sets(draw: st.DrawFn) -> tuple[NDArray[np.floating], NDArray[np.bool_], int]:
    """Few pairs; distances are tied, 0, beyond the grid, all equal, and of several precisions."""
    folds = draw(st.integers(1, 4))
    pairs, length = draw(st.integers(2 * folds, 6 * folds)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    same = np.concatenate(
        [
            rng.permutation(np.arange(len(part)) % 2 == 0)
            for part in np.array_split(np.arange(pairs), folds)
        ]
    )
    kind = draw(st.sampled_from(["sphere", "grid", "equal", "long", "separated"]))
    values = rng.normal(size=(2 * pairs, length))
    if kind == "sphere":
        values = normalize(values)
    elif kind == "grid":
        values = rng.integers(0, 4, size=values.shape) / draw(st.sampled_from([1.0, 10.0, 100.0]))
    elif kind == "equal":
        values = np.repeat(rng.normal(size=(1, length)), 2 * pairs, axis=0)
    elif kind == "long":
        values *= 10.0
    else:
        values[1::2] = values[0::2] + np.where(same[:, None], 0.01, 0.5)
    return values.astype(draw(st.sampled_from([np.float64, np.float32, np.float16]))), same, folds


@settings(max_examples=12, deadline=None)
@given(some_sets())
def test_every_figure_is_the_procedures_to_the_last_bit(
    given_set: tuple[NDArray[np.floating], NDArray[np.bool_], int],
) -> None:
    _assert_equal(*given_set)


def test_as_many_pairs_as_benchmarks_have() -> None:
    embeddings, same = SCRIPT.some_embeddings(1200, 24)
    _assert_equal(embeddings, same)
    found = arcface_torch.evaluate(embeddings, same)
    assert 0 < found.val < 1
    assert 0 < found.far < 0.01


def test_a_far_that_no_threshold_reaches_gives_threshold_0() -> None:
    far_apart = np.where(np.arange(80)[:, None] % 2, 1.0, 10.0) * np.ones((80, 3))
    same = np.arange(40) % 2 == 0
    far_apart[1::2][same] = far_apart[0::2][
        same
    ]  # genuine pairs at distance 0, impostor pairs beyond the grid
    _assert_equal(far_apart, same)
    found = arcface_torch.evaluate(far_apart, same)
    assert (found.accuracy.mean(), found.val, found.far) == (1.0, 0.0, 0.0)


def test_a_target_that_is_the_highest_far_gives_threshold_0_where_several_thresholds_reach_it() -> (
    None
):
    """The result of SciPy 1.8.1; 999 of 1,000 impostors of the other fold are beyond the grid."""
    same = np.tile(np.append(np.zeros(1000, dtype=bool), np.ones(5, dtype=bool)), 2)
    distance = np.where(same, 0.5, 9.0)
    distance[[0, 1005]] = 1.0
    embeddings = np.zeros((2 * len(same), 1))
    embeddings[1::2, 0] = np.sqrt(distance)
    _assert_equal(embeddings, same, 2)
    assert arcface_torch.evaluate(embeddings, same, 2).val == 0.0


@pytest.mark.parametrize("at", [0, 0.25, 0.5, 1.0])
def test_a_distance_on_a_threshold_is_not_below_it(at: float) -> None:
    embeddings = np.zeros((40, 1))
    embeddings[1::2, 0] = np.sqrt(at)
    found = arcface_torch.evaluate(embeddings, np.arange(20) % 2 == 0)
    assert found.tpr[round(at * 100)] == 0.0
    assert found.tpr[round(at * 100) + 1] == 1.0


def test_the_preset_of_that_name_finds_the_same_accuracy_by_fold() -> None:
    embeddings, same = SCRIPT.some_embeddings(600, 16, seed=3)
    raw = (embeddings * np.random.default_rng(0).uniform(0.5, 30, (1200, 1))).astype(np.float32)
    expected = arcface_torch.evaluate(normalize(raw.astype(np.float64)), same)
    protocol = PRESETS["arcface_torch"]
    pairs = np.arange(1200).reshape(600, 2)
    folds = np.repeat(np.arange(10), 60)
    result = verification(
        protocol.scores(raw, pairs, folds),
        same,
        folds,
        candidates=protocol.candidates,
        intervals=False,
    )
    np.testing.assert_array_equal(result.fold_accuracy, expected.accuracy)
    for threshold in arcface_torch.ACCURACY_THRESHOLDS[[0, 30, 120, 399]]:
        far, tar = result.rates_at(np.nextafter(-threshold, np.inf))
        assert (tar, far) == (
            pytest.approx(expected.tpr[round(threshold * 100)]),
            pytest.approx(expected.fpr[round(threshold * 100)]),
        )
    np.testing.assert_array_equal(normalised(raw), normalize(raw.astype(np.float64)))


def test_lists_and_ones_and_zeros_are_labels_too() -> None:
    embeddings, same = SCRIPT.some_embeddings(100, 4)
    labels = same.astype(int).tolist()
    for one, other in zip(
        arcface_torch.evaluate(embeddings, labels),
        arcface_torch.evaluate(embeddings, same),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


GOOD = (np.arange(40.0).reshape(20, 2), [True, False] * 5)


@pytest.mark.parametrize(
    ("embeddings", "same", "folds", "said"),
    [
        (GOOD[0][:19], GOOD[1], 2, "(19, 2)"),
        (GOOD[0][:, 0], GOOD[1], 2, "(20,)"),
        (np.zeros((0, 2)), [], 2, "(0, 2)"),
        (np.where(GOOD[0] == 7, np.nan, GOOD[0]), GOOD[1], 2, "embedding number 3 is not finite"),
        (np.where(GOOD[0] == 7, np.inf, GOOD[0]), GOOD[1], 2, "embedding number 3 is not finite"),
        (GOOD[0], [True] * 5 + [False] * 5, 2, "fold 1 of 2 has no impostor pairs"),
        (GOOD[0], [True] * 10, 1, "fold 1 of 1 has no impostor pairs"),
        (GOOD[0], [False, True] * 4 + [False, False], 5, "fold 5 of 5 has no genuine pairs"),
        (GOOD[0], GOOD[1], 0, "at least 2"),
        (GOOD[0], GOOD[1], 11, "10 pairs cannot be cut into 11"),
        (GOOD[0], [2] * 10, 2, "True or False"),
    ],
)
def test_bad_input_is_one_readable_line(
    embeddings: Any, same: Any, folds: int, said: str, complaint: Any
) -> None:
    with complaint(said):
        arcface_torch.evaluate(embeddings, same, folds)
