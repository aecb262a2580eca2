"""Lists of pairs of images, as text: LFW's own format, and a line "PATH_A PATH_B LABEL" a pair.

How a list is to be read follows from its lines, and what was understood is said; what cannot be told apart is an error.
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

_GENUINE = (
    "1",
    "same",
    "same-person",
    "match",
    "matched",
    "genuine",
    "mated",
    "true",
    "yes",
    "positive",
    "pos",
    "t",
    "y",
)
_IMPOSTOR = (
    *(
        "0",
        "-1",
        "different",
        "diff",
        "not-same",
        "mismatch",
        "mismatched",
        "non-match",
        "nonmatch",
        "no-match",
        "impostor",
    ),
    *("imposter", "non-mated", "false", "no", "negative", "neg", "f", "n"),
)
LABELS = {**dict.fromkeys(_GENUINE, True), **dict.fromkeys(_IMPOSTOR, False)}
"""Words that say whether a pair is genuine, True, or an impostor pair."""
LABEL_TITLES = (
    "same",
    "is_same",
    "issame",
    "label",
    "match",
    "is_match",
    "genuine",
    "target",
    "same_person",
    "ground_truth",
    "gt",
)
"""What columns of labels are called, the plainest first."""
STEM = re.compile(r"(?:[^/]+/)?([^/]+)/(\1_[0-9]{4})(\.\w+)")
"""Where the image of a stem NAME_0001 lies: NAME/NAME_0001.jpg, or with one folder around."""
STATED = ("label", "same")


@dataclass(frozen=True)
class PairList:
    """What a list says.

    Attributes:
        file: the list.
        named: P pairs of names of images, as the list spells them.
        same: (P,) bool, True for a genuine pair.
        lines: P numbers of the lines that the pairs are in.
        stems: the names are not paths but LFW's "NAME_0001", of a file of any image suffix in a folder NAME.
        per_fold: pairs in each fold; 0 where the list does not say.
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
        """(P,) the fold of each pair, 0..F-1, as the list says or in ten balanced ones. Raises WorkbenchError for too few pairs."""
        if self.per_fold:
            return np.arange(len(self.named)) // self.per_fold
        try:
            return balanced_folds(self.same)
        except WorkbenchError as error:
            raise WorkbenchError(f"{self.file}: {error}") from None


def read_pair_list(file: Path, place: Place, stated: Mapping[str, str] | None = None) -> PairList:
    """Read a list; a first line of one or two numbers tells LFW's format from the other.

    Args:
        file: the list.
        place: the folder or zip that its paths are relative to; which of the fields of a line are paths is looked up in it.
        stated: "label", the title or the number, from 1 on, of the column of labels, and "same", the label of genuine pairs.

    Raises:
        WorkbenchError: not text, or a line is not as it should be; the line is named by its number.
    """
    lines = read_lines(file)
    header = lines[0][1].split() if lines else []
    if 1 <= len(header) <= 2 and all(_is_number(value) for value in header):
        return _lfw(file, lines)
    return _paths(file, lines, place, stated or {})


# LFW


