"""`folder:DIR,list=FILE` - the images that a list names, with the identity of each, as sets come with lists and users write them.

Which column holds the paths and which the identities is stated, or follows from a line of titles, or from what is in the columns;
what cannot be told apart is an error, and what was understood is said.
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

IDENTITY_TITLES = (
    *(
        "identity",
        "identity_id",
        "identity_name",
        "person",
        "person_id",
        "person_name",
        "subject",
        "subject_id",
    ),
    *(
        "celebrity",
        "celebrity_id",
        "celeb",
        "celeb_id",
        "label",
        "label_id",
        "class",
        "class_id",
        "class_name",
        "target",
    ),
)
"""What columns of identities are called, the plainest first."""
LOOSE_TITLES = ("name", "id")
"""What columns of identities are called too, but others as well: such a column counts where its values repeat."""
OTHER_TITLES = frozenset(
    (
        *(
            "",
            "unnamed:_0",
            "index",
            "idx",
            "no",
            "no.",
            "nr",
            "number",
            "row",
            "#",
            "split",
            "set",
            "subset",
            "fold",
            "partition",
        ),
        *(
            "age",
            "gender",
            "sex",
            "race",
            "ethnicity",
            "yaw",
            "pitch",
            "roll",
            "quality",
            "score",
            "width",
            "height",
        ),
        *(
            "x",
            "y",
            "w",
            "h",
            "x1",
            "y1",
            "x2",
            "y2",
            "left",
            "top",
            "right",
            "bottom",
            "face_x",
            "face_y",
            "face_width",
            "face_height",
        ),
    )
)
"""Titles of columns that hold no identities."""
PATH_TITLES = (
    "path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "image",
    "image_path",
    "img",
    "img_path",
    "image_name",
)
"""What columns of paths are called, the plainest first."""
FOLDER = "folder"
"""Stated for the column of identities: these are the names of the images' folders."""
SAMPLE = 50
"""Lines by which it is found out how all are divided, and where the paths are."""
STATED = ("path", "identity")

Split = Callable[[str], list[str]]
Row = tuple[int, list[str]]


class ListWarning(WorkbenchWarning):
    """How a list was understood."""


class ImageList(NamedTuple):
    """What a list says: files below the root, the label of each, and how it was understood."""

    files: list[str]
    labels: Sequence[str] | list[int]
    note: str


@dataclass(frozen=True)
class _Table:
    """A list in columns.

    Attributes:
        file: the list.
        rows: number and fields of each line but that of titles.
        titles: of the columns, in lower case and with "_" for spaces; empty where the list has none.
        as_written: the titles as the list has them.
    """

    file: Path
    rows: list[Row]
    titles: list[str] = field(default_factory=list)
    as_written: list[str] = field(default_factory=list)

    @property
    def columns(self) -> range:
        return range(len(self.rows[0][1]))

    def name(self, column: int) -> str:
        """What to call a column: its number, from 1 on, and its title."""
        return f"column {column + 1}" + (f" {self.as_written[column]!r}" if self.titles else "")

    def values(self, column: int) -> list[str]:
        """The values of a column, numbers such as 3.000 as whole numbers, if all are such."""
        values = [fields[column].strip() for _, fields in self.rows]
        if all(map(re.compile(r"-?[0-9]+(\.0*)?").fullmatch, values)):
            return [value.partition(".")[0] for value in values]
        return values

    def titled(self, titles: Sequence[str]) -> list[int]:
        """The columns with these titles, in the order of the titles."""
        return [self.titles.index(title) for title in titles if title in self.titles]

    def stated(self, option: str, wanted: str) -> int:
        """The number of the column that was stated by its title or number."""
        title = _title(wanted)
        if self.titles.count(title) == 1:
            return self.titles.index(title)
        if re.fullmatch("[1-9][0-9]{0,3}", wanted) and int(wanted) <= len(self.columns):
            return int(wanted) - 1
        known = self.as_written or [str(column + 1) for column in self.columns]
        raise unknown_name(f"column {option}= of {self.file}", wanted[:40], known)


def read_image_list(file: Path, root: Path, stated: Mapping[str, str]) -> ImageList:
    """Read a list.

    Args:
        file: the list.
        root: the folder that its paths are relative to.
        stated: "path" and "identity", the title or the number, from 1 on, of a column; "identity" may be "folder".

    Raises:
        WorkbenchError: not text, empty, a line is not as the others, columns cannot be told apart, an image is outside of `root`
            or not there, or has two labels.
    """
    place = Place(root)
    table, comments = _read_table(file, place)
    path = table.stated("path", stated["path"]) if "path" in stated else _path_column(table, place)
    identity = _identity_column(table, path, stated.get("identity", ""))
    lines, files, labels = _found(table, place, path, identity)
    kept, again = _once(file, lines, files, labels)
    named = (
        f"{table.name(identity)} = identity"
        if identity >= 0
        else "identity = the folder of each image"
    )
    said = [f"list {file.name}: {table.name(path)} = path, {named}"]
    said += [f"{again:,} lines repeat others and count once"] if again else []
    said += [f"{comments:,} lines that begin with # are comments"] if comments else []
    return ImageList([files[i] for i in kept], in_order([labels[i] for i in kept]), "; ".join(said))


