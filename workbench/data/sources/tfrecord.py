"""`tfrecord:FILE` - TFRecord files of faces, with the features of arcface-tf2 or InsightFace_TF.

A record is its length (8 bytes), the checksum of the length, the data, and their checksum. The data
are an `Example` message (`workbench/data/io/protobuf.py`).
"""

from __future__ import annotations

import glob
import os
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray
from tqdm.auto import tqdm

from workbench import images
from workbench.data.dataset import Dataset, EncodedImages, number_identities
from workbench.data.io.indexes import Arrays, Texts, cached_index
from workbench.data.io.list_files import Place
from workbench.data.io.paths import with_options
from workbench.data.io.protobuf import Feature, features, first_bytes, first_integer
from workbench.data.io.reading import SharedFiles
from workbench.data.registry import SOURCES, existing
from workbench.errors import WorkbenchError

HEADER = struct.Struct("<QI")
"""Length of the data and its checksum. The checksum of the data follows the data."""
CHECKSUM_BYTES = 4
LABELS = (b"image/source_id", b"label")
PICTURES = (b"image/encoded", b"image_raw")
PATH, NAME = b"image/img_path", b"image/filename"
COLUMNS = ("files", "offsets", "lengths", "begins", "ends", "paths", "labels")
"""What the index stores of each record, besides its name."""
DAMAGED = "damaged (its checksum is wrong)"


class Record(NamedTuple):
    """A record.

    Attributes:
        data: the bytes of the Example message.
        features: where the values of each feature are in the data.
    """

    data: bytes
    features: dict[bytes, Feature]

    def first_of(self, names: tuple[bytes, ...]) -> Feature | None:
        """Returns the first of these features that the record has."""
        return next((self.features[name] for name in names if name in self.features), None)


def _has_checksum(data: bytes, expected: int) -> bool:
    """Returns whether data have a checksum of TFRecord.

    It is a rotated and shifted CRC-32C, so that data that contain checksums get another one.
    """
    crc: int = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF == expected


def _parse(data: bytes, where: str) -> Record:
    try:
        return Record(data, features(data))
    except ValueError as error:
        raise WorkbenchError(f"{where}: not an Example message ({error})") from None


def _records(file: Path, bar: Any) -> Iterator[tuple[int, str, Record]]:
    """Yields the records of a file.

    Yields:
        Offset of the data of a record, the name of the record for error messages, and the record.
    """
    size, at, number = file.stat().st_size, 0, 0
    with file.open("rb") as stream:
        while at < size:
            where = f"{file}, record {number}"
            header = stream.read(HEADER.size)
            if header[:3] == b"\x1f\x8b\x08" and number == 0:
                raise WorkbenchError(
                    f"{file}: is compressed; gunzip it first, so that images can be read at any "
                    "place in it"
                )
            begin = at + HEADER.size
            length = _length(header, size - begin - CHECKSUM_BYTES, where)
            data, checksum = stream.read(length), stream.read(CHECKSUM_BYTES)
            if len(data) < length or len(checksum) < CHECKSUM_BYTES:
                raise WorkbenchError(f"{where}: the file became shorter while it was read")
            if not _has_checksum(data, int.from_bytes(checksum, "little")):
                raise WorkbenchError(f"{where}: {DAMAGED}")
            yield begin, where, _parse(data, where)
            next_record = begin + length + CHECKSUM_BYTES
            bar.update(next_record - at)
            at, number = next_record, number + 1


def _length(header: bytes, rest: int, where: str) -> int:
    """Returns the length of a record's data, which is checked before any data are read.

    Args:
        header: the first bytes of the record.
        rest: bytes of the file that may belong to the data.
        where: name of the record.
    """
    if len(header) < HEADER.size:
        raise WorkbenchError(f"{where}: the file ends at the record's length; it is truncated")
    length, checksum = HEADER.unpack(header)
    if not _has_checksum(header[:8], checksum):
        raise WorkbenchError(f"{where}: {DAMAGED}")
    if length > rest:
        raise WorkbenchError(
            f"{where}: {length:,} bytes long, but {max(rest, 0):,} follow; "
            "the file is truncated or not a TFRecord file"
        )
    if length > images.MAX_PIXELS * 4:
        raise WorkbenchError(f"{where}: {length:,} bytes long, more than an image may have")
    return int(length)


