"""A data set or benchmark in words: how many of what, images per identity, what the attributes range over, what is broken."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from workbench.data.benchmark import Benchmark, ClosedSet, Identification
from workbench.data.dataset import Dataset, Images, Joined, image_name, where_and_why
from workbench.data.io.readers import Files, HeldImages
from workbench.data.templates import Templates
from workbench.errors import WorkbenchError
from workbench.files import atomic_path

MOST_VALUES = 12
MOST_BINS, BAR = 12, 40
MOST_FILES = 200_000
"""Files whose size is asked for one by one."""


def describe(
    opened: Dataset | Benchmark | ClosedSet | Identification | Templates, spec: str
) -> list[str]:
    """Lines about what was opened: counts, a histogram of images per identity, size on disk, note, ranges of attributes."""
    held = opened.dataset if isinstance(opened, ClosedSet) else opened
    first = _sides(held.images)
    if isinstance(opened, Dataset):
        lines = [
            f"{spec}: {len(opened):,} images of {opened.num_identities:,} identities, the first {first}"
        ]
        counts = np.bincount(opened.identities)
        lines.append(
            f"images per identity: {counts.min()} to {counts.max()}, median {np.median(counts):g}"
        )
        lines += (
            bars(histogram(counts), "images", "identities") if counts.min() < counts.max() else []
        )
        lines.append(f"fingerprint: {opened.fingerprint()}")
    elif isinstance(opened, ClosedSet):
        lines = [
            f"{spec}: {len(opened.dataset):,} images of {opened.dataset.num_identities:,} classes"
        ]
    elif isinstance(opened, Identification):
        enrolled = len(np.unique(opened.identities[opened.gallery]))
        lines = [
            f"{spec}: {len(opened.probes):,} probes, {enrolled:,} people enrolled with {len(opened.gallery):,} images, "
            f"{len(opened.distractors):,} distractors, the first image {first}"
        ]
    elif isinstance(opened, Templates):
        genuine, templates = int(opened.same.sum()), len(np.unique(opened.templates))
        lines = [
            f"{spec}: {genuine:,} genuine and {len(opened.same) - genuine:,} impostor pairs of {templates:,} templates with "
            f"{len(opened.images):,} images from {len(np.unique(opened.media)):,} photos and videos, the first {first}"
        ]
    else:
        genuine, folds = int(opened.same.sum()), int(opened.folds.max()) + 1
        lines = [
            f"{spec}: {genuine:,} genuine and {len(opened.same) - genuine:,} impostor pairs in {folds} folds, "
            f"{len(opened.images):,} images, the first {first}"
        ]
    if (size := size_on_disk(held.images)) is not None:
        lines.append(f"size on disk: {in_bytes(size)}")
    if opened.note:
        lines.append(f"note: {opened.note}")
    return lines + [f"{name}: {words}" for name, words in ranges(held.attributes).items()]


def _sides(reader: Images) -> str:
    """Height and width of the first image."""
    try:
        height, width = reader[0].shape[:2]
    except WorkbenchError:
        return "cannot be read"
    return f"{height} x {width}"


# Images per identity


def histogram(counts: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """(least, most, how many) of bins that a reader can take in: single numbers, or with borders at 1, 2 and 5 times ten.

    Args:
        counts: (C,) at least 1; images of each identity.
    """
    low, high = int(counts.min()), int(counts.max())
    nice = [factor * 10**power for power in range(12) for factor in (1, 2, 5)]
    if high - low < MOST_BINS:
        borders = list(range(low, high + 1))
    elif high >= 10 * low:
        borders = nice
    else:
        step = next(step for step in nice if (high - low) // step < MOST_BINS - 1)
        borders = list(range(0, high + 1, step))
    edges = [low, *(border for border in borders if low < border <= high), high + 1]
    found, _ = np.histogram(counts, edges)
    return [
        (begin, end - 1, int(number))
        for begin, end, number in zip(edges, edges[1:], found, strict=False)
    ]


def bars(bins: Sequence[tuple[int, int, int]], what: str, of: str) -> list[str]:
    """A bar chart in text, a line a bin."""
    named = [f"{low:,}" if low == high else f"{low:,}-{high:,}" for low, high, _ in bins]
    width, most = max(map(len, named)), max(number for *_, number in bins)
    return [
        f"  {name:>{width}} {what}: {'#' * (number and max(round(BAR * number / most), 1)):<{BAR}} {number:,} {of}"
        for name, (*_, number) in zip(named, bins, strict=True)
    ]


# Files


def size_on_disk(reader: Images) -> int | None:
    """Bytes of the files that images are read from; None where that is not known, e.g. of a part of a set."""
    if isinstance(reader, Joined):
        sizes = [size_on_disk(part) for part in reader.parts]
        return None if None in sizes else sum(size for size in sizes if size is not None)
    try:
        if isinstance(reader, Files):
            return (
                sum((reader.root / name).stat().st_size for name in reader.names)
                if len(reader) <= MOST_FILES
                else None
            )
        if isinstance(path := getattr(getattr(reader, "file", reader), "path", None), Path):
            return path.stat().st_size
    except OSError:  # it will be complained of when the file is read
        return None
    if isinstance(reader, HeldImages):
        return sum(
            {id(encoded): len(encoded) for encoded in reader.held}.values()
        )  # an image of many pairs is held once
    return None


def in_bytes(size: int) -> str:
    """1.2 kB, 3.4 MB, 5.6 GB."""
    amount = float(size)
    for unit in ("bytes", "kB", "MB"):
        if amount < 999.5:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:,.3g} GB"


def find_broken(reader: Images, progress: bool = True) -> list[tuple[str, str]]:
    """(where, reason) of each image that cannot be read; all are read."""
    broken = []
    for number in tqdm(
        range(len(reader)), desc="reading", unit="image", disable=not progress, dynamic_ncols=True
    ):
        try:
            _ = reader[number]
        except WorkbenchError as error:
            broken.append(where_and_why(image_name(reader, number), str(error)))
    return broken


def write_broken(broken: Sequence[tuple[str, str]], out: Path) -> None:
    """A CSV file with the columns image and reason. Raises WorkbenchError where it cannot be written."""
    try:
        with (
            atomic_path(out) as temporary,
            temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            csv.writer(file).writerows([("image", "reason"), *broken])
    except OSError as error:
        raise WorkbenchError(f"{out}: cannot be written ({error.strerror})") from None


# Attributes


def ranges(attributes: Mapping[str, Sequence[Any] | NDArray[Any]]) -> dict[str, str]:
    """Attributes in words: numbers from least to greatest, share of what is true, how often each of a few texts is there.

    Args:
        attributes: columns of a value an image. Columns of arrays (landmarks) and of many texts (file names) are left out.
    """
    columns = {
        name: np.asarray(values) for name, values in attributes.items() if not _many_texts(values)
    }
    return {
        name: words
        for name, column in columns.items()
        if column.ndim == 1 and (words := _range(column))
    }


def _many_texts(values: Sequence[Any] | NDArray[Any]) -> bool:
    """Found out without an array of them, in which all texts are as long as the longest."""
    if isinstance(values, np.ndarray) and values.dtype != object:
        return False
    seen: set[str] = set()
    for value in values:
        if not isinstance(value, str):
            return False
        seen.add(value)
        if len(seen) > MOST_VALUES:
            return True
    return False


def _range(column: NDArray[Any]) -> str:
    if column.dtype.kind == "b":
        return f"{column.mean():.0%}"
    if column.dtype.kind in "iuf":
        column = column[~np.isnan(column)]
        if not len(column):
            return "not known"
        return f"{column.min():.4g} to {column.max():.4g}, median {np.median(column):.4g}"
    values, counts = np.unique(column.astype(str), return_counts=True)
    if len(values) > MOST_VALUES or 2 < len(values) == len(column):  # names of files
        return ""
    return ", ".join(
        f"{value} {count:,}" for value, count in zip(values, counts, strict=True) if value
    )
