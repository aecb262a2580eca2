"""`folder:DIR,list=FILE` - the images that a list names, with the identity of each.

The columns of paths and of identities are stated by the user, or follow from the titles of the
columns, or from their contents. If they are ambiguous, that is an error. A note says how the list
was understood.
"""

from __future__ import annotations

import csv
import os
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

from workbench.data.io.list_files import (
    NUMBERS,
    Place,
    fields_by_spaces,
    fields_of,
    is_image,
    read_lines,
)
from workbench.errors import WorkbenchError, WorkbenchWarning, unknown_name

# fmt: off
IDENTITY_TITLES = (
    "identity", "identity_id", "identity_name",
    "person", "person_id", "person_name",
    "subject", "subject_id",
    "celebrity", "celebrity_id", "celeb", "celeb_id",
    "label", "label_id",
    "class", "class_id", "class_name",
    "target",
)
"""Titles of columns of identities, the most specific first."""
LOOSE_TITLES = ("name", "id")
"""Titles of columns that may hold identities or something else."""
OTHER_TITLES = frozenset({
    "", "unnamed:_0", "index", "idx", "no", "no.", "nr", "number", "row", "#",
    "split", "set", "subset", "fold", "partition",
    "age", "gender", "sex", "race", "ethnicity", "yaw", "pitch", "roll",
    "quality", "score", "width", "height",
    "x", "y", "w", "h", "x1", "y1", "x2", "y2", "left", "top", "right", "bottom",
    "face_x", "face_y", "face_width", "face_height",
})
"""Titles of columns that hold no identities."""
PATH_TITLES = (
    "path",
    "file", "filename", "file_name", "filepath", "file_path",
    "image", "image_path", "img", "img_path", "image_name",
)
"""Titles of columns of paths, the most specific first."""
# fmt: on
FOLDER = "folder"
"""Stated as the column of identities, it means the names of the images' folders."""
SAMPLE = 50
"""Lines from which the separator, and the column of paths, are found."""
STATED = ("path", "identity")
"""Options of `folder:` that state a column."""

_WHOLE = re.compile("-?[0-9]{1,18}")
_WHOLE_AS_FRACTION = re.compile(r"-?[0-9]+(\.0*)?")
_FRACTION = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")

Split = Callable[[str], list[str]]
Row = tuple[int, list[str]]
"""Number of a line, and its fields."""


class ListWarning(WorkbenchWarning):
    """How a list was understood."""


class ImageList(NamedTuple):
    """The contents of a list.

    Attributes:
        files: N paths relative to the root.
        labels: N labels, one of each image; numbers if all of them are.
        note: how the list was understood.
    """

    files: list[str]
    labels: Sequence[str] | list[int]
    note: str


@dataclass(frozen=True)
class _Table:
    """A list in columns.

    Attributes:
        file: the list.
        rows: number and fields of each line except that of the titles.
        titles: of the columns, in lower case and with "_" for spaces; empty if there are none.
        as_written: the titles as they are in the list.
    """

    file: Path
    rows: list[Row]
    titles: list[str] = field(default_factory=list)
    as_written: list[str] = field(default_factory=list)

    @property
    def columns(self) -> range:
        return range(len(self.rows[0][1]))

    def name(self, column: int) -> str:
        """Returns the name of a column for messages: its number, from 1, and its title."""
        return f"column {column + 1}" + (f" {self.as_written[column]!r}" if self.titles else "")

    def values(self, column: int) -> list[str]:
        """Returns the values of a column.

        If all are numbers such as 3.000, they are returned as whole numbers.
        """
        values = [fields[column].strip() for _, fields in self.rows]
        if all(map(_WHOLE_AS_FRACTION.fullmatch, values)):
            return [value.partition(".")[0] for value in values]
        return values

    def titled(self, titles: Sequence[str]) -> list[int]:
        """Returns the columns with these titles, in the order of the titles."""
        return [self.titles.index(title) for title in titles if title in self.titles]

    def stated(self, option: str, wanted: str) -> int:
        """Returns the number of the column that the user stated by its title or number."""
        title = _title(wanted)
        if self.titles.count(title) == 1:
            return self.titles.index(title)
        if re.fullmatch("[1-9][0-9]{0,3}", wanted) and int(wanted) <= len(self.columns):
            return int(wanted) - 1
        choices = self.as_written or [str(column + 1) for column in self.columns]
        raise unknown_name(f"column {option}= of {self.file}", wanted[:40], choices)


