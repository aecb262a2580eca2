from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pytest

from workbench.errors import WorkbenchError, unknown_name
from workbench.registry import Registry


def _table() -> Registry[Any]:
    table: Registry[Any] = Registry("cheese")

    @table.register("brie")
    def brie(age: int, rind: bool = True) -> tuple[int, bool]:
        return age, rind

    @table.register("gouda")
    def gouda(**options: Any) -> dict[str, Any]:
        return options

    return table


def _cell(version: int) -> Any:
    def factory() -> int:
        return version

    return factory


def test_the_nearest_name_is_suggested_and_all_are_listed() -> None:
    message = str(unknown_name("loss", "arcfase", ["cosface", "arcface"]))
    assert message == "unknown loss 'arcfase': did you mean 'arcface'? known: arcface, cosface"


def test_nothing_is_suggested_when_nothing_is_near() -> None:
    assert str(unknown_name("loss", "zzz", ["arcface"])) == "unknown loss 'zzz': known: arcface"
    assert str(unknown_name("loss", "zzz", [])) == "unknown loss 'zzz': known: none"


@pytest.mark.parametrize("name", [None, 3, ["a"], "two\nlines", "\x1b[31m"])
def test_odd_names_make_one_clean_line(name: object) -> None:
    message = str(unknown_name("loss", name, ["arcface"]))
    assert message.isprintable()


def test_the_error_is_a_value_error() -> None:
    assert issubclass(WorkbenchError, ValueError)


def test_names_are_sorted_and_create_passes_options() -> None:
    table = _table()
    assert table.names() == ["brie", "gouda"]
    assert table.create("brie", age=3) == (3, True)
    assert table.create("brie", age=3, rind=False) == (3, False)
    assert table.create("gouda", anything=1, name=2) == {"anything": 1, "name": 2}


def test_register_gives_back_what_it_files() -> None:
    table: Registry[Any] = Registry("cheese")
    factory = _cell(1)
    assert table.register("x")(factory) is factory
    assert table.get("x") is factory


@pytest.mark.parametrize("name", ["bree", None, ["brie"], 7])
def test_an_unknown_name_is_an_error(name: Any) -> None:
    with pytest.raises(WorkbenchError, match=r"unknown cheese .*known: brie, gouda"):
        _table().create(name)


def test_an_unknown_option_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(
        WorkbenchError, match="unknown option of cheese 'brie' 'rinds': did you mean 'rind'"
    ):
        _table().create("brie", age=1, rinds=True)


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(WorkbenchError, match=r"^cheese 'brie' needs age$"):
        _table().create("brie", rind=True)


def test_star_arguments_are_not_missing() -> None:
    table: Registry[Any] = Registry("cheese")
    table.register("any")(lambda *args, **options: (args, options))
    assert table.create("any", a=1) == ((), {"a": 1})


@pytest.mark.parametrize("value", ["old", None, [], -1])
def test_a_value_that_the_factory_cannot_take_is_an_error(value: Any) -> None:
    table: Registry[Any] = Registry("cheese")

    @table.register("brie")
    def brie(age: int) -> int:
        if age < 0:
            raise ValueError("age must not be\nnegative")
        return age

    with pytest.raises(WorkbenchError, match="cheese 'brie'") as caught:
        table.create("brie", age=value)
    assert "\n" not in str(caught.value)


def test_a_name_cannot_be_taken_by_something_else() -> None:
    table = _table()
    with pytest.raises(WorkbenchError, match=r"cheese 'brie' is registered already, by .*brie"):
        table.register("brie")(_cell(1))
    assert table.create("brie", age=1) == (1, True)


def test_a_notebook_cell_that_is_run_again_replaces_its_own_entry() -> None:
    table: Registry[Any] = Registry("cheese")
    table.register("mine")(_cell(1))
    table.register("mine")(_cell(2))
    assert table.create("mine") == 2


def test_tables_are_separate() -> None:
    _table()
    assert Registry[Any]("cheese").names() == []


def _typed() -> Registry[Any]:
    table: Registry[Any] = Registry("cheese")

    @table.register("edam")
    class Edam:
        """Takes anything, as a class does that never looks at its options."""

        def __init__(
            self,
            age: float = 1.0,
            holes: int = 3,
            rind: bool = True,
            colour: Literal["red", "yellow"] = "red",
            version: Literal[1, 2] = 1,
            size: int | tuple[int, int] = 3,
            layers: tuple[int, ...] = (1,),
            label: str | None = None,
            made_by: Any = None,
        ) -> None:
            pass

    @table.register("strict")
    def strict(age: float) -> float:
        return math.sqrt(age)

    return table


@pytest.mark.parametrize(
    "options",
    [
        {"age": 3},
        {"age": np.float32(2.5), "holes": np.int64(4)},
        {"rind": False},
        {"colour": "yellow", "version": 2},
        {"size": 5},
        {"size": [5, 6]},
        {"size": (5, 6)},
        {"layers": []},
        {"layers": [1, 2, 3]},
        {"label": None},
        {"label": "x"},
        {"made_by": object()},
    ],
    ids="-".join,  # not the values: an object's address differs from process to process
)
def test_values_of_the_types_that_are_stated_are_taken(options: dict[str, Any]) -> None:
    _typed().create("edam", **options)


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("age", "half", "a finite number"),
        ("age", True, "a finite number"),
        ("age", None, "a finite number"),
        ("age", math.nan, "a finite number"),
        ("age", math.inf, "a finite number"),
        ("holes", 2.0, "a whole number"),
        ("holes", False, "a whole number"),
        ("rind", "nope", "true or false"),
        ("rind", 1, "true or false"),
        ("rind", None, "true or false"),
        ("colour", 1, "one of 'red', 'yellow'"),
        ("version", 3, "one of 1, 2"),
        ("version", True, "one of 1, 2"),
        ("size", [1, 2, 3], "a whole number or [a whole number, a whole number]"),
        ("size", "5x6", "a whole number or [a whole number, a whole number]"),
        ("layers", [1, "2"], "a list of a whole number, ..."),
        ("label", 3, "a text or null"),
    ],
    ids=str,
)
def test_a_value_of_another_type_is_named_with_what_is_expected(
    option: str, value: Any, expected: str
) -> None:
    with pytest.raises(WorkbenchError) as caught:
        _typed().create("edam", **{option: value})
    assert (
        str(caught.value) == f"cheese 'edam': option {option!r} is {value!r}, expected {expected}"
    )


def test_a_choice_that_is_misspelt_is_suggested() -> None:
    with pytest.raises(
        WorkbenchError, match="unknown colour of cheese 'edam' 'yelow': did you mean 'yellow'"
    ):
        _typed().create("edam", colour="yelow")


def test_what_python_says_of_a_type_is_replaced_by_the_option() -> None:
    with pytest.raises(
        WorkbenchError, match=r"^cheese 'strict': option 'age' is 'half', expected a finite number$"
    ):
        _typed().create("strict", age="half")
    with pytest.raises(
        WorkbenchError,
        match=r"^cheese 'strict': math domain error$|^cheese 'strict': expected a nonneg",
    ):
        _typed().create("strict", age=-1.0)