# Lines to columns


def _read_table(file: Path, place: Place) -> tuple[_Table, int]:
    """The columns of a list, and how many lines are comments."""
    lines = read_lines(file)
    plain = [line for line in lines if not line[1].lstrip().startswith("#")] or lines
    split = _best_split([line for _, line in plain[:SAMPLE]], place)
    if not lines:
        raise WorkbenchError(f"{file}: empty; expected lines 'path label'")
    rows: list[Row] = []
    comments = 0
    titled: list[str] = []
    for number, line in lines:
        try:
            fields = split(line)
        except csv.Error as error:
            raise WorkbenchError(f"{file}, line {number}: {error}, in {line[:80]!r}") from None
        if line.lstrip().startswith("#") and not any(map(place.find, fields)):
            comments += 1
            after = split(line.lstrip(" #"))
            titled = (
                after
                if not rows and len(after) > 1 and set(map(_title, after)) & set(PATH_TITLES)
                else titled
            )
            continue
        rows.append((number, fields))
    if not rows:
        raise WorkbenchError(f"{file}: has comments alone; expected lines 'path label'")
    first = rows[0][1]
    if len(rows) > 1 and not any(is_image(value) or place.find(value) for value in first):
        titled, rows = first, rows[1:]
    rows = _of_one_width(file, rows)
    width = len(rows[0][1])
    if len(titled) == width - 1:
        titled = ["", *titled]  # R leaves out the title of the row numbers
    if len(titled) < width:
        return _Table(file, rows), comments
    titled = [title.strip() for title in titled[:width]]
    return _Table(file, rows, [_title(title) for title in titled], titled), comments


def _best_split(sample: list[str], place: Place) -> Split:
    """How lines are divided: so that most of them have a field that is a file; of equal ways the first."""
    ways: tuple[Split, ...] = (
        *(lambda line, mark=mark: fields_of(line, mark) for mark in "\t,;"),
        lambda line: fields_by_spaces(line, NUMBERS),
        fields_by_spaces,
        str.split,
        lambda line: [line],
    )

    def score(split: Split) -> tuple[int, int]:
        there = images = 0
        for line in sample:
            try:
                fields = split(line)
            except csv.Error:
                continue
            there += any(place.find(value) is not None for value in fields)
            images += any(map(is_image, fields))
        return there, images

    return max(ways, key=score)


def _of_one_width(file: Path, rows: list[Row]) -> list[Row]:
    """The rows, as long as the first, but without columns at the end that are empty in all."""
    first, fields = rows[0]
    used = max(
        (column + 1 for _, fields in rows for column, value in enumerate(fields) if value.strip()),
        default=0,
    )
    width = min(len(fields), used)
    for number, fields in rows:
        if len(fields) < width or any(value.strip() for value in fields[width:]):
            raise WorkbenchError(
                f"{file}, line {number}: expected {width} fields as in line {first}, found {len(fields)} in "
                f"{' '.join(fields)[:80]!r}; what holds the mark between fields must be in quotes"
            )
    return [(number, fields[:width]) for number, fields in rows]


def _title(text: str) -> str:
    return text.strip().lower().replace(" ", "_")


# Which column is what


def _path_column(table: _Table, place: Place) -> int:
    """The column with names of files, else of images that are not there; by its title where there are several."""
    sample = [fields for _, fields in table.rows[:SAMPLE]]
    there = [
        sum(place.find(fields[column]) is not None for fields in sample) for column in table.columns
    ]
    named = [sum(is_image(fields[column]) for fields in sample) for column in table.columns]
    counts = there if any(there) else named
    if not any(counts):
        number, fields = table.rows[0]
        raise WorkbenchError(
            f"{table.file}, line {number}: expected 'path label', found no image in {' '.join(fields)[:80]!r}"
        )
    best = [column for column in table.columns if 2 * counts[column] > max(counts)]
    titled = [column for column in table.titled(PATH_TITLES) if column in best]
    if len(best) > 1 and not titled:
        both = " and ".join(table.name(column) for column in best[:2])
        raise WorkbenchError(
            f"{table.file}: {both} both hold images; state which to take, list={table.file.name},path={best[0] + 1} "
            "(a list of pairs is opened as pairs:LIST@ROOT)"
        )
    return titled[0] if titled else best[0]


