"""Lists of images with labels, as sets come with and users write them: `path label`, `path,label` or `path<TAB>label`.

A line of titles, other columns and quoted fields are understood. Where there are more columns, the path is the one with names of
image files; the label is the column titled so, else the one behind the path, else the one before (MXNet's `.lst`).
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from workbench import images
from workbench.errors import WorkbenchError

TITLES = ("identity", "label", "class", "class_id", "person", "person_id", "subject", "subject_id", "id", "name", "target")
"""What columns of labels are called, the plainest first."""


class Row(NamedTuple):
    """A line: its number in the file, the path, and the label, "" where there is none."""

    line: int
    path: str
    label: str


def read_list(file: Path) -> list[Row]:
    """Read a list.

    Raises:
        WorkbenchError: not text, empty, or a line has no image or fewer columns than the first.
    """
    try:
        text = images.read_bytes(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WorkbenchError(f"{file}: not a text file in UTF-8 ({error.reason} at byte {error.start})") from None
    lines = [(number, line.strip("\r")) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise WorkbenchError(f"{file}: empty; expected lines 'path label'")
    split = _splitter(lines[0][1])
    try:
        rows = [(number, split(line)) for number, line in lines]
    except csv.Error as error:
        raise WorkbenchError(f"{file}: {error}") from None
    titled = not any(map(_is_image, rows[0][1])) and len(rows) > 1
    titles = [title.lower().replace(" ", "_") for title in rows[0][1]] if titled else []
    rows = rows[titled:]
    path, label = _columns(rows[0][1], titles)
    if path < 0:
        raise WorkbenchError(f"{file}, line {rows[0][0]}: expected 'path label', found no image in {lines[titled][1][:80]!r}")
    found = []
    for number, fields in rows:
        if (
            len(fields) <= max(path, label)
            or not _is_image(fields[path])
            or "\0" in fields[path]
            or (label >= 0 and not fields[label])
        ):
            wanted = "path and label" if label >= 0 else "the path of an image"
            raise WorkbenchError(
                f"{file}, line {number}: expected {wanted} as in line {rows[0][0]}, found {' '.join(fields)[:80]!r}"
            )
        found.append(Row(number, fields[path], fields[label] if label >= 0 else ""))
    return found


def _is_image(field: str) -> bool:
    return os.path.splitext(field)[1].lower() in images.SUFFIXES


def _splitter(line: str) -> Callable[[str], list[str]]:
    """How the first line is divided, all are: by tabs, else by commas, else by spaces."""
    for mark in "\t,":
        if mark in line:
            return lambda text: [field.strip() for field in next(csv.reader([text], delimiter=mark, strict=True))]
    return _by_spaces


def _by_spaces(line: str) -> list[str]:
    """A path may hold spaces: it ends with the suffix of an image, and the label is one word behind or before it."""
    line = line.strip()
    if _is_image(line):
        before, _, path = line.partition(" ")
        return [path.strip(), before] if path and before.isdecimal() else [line]
    path, _, label = line.rpartition(" ")
    return [path.strip(), label] if _is_image(path.strip()) else line.split()


def _columns(fields: list[str], titles: list[str]) -> tuple[int, int]:
    """Numbers of the columns of paths and of labels, -1 for none."""
    path = next((number for number, field in enumerate(fields) if _is_image(field)), -1)
    label = next((titles.index(title) for title in TITLES if title in titles and titles.index(title) != path), -1)
    if label < 0:
        label = path + 1 if path + 1 < len(fields) else path - 1
    return path, label


def in_order(labels: Sequence[str]) -> Sequence[str] | list[int]:
    """Labels that are all plain numbers as numbers, so that 10 comes behind 9; others as they are."""
    plain = all(map(re.compile("0|-?[1-9][0-9]{0,17}").fullmatch, labels))
    return [int(label) for label in labels] if plain else labels
