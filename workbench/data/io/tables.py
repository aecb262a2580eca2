"""Reads tables in text files of millions of lines, in seconds."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.errors import WorkbenchError

_TYPES: dict[str, Any] = {"text": str, "whole": np.int64, "number": np.float64}
_PATTERNS = {
    "text": re.compile(r"\S+"),
    "whole": re.compile(r"[+-]?[0-9]{1,18}"),
    "number": re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"),
}
"""What a field of each kind of column looks like."""


def read_table(file: Path, kinds: Sequence[str]) -> list[NDArray[Any]]:
    """Reads a text file whose columns are separated by spaces or tabs.

    Args:
        file: the text file, in UTF-8 and without a header.
        kinds: the kind of each column: "text" (object array), "whole" (int64) or "number"
            (float64).

    Returns:
        The columns, each of shape (number of rows,). Empty lines are not rows.

    Raises:
        WorkbenchError: if there is no such file, it is empty, or a line does not have these
            columns; the message names the first such line by its number.
    """
    import pandas as pd

    if not file.is_file():
        raise WorkbenchError(f"{file}: no such file")
    types = {column: _TYPES[kind] for column, kind in enumerate(kinds)}
    try:  # pandas reads fifteen million lines in seconds
        table = pd.read_csv(
            file,
            sep=r"\s+",
            header=None,
            dtype=types,
            na_filter=False,
            quoting=csv.QUOTE_NONE,
            encoding="utf-8",
        )
        reason = f"{table.shape[1]} columns, expected {len(kinds)}"
    except Exception as error:
        # Besides the parser's own errors: ValueError, OverflowError, UnicodeDecodeError, ...
        table, reason = pd.DataFrame(), " ".join(str(error).split())[:160]
    if table.shape[1] != len(kinds):
        _raise_for_first_wrong_line(file, kinds)
        raise WorkbenchError(f"{file}: cannot be read ({reason})")
    return [
        table[column].to_numpy(dtype=object if kind == "text" else types[column])
        for column, kind in enumerate(kinds)
    ]


def _raise_for_first_wrong_line(file: Path, kinds: Sequence[str]) -> None:
    """Raises an error for the first line that does not have the columns.

    This is slow, and only called if the fast reader has failed.
    """
    empty = True
    with file.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            fields = line.split()
            empty = empty and not fields
            if fields and not (len(fields) == len(kinds) and all(map(_fits, fields, kinds))):
                raise WorkbenchError(
                    f"{file}, line {number}: expected {len(kinds)} columns ({' '.join(kinds)}), "
                    f"found {line.strip()[:80]!r}"
                )
    if empty:
        raise WorkbenchError(f"{file}: empty")


def _fits(field: str, kind: str) -> bool:
    return _PATTERNS[kind].fullmatch(field) is not None


def line_of(file: Path, row: int) -> int:
    """Returns the number of the line, from 1, that holds a row of the table.

    Args:
        file: the text file.
        row: number of the row, from 0; empty lines are not rows.
    """
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            row -= bool(line.strip())
            if row < 0:
                return number
    return 0
