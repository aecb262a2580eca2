"""`pack:DIR` - any data set as one file of images and a small index.

A pack is opened in a second and read as fast as the disk allows. It has three files:

    images.bin    the image files unchanged, one after the other
    index.npz     where each image begins, its CRC-32, identities and their names, attributes
    about.json    format, sizes, SHA-256 of the index; it is written last, so that a folder without
                  it is recognised as unfinished

`workbench/data/rendered/store.py` keeps synthetic faces in the same three files.
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
"""Largest image in bytes. An index that claims a larger one is wrong."""
COLUMN, TEXT, ENDS = "column:", "text:", "ends:"
"""Prefixes of attributes in the index of a pack.

Numbers are stored as they are; texts are stored as their bytes in UTF-8 and where each one ends.
"""


@dataclass(frozen=True)
class PackedImages(EncodedImages):
    """Reader of image files in one file.

    Attributes:
        file: images.bin.
        offsets: (N + 1,) int64 where each image begins, and where the last one ends.
        checksums: (N,) uint32 CRC-32 of each image.
        remedy: what to do if an image is damaged, for error messages.
    """

    file: SharedFile
    offsets: NDArray[np.int64]
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
    """Opens a finished folder of the three files.

    Sizes and the index are checked now, and each image when it is read.

    Args:
        folder: the folder.
        expected: values that about.json must have.
        remedy: what to do if the folder is damaged, for error messages.

    Returns:
        The images, the other columns of the index, and the contents of about.json.

    Raises:
        WorkbenchError: if a file is missing, truncated, changed, or of another set.
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
        _check_index(offsets, checksums, about.get("images", len(checksums)), size)
    except Exception as error:  # damaged archives raise much more than OSError
        raise damaged(folder, error, remedy) from None
    return PackedImages(SharedFile(folder / PICTURES), offsets, checksums, remedy), columns, about


def _check_index(
    offsets: NDArray[np.int64], checksums: NDArray[np.uint32], images: object, size: int
) -> None:
    """Raises WorkbenchError if the index does not fit the number of images, or the file's size."""
    count = len(checksums)
    if checksums.shape != (images,) or offsets.shape != (count + 1,) or offsets[-1] != size:
        raise WorkbenchError(f"{INDEX} and {PICTURES} do not belong together")
    lengths = np.diff(offsets)
    impossible = (lengths < 0) | (lengths > LARGEST)
    if offsets.dtype != np.int64 or offsets[0] != 0 or impossible.any():
        raise WorkbenchError(f"{INDEX} has images at impossible places")


def damaged(folder: Path, error: Exception, remedy: str) -> WorkbenchError:
    """Returns the error of a folder that cannot be opened, in one line."""
    reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())[:160]
    return WorkbenchError(f"{folder}: damaged ({reason or type(error).__name__}); {remedy}")


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@SOURCES.register("pack")
def open_pack(path: str) -> Dataset:
    """Opens a pack that `workbench data pack` wrote, with all attributes of the original data set.

    Args:
        path: folder of the pack.

    Raises:
        WorkbenchError: if the folder is not a pack, of another version, unfinished or damaged.
    """
    folder = existing(path, "pack", "folder")
    if not (folder / ABOUT).is_file():
        unfinished = (folder / PICTURES).is_file()
        reason = "writing it was not finished" if unfinished else f"it has no {ABOUT}"
        raise WorkbenchError(
            f"pack:{path}: not a pack ({reason}); write one with `workbench data pack`"
        )
    remedy = "write the pack again"
    about = runs.read_json(folder / ABOUT)
    if about.get("format") == FORMAT and about.get("version") != VERSION:
        raise WorkbenchError(
            f"pack:{path}: has version {about.get('version')}, expected {VERSION}; {remedy}"
        )
    images, columns, _ = opened(folder, {"format": FORMAT}, remedy)
    try:
        return _dataset(folder.resolve().name, images, columns)
    except Exception as error:  # the checksum of the index is right, but another program wrote it
        raise damaged(folder, error, remedy) from None


def _dataset(name: str, images: PackedImages, columns: Arrays) -> Dataset:
    """Returns the data set that the columns of an index describe, after checking them."""
    identity_names = json.loads(columns.pop("identity_names").tobytes())
    is_list = isinstance(identity_names, list)
    if not is_list or not all(isinstance(name, str) for name in identity_names):
        raise WorkbenchError("its identity_names are not a list of names")
    # JSON can spell a lone surrogate, which is not text; encoding it raises an error.
    "\0".join(identity_names).encode("utf-8", "surrogateescape")
    identities = columns.pop("identities")
    if identities.dtype.kind not in "iu":
        raise WorkbenchError("its identities are not whole numbers")
    attributes = {
        key.partition(":")[2]: _column(key, columns) for key in columns if not key.startswith(ENDS)
    }
    if any(len(column) != len(images) for column in attributes.values()):
        raise WorkbenchError("its columns have different lengths")
    return Dataset(name, images, identities.astype(np.int64), identity_names, attributes)


def _column(key: str, columns: Arrays) -> Sequence[Any]:
    if not key.startswith(TEXT):
        values: Sequence[Any] = columns[key]
        return values
    texts = Texts(columns[key], columns[ENDS + key.removeprefix(TEXT)])
    if not texts.sound:
        raise WorkbenchError("a column of texts is incomplete")
    return texts