def read_image_list(file: Path, root: Path, stated: Mapping[str, str]) -> ImageList:
    """Reads a list of images with their identities.

    Args:
        file: the list.
        root: the folder that the paths in the list are relative to.
        stated: may have "path" and "identity": the title, or the number from 1, of the column.
            "identity" may be "folder", for the name of each image's folder.

    Returns:
        Each image once, with its label.

    Raises:
        WorkbenchError: if the list is empty or not text, a line has another number of fields, the
            columns are ambiguous, an image does not exist or is outside of `root`, or an image has
            two labels.
    """
    place = Place(root)
    table, comments = _read_table(file, place)
    path = table.stated("path", stated["path"]) if "path" in stated else _path_column(table, place)
    identity = _identity_column(table, path, stated.get("identity", ""))
    lines, files, labels = _look_up(table, place, path, identity)
    kept, repeated = _each_once(file, lines, files, labels)
    identity_name = table.name(identity) if identity >= 0 else "the folder of each image"
    notes = [f"list {file.name}: {table.name(path)} = path, {identity_name} = identity"]
    if repeated:
        notes.append(f"{repeated:,} lines repeat others and count once")
    if comments:
        notes.append(f"{comments:,} lines that begin with # are comments")
    return ImageList(
        [files[i] for i in kept], in_order([labels[i] for i in kept]), "; ".join(notes)
    )


# Lines to columns


def _read_table(file: Path, place: Place) -> tuple[_Table, int]:
    """Returns the columns of a list, and how many lines are comments."""
    lines = read_lines(file)
    if not lines:
        raise WorkbenchError(f"{file}: empty; expected lines 'path label'")
    rows, titles, comments = _rows(file, lines, place)
    if not rows:
        raise WorkbenchError(f"{file}: holds only comments; expected lines 'path label'")
    first_fields = rows[0][1]
    if len(rows) > 1 and not any(is_image(value) or place.find(value) for value in first_fields):
        titles, rows = first_fields, rows[1:]
    rows = _of_one_width(file, rows)
    width = len(rows[0][1])
    if len(titles) == width - 1:
        titles = ["", *titles]  # R leaves out the title of the row numbers
    if len(titles) < width:
        return _Table(file, rows), comments
    titles = [title.strip() for title in titles[:width]]
    return _Table(file, rows, [_title(title) for title in titles], titles), comments


def _rows(
    file: Path, lines: list[tuple[int, str]], place: Place
) -> tuple[list[Row], list[str], int]:
    """Returns the rows, titles from a comment before them, and the number of comments."""
    plain = [line for _, line in lines if not line.lstrip().startswith("#")]
    split = _best_split((plain or [line for _, line in lines])[:SAMPLE], place)
    rows: list[Row] = []
    titles: list[str] = []
    comments = 0
    for number, line in lines:
        try:
            fields = split(line)
        except csv.Error as error:
            raise WorkbenchError(f"{file}, line {number}: {error}, in {line[:80]!r}") from None
        if not line.lstrip().startswith("#") or any(map(place.find, fields)):
            rows.append((number, fields))
            continue
        comments += 1
        words = split(line.lstrip(" #"))
        if not rows and len(words) > 1 and set(map(_title, words)) & set(PATH_TITLES):
            titles = words
    return rows, titles, comments


def _best_split(sample: list[str], place: Place) -> Split:
    """Returns the way to split lines by which most of them have a field that is a file.

    Of equally good ways it is the first.
    """
    ways: tuple[Split, ...] = (
        *(lambda line, mark=mark: fields_of(line, mark) for mark in "\t,;"),
        lambda line: fields_by_spaces(line, NUMBERS),
        fields_by_spaces,
        str.split,
        lambda line: [line],
    )

    def score(split: Split) -> tuple[int, int]:
        files = images = 0
        for line in sample:
            try:
                fields = split(line)
            except csv.Error:
                continue
            files += any(place.find(value) is not None for value in fields)
            images += any(map(is_image, fields))
        return files, images

    return max(ways, key=score)


