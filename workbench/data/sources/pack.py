"""`pack:DIR` - any data set as one file of images and a small index: opened in a second, read as fast as the disk allows.

    images.bin    the image files as they were, one behind the other
    index.npz     where each begins, its CRC-32, identities and their names, attributes
    about.json    format, sizes, SHA-256 of the index; written last: a folder without it is not finished

`rendered.py` keeps synthetic people in the same three files.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench import runs
from workbench.data.dataset import Dataset, EncodedImages
from workbench.data.io.indexes import Texts, load
from workbench.data.io.reading import SharedFile
from workbench.data.registry import SOURCES, existing
from workbench.errors import WorkbenchError

PICTURES, INDEX, ABOUT = "images.bin", "index.npz", "about.json"
Arrays = dict[str, Any]
FORMAT, VERSION = "margin workbench pack", 1
LARGEST = 200_000_000
"""Bytes of an image; a longer one is an error of the index."""
COLUMN, TEXT, ENDS = "column:", "text:", "ends:"
"""What attributes are called in the index of a pack: numbers as they are, texts as their bytes in UTF-8 and where each ends."""


@dataclass(frozen=True)
class PackedImages(EncodedImages):
    """Image files in one file; nothing is held in memory but where they begin."""

    file: SharedFile
    offsets: NDArray[np.int64]  # (N + 1,)
    checksums: NDArray[np.uint32]
    remedy: str

    def __len__(self) -> int:
        return len(self.checksums)

    def where(self, index: int) -> str:
        return f"{self.file.path}, image {index}"

    def encoded(self, index: int) -> bytes:
        index = range(len(self))[index]
        begin = int(self.offsets[index])
        try:
            encoded = self.file.read(begin, int(self.offsets[index + 1]) - begin)
        except WorkbenchError as error:
            raise WorkbenchError(f"{error}; {self.remedy}") from None
        if zlib.crc32(encoded) != self.checksums[index]:
            raise WorkbenchError(
                f"{self.where(index)}: damaged (its checksum is wrong); {self.remedy}"
            )
        return encoded


def opened(
    folder: Path, expected: Mapping[str, object], remedy: str
) -> tuple[PackedImages, Arrays, dict[str, Any]]:
    """The images of a finished folder, the columns of its index, and its about.json.

    Sizes and the index are checked now, each image when it is read.

    Args:
        folder: with `PICTURES`, `INDEX` and `ABOUT`.
        expected: what about.json has to say.
        remedy: what to do where it is damaged, for the message.

    Raises:
        WorkbenchError: a file is missing, cut off, changed, or of another set.
    """
    try:
        about = runs.read_json(folder / ABOUT)
        if {key: about.get(key) for key in expected} != dict(expected):
            raise WorkbenchError(f"{ABOUT} is of another set")
        size = (folder / PICTURES).stat().st_size
        if size != about.get("bytes"):
            raise WorkbenchError(f"{PICTURES} has {size:,} bytes, expected {about.get('bytes')}")
        if sha256_of(folder / INDEX) != about.get("index_sha256"):
            raise WorkbenchError(f"{INDEX} was changed or is of another set")
        columns: Arrays = load(folder / INDEX)
        offsets, checksums = columns.pop("offsets"), columns.pop("checksums")
        count = len(checksums)
        if (
            checksums.shape != (about.get("images", count),)
            or offsets.shape != (count + 1,)
            or offsets[-1] != size
        ):
            raise WorkbenchError(f"{INDEX} and {PICTURES} do not belong together")
        lengths = np.diff(offsets)
        if (
            offsets.dtype != np.int64
            or offsets[0] != 0
            or ((lengths < 0) | (lengths > LARGEST)).any()
        ):
            raise WorkbenchError(f"{INDEX} has images that begin or end where none can")
    except Exception as error:  # beside missing files whatever a damaged archive leads to
        raise damaged(folder, error, remedy) from None
    return PackedImages(SharedFile(folder / PICTURES), offsets, checksums, remedy), columns, about


def damaged(folder: Path, error: Exception, remedy: str) -> WorkbenchError:
    """The error of a folder that cannot be opened, in one line."""
    reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())[:160]
    return WorkbenchError(f"{folder}: damaged ({reason or type(error).__name__}); {remedy}")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@SOURCES.register("pack")
def open_pack(path: str) -> Dataset:
    """A folder that `write` (`workbench data pack`) made, with all attributes of what it was made from."""
    folder = existing(path, "pack", "folder")
    if not (folder / ABOUT).is_file():
        why = (
            "writing it was not finished" if (folder / PICTURES).is_file() else f"it has no {ABOUT}"
        )
        raise WorkbenchError(
            f"pack:{path}: not a pack ({why}); write one with `workbench data pack`"
        )
    remedy = "write the pack again"
    about = runs.read_json(folder / ABOUT)
    if about.get("format") == FORMAT and about.get("version") != VERSION:
        raise WorkbenchError(
            f"pack:{path}: of version {about.get('version')}, expected {VERSION}; {remedy}"
        )
    images, columns, _ = opened(folder, {"format": FORMAT}, remedy)
    try:
        names = json.loads(columns.pop("identity_names").tobytes())
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise WorkbenchError("its identity_names are no list of names")
        "\0".join(names).encode("utf-8", "surrogateescape")  # JSON can spell what is no text
        if (identities := columns.pop("identities")).dtype.kind not in "iu":
            raise WorkbenchError("its identities are no whole numbers")
        attributes = {
            key.partition(":")[2]: _column(key, columns)
            for key in columns
            if not key.startswith(ENDS)
        }
        if any(len(column) != len(images) for column in attributes.values()):
            raise WorkbenchError("its columns are of different lengths")
        return Dataset(
            folder.resolve().name, images, identities.astype(np.int64), names, attributes
        )
    except Exception as error:  # of an index with the right checksum, which somebody else wrote
        raise damaged(folder, error, remedy) from None


def _column(key: str, columns: Arrays) -> Sequence[Any]:
    if not key.startswith(TEXT):
        values: Sequence[Any] = columns[key]
        return values
    texts = Texts(columns[key], columns[ENDS + key.removeprefix(TEXT)])
    if not texts.sound:
        raise WorkbenchError("a column of texts is not whole")
    return texts
