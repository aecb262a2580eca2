"""Lists of pairs of images in text files: LFW's own format, and lines "PATH_A PATH_B LABEL".

The format follows from the lines. If they are ambiguous, that is an error. A note says how the list
was understood.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workbench import images
from workbench.data.benchmark import balanced_folds
from workbench.data.io.list_files import (
    FIRST_NAMES,
    Place,
    fields_by_spaces,
    fields_of,
    is_image,
    read_lines,
)
from workbench.errors import WorkbenchError, unknown_name

# fmt: off
_GENUINE = (
    "1", "same", "same-person", "match", "matched", "genuine", "mated",
    "true", "yes", "positive", "pos", "t", "y",
)
_IMPOSTOR = (
    "0", "-1", "different", "diff", "not-same", "mismatch", "mismatched",
    "non-match", "nonmatch", "no-match", "impostor", "imposter", "non-mated",
    "false", "no", "negative", "neg", "f", "n",
)
LABELS = {**dict.fromkeys(_GENUINE, True), **dict.fromkeys(_IMPOSTOR, False)}
"""Labels of genuine pairs, True, and of impostor pairs, False."""
LABEL_TITLES = (
    "same", "is_same", "issame", "label", "match", "is_match", "genuine", "target", "same_person",
    "ground_truth", "gt",
)
"""Titles of columns of labels, the most specific first."""
# fmt: on
STEM = re.compile(r"(?:[^/]+/)?([^/]+)/(\1_[0-9]{4})(\.\w+)")
"""Matches the file of a stem NAME_0001: NAME/NAME_0001.jpg, also with one folder around NAME."""
STATED = ("label", "same")
"""Options of `pairs:` that state the column of labels, and the label of genuine pairs."""

Split = Callable[[str], list[str]]


@dataclass(frozen=True)
class PairList:
    """The contents of a list of pairs.

    Attributes:
        file: the list.
        named: P pairs of names of images, as the list spells them.
        same: (P,) bool, True for a genuine pair.
        lines: P numbers of the lines that hold the pairs.
        stems: whether the names are not paths but LFW's "NAME_0001", which stands for a file with
            any image extension in a folder NAME.
        per_fold: pairs in each fold; 0 if the list has no folds.
        note: how the list was understood.
    """

    file: Path
    named: list[tuple[str, str]]
    same: NDArray[np.bool_]
    lines: list[int]
    stems: bool = False
    per_fold: int = 0
    note: str = ""

    @property
    def folds(self) -> NDArray[np.int64]:
        """(P,) int64, fold of each pair, 0..F-1.

        They are the folds of the list, or ten balanced ones if it has none. Raises WorkbenchError
        if there are too few pairs.
        """
        if self.per_fold:
            return np.arange(len(self.named)) // self.per_fold
        try:
            return balanced_folds(self.same)
        except WorkbenchError as error:
            raise WorkbenchError(f"{self.file}: {error}") from None


def read_pair_list(file: Path, place: Place, stated: Mapping[str, str] | None = None) -> PairList:
    """Reads a list of pairs.

    A first line of one or two numbers means LFW's format.

    Args:
        file: the list.
        place: the folder or zip archive that the paths are relative to. The fields of a line that
            name a file there are the paths.
        stated: may have "label", the title or the number from 1 of the column of labels, and
            "same", the label of genuine pairs.

    Returns:
        The pairs. Whether the images exist is not checked.

    Raises:
        WorkbenchError: if the file is not text, or a line does not have the format; the message
            names the line by its number.
    """
    lines = read_lines(file)
    header = lines[0][1].split() if lines else []
    if 1 <= len(header) <= 2 and all(_is_number(value) for value in header):
        return _read_lfw(file, lines)
    return _read_paths(file, lines, place, stated or {})


# LFW


def _read_lfw(file: Path, lines: list[tuple[int, str]]) -> PairList:
    """Reads LFW's format, of View 1 or View 2.

    View 2 is a line "FOLDS PAIRS", then for each fold PAIRS lines "NAME I J" and PAIRS lines
    "NAME I NAME J". View 1 has a single set of pairs, which is later cut into ten balanced folds.
    """
    header = [int(number) for number in lines[0][1].split()]
    fold_count, per_fold = header if len(header) == 2 else (1, header[0])
    if fold_count < 1 or per_fold < 1 or len(lines) - 1 != 2 * fold_count * per_fold:
        raise WorkbenchError(
            f"{file}: the first line announces {fold_count} x ({per_fold} + {per_fold}) pairs, "
            f"{len(lines) - 1} follow"
        )
    named, same = [], []
    for position, (number, line) in enumerate(lines[1:]):
        genuine = position % (2 * per_fold) < per_fold
        named.append(_lfw_pair(f"{file}, line {number}", line, genuine))
        same.append(genuine)
    return PairList(
        file,
        named,
        np.array(same),
        [number for number, _ in lines[1:]],
        stems=True,
        per_fold=2 * per_fold if fold_count > 1 else 0,
    )


def _lfw_pair(where: str, line: str, genuine: bool) -> tuple[str, str]:
    """Returns the stems of the two images of a line."""
    width = 3 if genuine else 4
    fields = [value.strip() for value in line.split("\t")]
    if len(fields) != width:
        fields = line.split()  # names may hold spaces only if tabs separate the fields
    first, second = fields[:2], fields[2:]
    if len(fields) == 3:
        second = [fields[0], *second]
    if len(fields) != width or not _is_number(first[1]) or not _is_number(second[1]):
        expected = "NAME I J" if genuine else "NAME I NAME J"
        raise WorkbenchError(f"{where}: expected {expected!r}, found {' '.join(fields)[:80]!r}")
    return _stem(*first), _stem(*second)


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) < 10


def _stem(name: str, number: str) -> str:
    return f"{name}_{int(number):04d}"


# Paths


class _Row(NamedTuple):
    """A line: its number, its fields, and which two of them are paths."""

    line: int
    fields: list[str]
    paths: tuple[int, int]

    @property
    def label_columns(self) -> list[int]:
        """The fields that are not paths, one of which is the label."""
        return [column for column in range(len(self.fields)) if column not in self.paths]

    @property
    def shown(self) -> str:
        """The line for an error message."""
        return repr(" ".join(self.fields)[:80])


@dataclass
class _Splitter:
    """Splits lines into fields, each line in the way that gives most files.

    The way in which the last line was split is tried first.
    """

    place: Place
    last: Split = field(default=lambda line: fields_of(line, "\t"))

    def fields(self, line: str) -> list[str]:
        fields = _split(self.last, line)
        if self._score(fields)[0] == 2:
            return fields
        scores = [
            (self._score(_split(way, line)), -number, way) for number, way in enumerate(_WAYS)
        ]
        self.last = max(scores, key=lambda row: row[:2])[2]
        return _split(self.last, line)

    def _score(self, fields: list[str]) -> tuple[int, int, bool]:
        """Returns the number of files, of names of images (at most 2), and if a field is left."""
        return sum(map(self.is_file, fields)), min(sum(map(is_image, fields)), 2), len(fields) > 2

    def is_file(self, name: str) -> bool:
        return self.place.find(name) is not None

    def paths(self, fields: list[str]) -> list[int]:
        """Returns the fields that are paths: existing files, or names of images."""
        files = [column for column, value in enumerate(fields) if self.is_file(value)]
        if len(files) == 2:
            return files
        return [column for column, value in enumerate(fields) if is_image(value) or column in files]


_LABEL_WORDS = "|".join(map(re.escape, sorted(LABELS, key=len, reverse=True)))
_FRONT = re.compile(rf"(?:(?:[-+]?[0-9]+(?:\.[0-9]*)?|{_LABEL_WORDS})\s+)*", re.IGNORECASE)
"""Numbers and labels before a path."""
_WAYS: tuple[Split, ...] = (
    *(lambda line, mark=mark: fields_of(line, mark) for mark in "\t,;"),
    lambda line: fields_by_spaces(line, _FRONT),
    fields_by_spaces,
    str.split,
)


def _split(way: Split, line: str) -> list[str]:
    """Returns the fields of a line; none if it cannot be split in this way."""
    try:
        return way(line)
    except csv.Error:  # a quote that is not closed, or a field of more than 128 kB
        return []


def _read_paths(
    file: Path, lines: list[tuple[int, str]], place: Place, stated: Mapping[str, str]
) -> PairList:
    """Reads lines "PATH_A PATH_B LABEL".

    The fields may be in any order and among other columns, and separated by tabs, commas,
    semicolons or spaces.
    """
    place.look_around(
        value
        for _, line in lines[:FIRST_NAMES]
        for way in _WAYS
        for value in _split(way, line)
        if is_image(value)
    )
    rows, titles, comments = _rows(file, lines, place)
    if not rows:
        raise WorkbenchError(
            f"{file}, line 1: expected 'FOLDS PAIRS' (LFW) or 'PATH_A PATH_B LABEL', found nothing"
        )
    column, labels = _labels(file, rows, titles, stated.get("label", ""))
    same, meaning = _meaning(file, rows, labels, stated.get("same", ""))
    first, second = (_column_name(position, titles) for position in rows[0].paths)
    notes = [
        f"list {file.name}: {first} and {second} = paths, {_column_name(column, titles)} = label, "
        f"{meaning}"
    ]
    if comments:
        notes.append(f"{comments:,} lines that begin with # are comments")
    named = [(row.fields[row.paths[0]], row.fields[row.paths[1]]) for row in rows]
    return PairList(file, named, same, [row.line for row in rows], note="; ".join(notes))


def _rows(
    file: Path, lines: list[tuple[int, str]], place: Place
) -> tuple[list[_Row], list[str], int]:
    """Returns the rows, the titles of the columns if there are any, and the number of comments."""
    splitter = _Splitter(place)
    rows: list[_Row] = []
    titles: list[str] = []
    comments = 0
    for number, line in lines:
        fields = splitter.fields(line)
        paths = splitter.paths(fields)
        first = not rows and not titles
        if line.lstrip().startswith("#") and not any(map(splitter.is_file, fields)):
            comments += 1
        elif first and not paths and len(fields) > 2 and not set(fields) & {"0", "1", "-1"}:
            titles = [value.strip() for value in fields]
        else:
            rows.append(_row(f"{file}, line {number}", number, line, fields, paths))
    return rows, titles, comments


def _column_name(column: int, titles: list[str]) -> str:
    return f"column {column + 1}" + (f" {titles[column]!r}" if column < len(titles) else "")


def _row(where: str, number: int, line: str, fields: list[str], paths: list[int]) -> _Row:
    shown = line.strip()[:80]
    if len(paths) == 2 and len(fields) > 2:
        return _Row(number, fields, (paths[0], paths[1]))
    if len(paths) > 2:
        raise WorkbenchError(
            f"{where}: names {len(paths)} images, expected two and a label, in {shown!r}"
        )
    if len(fields) == 3 and any(_label_word(value) in LABELS for value in fields):
        suffixes = ", ".join(sorted(images.SUFFIXES))
        raise WorkbenchError(
            f"{where}: expected two image files ({suffixes}) and a label, found {shown!r}"
        )
    raise WorkbenchError(
        f"{where}: expected 'PATH_A PATH_B LABEL' "
        f"(or 'FOLDS PAIRS' in the first line of LFW's format), found {shown!r}"
    )


def _labels(file: Path, rows: list[_Row], titles: list[str], stated: str) -> tuple[int, list[str]]:
    """Returns the column of labels in the first line, and the label of each pair.

    If several columns may hold the label, all of them must hold the same values.
    """
    first = rows[0]
    if stated:
        column = _stated_column(file, first, titles, stated)
        return column, [_value(file, row, column) for row in rows]
    width = len(first.label_columns)
    for row in rows:
        if len(row.label_columns) != width:
            raise WorkbenchError(
                f"{file}, line {row.line}: expected {width + 2} fields as in line {first.line}, "
                f"found {len(row.fields)}, in {row.shown}"
            )
    columns = [[row.fields[row.label_columns[i]].strip() for row in rows] for i in range(width)]
    candidates = _label_candidates(first, columns, titles)
    if candidates and all(columns[i] == columns[candidates[0]] for i in candidates):
        return first.label_columns[candidates[0]], columns[candidates[0]]
    ambiguous = [first.label_columns[i] for i in candidates or range(width)]
    shown = " or ".join(_column_name(column, titles) for column in ambiguous)
    raise WorkbenchError(
        f"{file}, line {first.line}: cannot tell whether {shown} is the label, 1 (same person) or "
        f"0; state it after ROOT, ,label={ambiguous[0] + 1}, in {first.shown}"
    )


def _label_candidates(first: _Row, columns: list[list[str]], titles: list[str]) -> list[int]:
    """Returns which of the columns that are not paths may hold the labels."""
    if len(columns) == 1:
        return [0]
    names = [title.lower().replace(" ", "_") for title in titles]
    titled = [names.index(title) for title in LABEL_TITLES if title in names]
    for column in titled:
        if column in first.label_columns:
            return [first.label_columns.index(column)]
    return [
        number
        for number, values in enumerate(columns)
        if {LABELS.get(_label_word(value)) for value in values} == {True, False}
    ]


def _stated_column(file: Path, row: _Row, titles: list[str], stated: str) -> int:
    if stated in titles:
        return titles.index(stated)
    if re.fullmatch("[1-9][0-9]{0,3}", stated):
        column = int(stated) - 1
        if column < len(row.fields) and column not in row.paths:
            return column
    choices = [titles[column] if titles else str(column + 1) for column in row.label_columns]
    raise unknown_name(f"column label= of {file}", stated[:40], choices)


def _value(file: Path, row: _Row, column: int) -> str:
    if column >= len(row.fields) or column in row.paths:
        raise WorkbenchError(
            f"{file}, line {row.line}: no label in column {column + 1}, in {row.shown}"
        )
    return row.fields[column].strip()


def _label_word(label: str) -> str:
    """Returns a label as it is in `LABELS`: 1.0 becomes 1, "Not same" becomes not-same."""
    word = re.sub(r"[\s_]+", "-", label.strip().lower())
    number = re.fullmatch(r"\+?(-?[01])(\.0*)?", word)
    return number[1].replace("-0", "0") if number else word


def _meaning(
    file: Path, rows: list[_Row], labels: list[str], stated: str
) -> tuple[NDArray[np.bool_], str]:
    """Returns which pairs are genuine, and a text that says what each label means."""
    words = [_label_word(label) for label in labels]
    if stated:
        same = _same_as_stated(file, rows, words, _label_word(stated))
    else:
        _check_labels(file, rows, words)
        same = np.array([LABELS[word] for word in words])
    genuine, impostor = (_spellings_of(labels, same == kind) for kind in (True, False))
    return same, f"{genuine} = same person, {impostor} = different people"


def _spellings_of(labels: list[str], chosen: NDArray[np.bool_]) -> str:
    """Returns the first three different labels among the chosen ones, for a message."""
    distinct = dict.fromkeys(label for label, keep in zip(labels, chosen, strict=True) if keep)
    return " or ".join(list(distinct)[:3]) or "none"


def _same_as_stated(
    file: Path, rows: list[_Row], words: list[str], genuine: str
) -> NDArray[np.bool_]:
    """Returns which pairs have the label that was stated for genuine pairs.

    All other pairs must have one label.
    """
    if genuine not in words:
        raise unknown_name(f"label same= of {file}", genuine[:40], set(words[:1000]))
    impostor = list(dict.fromkeys(word for word in words if word != genuine))
    if len(impostor) > 1:
        line = rows[words.index(impostor[1])].line
        three = ", ".join(repr(word[:40]) for word in (genuine, *impostor[:2]))
        raise WorkbenchError(
            f"{file}, line {line}: a third label, there are {three}; "
            f"expected {genuine!r} and one other"
        )
    return np.array([word == genuine for word in words])


def _check_labels(file: Path, rows: list[_Row], words: list[str]) -> None:
    for row, word in zip(rows, words, strict=True):
        if word not in LABELS:
            raise WorkbenchError(
                f"{file}, line {row.line}: the label is {word[:40]!r}, expected 1 (same person) or "
                f"0, or words such as 'same' and 'different', in {row.shown}"
            )
    if {"0", "-1"} <= set(words):
        line = rows[max(words.index("0"), words.index("-1"))].line
        raise WorkbenchError(
            f"{file}, line {line}: labels are 1, 0 and -1; expected 1 (same person) and one other "
            "number"
        )


# Pairs


def check_pairs(listing: PairList, files: Sequence[tuple[str, str]]) -> str:
    """Checks that no pair contradicts another one.

    Args:
        listing: the list.
        files: P pairs of the files that the list names; two names may stand for one file.

    Returns:
        A text that says how many pairs are listed more than once; empty if there are none.

    Raises:
        WorkbenchError: if an image is paired with itself, or a pair is listed with both labels; the
            message names the lines by their numbers.
    """
    file, lines, same = listing.file, listing.lines, listing.same
    first_of: dict[tuple[str, str], int] = {}
    repeated = 0
    for number, (one, other) in enumerate(files):
        if one == other:
            raise WorkbenchError(
                f"{file}, line {lines[number]}: {one[:120]!r} is paired with itself"
            )
        first = first_of.setdefault((min(one, other), max(one, other)), number)
        if same[first] != same[number]:
            raise WorkbenchError(
                f"{file}, line {lines[number]}: labelled {same[number]:d}, "
                f"but line {lines[first]} has the same pair with {same[first]:d}"
            )
        repeated += first != number
    return f"{repeated:,} pairs are listed more than once" if repeated else ""