def _lfw(file: Path, lines: list[tuple[int, str]]) -> PairList:
    """A line "FOLDS PAIRS", then for each fold PAIRS lines "NAME I J" and PAIRS lines "NAME I NAME J" (View 2)."""
    header = lines[0][1].split()
    # View 1 lists have a single set of pairs; cut into tenths of each half it still gives ten balanced folds.
    fold_count, per_fold = (
        (int(header[0]), int(header[1])) if len(header) == 2 else (1, int(header[0]))
    )
    if fold_count < 1 or per_fold < 1 or len(lines) - 1 != 2 * fold_count * per_fold:
        raise WorkbenchError(
            f"{file}: the first line promises {fold_count} x ({per_fold} + {per_fold}) pairs, {len(lines) - 1} follow"
        )
    named, same = [], []
    for position, (number, line) in enumerate(lines[1:]):
        genuine = position % (2 * per_fold) < per_fold
        wanted = 3 if genuine else 4
        fields = [value.strip() for value in line.split("\t")]
        fields = (
            fields if len(fields) == wanted else line.split()
        )  # with tabs between them, names may hold spaces
        first, second = (
            (fields[:2], [fields[0], *fields[2:]]) if len(fields) == 3 else (fields[:2], fields[2:])
        )
        if len(fields) != wanted or not _is_number(first[1]) or not _is_number(second[1]):
            expected = "NAME I J" if genuine else "NAME I NAME J"
            raise WorkbenchError(
                f"{file}, line {number}: expected {expected!r}, found {' '.join(fields)[:80]!r}"
            )
        named.append((_stem(*first), _stem(*second)))
        same.append(genuine)
    given = 2 * per_fold if fold_count > 1 else 0
    return PairList(
        file, named, np.array(same), [number for number, _ in lines[1:]], stems=True, per_fold=given
    )


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
    def others(self) -> list[int]:
        return [column for column in range(len(self.fields)) if column not in self.paths]


@dataclass
class _Reader:
    """Takes lines apart, each in the way that gives most files; the way that the last one was parted in is tried first."""

    place: Place
    last: Callable[[str], list[str]] = field(default=lambda line: fields_of(line, "\t"))

    def fields(self, line: str) -> list[str]:
        found = _parted(self.last, line)
        if self._score(found)[0] == 2:
            return found
        scored = [
            (self._score(_parted(way, line)), -number, way) for number, way in enumerate(_WAYS)
        ]
        self.last = max(scored, key=lambda row: row[:2])[2]
        return _parted(self.last, line)

    def _score(self, fields: list[str]) -> tuple[int, int, bool]:
        """How many of two fields are files, how many are called as images are, and whether another one is left for the label."""
        return sum(map(self.is_file, fields)), min(sum(map(is_image, fields)), 2), len(fields) > 2

    def is_file(self, name: str) -> bool:
        return self.place.find(name) is not None

    def paths(self, fields: list[str]) -> list[int]:
        """The fields that are paths: files, or what is called as images are."""
        files = [column for column, value in enumerate(fields) if self.is_file(value)]
        return (
            files
            if len(files) == 2
            else [
                column for column, value in enumerate(fields) if is_image(value) or column in files
            ]
        )


_LABEL_WORDS = "|".join(map(re.escape, sorted(LABELS, key=len, reverse=True)))
_FRONT = re.compile(rf"(?:(?:[-+]?[0-9]+(?:\.[0-9]*)?|{_LABEL_WORDS})\s+)*", re.IGNORECASE)
_WAYS: tuple[Callable[[str], list[str]], ...] = (
    *(lambda line, mark=mark: fields_of(line, mark) for mark in "\t,;"),
    lambda line: fields_by_spaces(line, _FRONT),
    fields_by_spaces,
    str.split,
)


def _parted(way: Callable[[str], list[str]], line: str) -> list[str]:
    try:
        return way(line)
    except csv.Error:  # a quote that is not closed, or a field of more than 128 kB
        return []