@dataclass(frozen=True)
class TFRecordImages(EncodedImages):
    """Reader of the images in TFRecord files.

    Attributes:
        files: the files.
        file_of: (N,) int64 number of the file that holds each record.
        offsets: (N,) int64 where the data of each record begin in its file.
        lengths: (N,) int64 bytes of the data of each record.
        begins: (N,) int64 where the image, or its path, begins in the data.
        ends: (N,) int64 where it ends.
        paths: (N,) bool, True if the record holds the path of an image instead of the image.
        names: N names of the images.
        pictures: folder of the images that records only point to; None for the folder of the
            record file.
    """

    files: SharedFiles
    file_of: NDArray[np.int64]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    begins: NDArray[np.int64]
    ends: NDArray[np.int64]
    paths: NDArray[np.bool_]
    names: Texts
    pictures: Path | None

    def __len__(self) -> int:
        return len(self.offsets)

    def where(self, index: int) -> str:
        file = self.files.paths[self.file_of[index]]
        start = self.offsets[index] - HEADER.size
        return f"{file}, record at byte {start} ({self.names[index][:100]!r})"

    def encoded(self, index: int) -> bytes:
        number, length = int(self.file_of[index]), int(self.lengths[index])
        piece = self.files.read(number, int(self.offsets[index]), length + CHECKSUM_BYTES)
        if len(piece) < length + CHECKSUM_BYTES:
            raise WorkbenchError(f"{self.where(index)}: the file ends within it; it is truncated")
        if not _has_checksum(piece[:length], int.from_bytes(piece[length:], "little")):
            raise WorkbenchError(f"{self.where(index)}: {DAMAGED}")
        value = piece[self.begins[index] : self.ends[index]]
        if not self.paths[index]:
            return value
        return images.read_bytes(self._file(index, value.decode("utf-8", "surrogateescape")))

    def _file(self, index: int, path: str) -> Path:
        """Returns the image that a record points to.

        It is found by its path from the folder of the record file, or by its name in `pictures`.
        """
        root, wanted = self.pictures, self.names[index]
        if root is None:
            root, wanted = self.files.paths[int(self.file_of[index])].parent, path
        place, where = Place(root), self.where(index)
        file = place.find(wanted)
        if file is not None:
            return root / file
        if place.leads_out(wanted):
            hint = "" if self.pictures else "; name the folder of images, tfrecord:FILE,images=DIR"
            raise WorkbenchError(f"{where}: {wanted[:120]!r} leads out of {root}{hint}")
        raise WorkbenchError(
            f"{where}: {wanted[:120]!r} cannot be read: it is not in {root}{place.hint(wanted)}"
        )


@SOURCES.register("tfrecord")
def open_tfrecord(path: str) -> Dataset:
    """Opens a TFRecord file, or all files of a pattern such as `train-*.tfrecord` as one data set.

    Each record has a label in `image/source_id` or `label`, and the image in `image/encoded` or
    `image_raw`, or the path of the image in `image/img_path`. A path is relative to the folder of
    the record file and must not lead out of it. With the option `,images=DIR` the image is
    `image/filename` in DIR instead. The files are read once to index them; the index of large files
    is kept in the cache.

    Args:
        path: file or pattern, and options.

    Raises:
        WorkbenchError: if there is no such file, it is damaged, compressed or truncated, or a
            record lacks one of these features.
    """
    pattern, options = with_options(path, "tfrecord", ("images",))
    files = _files(pattern)
    pictures = existing(options["images"], "tfrecord", "folder") if "images" in options else None
    index = cached_index("tfrecord", files, [], lambda: _index(files))
    names = Texts(index["names"], index["name_ends"])
    file_of, offsets, lengths, begins, ends, paths, labels = (index[column] for column in COLUMNS)
    reader = TFRecordImages(
        SharedFiles(files),
        file_of,
        offsets,
        lengths,
        begins,
        ends,
        paths.astype(bool),
        names,
        pictures,
    )
    identities, identity_names = number_identities(labels)
    name = files[0].stem if len(files) == 1 else files[0].resolve().parent.name
    return Dataset(name, reader, identities, identity_names, {"file": names})


def _files(pattern: str) -> list[Path]:
    """Returns the files that a name or a pattern stands for."""
    expanded = os.path.expanduser(pattern)
    if glob.has_magic(expanded) and not os.path.isfile(expanded):
        matches = sorted(glob.glob(expanded, recursive=True))
        if files := [Path(match) for match in matches if os.path.isfile(match)]:
            return files
    return [existing(pattern, "tfrecord", "file")]


def _index(files: list[Path]) -> Arrays:
    """Reads all records and returns where they and their images are, and their labels."""
    # Arrays of numbers and one array of bytes take a tenth of the memory of millions of tuples.
    rows, name_ends, names = array("q"), array("q"), bytearray()
    total = sum(file.stat().st_size for file in files)
    with tqdm(
        total=total, desc="index", unit="B", unit_scale=True, delay=2, dynamic_ncols=True
    ) as bar:
        for number, file in enumerate(files):
            for offset, where, record in _records(file, bar):
                values, name = _row(record, where)
                rows.extend((number, offset, len(record.data), *values))
                names += name
                name_ends.append(len(names))
    table = np.array(rows, dtype=np.int64).reshape(-1, len(COLUMNS)).T.copy()
    return {
        **{column: table[i] for i, column in enumerate(COLUMNS)},
        "names": np.frombuffer(bytes(names), np.uint8),
        "name_ends": np.array(name_ends, dtype=np.int64),
    }


def _row(record: Record, where: str) -> tuple[tuple[int, int, bool, int], bytes]:
    """Returns the last four of `COLUMNS` for a record, and the name of its image."""
    label, name = record.first_of(LABELS), record.first_of((NAME, PATH))
    picture = record.first_of((*PICTURES, PATH))
    if label is None or picture is None:
        keys = sorted(ascii(key.decode("utf-8", "replace")[:40]) for key in record.features)
        raise WorkbenchError(
            f"{where}: has {', '.join(keys[:6]) or 'nothing'}; expected image/source_id with "
            "image/encoded or image/img_path, or label with image_raw"
        )
    try:
        begin, end = first_bytes(record.data, picture)
        is_path = record.first_of(PICTURES) is None
        row = (begin, end, is_path, first_integer(record.data, label))
        if name is None:
            return row, b""
        name_begin, name_end = first_bytes(record.data, name)
        return row, record.data[name_begin:name_end]
    except ValueError as error:
        raise WorkbenchError(
            f"{where}: its label, image or file name is of the wrong type ({error})"
        ) from None
