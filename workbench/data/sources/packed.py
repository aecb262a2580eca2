"""`packed:PREFIX` - images end to end in PREFIX.bin, with a text index in PREFIX.idx.

Each line of the index has a path, a label, and where the image starts and ends. This is the format
of TensorFlow's multi-task training sets (gender, age): the label is the class, which takes the
place of the identity here.
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
"""Largest image in bytes. An index that claims a larger one is wrong."""


@dataclass(frozen=True)
class RangeImages(EncodedImages):
    """Reader of images that are ranges of bytes of a file.

    Attributes:
        file: the file.
        starts: (N,) int64 where each image starts.
        ends: (N,) int64 where each image ends.
        names: N paths of the original images.
    """

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
    """Opens PREFIX.bin and PREFIX.idx. The classes are the labels, in the order of their numbers.

    Args:
        path: PREFIX, PREFIX.bin or PREFIX.idx.

    Raises:
        WorkbenchError: if a file is missing, or the index is malformed or does not fit PREFIX.bin.
    """
    prefix = path[:-4] if path.endswith((".bin", ".idx")) else path
    if not prefix or not os.path.basename(prefix):
        raise WorkbenchError(
            "packed: needs a path after the colon, packed:PREFIX for PREFIX.bin and PREFIX.idx"
        )
    pictures = existing(f"{prefix}.bin", "packed", "file")
    index = existing(f"{prefix}.idx", "packed", "file")
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
    """Returns the four columns. All lines are split at once: a million lines take a second."""
    text = images.read_bytes(index).removeprefix(codecs.BOM_UTF8)
    text = text.replace(b"\r\n", b"\n").removesuffix(b"\n")
    if b"\t" not in text:
        # Spaces separate the columns. The path is what is before the last three, as it may hold
        # spaces itself.
        text = re.sub(rb"(?m) +([0-9]+) +([0-9]+) +([0-9]+) *$", rb"\t\1\t\2\t\3", text)
    # The first field of each line keeps its line feed. This shows if one line has a field too many
    # and the next line has one too few.
    fields = (b"\n" + text).replace(b"\n", b"\t\n").split(b"\t")[1:]
    names, numbers = fields[0::4], fields[1::4] + fields[2::4] + fields[3::4]
    names_begin_lines = all(name.startswith(b"\n") for name in names)
    if len(fields) % 4 or not names_begin_lines or not all(map(_is_number, numbers)):
        raise _first_fault(index, text)
    table = np.array(numbers, dtype="S18").astype(np.int64).reshape(3, -1)
    return [name[1:] for name in names], table[0], table[1], table[2]


def _is_number(field: bytes) -> bool:
    return field.isdigit() and len(field) <= 18


def _first_fault(index: Path, text: bytes) -> WorkbenchError:
    """Returns the error for the first line that does not have the four columns."""
    for number, line in enumerate(text.split(b"\n"), 1):
        fields = line.split(b"\t")
        if len(fields) != 4 or not all(map(_is_number, fields[1:])):
            shown = repr(line[:80].decode("utf-8", "replace"))
            return WorkbenchError(
                f"{index}, line {number}: expected 'path<TAB>label<TAB>start<TAB>end', "
                f"found {shown}"
            )
    return WorkbenchError(f"{index}: expected lines 'path<TAB>label<TAB>start<TAB>end'")


def _check_ranges(
    index: Path, pictures: Path, starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> None:
    """Raises WorkbenchError if the images do not lie in the file one after the other."""
    size = pictures.stat().st_size
    if ends[-1] < size:  # images would be missing if an index was truncated
        raise WorkbenchError(
            f"{index}: ends at byte {ends[-1]:,}, but {pictures.name} has {size:,}; "
            "is it truncated, or of another set?"
        )
    previous_ends = np.concatenate([[0], ends[:-1]])
    beyond = f"but {pictures.name} has {size:,} bytes; is it truncated, or of another set?"
    for wrong, reason in (
        (ends > size, beyond),
        (starts >= ends, "which holds no image"),
        (starts < previous_ends, "which begins before the image of the previous line ends"),
        (ends - starts > LARGEST, f"more than the {LARGEST:,} bytes that an image may have"),
    ):
        if wrong.any():
            line = int(np.argmax(wrong))
            raise WorkbenchError(
                f"{index}, line {line + 1}: bytes {starts[line]} to {ends[line]}, {reason}"
            )
