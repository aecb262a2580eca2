"""Data sets made from others: joined, reduced in size, or without the people of a list.

In a spec this is `folder:a@100x20+recordio:b@exclude=overlap.txt`.
"""

from __future__ import annotations

import csv
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.data.dataset import Dataset, Joined
from workbench.data.io.list_files import fields_of, read_lines
from workbench.errors import WorkbenchError, unknown_name
from workbench.files import atomic_path

LONGEST_NAME = 80
"""Largest number of characters in the name of a joined data set."""
Column = Sequence[Any] | NDArray[Any]


@dataclass(frozen=True)
class Options:
    """The options after the @ of a spec.

    Attributes:
        people: number of identities; None for all.
        images: largest number of images of each identity; None for all.
        least: smallest number of images that an identity must have to be used.
        exclude: file with names of identities that are left out; empty for none.
        seed: seed of the draw.
    """

    people: int | None = None
    images: int | None = None
    least: int = 1
    exclude: str = ""
    seed: int = 0


_KEYS = {"min": "least", "exclude": "exclude", "seed": "seed"}
_SIDES = ("people", "images")
_NUMBER = "[1-9][0-9]{0,8}"
_SYNTAX = "PEOPLExIMAGES (* for all), min=IMAGES, exclude=FILE, seed=NUMBER"


def parse_options(text: str) -> Options:
    """Parses the options of a data set, such as `100x20,min=5,exclude=FILE,seed=1`, in any order.

    Raises:
        WorkbenchError: if an option is unknown, given twice, or has an invalid value.

    Example:
        >>> parse_options("100x*,min=5")
        Options(people=100, images=None, least=5, exclude='', seed=0)
    """
    options: dict[str, Any] = {}
    for field in text.split(","):
        parsed = _parse_option(field)
        if options.keys() & parsed.keys():
            raise WorkbenchError(f"{field[:60]!r}: this option of a data set is given twice")
        options |= parsed
    return Options(**options)


def _parse_option(field: str) -> dict[str, Any]:
    """Returns the attributes of `Options` that one option sets."""
    size = re.fullmatch(rf"(\*|{_NUMBER})x(\*|{_NUMBER})", field)
    if size:
        numbers = [None if side == "*" else int(side) for side in size.groups()]
        return dict(zip(_SIDES, numbers, strict=True))
    key, equals, value = field.partition("=")
    if not equals:
        raise WorkbenchError(
            f"{field[:60]!r} is not an option of a data set; possible are: {_SYNTAX}"
        )
    if key not in _KEYS:
        raise unknown_name("option of a data set", key[:60], _KEYS)
    if key == "exclude" and value:
        return {key: value}
    if key == "seed" and value == "0":
        return {key: 0}
    if key != "exclude" and re.fullmatch(_NUMBER, value):
        return {_KEYS[key]: int(value)}
    raise WorkbenchError(
        f"{field[:60]!r} is not an option of a data set; possible are: {_SYNTAX}, "
        "each number at least 1"
    )


def apply(dataset: Dataset, options: Options) -> Dataset:
    """Returns the part of a data set that the options describe.

    Raises:
        WorkbenchError: as `subset` and `read_names`.
    """
    list_name = os.path.splitext(os.path.basename(options.exclude))[0]
    return subset(
        dataset,
        people=options.people,
        images=options.images,
        seed=options.seed,
        least=options.least,
        without=read_names(options.exclude) if options.exclude else (),
        without_name=f"without-{list_name}",
    )


