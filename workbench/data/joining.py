"""Data sets made of others: joined, cut to so many people and pictures, without the people of a list.

In a spec, `folder:a@100x20+recordio:b@exclude=overlap.txt`.
"""

from __future__ import annotations

import csv
import os
import re
import unicodedata
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
Column = Sequence[Any] | NDArray[Any]


@dataclass(frozen=True)
class Options:
    """What stands behind the @ of a spec.

    Attributes:
        people: most identities; None for all.
        images: most images of each; None for all.
        least: identities with fewer images are left out.
        exclude: file with names of identities to be left out; none if empty.
        seed: of the draw.
    """

    people: int | None = None
    images: int | None = None
    least: int = 1
    exclude: str = ""
    seed: int = 0


_KEYS = {"min": "least", "exclude": "exclude", "seed": "seed"}
_SIDES = ("people", "images")
_NUMBER = "[1-9][0-9]{0,8}"
_HOW = "PEOPLExIMAGES (* for all), min=IMAGES, exclude=FILE, seed=NUMBER"


def parse_options(text: str) -> Options:
    """Read `100x20,min=5,exclude=FILE,seed=1`, in any order.

    Raises:
        WorkbenchError: an option is unknown, given twice, or its value is none that it can have.
    """
    given: dict[str, Any] = {}
    for field in text.split(","):
        key, equals, value = field.partition("=")
        sides = re.fullmatch(rf"(\*|{_NUMBER})x(\*|{_NUMBER})", field)
        found: dict[str, Any]
        if sides:
            found = {
                name: None if side == "*" else int(side)
                for name, side in zip(_SIDES, sides.groups(), strict=True)
            }
        elif not equals:
            raise WorkbenchError(
                f"{field[:60]!r} cannot be read as an option of a data set; known: {_HOW}"
            )
        elif key not in _KEYS:
            raise unknown_name("option of a data set", key[:60], _KEYS)
        elif key == "exclude" and value:
            found = {key: value}
        elif key == "seed" and value == "0":
            found = {key: 0}
        elif key != "exclude" and re.fullmatch(_NUMBER, value):
            found = {_KEYS[key]: int(value)}
        else:
            raise WorkbenchError(
                f"{field[:60]!r} cannot be read as an option of a data set; known: {_HOW}, each number at least 1"
            )
        if given.keys() & found.keys():
            raise WorkbenchError(f"{field[:60]!r}: this option of a data set is given twice")
        given |= found
    return Options(**given)


