"""`packed:PREFIX` - JPEGs end to end in PREFIX.bin, and in PREFIX.idx a line for each: path, label, start, end.

The format of TensorFlow multi-task training sets (gender, age): the label is the class, which is what "identity" means here.
"""

from __future__ import annotations

import codecs
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workbench import images
from workbench.data.dataset import Dataset, EncodedImages, number_identities
from workbench.data.io.indexes import Texts
from workbench.data.io.reading import SharedFile
from workbench.data.registry import SOURCES, existing
from workbench.errors import WorkbenchError

LARGEST = 200_000_000
"""Bytes of an image; a longer range is an error of the index."""


@dataclass(frozen=True)
class RangeImages(EncodedImages):
    """Images that are ranges of a file."""

    file: SharedFile
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    names: Texts

    def __len__(self) -> int:
        return len(self.starts)

    def where(self, index: int) -> str:
        return f"{self.file.path}, image {range(len(self))[index]} ({self.names[index][:100]!r})"

    def encoded(self, index: int) -> bytes:
        start, end = int(self.starts[index]), int(self.ends[index])
        data = self.file.read(start, end - start)
        if len(data) < end - start:
            raise WorkbenchError(f"{self.where(index)}: the file ends within it; it is truncated")
        return data


@SOURCES.register("packed")
def open_packed(path: str) -> Dataset:
    """Open PREFIX.bin through PREFIX.idx; either file, too, names both. The classes are the labels, in order of number."""
    prefix = path[:-4] if path.endswith((".bin", ".idx")) else path
    if not prefix or not os.path.basename(prefix):
        raise WorkbenchError(
            "packed: needs a path behind the colon, packed:PREFIX for PREFIX.bin and PREFIX.idx"
        )
    pictures, index = (
        existing(f"{prefix}.bin", "packed", "file"),
        existing(f"{prefix}.idx", "packed", "file"),
    )
    names, labels, starts, ends = _read_index(index)
    _check_ranges(index, pictures, starts, ends)
    identities, classes = number_identities(labels)
    files = Texts.of(names)
    return Dataset(
        pictures.stem,
        RangeImages(SharedFile(pictures), starts, ends, files),
        identities,
        classes,
        {"file": files},
    )


def _read_index(
    index: Path,
) -> tuple[list[bytes], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The four columns. All lines are split at once: a million takes a second."""
    text = (
        images.read_bytes(index)
        .removeprefix(codecs.BOM_UTF8)
        .replace(b"\r\n", b"\n")
        .removesuffix(b"\n")
    )
    if (
        b"\t" not in text
    ):  # the path is what is before the last three columns, as it may hold blanks
        text = re.sub(rb"(?m) +([0-9]+) +([0-9]+) +([0-9]+) *$", rb"\t\1\t\2\t\3", text)
    fields = (b"\n" + text).replace(b"\n", b"\t\n").split(b"\t")[1:]
    names, rest = fields[0::4], fields[1::4] + fields[2::4] + fields[3::4]
    # A line's first field begins with its line feed, so that no line has a field more that its neighbour lacks.
    if (
        len(fields) % 4
        or not all(name.startswith(b"\n") for name in names)
        or not all(map(_is_number, rest))
    ):
        raise _first_fault(index, text)
    table = np.array(rest, dtype="S18").astype(np.int64).reshape(3, -1)
    return [name[1:] for name in names], table[0], table[1], table[2]


def _is_number(field: bytes) -> bool:
    return field.isdigit() and len(field) <= 18


def _first_fault(index: Path, text: bytes) -> WorkbenchError:
    for number, line in enumerate(text.split(b"\n"), 1):
        fields = line.split(b"\t")
        if len(fields) != 4 or not all(map(_is_number, fields[1:])):
            return WorkbenchError(
                f"{index}, line {number}: expected 'path<TAB>label<TAB>start<TAB>end', found {_shown(line)}"
            )
    return WorkbenchError(f"{index}: expected lines 'path<TAB>label<TAB>start<TAB>end'")


def _shown(line: bytes) -> str:
    return repr(line[:80].decode("utf-8", "replace"))


def _check_ranges(
    index: Path, pictures: Path, starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> None:
    size = pictures.stat().st_size
    if ends[-1] < size:  # an index that was cut off would leave images out without a word
        raise WorkbenchError(
            f"{index}: ends at byte {ends[-1]:,}, but {pictures.name} has {size:,}; truncated, or of another set?"
        )
    behind = np.concatenate([[0], ends[:-1]])
    for wrong, reason in (
        (ends > size, f"but {pictures.name} has {size:,} bytes; truncated, or of another set?"),
        (starts >= ends, "which holds no image"),
        (starts < behind, "which begins before the image of the line before it ends"),
        (ends - starts > LARGEST, f"more than the {LARGEST:,} bytes of any image that is decoded"),
    ):
        if wrong.any():
            line = int(np.argmax(wrong))
            raise WorkbenchError(
                f"{index}, line {line + 1}: bytes {starts[line]} to {ends[line]}, {reason}"
            )
