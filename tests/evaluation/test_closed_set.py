"""Closed-set accuracy against scikit-learn, its interval against SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix

from workbench.evaluation import closed_set
from workbench.evaluation.closed_set import wilson

NAMES = ["ann", "bob", "cid", "dot"]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=50))
def test_accuracy_and_confusion_are_scikit_learns(answers: list[tuple[int, int]]) -> None:
    labels, predicted = np.array(answers).T
    result = closed_set(labels, predicted, NAMES)
    assert result.accuracy == pytest.approx(accuracy_score(labels, predicted))
    np.testing.assert_array_equal(
        result.confusion, confusion_matrix(labels, predicted, labels=range(4))
    )
    assert result.interval[0] <= result.accuracy <= result.interval[1]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_scipys(counts: tuple[int, int]) -> None:
    low, high = wilson(*counts)
    assert 0 <= low <= counts[0] / counts[1] <= high <= 1
    expected = binomtest(*counts).proportion_ci(method="wilson")
    assert (low, high) == (
        pytest.approx(expected.low, abs=1e-9),
        pytest.approx(expected.high, abs=1e-9),
    )


def test_lists_will_do() -> None:
    result = closed_set([0, 1, 1], [0, 1, 0], ["x", "y"])
    assert result.accuracy == pytest.approx(2 / 3)
    assert result.class_names == ["x", "y"]


@pytest.mark.parametrize(
    ("labels", "predicted", "said"),
    [
        ([], [], "N > 0"),
        ([0, 1], [0], "(2,)"),
        ([[0, 1]], [[0, 1]], "(1, 2)"),
        (0, 0, "expected (N,)"),
        ([0, 4], [0, 1], "labels must be integers 0 to 3"),
        ([0, -1], [0, 1], "labels must be integers 0 to 3"),
        ([0, 1], [0, 4], "predictions must be integers 0 to 3"),
        ([0, 1], [0, -1], "predictions"),
        ([0.0, 1.0], [0, 1], "labels"),
        ([0, 1], [0, np.nan], "predictions"),
        ([True, False], [0, 1], "labels"),
        (["ann", "bob"], [0, 1], "labels"),
    ],
)
def test_bad_input_is_one_readable_line(
    labels: Any, predicted: Any, said: str, complaint: Any
) -> None:
    with complaint(said):
        closed_set(labels, predicted, NAMES)