def apply(dataset: Dataset, options: Options) -> Dataset:
    """The data set that is left under the options. Raises WorkbenchError as `subset` and `excluded`."""
    without = read_names(options.exclude) if options.exclude else ()
    list_name = os.path.splitext(os.path.basename(options.exclude))[0]
    return subset(
        dataset,
        options.people,
        options.images,
        options.seed,
        options.least,
        without,
        f"without-{list_name}",
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
    """A draw of people and of images of each, in the order of the whole.

    Draws with the same seed lie within each other: the 100 people of `people=100` are among the 200 of `people=200`, and the 20
    images of each are among those of `images=40`.

    Args:
        dataset: what is drawn from.
        people: identities wanted; None for all.
        images: most images of each; None for all.
        seed: of the draw.
        least: images, before the draw, that an identity must have.
        without: names of identities to be left out, as `exclude` takes them.
        without_name: what the name of the new set says of that.

    Raises:
        WorkbenchError: fewer than `people` identities with `least` images, none at all, or no name of `without` occurs.
    """
    names = list(without)
    rng = np.random.default_rng(seed)
    order, draw = rng.permutation(dataset.num_identities), rng.random(len(dataset))
    counts = np.bincount(dataset.identities)
    usable = counts >= least
    if names:
        usable[_occurring(dataset, names)] = False
    eligible = order[usable[order]]
    wanted = len(eligible) if people is None else people
    if not 0 < wanted <= len(eligible):
        left = " after the exclusion" if names else ""
        at_least = f" with at least {least} images" if least > 1 else ""
        asked = "at least one is" if people is None else f"{people:,} are"
        raise WorkbenchError(
            f"{dataset.name}: {len(eligible):,} identities{at_least}{left}, {asked} asked for"
        )
    chosen = np.isin(dataset.identities, eligible[:wanted])
    if images is not None:
        by_person = np.lexsort((draw, dataset.identities))
        place = np.empty(len(dataset), dtype=np.int64)
        place[by_person] = np.arange(len(dataset)) - np.repeat(np.cumsum(counts) - counts, counts)
        chosen &= place < images
    if chosen.all():
        return dataset
    drawn = people is not None or images is not None
    size = [f"{people or 'all'}x{images or 'all'}"] if drawn else []
    size += (
        [f"min{least}"] * (least > 1)
        + [without_name] * bool(names)
        + [f"seed{seed}"] * (drawn and seed != 0)
    )
    return dataset.subset("-".join([dataset.name, *size]), np.flatnonzero(chosen))


def exclude(dataset: Dataset, names: Iterable[str]) -> Dataset:
    """The data set without the identities of these names.

    A name is looked for as it is and, if nobody has it, without regard to case, spaces and underscores.

    Raises:
        WorkbenchError: no name occurs, or nobody is left.
    """
    return subset(dataset, without=names)


def join(datasets: Sequence[Dataset]) -> Dataset:
    """Several data sets as one. Identities are numbered anew: a name that occurs in two sets is two identities.

    Such names are told apart as SET/NAME, and the column `set` says which set an image is from. Columns that a set does not have
    are filled: with NaN if they hold numbers, with "" if they hold texts, else with None.

    Raises:
        WorkbenchError: no data set at all.
    """
    if len(datasets) < 2:
        if not datasets:
            raise WorkbenchError("join: no data sets")
        return datasets[0]
    sets = _unique([dataset.name for dataset in datasets])
    spelt = [name for dataset in datasets for name in dataset.identity_names]
    times = dict.fromkeys(spelt, 0)
    for name in spelt:
        times[name] += 1
    names = _unique(
        [
            f"{origin}/{name}" if times[name] > 1 else name
            for origin, dataset in zip(sets, datasets, strict=True)
            for name in dataset.identity_names
        ]
    )
    first = np.cumsum([0, *(dataset.num_identities for dataset in datasets)])
    columns = dict.fromkeys(column for dataset in datasets for column in dataset.attributes)
    attributes: dict[str, Any] = {
        column: _column([(len(dataset), dataset.attributes.get(column)) for dataset in datasets])
        for column in columns
    }
    attributes["set"] = np.repeat(
        np.array(sets, dtype=object), [len(dataset) for dataset in datasets]
    )
    joined_name = "+".join(sets)
    if len(joined_name) > LONGEST_NAME:
        joined_name = f"{sets[0][: LONGEST_NAME - 20]}+{len(sets) - 1}-others"
    return Dataset(
        joined_name,
        Joined(tuple(dataset.images for dataset in datasets)),
        np.concatenate(
            [
                dataset.identities + offset
                for dataset, offset in zip(datasets, first[:-1], strict=True)
            ]
        ),
        names,
        attributes,
        "; ".join(
            f"{origin}: {dataset.note}"
            for origin, dataset in zip(sets, datasets, strict=True)
            if dataset.note
        ),
    )


def _unique(names: Sequence[str]) -> list[str]:
    """The names, of which the second "a" is called "a-2"."""
    seen: set[str] = set(names)
    given: set[str] = set()
    found = []
    for name in names:
        new, number = name, 2
        while new in given or (new != name and new in seen):
            new, number = f"{name}-{number}", number + 1
        given.add(new)
        found.append(new)
    return found


def _column(parts: Sequence[tuple[int, Column | None]]) -> Column:
    """The values of a column in all sets, filled where a set of so many images does not have it."""
    kinds = {_kind(values) for _, values in parts if values is not None}
    filler: Any = None
    if kinds == {("U", ())}:
        filler = ""
    elif len(kinds) == 1 and "number" in {kind for kind, _ in kinds}:
        (shape,) = {shape for _, shape in kinds}
        return np.concatenate(
            [
                np.full((count, *shape), np.nan) if values is None else np.asarray(values)
                for count, values in parts
            ]
        )
    return [
        value
        for count, values in parts
        for value in (repeat(filler, count) if values is None else values)
    ]


def _kind(values: Column) -> tuple[str, tuple[int, ...]]:
    """Whether a column holds texts, numbers or something else, and the shape of a value."""
    if not isinstance(values, np.ndarray) and all(isinstance(value, str) for value in values):
        return "U", ()  # not as an array, in which all texts are as long as the longest
    try:
        array = np.asarray(values)
    except ValueError:  # arrays of several shapes
        return "O", ()
    return "number" if array.dtype.kind in "biuf" else array.dtype.kind, array.shape[1:]


# Names


def read_names(path: str) -> list[str]:
    """The names in a list: one a line; blank lines and what begins with # are passed over.

    A line with a tab or a comma is given as it is and as its first column: names can have commas. A name may be in quotes, as one
    that begins with # must be.

    Raises:
        WorkbenchError: missing, not text, or without a name.
    """
    file = Path(os.path.expanduser(path))
    if not os.path.isfile(file):
        raise WorkbenchError(f"{path}: the list of names cannot be read (no such file)")
    lines = [line.strip() for _, line in read_lines(file)]
    kept = [line for line in lines if not line.startswith("#")]
    if not kept:
        raise WorkbenchError(f"{path}: no names in it, expected one a line")
    return list(
        dict.fromkeys(name for line in kept for name in (line, _first_column(line)) if name)
    )


def _first_column(line: str) -> str:
    try:
        return next(iter(fields_of(line, "\t" if "\t" in line else ",")), "").strip()
    except csv.Error:  # quotes that are part of a name
        return re.split("[\t,]", line)[0].strip(' "')


def write_names(names: Sequence[str], out: Path) -> None:
    """A list that `read_names` reads. Raises WorkbenchError where it cannot be written."""
    with (
        atomic_path(out) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        for name in names:
            line = " ".join(name.split("\n")).replace(
                "\r", " "
            )  # blanks make no difference to `normalised`
            file.write(
                (f'"{line.replace(chr(34), 2 * chr(34))}"' if line.startswith(("#", '"')) else line)
                + "\n"
            )


def normalised(name: str) -> str:
    """A name without regard to case, spaces and underscores, and to how Unicode spells it."""
    return re.sub(r"[\s_]+", "", unicodedata.normalize("NFC", name)).casefold()


def overlap(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """Those of `names` that are among `others` too, without regard to case, spaces and underscores.

    Raises:
        WorkbenchError: there are no names on one side, or just numbers, which say nothing about who is who.
    """
    for side, words in (("first", names), ("second", others)):
        if all(re.fullmatch(r"[0-9]*", name) for name in words):
            what = (
                f"are just numbers, e.g. {words[0]!r}"
                if len(words)
                else "are not known; a list of pairs has them, a pack not"
            )
            raise WorkbenchError(
                f"people are compared by name, and the names of the {side} set {what}"
            )
    known = {normalised(name) for name in others}
    return [name for name in names if normalised(name) in known]


def _occurring(dataset: Dataset, names: Sequence[str]) -> list[int]:
    """Numbers of the identities that have one of the names."""
    exactly = {name: number for number, name in enumerate(dataset.identity_names)}
    loosely: dict[str, list[int]] = {}
    for name, number in exactly.items():
        loosely.setdefault(normalised(name), []).append(number)
    found = {
        number
        for name in names
        for number in ([exactly[name]] if name in exactly else loosely.get(normalised(name), []))
    }
    if not found:
        raise WorkbenchError(
            f"{dataset.name}: none of the {len(names):,} names to exclude occurs in it; they are like {names[0][:40]!r}, "
            f"those of the set like {dataset.identity_names[0][:40]!r}"
        )
    return sorted(found)
