"""The setting `tasks` and the reading of labels."""

from __future__ import annotations

import numpy as np
import pytest

from workbench import tasks
from workbench.tasks.labels import as_classes, as_numbers, as_texts


def test_defaults() -> None:
    parsed = tasks.parse({"gender": {"kind": "classes"}, "fr": {"weight": 0.5}})
    assert parsed["gender"].attribute == "gender"
    assert parsed["gender"].data is None
    assert parsed["fr"].weight == 0.5
    assert tasks.parse(parsed) == parsed
    dumped = {name: one.model_dump(mode="json") for name, one in parsed.items()}
    assert tasks.parse(dumped) == parsed
    assert tasks.names() == ["classes", "ordinal", "regression"]


@pytest.mark.parametrize(
    ("settings", "texts"),
    [
        ([], ["expected a mapping"]),
        ({"gender": None}, ["task 'gender' is None", "kind: classes"]),
        ({"gender": {}}, ["kind is missing", "classes, ordinal, regression"]),
        ({"gender": {"kind": "clases"}}, ["'clases'", "classes"]),
        ({"gender": {"kind": "classes", "wieght": 2}}, ["'wieght'", "weight"]),
        ({"fr": {"wieght": 2}}, ["'wieght'", "weight"]),
        ({"gender": {"kind": "classes", "weight": -1}}, ["task 'gender': weight is -1"]),
        ({"gender": {"kind": "classes", "weight": "learnt"}}, ["weight is 'learnt'"]),
        ({"gender": {"kind": "classes", "weight": True}}, ["weight is true"]),
        ({"gender": {"kind": "classes", "share": 1}}, ["share is 1", "less than 1"]),
        ({"gender": {"kind": "classes", "loss": "coral"}}, ["loss is 'coral'", "focal"]),
        ({"gender": {"kind": "classes", "classes": ["a"]}}, ["classes is", "at least 2"]),
        ({"gender": {"kind": "classes", "classes": ["a", "a"]}}, ["named twice"]),
        ({"age": {"kind": "classes", "edges": [20, 10]}}, ["edges is [20, 10]", "greater"]),
        ({"age": {"kind": "classes", "edges": [1], "classes": ["a", "b"]}}, ["edges are for num"]),
        ({"age": {"kind": "ordinal", "step": 0}}, ["step is 0"]),
        ({"age": {"kind": "regression", "standardise": 3}}, ["standardise is 3"]),
        ({"My age": {"kind": "regression"}}, ["task 'My age'", "lower-case"]),
        ({"clipped": {"kind": "regression"}}, ["not be clipped"]),
    ],
)
def test_mistakes_are_named(settings, texts: list[str], complaint) -> None:
    with complaint(*texts):
        tasks.parse(settings)


def test_missing_labels() -> None:
    column = ["31", 4.0, None, float("nan"), -1, np.int64(7), "", np.float32(2.5)]
    assert as_texts(column, {"31": "x"}) == ["x", "4", None, None, None, "7", None, "2.5"]
    expected = [31, 4, np.nan, np.nan, np.nan, 7, np.nan, 2.5]
    np.testing.assert_array_equal(as_numbers(column, "toy"), expected)
    # A task on an angle must be able to have the label -1.
    np.testing.assert_array_equal(as_numbers([-1, 99, True], "yaw", [99]), [-1, np.nan, 1])


def test_booleans_are_names() -> None:
    assert as_texts([True, np.bool_(False)], {"True": "male"}) == ["male", "False"]


def test_numbers_that_are_none(complaint) -> None:
    with complaint("age of x", "'inf'"):
        as_numbers(["inf"], "age of x")


def test_classes_are_numbered() -> None:
    numbers = as_classes(["b", None, "a"], ["a", "b"], "toy")
    np.testing.assert_array_equal(numbers, [1, np.nan, 0])
    assert as_classes([], ["a", "b"], "toy").shape == (0,)
