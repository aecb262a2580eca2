"""Describes a data set or benchmark in words.

The description has counts, a histogram of the images per identity, the ranges of the attributes,
and the images that cannot be read.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from workbench.data.benchmark import Attributes, Benchmark, Identification, Labelled
from workbench.data.dataset import Dataset, Images, Joined, image_name, where_and_why
from workbench.data.io.readers import Files, HeldImages
from workbench.data.templates import Templates
from workbench.errors import WorkbenchError
from workbench.files import atomic_path

MOST_VALUES = 12
MOST_BINS, BAR = 12, 40
MOST_FILES = 200_000
"""Most files whose sizes are read one by one."""


def describe(
    opened: Dataset | Benchmark | Labelled | Identification | Templates, spec: str
) -> list[str]:
    """Describe a data set or benchmark.

    Args:
        opened: The data set or benchmark.
        spec: The spec that it was opened by.

    Returns:
        Lines of text: counts, a histogram of the images per identity, the size on disk, the note,
        and the range of each attribute.
    """
    held = opened.dataset if isinstance(opened, Labelled) else opened
    first = _sides(held.images)
    if isinstance(opened, Dataset):
        lines = [
            f"{spec}: {len(opened):,} images of {opened.num_identities:,} identities, "
            f"the first {first}"
        ]
        counts = np.bincount(opened.identities)
        lines.append(
            f"images per identity: {counts.min()} to {counts.max()}, median {np.median(counts):g}"
        )
        if counts.min() < counts.max():
            lines += bars(histogram(counts), "images", "identities")
        lines.append(f"fingerprint: {opened.fingerprint()}")
    elif isinstance(opened, Attributes):
        lines = [
            f"{spec}: {len(opened.dataset):,} images whose attributes are estimated, "
            f"the first {first}"
        ]
    elif isinstance(opened, Labelled):
        lines = [
            f"{spec}: {len(opened.dataset):,} images of {opened.dataset.num_identities:,} classes"
        ]
    elif isinstance(opened, Identification):
        enrolled = len(np.unique(opened.identities[opened.gallery]))
        lines = [
            f"{spec}: {len(opened.probes):,} probes, {enrolled:,} people enrolled "
            f"with {len(opened.gallery):,} images, "
            f"{len(opened.distractors):,} distractors, the first image {first}"
        ]
    elif isinstance(opened, Templates):
        genuine, templates = int(opened.same.sum()), len(np.unique(opened.templates))
        lines = [
            f"{spec}: {genuine:,} genuine and {len(opened.same) - genuine:,} impostor pairs "
            f"of {templates:,} templates with {len(opened.images):,} images "
            f"from {len(np.unique(opened.media)):,} photos and videos, the first {first}"
        ]
    else:
        genuine, folds = int(opened.same.sum()), int(opened.folds.max()) + 1
        lines = [
            f"{spec}: {genuine:,} genuine and {len(opened.same) - genuine:,} impostor pairs "
            f"in {folds} folds, {len(opened.images):,} images, the first {first}"
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
    """Count the identities in at most about a dozen bins with round borders.

    The bins are single numbers where these are few. Otherwise their borders are 1, 2 and 5 times
    powers of ten, or multiples of such a number.

    Args:
        counts: (C,) the number of images of each identity, at least 1.

    Returns:
        (smallest number of images, largest number of images, number of identities) of each bin.

    Example:
        >>> histogram(np.array([1, 1, 2, 3]))
        [(1, 1, 2), (2, 2, 1), (3, 3, 1)]
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
    heights, _ = np.histogram(counts, edges)
    return [
        (begin, end - 1, int(number))
        for begin, end, number in zip(edges, edges[1:], heights, strict=False)
    ]


def bars(bins: Sequence[tuple[int, int, int]], what: str, of: str) -> list[str]:
    """Draw a bar chart in text, with one line for each bin of `histogram`."""
    labels = [f"{low:,}" if low == high else f"{low:,}-{high:,}" for low, high, _ in bins]
    width, most = max(map(len, labels)), max(number for *_, number in bins)
    lines = []
    for label, (*_, number) in zip(labels, bins, strict=True):
        length = number and max(round(BAR * number / most), 1)
        lines.append(f"  {label:>{width}} {what}: {'#' * length:<{BAR}} {number:,} {of}")
    return lines


# Files


def size_on_disk(reader: Images) -> int | None:
    """The size of the files that images are read from.

    Args:
        reader: The images.

    Returns:
        The size in bytes, or None if it is not known, for example for a part of a set.
    """
    if isinstance(reader, Joined):
        sizes = [size_on_disk(part) for part in reader.parts]
        return None if None in sizes else sum(size for size in sizes if size is not None)
    if isinstance(reader, HeldImages):
        # An image that is in many pairs is held once.
        return sum({id(encoded): len(encoded) for encoded in reader.held}.values())
    if isinstance(reader, Files) and len(reader) <= MOST_FILES:
        paths = [reader.root / name for name in reader.names]
    elif isinstance(path := getattr(getattr(reader, "file", reader), "path", None), Path):
        paths = [path]
    else:
        return None
    try:
        return sum(path.stat().st_size for path in paths)
    except OSError:  # Reading the file will raise an error that names it.
        return None


def in_bytes(size: int) -> str:
    """Write a size in bytes with a unit.

    Example:
        >>> in_bytes(1234), in_bytes(5_600_000_000)
        ('1.23 kB', '5.6 GB')
    """
    amount = float(size)
    for unit in ("bytes", "kB", "MB"):
        if amount < 999.5:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:,.3g} GB"


def find_broken(reader: Images, progress: bool = True) -> list[tuple[str, str]]:
    """Read all images, and return (name, reason) of each that cannot be read."""
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
    """Write a CSV file with the columns image and reason.

    Raises:
        WorkbenchError: If the file cannot be written.
    """
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
    """Describe attributes in words.

    Args:
        attributes: Columns with one value for each image. Columns of arrays, such as landmarks, and
            columns of many texts, such as file names, are left out.

    Returns:
        The description of each attribute: the range and the median of numbers, the share of true
        values, or the number of images with each text.
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
    """Whether a column has more than `MOST_VALUES` different texts.

    The values are not made into an array, in which every text would need as much memory as the
    longest.
    """
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
    if len(values) > MOST_VALUES or 2 < len(values) == len(column):  # Such as names of files.
        return ""
    return ", ".join(
        f"{value} {count:,}" for value, count in zip(values, counts, strict=True) if value
    )