def _of_one_width(file: Path, rows: list[Row]) -> list[Row]:
    """Returns the rows with as many fields as the first, without empty columns at the end."""
    first_line, first_fields = rows[0]
    filled = [
        column + 1 for _, fields in rows for column, value in enumerate(fields) if value.strip()
    ]
    width = min(len(first_fields), max(filled, default=0))
    for number, fields in rows:
        if len(fields) < width or any(value.strip() for value in fields[width:]):
            raise WorkbenchError(
                f"{file}, line {number}: expected {width} fields as in line {first_line}, "
                f"found {len(fields)} in {' '.join(fields)[:80]!r}; "
                "a field that holds the separator must be in quotes"
            )
    return [(number, fields[:width]) for number, fields in rows]


def _title(text: str) -> str:
    return text.strip().lower().replace(" ", "_")


# Which column is what


def _path_column(table: _Table, place: Place) -> int:
    """Returns the column with names of files, or of images if none of the files exists.

    If there are several, the title decides.
    """
    sample = [fields for _, fields in table.rows[:SAMPLE]]
    files = [
        sum(place.find(fields[column]) is not None for fields in sample) for column in table.columns
    ]
    images = [sum(is_image(fields[column]) for fields in sample) for column in table.columns]
    counts = files if any(files) else images
    if not any(counts):
        number, fields = table.rows[0]
        raise WorkbenchError(
            f"{table.file}, line {number}: expected 'path label', "
            f"found no image in {' '.join(fields)[:80]!r}"
        )
    best = [column for column in table.columns if 2 * counts[column] > max(counts)]
    titled = [column for column in table.titled(PATH_TITLES) if column in best]
    if len(best) > 1 and not titled:
        both = " and ".join(table.name(column) for column in best[:2])
        raise WorkbenchError(
            f"{table.file}: {both} both hold images; state the column of paths, "
            f"list={table.file.name},path={best[0] + 1} "
            "(a list of pairs is opened as pairs:LIST@ROOT)"
        )
    return titled[0] if titled else best[0]


def _identity_column(table: _Table, path: int, stated: str) -> int:
    """Returns the column of identities; -1 if they are the names of the images' folders."""
    if stated == FOLDER and FOLDER not in table.titles:
        return -1
    if stated:
        column = table.stated("identity", stated)
        if column == path:
            raise WorkbenchError(
                f"{table.file}: identity={stated[:40]} is the column of the paths; "
                "state another one"
            )
        return column
    if titled := [column for column in table.titled(IDENTITY_TITLES) if column != path]:
        return titled[0]
    candidates = [column for column in table.columns if column != path]
    if table.titles:
        candidates = [column for column in candidates if table.titles[column] not in OTHER_TITLES]
        loose = [column for column in candidates if table.titles[column] in LOOSE_TITLES]
        candidates = loose or candidates
    if not candidates:
        return -1
    by_format = _by_format(table, path)
    return _by_content(table, path, candidates) if by_format is None else by_format


def _by_format(table: _Table, path: int) -> int | None:
    """Returns the column of identities in a .lst file of MXNet or of InsightFace.

    These are "INDEX LABEL [MORE LABELS] PATH" and "ALIGNED PATH LABEL [BOX AND LANDMARKS]".
    """
    width = len(table.columns)
    if table.titles or table.file.suffix.lower() != ".lst" or width < 3:
        return None
    if path == width - 1 and _kind(table.values(0)) in ("running", "whole and different"):
        return 1
    if path == 1 and set(table.values(0)) <= {"0", "1"}:
        return 2
    return None