def _paths(
    file: Path, lines: list[tuple[int, str]], place: Place, stated: Mapping[str, str]
) -> PairList:
    """Lines "PATH_A PATH_B LABEL", in any order and with other columns, parted by tabs, commas, semicolons or spaces."""
    place.look_around(
        [
            value
            for _, line in lines[:FIRST_NAMES]
            for way in _WAYS
            for value in _parted(way, line)
            if is_image(value)
        ]
    )
    reader = _Reader(place)
    titles: list[str] = []
    rows: list[_Row] = []
    comments = 0
    for number, line in lines:
        fields = reader.fields(line)
        paths = reader.paths(fields)
        if line.lstrip().startswith("#") and not any(map(reader.is_file, fields)):
            comments += 1
        elif (
            not rows
            and not titles
            and not paths
            and len(fields) > 2
            and not set(fields) & {"0", "1", "-1"}
        ):
            titles = [value.strip() for value in fields]
        else:
            rows.append(_row(f"{file}, line {number}", number, line, fields, paths))
    if not rows:
        raise WorkbenchError(
            f"{file}, line 1: expected 'FOLDS PAIRS' (LFW) or 'PATH_A PATH_B LABEL', found nothing"
        )
    column, labels = _labels(file, rows, titles, stated.get("label", ""))
    same, said = _meaning(file, rows, labels, stated.get("same", ""))
    first = rows[0]
    one, other = (_named(position, titles) for position in first.paths)
    parts = [
        f"list {file.name}: {one} and {other} = paths, {_named(column, titles)} = label, {said}"
    ]
    parts += [f"{comments:,} lines that begin with # are comments"] if comments else []
    named = [(row.fields[row.paths[0]], row.fields[row.paths[1]]) for row in rows]
    return PairList(file, named, same, [row.line for row in rows], note="; ".join(parts))


def _named(column: int, titles: list[str]) -> str:
    return f"column {column + 1}" + (f" {titles[column]!r}" if column < len(titles) else "")


def _row(where: str, number: int, line: str, fields: list[str], paths: list[int]) -> _Row:
    shown = line.strip()[:80]
    if len(paths) == 2 and len(fields) > 2:
        return _Row(number, fields, (paths[0], paths[1]))
    if len(paths) > 2:
        raise WorkbenchError(
            f"{where}: names {len(paths)} images, expected two and a label, in {shown!r}"
        )
    if len(fields) == 3 and any(_word(value) in LABELS for value in fields):
        suffixes = ", ".join(sorted(images.SUFFIXES))
        raise WorkbenchError(
            f"{where}: expected two image files ({suffixes}) and a label, found {shown!r}"
        )
    raise WorkbenchError(
        f"{where}: expected 'PATH_A PATH_B LABEL' (or, first in LFW's format, 'FOLDS PAIRS'), found {shown!r}"
    )


def _labels(file: Path, rows: list[_Row], titles: list[str], stated: str) -> tuple[int, list[str]]:
    """The column of labels in the first line, and the label of each pair."""
    if stated:
        column = _stated_column(file, rows[0], titles, stated)
        return column, [_value(file, row, column) for row in rows]
    count = len(rows[0].others)
    for row in rows:
        if len(row.others) != count:
            raise WorkbenchError(
                f"{file}, line {row.line}: expected {count + 2} fields as in line {rows[0].line}, found {len(row.fields)}, in "
                f"{' '.join(row.fields)[:80]!r}"
            )
    columns = [[row.fields[row.others[number]].strip() for row in rows] for number in range(count)]
    chosen = list(range(count))
    if count > 1:
        known = [title.lower().replace(" ", "_") for title in titles]
        titled = [known.index(title) for title in LABEL_TITLES if title in known]
        chosen = [rows[0].others.index(column) for column in titled if column in rows[0].others][:1]
        chosen = chosen or [
            number
            for number in range(count)
            if {LABELS.get(_word(value)) for value in columns[number]} == {True, False}
        ]
    if not chosen or any(columns[number] != columns[chosen[0]] for number in chosen):
        shown = " or ".join(
            _named(rows[0].others[number], titles) for number in (chosen or range(count))
        )
        raise WorkbenchError(
            f"{file}, line {rows[0].line}: cannot tell whether {shown} is the label, 1 (same person) or 0; state it behind ROOT, "
            f",label={rows[0].others[(chosen or [0])[0]] + 1}, in {' '.join(rows[0].fields)[:80]!r}"
        )
    return rows[0].others[chosen[0]], columns[chosen[0]]


def _stated_column(file: Path, row: _Row, titles: list[str], stated: str) -> int:
    if stated in titles:
        return titles.index(stated)
    if (
        re.fullmatch("[1-9][0-9]{0,3}", stated)
        and int(stated) <= len(row.fields)
        and int(stated) - 1 not in row.paths
    ):
        return int(stated) - 1
    known = (
        [titles[column] for column in row.others]
        if titles
        else [str(column + 1) for column in row.others]
    )
    raise unknown_name(f"column label= of {file}", stated[:40], known)


