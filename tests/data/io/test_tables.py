"""Tables in text files: types of the columns, and errors that name the first wrong line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.data.io.tables import line_of, read_table

KINDS = ["text", "whole", "number"]


def written(folder: Path, text: str) -> Path:
    (folder / "list.txt").write_bytes(text.encode())
    return folder / "list.txt"


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n", "\n\n \n"])
@pytest.mark.parametrize("gap", [" ", "\t", "   "])
def test_columns_are_read(gap: str, end: str, tmp_path: Path) -> None:
    rows = [("1.jpg", 1, 0.5), ("NA", -7, 1e-3), ('"a', 123456789012, 3.0), ("é", 0, -2.25)]
    file = written(tmp_path, "".join(gap.join(map(str, row)) + end for row in rows))
    columns = read_table(file, KINDS)
    assert [column.dtype for column in columns] == [
        np.dtype(object),
        np.dtype(np.int64),
        np.dtype(np.float64),
    ]
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == rows


@pytest.mark.parametrize(
    "line",
    [
        "a 1",
        "a 1 2 3",
        "a 1.5 2",
        "a x 2",
        "a 1 x",
        "a 1 nan",
        "a 1e3 1",
        "a 1_0 1",
        "a",
        "a 9999999999999999999 1",
    ],
)
@pytest.mark.parametrize("before", ["", "b 1 2\n\n"])
def test_the_first_wrong_line_is_named(
    before: str, line: str, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    file = written(tmp_path, f"{before}{line}\nc 1 2\nd\n")
    with complaint(
        file, f"line {3 if before else 1}: expected 3 columns (text whole number), found {line!r}"
    ):
        read_table(file, KINDS)


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_file_is_an_error(
    text: str, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    with complaint("list.txt: empty"):
        read_table(written(tmp_path, text), KINDS)


def test_a_missing_file_is_an_error(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    with complaint("no such file"):
        read_table(tmp_path / "list.txt", KINDS)


def test_empty_lines_are_counted(tmp_path: Path) -> None:
    file = written(tmp_path, "a 1 2\n\n \r\nb 1 2\nc 1 2\n")
    assert [line_of(file, row) for row in range(3)] == [1, 4, 5]


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32))
@pytest.mark.filterwarnings("ignore")
def test_a_mutated_table_is_read_or_a_readable_error(
    seed: int,
    mutate: Callable[[bytes, int], bytes],
    at_worst_complaint: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    file = tmp_path_factory.mktemp("mutated") / "list.txt"
    file.write_bytes(mutate(b"1.jpg 1 69544 0.5\n2.jpg 1 3720 1e-1\n30.jpg 12 -7 1\n", seed))
    with at_worst_complaint("list.txt"):
        columns = read_table(file, ["text", "whole", "whole", "number"])
        assert [column.dtype.kind for column in columns] == ["O", "i", "i", "f"]
        assert len({len(column) for column in columns}) == 1
