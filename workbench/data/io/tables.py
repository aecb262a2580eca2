"""Tables in text files of millions of lines, which are read in seconds and, where they are wrong, line by line."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.errors import WorkbenchError

_FITS = {
    "text": re.compile(r"\S+"),
    "whole": re.compile(r"[+-]?[0-9]{1,18}"),
    "number": re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"),
}
"""What a field of each kind of column looks like."""


def read_table(file: Path, kinds: Sequence[str]) -> list[NDArray[Any]]:
    """The columns of a text of many lines, parted by spaces.

    Args:
        kinds: of each column: "text" (object array), "whole" (int64) or "number" (float64).

    Raises:
        WorkbenchError: no such file, empty, or a line is not as it should be; it is named by its number.
    """
    import pandas as pd

    types: dict[int, Any] = {
        column: {"text": str, "whole": np.int64, "number": np.float64}[kind]
        for column, kind in enumerate(kinds)
    }
    if not file.is_file():
        raise WorkbenchError(f"{file}: no such file")
    try:  # fifteen million lines in seconds
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
    except (
        Exception
    ) as error:  # the parser's own, ValueError, OverflowError, UnicodeDecodeError, ...
        table, reason = pd.DataFrame(), " ".join(str(error).split())[:160]
    if table.shape[1] != len(kinds):
        _find_wrong_line(file, kinds)
        raise WorkbenchError(f"{file}: cannot be read ({reason})")
    return [
        table[column].to_numpy(dtype=object if kind == "text" else types[column])
        for column, kind in enumerate(kinds)
    ]


def _find_wrong_line(file: Path, kinds: Sequence[str]) -> None:
    """Raise for the first line that is not as it should be; slow, and only called where one is known to be."""
    empty = True
    with file.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            fields = line.split()
            empty = empty and not fields
            if fields and not (len(fields) == len(kinds) and all(map(_fits, fields, kinds))):
                wanted = " ".join(kinds)
                raise WorkbenchError(
                    f"{file}, line {number}: expected {len(kinds)} columns ({wanted}), found {line.strip()[:80]!r}"
                )
    if empty:
        raise WorkbenchError(f"{file}: empty")


def _fits(field: str, kind: str) -> bool:
    return _FITS[kind].fullmatch(field) is not None


def line_of(file: Path, row: int) -> int:
    """Number of the line that a row of the table, counted from 0, stands in: empty lines are no rows."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            row -= bool(line.strip())
            if row < 0:
                return number
    return 0