def subset(
    dataset: Dataset,
    people: int | None = None,
    images: int | None = None,
    seed: int = 0,
    least: int = 1,
    without: Iterable[str] = (),
    without_name: str = "without",
) -> Dataset:
    """Draws people, and images of each, and keeps them in their original order.

    Subsets with the same seed are nested: the 100 people of `people=100` are among the 200 of
    `people=200`, and the 20 images of each person are among those of `images=40`.

    Args:
        dataset: the data set from which they are drawn.
        people: number of identities; None for all.
        images: largest number of images of each identity; None for all.
        seed: seed of the draw.
        least: smallest number of images that an identity must have to be drawn.
        without: names of identities that are left out, as for `exclude`.
        without_name: part of the new data set's name that stands for `without`.

    Returns:
        The new data set; `dataset` itself if nothing is left out.

    Raises:
        WorkbenchError: if there are fewer than `people` identities with `least` images, or none, or
            no name of `without` occurs in the data set.

    Example:
        >>> import numpy as np
        >>> from workbench.data import Dataset, subset
        >>> images = [np.full((8, 8, 3), grey, np.uint8) for grey in range(12)]
        >>> dataset = Dataset("toy", images, np.arange(12) // 3, list("abcd"))
        >>> subset(dataset, people=2, images=1)
        <Dataset toy-2x1: 2 images of 2 identities>
    """
    excluded = list(without)
    rng = np.random.default_rng(seed)
    order, draw = rng.permutation(dataset.num_identities), rng.random(len(dataset))
    counts = np.bincount(dataset.identities)
    usable = counts >= least
    if excluded:
        usable[_occurring(dataset, excluded)] = False
    eligible = order[usable[order]]
    wanted = len(eligible) if people is None else people
    if not 0 < wanted <= len(eligible):
        condition = f" with at least {least} images" if least > 1 else ""
        condition += " after the exclusion" if excluded else ""
        asked = "at least one is" if people is None else f"{people:,} are"
        raise WorkbenchError(
            f"{dataset.name}: {len(eligible):,} identities{condition}, {asked} asked for"
        )
    keep = np.isin(dataset.identities, eligible[:wanted])
    if images is not None:
        keep &= _rank_within_identity(dataset.identities, counts, draw) < images
    if keep.all():
        return dataset
    parts = [dataset.name]
    if people is not None or images is not None:
        parts.append(f"{people or 'all'}x{images or 'all'}")
    if least > 1:
        parts.append(f"min{least}")
    if excluded:
        parts.append(without_name)
    if seed != 0 and (people is not None or images is not None):
        parts.append(f"seed{seed}")
    return dataset.subset("-".join(parts), np.flatnonzero(keep))


