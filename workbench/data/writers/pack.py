"""Writes a data set as a pack, which `pack:DIR` opens: one file of images and a small index."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench import runs
from workbench.data.dataset import Broken, Dataset, number_identities
from workbench.data.io.indexes import Texts
from workbench.data.sources.pack import (
    ABOUT,
    COLUMN,
    ENDS,
    FORMAT,
    INDEX,
    PICTURES,
    TEXT,
    VERSION,
    Arrays,
    sha256_of,
)
from workbench.data.writers.common import Written, new_folder, readable, size_of
from workbench.files import atomic_path


class Pictures:
    """Writes images.bin, and keeps the offsets and checksums for the index."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb")
        self.offsets, self.checksums = array("q", [0]), array("L")
        self.digest = hashlib.sha256()

    def __enter__(self) -> Pictures:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self.file:
            if kind is None:
                self.file.flush()
                os.fsync(self.file.fileno())

    def add(self, encoded: bytes) -> None:
        """Append an image file."""
        self.file.write(encoded)
        self.digest.update(encoded)
        self.checksums.append(zlib.crc32(encoded))
        self.offsets.append(self.offsets[-1] + len(encoded))

    @property
    def arrays(self) -> Arrays:
        """`offsets` and `checksums`, as `opened` expects them in the index."""
        return {
            "offsets": np.array(self.offsets, dtype=np.int64),
            "checksums": np.array(self.checksums, dtype=np.uint32),
        }


def finish(
    folder: Path, pictures: Pictures, columns: Arrays, about: Mapping[str, Any], compress: bool
) -> None:
    """Write the index and about.json of a finished file of images.

    Args:
        folder: The folder of the pack.
        pictures: The writer of the images, which is closed.
        columns: Further arrays of the index.
        about: What about.json says in addition to the sizes and checksums.
        compress: Compress the index.
    """
    arrays: Arrays = {**pictures.arrays, **columns}
    with atomic_path(folder / INDEX) as temporary, temporary.open("wb") as file:
        (np.savez_compressed if compress else np.savez)(file, allow_pickle=False, **arrays)
    sizes = {
        "images": len(pictures.checksums),
        "bytes": pictures.offsets[-1],
        "sha256": pictures.digest.hexdigest(),
    }
    runs.write_json(folder / ABOUT, {**about, **sizes, "index_sha256": sha256_of(folder / INDEX)})


def write_pack(
    dataset: Dataset, out: Path, *, broken: Broken = "stop", progress: bool = True
) -> Written:
    """Write a data set as a pack, which `pack:OUT` opens.

    Image files are copied byte for byte, and images held as pixels are written as PNG. Each image
    is decoded once to find those that cannot be read. Only the index is held in memory. Identities
    all of whose images are left out are left out too.

    Args:
        dataset: The data set to write.
        out: The folder to write. It must not exist, or be empty.
        broken: What to do with an image that cannot be read: "stop" raises its error, "skip" leaves
            it out and reports it.
        progress: Show a progress bar.

    Returns:
        A report of what was written.

    Raises:
        WorkbenchError: If `out` exists already or cannot be written, or if an image cannot be read
            and `broken` is "stop", or if no image can be read.
    """
    left_out: list[tuple[str, str]] = []
    numbers = array("q")
    with new_folder(out) as folder:
        with Pictures(folder / PICTURES) as pictures:
            for number, encoded in readable(
                dataset.images, broken, left_out=left_out, progress=progress, title="packing"
            ):
                pictures.add(encoded)
                numbers.append(number)
        kept = np.array(numbers, dtype=np.int64)
        identities, used = number_identities(dataset.identities[kept])
        names = [dataset.identity_names[int(name)] for name in used]
        columns: Arrays = {
            "identities": identities.astype(np.int32),
            "identity_names": np.frombuffer(json.dumps(names).encode(), dtype=np.uint8),
        }
        for name, column in dataset.attributes.items():
            columns |= _stored(name, column, kept)
        about = {
            "format": FORMAT,
            "version": VERSION,
            "name": dataset.name,
            "identities": len(names),
        }
        finish(folder, pictures, columns, about, compress=False)
        size = size_of(folder)
    return Written(out, len(kept), len(names), size, left_out)


def _stored(name: str, column: Sequence[Any], kept: NDArray[np.int64]) -> Arrays:
    """The arrays of the index that store an attribute of the images kept.

    A column of numbers is one array, in which unknown values are NaN. A column of texts is two.
    """
    values = column if isinstance(column, np.ndarray) else _numbers(column)
    if values is not None and values.dtype.kind in "biuf":
        return {COLUMN + name: values[kept]}
    texts = Texts.of(
        "" if column[number] is None else str(column[number]) for number in kept.tolist()
    )
    return {TEXT + name: texts.data, ENDS + name: texts.ends}


def _numbers(column: Sequence[Any]) -> NDArray[Any] | None:
    """A list of numbers as an array, or None if the list has a text.

    An array of texts would need as much memory for each text as for the longest.
    """
    if any(isinstance(value, str) for value in column):
        return None
    gaps = any(value is None for value in column)
    try:
        return np.array(
            [np.nan if value is None else value for value in column] if gaps else column
        )
    except ValueError:  # For example lists of different lengths.
        return None