def _by_content(table: _Table, path: int, candidates: list[int]) -> int:
    """Returns the column whose values repeat, as those of identities do.

    There may be several such columns if they divide the images in the same way.
    """
    kinds = {column: _kind(table.values(column)) for column in candidates}
    if len(candidates) == 1 and (path < candidates[0] or kinds[candidates[0]] != "running"):
        return candidates[0]  # 'path label'
    for wanted in (("repeating",), ("different", "whole and different"), ("constant",)):
        if fitting := [column for column in candidates if kinds[column] in wanted]:
            break
    if fitting and all(_same_people(table, fitting[0], column) for column in fitting[1:]):
        return fitting[0]
    ambiguous = fitting or candidates
    shown = " or ".join(
        f"{table.name(column)} ({table.values(column)[0][:20]!r}, ...)" for column in ambiguous[:3]
    )
    raise WorkbenchError(
        f"{table.file}: cannot tell whether {shown} is the identity; state it, "
        f"list={table.file.name},identity={ambiguous[0] + 1}, "
        f"or identity={FOLDER} for the folders of the images"
    )


def _kind(values: list[str]) -> str:
    """Returns what a column holds.

    Returns:
        "running" for numbers that count the lines from 0 or 1, "whole and different" for other
        whole numbers without repetition, "fractions", "constant" for one value, "repeating" for
        values of which some repeat, "different" otherwise.
    """
    distinct = set(values)
    whole = all(map(_WHOLE.fullmatch, values))
    if len(distinct) == len(values) and whole and len(values) > 1:
        numbers = [int(value) for value in values]
        lowest, highest = min(numbers), max(numbers)
        if lowest in (0, 1) and highest - lowest == len(values) - 1:
            return "running"
        return "whole and different"
    if not whole and all(map(_FRACTION.fullmatch, values)):
        return "fractions"
    if len(distinct) == 1 and len(values) > 1:
        return "constant"
    return "repeating" if len(distinct) < len(values) else "different"


def _same_people(table: _Table, first: int, second: int) -> bool:
    """Returns whether two columns divide the images in the same way."""
    one, other = table.values(first), table.values(second)
    return len(set(one)) == len(set(other)) == len(set(zip(one, other, strict=True)))


# Rows to images


def _look_up(
    table: _Table, place: Place, path: int, identity: int
) -> tuple[list[int], list[str], list[str]]:
    """Returns line, file and label of each image.

    A name in two Unicode normalisations is one label.
    """
    lines: list[int] = []
    files: list[str] = []
    missing: dict[str, int] = {}
    for number, fields in tqdm(
        table.rows, desc=f"look up {table.file.name}", unit="image", delay=2, dynamic_ncols=True
    ):
        name, where = fields[path], f"{table.file}, line {number}"
        if not name.strip() or (identity >= 0 and not fields[identity].strip()):
            wanted = "path and label" if identity >= 0 else "the path of an image"
            raise WorkbenchError(f"{where}: expected {wanted}, found {' '.join(fields)[:80]!r}")
        file = place.find(name)
        if file is None and place.leads_out(name):
            raise place.outside(where, name)
        if file is None:
            missing.setdefault(name, number)
        lines.append(number)
        files.append(file or name)
    if missing:
        raise place.missing(table.file, missing, len(table.rows))
    if identity >= 0:
        values = table.values(identity)
        return lines, files, [unicodedata.normalize("NFC", value) for value in values]
    labels = [os.path.dirname(name) for name in files]
    if "" in labels:
        row = labels.index("")
        raise WorkbenchError(
            f"{table.file}, line {lines[row]}: {files[row][:120]!r} has no label after it "
            "and lies in no folder"
        )
    return lines, files, labels


def _each_once(
    file: Path, lines: list[int], files: list[str], labels: list[str]
) -> tuple[list[int], int]:
    """Returns the rows to keep, each image once, and how many rows repeat others.

    Raises:
        WorkbenchError: if an image has two labels.
    """
    first_row: dict[str, int] = {}
    for row, name in enumerate(files):
        first = first_row.setdefault(name, row)
        if labels[first] != labels[row]:
            raise WorkbenchError(
                f"{file}, lines {lines[first]} and {lines[row]}: {name[:120]!r} has two labels, "
                f"{labels[first][:40]!r} and {labels[row][:40]!r}"
            )
    return list(first_row.values()), len(files) - len(first_row)


def in_order(labels: Sequence[str]) -> Sequence[str] | list[int]:
    """Returns labels as numbers if all are plain numbers, so that 10 comes after 9."""
    if all(map(re.compile("0|-?[1-9][0-9]{0,17}").fullmatch, labels)):
        return [int(label) for label in labels]
    return labels