def _value(file: Path, row: _Row, column: int) -> str:
    if column >= len(row.fields) or column in row.paths:
        raise WorkbenchError(
            f"{file}, line {row.line}: no label in column {column + 1}, in {' '.join(row.fields)[:80]!r}"
        )
    return row.fields[column].strip()


def _word(label: str) -> str:
    """A label as `LABELS` has it: 1.0 is 1, and "Not same" not-same."""
    word = re.sub(r"[\s_]+", "-", label.strip().lower())
    number = re.fullmatch(r"\+?(-?[01])(\.0*)?", word)
    return number[1].replace("-0", "0") if number else word


def _meaning(
    file: Path, rows: list[_Row], labels: list[str], stated: str
) -> tuple[NDArray[np.bool_], str]:
    """Which pairs are genuine, and what the labels were taken for."""
    words = [_word(label) for label in labels]
    if stated:
        same = _as_stated(file, rows, words, _word(stated))
    else:
        _check_words(file, rows, words)
        same = np.array([LABELS[word] for word in words])
    spelt = [
        list(
            dict.fromkeys(label for label, kind in zip(labels, same, strict=True) if kind == wanted)
        )
        for wanted in (True, False)
    ]
    genuine, impostor = (" or ".join(found[:3]) or "none" for found in spelt)
    return same, f"{genuine} = same person, {impostor} = different people"


def _as_stated(file: Path, rows: list[_Row], words: list[str], genuine: str) -> NDArray[np.bool_]:
    """Genuine are the pairs with the label that was stated; the others have one label too."""
    if genuine not in words:
        raise unknown_name(f"label same= of {file}", genuine[:40], set(words[:1000]))
    others = list(dict.fromkeys(word for word in words if word != genuine))
    if len(others) > 1:
        line, three = (
            rows[words.index(others[1])].line,
            ", ".join(repr(word[:40]) for word in (genuine, *others[:2])),
        )
        raise WorkbenchError(
            f"{file}, line {line}: a third label, there are {three}; expected {genuine!r} and one other"
        )
    return np.array([word == genuine for word in words])


def _check_words(file: Path, rows: list[_Row], words: list[str]) -> None:
    for row, word in zip(rows, words, strict=True):
        if word not in LABELS:
            raise WorkbenchError(
                f"{file}, line {row.line}: the label is {word[:40]!r}, expected 1 (same person) or 0, or words such as 'same' "
                f"and 'different', in {' '.join(row.fields)[:80]!r}"
            )
    if {"0", "-1"} <= set(words):
        line = rows[max(words.index("0"), words.index("-1"))].line
        raise WorkbenchError(
            f"{file}, line {line}: labels are 1, 0 and -1; expected 1 (same person) and one other number"
        )


# Pairs


def check_pairs(listing: PairList, files: Sequence[tuple[str, str]]) -> str:
    """How many pairs are listed more than once, in words; "" for none.

    Args:
        listing: the list.
        files: P pairs of the files that it names: two names may be one file.

    Raises:
        WorkbenchError: an image is paired with itself, or a pair is listed with both labels; lines are named by their numbers.
    """
    file, lines, same = listing.file, listing.lines, listing.same
    seen: dict[tuple[str, str], int] = {}
    again = 0
    for number, (first, second) in enumerate(files):
        if first == second:
            raise WorkbenchError(
                f"{file}, line {lines[number]}: {first[:120]!r} is paired with itself"
            )
        before = seen.setdefault((min(first, second), max(first, second)), number)
        if same[before] != same[number]:
            raise WorkbenchError(
                f"{file}, line {lines[number]}: labelled {same[number]:d}, but line {lines[before]} has the same pair with "
                f"{same[before]:d}"
            )
        again += before != number
    return f"{again:,} pairs are listed more than once" if again else ""
