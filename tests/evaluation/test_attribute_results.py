"""Results of attributes, against scikit-learn, SciPy and statsmodels-like formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_1samp
from sklearn.metrics import accuracy_score, confusion_matrix, mean_absolute_error

from workbench.evaluation import AttributesResult, class_estimates, number_estimates
from workbench.evaluation.attributes import mean_of_people, proportion_of_people

NAMES = ["female", "male", "other"]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60))
def test_classes_are_scikit_learns(answers: list[tuple[int, int]]) -> None:
    labels, predicted = np.array(answers).T
    result = class_estimates(labels, predicted, NAMES)
    assert result.accuracy == pytest.approx(accuracy_score(labels, predicted))
    np.testing.assert_array_equal(
        result.confusion, confusion_matrix(labels, predicted, labels=range(3))
    )
    assert result.baseline == pytest.approx(max(np.mean(labels == one) for one in range(3)))
    if len(labels) > 1:
        assert result.interval is not None
        low, high = result.interval
        assert 0 <= low <= result.accuracy <= high <= 1


@given(st.lists(st.tuples(st.floats(0, 116), st.floats(-20, 150)), min_size=1, max_size=60))
def test_numbers_are_scikit_learns(answers: list[tuple[float, float]]) -> None:
    true, estimated = np.array(answers).T
    result = number_estimates(true, estimated)
    assert result.mae == pytest.approx(mean_absolute_error(true, estimated))
    assert result.bias == pytest.approx(np.mean(estimated - true))
    assert result.baseline == pytest.approx(
        mean_absolute_error(true, np.full(len(true), np.median(true)))
    )
    for by in ("true", "estimated"):
        ranges = result.by_range(by=by)
        assert sum(one.images for one in ranges) == len(true)
        mean = sum(one.mae * one.images for one in ranges) / len(true)
        assert mean == pytest.approx(result.mae)
        assert all(one.low <= getattr(one, by) + 1e-9 <= one.high + 2e-9 for one in ranges)


def test_independent_images_have_the_interval_of_students_t() -> None:
    values = np.random.default_rng(0).gamma(2.0, 3.0, 40)
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_of_people(values, None) == pytest.approx((expected.low, expected.high))


def test_independent_images_have_about_the_exact_interval_of_a_proportion() -> None:
    right = np.repeat([1.0, 0.0], [150, 50])
    expected = binomtest(150, 200).proportion_ci()
    assert proportion_of_people(right, None) == pytest.approx(
        (expected.low, expected.high), abs=0.003
    )
    # No error at all: the bound follows from the number of people.
    low, high = proportion_of_people(np.ones(30), np.repeat(np.arange(10), 3))
    assert (low, high) == (pytest.approx(0.025 ** (1 / 10)), 1)


def test_images_of_a_person_count_as_one() -> None:
    rng = np.random.default_rng(1)
    each = rng.normal(10, 3, 25)
    repeated, people = np.repeat(each, 8), np.repeat(np.arange(25), 8)
    assert mean_of_people(repeated, people) == pytest.approx(mean_of_people(each, None))
    low, high = mean_of_people(repeated, None)
    wide_low, wide_high = mean_of_people(repeated, people)
    assert high - low < 0.5 * (wide_high - wide_low)


def test_the_interval_covers_the_truth_in_19_of_20_cases() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(300):
        people = np.repeat(np.arange(30), 5)
        errors = np.repeat(rng.normal(0, 4, 30), 5) + rng.normal(0, 3, 150)
        low, high = mean_of_people(errors + 5, people)
        covered += low <= 5 <= high
    assert 0.91 <= covered / 300 <= 0.98


def test_one_person_has_no_interval() -> None:
    one = number_estimates([20, 30], [21, 33], [7, 7])
    assert one.interval is None
    assert one.by_range()[0].bias_interval is None
    assert class_estimates([0], [0], NAMES).interval is None


def test_errors_of_a_prediction() -> None:
    result = class_estimates([0, 0, 1, 1, 1], [0, 1, 1, 1, 1], ["female", "male"])
    assert result.errors_of(0)[0] == 0
    wrong, interval = result.errors_of(1)
    assert wrong == 0.25
    assert interval is not None
    assert np.isnan(class_estimates([0], [0], NAMES).errors_of(2)[0])


def test_a_result_survives_being_stored() -> None:
    result = AttributesResult(
        {"gender": class_estimates([0, 1, 1], [0, 1, 0], ["female", "male"], [0, 1, 2])},
        {"age": number_estimates([20, 30, 41], [22, 30, 40])},
        {"gender": "gender", "age": "age"},
    )
    again = AttributesResult.from_stored(result.figures(), result.arrays())
    assert again.summary() == result.summary()
    assert again.columns() == result.columns()
    assert again.columns()["age_mae"] == 1
    assert result.summary().startswith("gender accuracy 66.67% [")
    assert "age MAE 1.00 years [" in result.summary()
    assert result.headline.column == "gender_accuracy"
    ages = AttributesResult({}, result.numbers, {"age": "age"})
    assert ages.headline[:2] == ("age_mae", "Age MAE")
    assert again.numbers["age"].people is None
    assert again.classes["gender"].people.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: class_estimates([], [], NAMES), "N > 0"),
        (lambda: class_estimates([0, 1], [0], NAMES), "(2,)"),
        (lambda: class_estimates([0, 3], [0, 1], NAMES), "labels must be integers 0 to 2"),
        (lambda: class_estimates([0, 1], [0, -1], NAMES), "predictions must be integers"),
        (lambda: class_estimates([0.5, 1], [0, 1], NAMES), "labels must be integers"),
        (lambda: class_estimates([0, 1], [0, 1], NAMES, [1]), "people have shape (1,)"),
        (lambda: number_estimates([1, np.nan], [1, 2]), "true values must be finite"),
        (lambda: number_estimates([1, 2], [1, np.inf]), "estimated values must be finite"),
        (lambda: number_estimates([[1]], [[1]]), "(1, 1)"),
        (lambda: number_estimates([1], [1]).by_range(0), "width is 0"),
    ],
)
def test_input_that_does_not_fit(call, text: str, complaint) -> None:
    with complaint(text):
        call()
