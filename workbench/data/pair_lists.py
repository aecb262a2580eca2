"""Lists of pairs of images, as text: LFW's own format, and a line "PATH_A PATH_B LABEL" a pair."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from workbench import images
from workbench.data.benchmark import balanced_folds
from workbench.errors import WorkbenchError

LABELS = {"1": True, "0": False}


@dataclass(frozen=True)
class PairList:
    """What a list says.

    Attributes:
        named: P pairs of names of images.
        same: (P,) bool, True for a genuine pair.
        folds: (P,) int64, 0..F-1.
        stems: the names are not paths but LFW's "NAME_0001", of a file of any image suffix in a folder NAME.
        note: what a reader of the figures must know.
    """

    named: list[tuple[str, str]]
    same: NDArray[np.bool_]
    folds: NDArray[np.int64]
    stems: bool
    note: str = ""


def read_pair_list(file: Path) -> PairList:
    """Read a list; a first line of one or two numbers tells LFW's format from the other.

    Raises:
        WorkbenchError: not text, or a line is not as it should be; the line is named by its number.
    """
    rows = read_lines(file)
    header = rows[0][1].split() if rows else []
    if 1 <= len(header) <= 2 and all(_is_number(field) for field in header):
        return _lfw(file, [(number, line.split()) for number, line in rows])
    return _paths(file, rows)


def read_lines(file: Path) -> list[tuple[int, str]]:
    """The lines of a text that are not empty, each with its number, which begins at 1.

    Raises:
        WorkbenchError: there is no such file, or it is not text.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise WorkbenchError(f"{file}: not a text in UTF-8 ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise WorkbenchError(f"{file}: cannot be read ({error.strerror})") from None
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


# LFW


def _lfw(file: Path, rows: list[tuple[int, list[str]]]) -> PairList:
    """A line "FOLDS PAIRS", then for each fold PAIRS lines "NAME I J" and PAIRS lines "NAME I NAME J" (View 2)."""
    header = rows[0][1]
    # View 1 lists have a single set of pairs; cut into tenths of each half it still gives ten balanced folds.
    fold_count, per_fold = (int(header[0]), int(header[1])) if len(header) == 2 else (1, int(header[0]))
    if fold_count < 1 or per_fold < 1 or len(rows) - 1 != 2 * fold_count * per_fold:
        raise WorkbenchError(
            f"{file}: the first line promises {fold_count} x ({per_fold} + {per_fold}) pairs, {len(rows) - 1} follow"
        )
    named, same = [], []
    for position, (number, fields) in enumerate(rows[1:]):
        genuine = position % (2 * per_fold) < per_fold
        first, second = (fields[:2], [fields[0], *fields[2:]]) if len(fields) == 3 else (fields[:2], fields[2:])
        if len(fields) != (3 if genuine else 4) or not _is_number(first[1]) or not _is_number(second[1]):
            wanted = "NAME I J" if genuine else "NAME I NAME J"
            raise WorkbenchError(f"{file}, line {number}: expected {wanted!r}, found {' '.join(fields)[:80]!r}")
        named.append((_stem(*first), _stem(*second)))
        same.append(genuine)
    kinds = np.array(same)
    folds = _folds(file, kinds) if fold_count == 1 else np.arange(len(named)) // (2 * per_fold)
    return PairList(named, kinds, folds, stems=True)


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) < 10


def _stem(name: str, number: str) -> str:
    return f"{name}_{int(number):04d}"


# Paths


def _paths(file: Path, rows: list[tuple[int, str]]) -> PairList:
    """Lines "PATH_A PATH_B LABEL" or "LABEL PATH_A PATH_B", parted by tabs, commas or spaces; the first may be a heading."""
    if rows and _is_heading(rows[0][1]):
        rows = rows[1:]
    if not rows:
        raise WorkbenchError(f"{file}, line 1: expected 'FOLDS PAIRS' (LFW) or 'PATH_A PATH_B LABEL', found nothing")
    named, same = [], []
    seen: dict[tuple[str, str], tuple[bool, int]] = {}
    again = 0
    for number, line in rows:
        paths, genuine = _pair(line, f"{file}, line {number}")
        first, second = (_relative(path, f"{file}, line {number}") for path in paths)
        if first == second:
            raise WorkbenchError(f"{file}, line {number}: {first!r} is paired with itself")
        known, where = seen.setdefault((min(first, second), max(first, second)), (genuine, number))
        if known != genuine:
            raise WorkbenchError(f"{file}, line {number}: labelled {genuine:d}, but line {where} has the same pair with {known:d}")
        again += where != number
        named.append((first, second))
        same.append(genuine)
    kinds = np.array(same)
    note = f"{again:,} pairs are listed more than once" if again else ""
    return PairList(named, kinds, _folds(file, kinds), stems=False, note=note)


def _pair(line: str, where: str) -> tuple[list[str], bool]:
    """The two paths, and whether they show the same person."""
    for fields in _split(line):
        for label, paths in ((fields[2], fields[:2]), (fields[0], fields[1:])):
            if label in LABELS and all(_is_image(path) for path in paths):
                return paths, LABELS[label]
    shown = line[:80]
    for fields in _split(line):
        if sum(map(_is_image, fields)) == 2:
            label = next(field for field in fields if not _is_image(field))
            raise WorkbenchError(f"{where}: the label is {label[:40]!r}, expected 1 (same person) or 0, in {shown!r}")
        if any(field in LABELS for field in (fields[0], fields[2])):
            suffixes = ", ".join(sorted(images.SUFFIXES))
            raise WorkbenchError(f"{where}: expected two image files ({suffixes}) and a label, found {shown!r}")
    raise WorkbenchError(f"{where}: expected 'PATH_A PATH_B LABEL' (or, first in LFW's format, 'FOLDS PAIRS'), found {shown!r}")


def _split(line: str) -> Iterator[list[str]]:
    """The ways to part a line into three fields. Tabs and commas come first, so that paths may hold spaces."""
    for fields in (line.split("\t"), _split_by_commas(line), line.split()):
        if len(fields) == 3:
            yield [field.strip() for field in fields]


def _split_by_commas(line: str) -> list[str]:
    try:
        return next(csv.reader([line], skipinitialspace=True), [])
    except csv.Error:  # a field of more than 128 kB
        return []


def _is_heading(line: str) -> bool:
    ways = list(_split(line))
    return bool(ways) and not any(field in LABELS or _is_image(field) for fields in ways for field in fields)


def _is_image(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in images.SUFFIXES


def _relative(path: str, where: str) -> str:
    """The path without needless parts. It is not resolved: nothing that could lead out of the folder or zip is let through."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts or "\\" in path or "\0" in path or re.match(r"[A-Za-z]:", path):
        raise WorkbenchError(
            f"{where}: {path[:80]!r} may lead out of ROOT; paths are relative to it, without '..', and with '/' between folders"
        )
    return "/".join(parts)


def _folds(file: Path, same: NDArray[np.bool_]) -> NDArray[np.int64]:
    try:
        return balanced_folds(same)
    except WorkbenchError as error:
        raise WorkbenchError(f"{file}: {error}") from None