def _identity_column(table: _Table, path: int, stated: str) -> int:
    """The column of identities; -1 where they are the images' folders."""
    if stated == FOLDER and FOLDER not in table.titles:
        return -1
    if stated:
        column = table.stated("identity", stated)
        if column == path:
            raise WorkbenchError(
                f"{table.file}: identity={stated[:40]} is the column of the paths; state another one"
            )
        return column
    if titled := [column for column in table.titled(IDENTITY_TITLES) if column != path]:
        return titled[0]
    others = [column for column in table.columns if column != path]
    if table.titles:
        others = [column for column in others if table.titles[column] not in OTHER_TITLES]
        others = [column for column in others if table.titles[column] in LOOSE_TITLES] or others
    if not others:
        return -1
    if (known := _of_known_format(table, path)) is not None:
        return known
    return _by_content(table, path, others)


def _of_known_format(table: _Table, path: int) -> int | None:
    """MXNet's .lst, "INDEX LABEL [MORE LABELS] PATH", and InsightFace's, "ALIGNED PATH LABEL [BOX AND LANDMARKS]"."""
    width = len(table.columns)
    if table.titles or table.file.suffix.lower() != ".lst" or width < 3:
        return None
    if path == width - 1 and _kind(table.values(0)) in ("running", "whole and different"):
        return 1
    if path == 1 and set(table.values(0)) <= {"0", "1"}:
        return 2
    return None


def _by_content(table: _Table, path: int, others: list[int]) -> int:
    """The one column whose values repeat as those of identities do; several are fine where they say the same."""
    kinds = {column: _kind(table.values(column)) for column in others}
    if len(others) == 1 and (path < others[0] or kinds[others[0]] != "running"):
        return others[0]  # 'path label'
    for wanted in (("repeating",), ("different", "whole and different"), ("constant",)):
        if fitting := [column for column in others if kinds[column] in wanted]:
            break
    if not fitting or not all(_same_people(table, fitting[0], column) for column in fitting[1:]):
        shown = " or ".join(
            f"{table.name(column)} ({table.values(column)[0][:20]!r}, ...)"
            for column in (fitting or others)[:3]
        )
        raise WorkbenchError(
            f"{table.file}: cannot tell whether {shown} is the identity; state it, "
            f"list={table.file.name},identity={(fitting or others)[0] + 1}, or identity={FOLDER} for the folders of the images"
        )
    return fitting[0]


def _kind(values: list[str]) -> str:
    """Whether a column is of one value, of numbers that count the lines, of fractions, or has values that repeat."""
    different = set(values)
    whole = all(map(re.compile("-?[0-9]{1,18}").fullmatch, values))
    if len(different) == len(values) and whole and len(values) > 1:
        lowest, highest = (choose(map(int, values)) for choose in (min, max))
        return (
            "running"
            if lowest in (0, 1) and highest - lowest == len(values) - 1
            else "whole and different"
        )
    if not whole and all(
        map(re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?").fullmatch, values)
    ):
        return "fractions"
    if len(different) == 1 and len(values) > 1:
        return "constant"
    return "repeating" if len(different) < len(values) else "different"


def _same_people(table: _Table, one: int, other: int) -> bool:
    first, second = table.values(one), table.values(other)
    return len(set(first)) == len(set(second)) == len(set(zip(first, second, strict=True)))


# Rows to images


def _found(
    table: _Table, place: Place, path: int, identity: int
) -> tuple[list[int], list[str], list[str]]:
    """Line, file and label of each image; a name in two Unicode normalisations is one label."""
    labels = (
        [unicodedata.normalize("NFC", value) for value in table.values(identity)]
        if identity >= 0
        else []
    )
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
        found = place.find(name)
        if found is None and place.leads_out(name):
            raise place.outside(where, name)
        if found is None:
            missing.setdefault(name, number)
        lines.append(number)
        files.append(found or name)
    if missing:
        raise place.missing(table.file, missing, len(table.rows))
    if identity < 0:
        labels = [os.path.dirname(name) for name in files]
        if "" in labels:
            alone = labels.index("")
            raise WorkbenchError(
                f"{table.file}, line {lines[alone]}: {files[alone][:120]!r} has no label behind it and lies in no folder"
            )
    return lines, files, labels


def _once(
    file: Path, lines: list[int], files: list[str], labels: list[str]
) -> tuple[list[int], int]:
    """Which rows to keep, each image once, and how many repeat others. An image under two labels is an error."""
    first: dict[str, int] = {}
    for row, name in enumerate(files):
        before = first.setdefault(name, row)
        if labels[before] != labels[row]:
            raise WorkbenchError(
                f"{file}, lines {lines[before]} and {lines[row]}: {name[:120]!r} has two labels, {labels[before][:40]!r} and "
                f"{labels[row][:40]!r}"
            )
    return list(first.values()), len(files) - len(first)


def in_order(labels: Sequence[str]) -> Sequence[str] | list[int]:
    """Labels that are all plain numbers as numbers, so that 10 comes behind 9; others as they are."""
    plain = all(map(re.compile("0|-?[1-9][0-9]{0,17}").fullmatch, labels))
    return [int(label) for label in labels] if plain else labels