def _rank_within_identity(
    identities: NDArray[np.int64], counts: NDArray[np.int64], draw: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Returns the rank 0, 1, ... of each image's random number `draw` within its identity."""
    order = np.lexsort((draw, identities))
    ranks = np.empty(len(identities), dtype=np.int64)
    ranks[order] = np.arange(len(identities)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks


def exclude(dataset: Dataset, names: Iterable[str]) -> Dataset:
    """Returns the data set without the identities of these names.

    A name that no identity has exactly is compared without case, spaces and underscores.

    Args:
        dataset: the data set.
        names: names of identities.

    Raises:
        WorkbenchError: if no name occurs in the data set, or no identity remains.

    Example:
        >>> import numpy as np
        >>> from workbench.data import Dataset, exclude
        >>> images = [np.full((8, 8, 3), grey, np.uint8) for grey in range(4)]
        >>> dataset = Dataset("toy", images, np.array([0, 0, 1, 1]), ["Anna Lee", "Bert"])
        >>> exclude(dataset, ["anna_lee", "somebody else"]).identity_names
        ['Bert']
    """
    return subset(dataset, without=names)


def join(datasets: Sequence[Dataset]) -> Dataset:
    """Joins several data sets into one.

    Identities are numbered anew. A name that occurs in two data sets stands for two identities,
    which are called SET/NAME. The new column `set` holds the data set that an image comes from. A
    column that a data set lacks is filled with NaN if it holds numbers, with "" if it holds texts,
    and otherwise with None.

    Args:
        datasets: one or more data sets.

    Returns:
        The joined data set. A single data set is returned unchanged.

    Raises:
        WorkbenchError: if there is no data set.

    Example:
        >>> import numpy as np
        >>> from workbench.data import Dataset, join
        >>> images = [np.full((8, 8, 3), grey, np.uint8) for grey in range(2)]
        >>> first = Dataset("a", images, np.array([0, 1]), ["anna", "bert"])
        >>> second = Dataset("b", images, np.array([0, 1]), ["bert", "cora"])
        >>> join([first, second]).identity_names
        ['anna', 'a/bert', 'b/bert', 'cora']
    """
    if not datasets:
        raise WorkbenchError("join: no data sets")
    if len(datasets) == 1:
        return datasets[0]
    sets = _unique([dataset.name for dataset in datasets])
    first_identity = np.cumsum([0, *(dataset.num_identities for dataset in datasets)])
    columns = dict.fromkeys(column for dataset in datasets for column in dataset.attributes)
    attributes: dict[str, Any] = {
        column: _column([(len(dataset), dataset.attributes.get(column)) for dataset in datasets])
        for column in columns
    }
    sizes = [len(dataset) for dataset in datasets]
    attributes["set"] = np.repeat(np.array(sets, dtype=object), sizes)
    identities = [
        dataset.identities + first
        for dataset, first in zip(datasets, first_identity[:-1], strict=True)
    ]
    notes = [
        f"{name}: {dataset.note}"
        for name, dataset in zip(sets, datasets, strict=True)
        if dataset.note
    ]
    return Dataset(
        _joined_name(sets),
        Joined(tuple(dataset.images for dataset in datasets)),
        np.concatenate(identities),
        _joined_identity_names(sets, datasets),
        attributes,
        "; ".join(notes),
    )


def _joined_name(sets: Sequence[str]) -> str:
    name = "+".join(sets)
    if len(name) > LONGEST_NAME:
        return f"{sets[0][: LONGEST_NAME - 20]}+{len(sets) - 1}-others"
    return name


def _joined_identity_names(sets: Sequence[str], datasets: Sequence[Dataset]) -> list[str]:
    """Returns the names of all identities, SET/NAME for a name that occurs more than once."""
    occurrences = Counter(name for dataset in datasets for name in dataset.identity_names)
    return _unique(
        [
            f"{set_name}/{name}" if occurrences[name] > 1 else name
            for set_name, dataset in zip(sets, datasets, strict=True)
            for name in dataset.identity_names
        ]
    )


def _unique(names: Sequence[str]) -> list[str]:
    """Makes names unique: the second "a" is renamed to "a-2"."""
    originals = set(names)
    used: set[str] = set()
    unique = []
    for name in names:
        new, number = name, 2
        while new in used or (new != name and new in originals):
            new, number = f"{name}-{number}", number + 1
        used.add(new)
        unique.append(new)
    return unique


def _column(parts: Sequence[tuple[int, Column | None]]) -> Column:
    """Joins a column of several data sets.

    Args:
        parts: number of images of each data set, and its values; None if it lacks the column.
    """
    kinds = {_kind(values) for _, values in parts if values is not None}
    if len(kinds) == 1:
        ((kind, shape),) = kinds
        if kind == "number":
            return np.concatenate(
                [
                    np.full((count, *shape), np.nan) if values is None else np.asarray(values)
                    for count, values in parts
                ]
            )
    filler = "" if kinds == {("U", ())} else None
    return [
        value
        for count, values in parts
        for value in (repeat(filler, count) if values is None else values)
    ]


def _kind(values: Column) -> tuple[str, tuple[int, ...]]:
    """Returns what a column holds, "U" for texts or "number", and the shape of a value."""
    # Texts are not converted to an array, in which each would take the memory of the longest.
    if not isinstance(values, np.ndarray) and all(isinstance(value, str) for value in values):
        return "U", ()
    try:
        array = np.asarray(values)
    except ValueError:  # arrays of several shapes
        return "O", ()
    return "number" if array.dtype.kind in "biuf" else array.dtype.kind, array.shape[1:]


# Names


def read_names(path: str) -> list[str]:
    """Reads a list of names, one per line.

    Blank lines, and lines that begin with #, are skipped. Of a line with a tab or a comma, both the
    whole line and its first column are returned, because names may contain commas. A name may be in
    quotes, which a name that begins with # needs.

    Raises:
        WorkbenchError: if the file is missing, not text, or without a name.
    """
    file = Path(os.path.expanduser(path))
    if not os.path.isfile(file):
        raise WorkbenchError(f"{path}: the list of names cannot be read (no such file)")
    lines = [line.strip() for _, line in read_lines(file)]
    lines = [line for line in lines if not line.startswith("#")]
    if not lines:
        raise WorkbenchError(f"{path}: contains no names, expected one per line")
    names = [name for line in lines for name in (line, _first_column(line)) if name]
    return list(dict.fromkeys(names))


def _first_column(line: str) -> str:
    try:
        fields = fields_of(line, "\t" if "\t" in line else ",")
        return fields[0].strip() if fields else ""
    except csv.Error:  # quotes that are part of a name
        return re.split("[\t,]", line)[0].strip(' "')


def write_names(names: Sequence[str], out: Path) -> None:
    """Writes a list that `read_names` reads.

    Raises:
        WorkbenchError: if the file cannot be written.
    """
    with (
        atomic_path(out) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        for name in names:
            # Replacing a line end by a space makes no difference to `normalised`.
            line = name.replace("\n", " ").replace("\r", " ")
            if line.startswith(("#", '"')):
                line = '"' + line.replace('"', '""') + '"'
            file.write(line + "\n")


def normalised(name: str) -> str:
    """Returns a name without case, spaces and underscores, in one Unicode normalisation.

    Example:
        >>> normalised("Anna_Lee") == normalised("anna lee")
        True
    """
    return re.sub(r"[\s_]+", "", unicodedata.normalize("NFC", name)).casefold()


def overlap(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """Returns the names that occur in both of two lists, without case, spaces and underscores.

    Args:
        names: names of people in one data set.
        others: names of people in another one.

    Returns:
        Those of `names` that are among `others`.

    Raises:
        WorkbenchError: if one side has no names, or only numbers, which do not identify people.

    Example:
        >>> from workbench.data import overlap
        >>> overlap(["Anna Lee", "Bert"], ["anna_lee", "Cora"])
        ['Anna Lee']
    """
    for side, list_of_names in (("first", names), ("second", others)):
        if all(re.fullmatch(r"[0-9]*", name) for name in list_of_names):
            problem = "are unknown; a list of pairs has names, a pack does not"
            if len(list_of_names):
                problem = f"are only numbers, e.g. {list_of_names[0]!r}"
            raise WorkbenchError(
                f"people are compared by name, and the names of the {side} set {problem}"
            )
    normalised_others = {normalised(name) for name in others}
    return [name for name in names if normalised(name) in normalised_others]


def _occurring(dataset: Dataset, names: Sequence[str]) -> list[int]:
    """Returns the numbers of the identities that have one of the names."""
    by_name = {name: number for number, name in enumerate(dataset.identity_names)}
    by_normalised_name: dict[str, list[int]] = {}
    for name, number in by_name.items():
        by_normalised_name.setdefault(normalised(name), []).append(number)
    numbers: set[int] = set()
    for name in names:
        if name in by_name:
            numbers.add(by_name[name])
        else:
            numbers.update(by_normalised_name.get(normalised(name), []))
    if not numbers:
        raise WorkbenchError(
            f"{dataset.name}: none of the {len(names):,} names to exclude occurs in it; they are "
            f"like {names[0][:40]!r}, those of the set like {dataset.identity_names[0][:40]!r}"
        )
    return sorted(numbers)
