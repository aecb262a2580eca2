"""`tfrecord:FILE` - TFRecord files of faces, with the features of arcface-tf2 or of InsightFace_TF.

A record is its length (8 bytes), the length's checksum, the data, their checksum; the data are an `Example` message.
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
from workbench.data.io.indexes import Arrays, Texts, remembered
from workbench.data.io.list_files import Place
from workbench.data.io.paths import with_options
from workbench.data.io.protobuf import Feature, features, first_bytes, first_integer
from workbench.data.io.reading import SharedFiles
from workbench.data.registry import SOURCES, existing
from workbench.errors import WorkbenchError

HEADER = struct.Struct("<QI")  # length, its checksum; behind the data follows theirs
LABELS = (b"image/source_id", b"label")
PICTURES = (b"image/encoded", b"image_raw")
PATH, NAME = b"image/img_path", b"image/filename"
COLUMNS = ("files", "offsets", "lengths", "begins", "ends", "paths", "labels")
"""What the index has of each record."""
DAMAGED = "damaged (its checksum is wrong)"


class Record(NamedTuple):
    """One record, and where its features are in it."""

    data: bytes
    features: dict[bytes, Feature]

    def first_of(self, names: tuple[bytes, ...]) -> Feature | None:
        """The first feature of these names that is there."""
        return next((self.features[name] for name in names if name in self.features), None)


def _sound(data: bytes, expected: int) -> bool:
    """TFRecord turns and shifts its checksums, so that those of data which contain checksums differ."""
    crc: int = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF == expected


def _parse(data: bytes, where: str) -> Record:
    try:
        return Record(data, features(data))
    except ValueError as error:
        raise WorkbenchError(f"{where}: not an Example message ({error})") from None


def _records(file: Path, bar: Any) -> Iterator[tuple[int, int, str, Record]]:
    """Offset and length of the data of each record, what to call it, and the record."""
    size, at, number = file.stat().st_size, 0, 0
    with file.open("rb") as stream:
        while at < size:
            where = f"{file}, record {number}"
            header = stream.read(HEADER.size)
            if header[:3] == b"\x1f\x8b\x08" and number == 0:
                raise WorkbenchError(
                    f"{file}: is compressed; gunzip it first, so that pictures can be read from anywhere in it"
                )
            if len(header) < HEADER.size:
                raise WorkbenchError(
                    f"{where}: the file ends at the record's length; it is truncated"
                )
            length, checksum = HEADER.unpack(header)
            if not _sound(header[:8], checksum):
                raise WorkbenchError(f"{where}: {DAMAGED}")
            begin = at + HEADER.size
            if length > size - begin - 4:  # nothing is read, so a wrong length takes no memory
                raise WorkbenchError(
                    f"{where}: {length:,} bytes long, but {max(size - begin - 4, 0):,} follow; truncated, or no TFRecord"
                )
            if length > images.MAX_PIXELS * 4:
                raise WorkbenchError(
                    f"{where}: {length:,} bytes long, more than any picture that is decoded"
                )
            data, tail = stream.read(length), stream.read(4)
            if len(data) < length or len(tail) < 4:
                raise WorkbenchError(f"{where}: the file became shorter while it was read")
            if not _sound(data, int.from_bytes(tail, "little")):
                raise WorkbenchError(f"{where}: {DAMAGED}")
            yield begin, length, where, _parse(data, where)
            bar.update(begin + length + 4 - at)
            at, number = begin + length + 4, number + 1


@dataclass(frozen=True)
class TFRecordImages(EncodedImages):
    """The images of TFRecord files.

    Attributes:
        files: the files.
        file_of: (N,) number of the file that holds each record.
        offsets, lengths: (N,) the bytes of each record's data in its file.
        begins, ends: (N,) where in the data the picture is, or the path of one.
        paths: (N,) which of both.
        names: what the records call the pictures.
        pictures: the folder of those that a record only points to; beside the record file where it is None.
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
        start = self.offsets[index] - HEADER.size
        return f"{self.files.paths[self.file_of[index]]}, record at byte {start} ({self.names[index][:100]!r})"

    def encoded(self, index: int) -> bytes:
        number, length = int(self.file_of[index]), int(self.lengths[index])
        piece = self.files.read(number, int(self.offsets[index]), length + 4)
        if len(piece) < length + 4:
            raise WorkbenchError(f"{self.where(index)}: the file ends within it; it is truncated")
        if not _sound(piece[:length], int.from_bytes(piece[length:], "little")):
            raise WorkbenchError(f"{self.where(index)}: {DAMAGED}")
        found = piece[self.begins[index] : self.ends[index]]
        if not self.paths[index]:
            return found
        folder = self.files.paths[number].parent
        return images.read_bytes(
            self._file(
                folder,
                found.decode("utf-8", "surrogateescape"),
                self.names[index],
                self.where(index),
            )
        )

    def _file(self, folder: Path, path: str, name: str, where: str) -> Path:
        """The picture that a record points to: by its path beside the record file, or by its name in the folder given."""
        root, wanted = (folder, path) if self.pictures is None else (self.pictures, name)
        place = Place(root)
        if (found := place.find(wanted)) is not None:
            return root / found
        if place.leads_out(wanted):
            hint = "" if self.pictures else "; name the pictures' folder, tfrecord:FILE,images=DIR"
            raise WorkbenchError(f"{where}: {wanted[:120]!r} leads out of {root}{hint}")
        raise WorkbenchError(
            f"{where}: {wanted[:120]!r} cannot be read: it is not in {root}{place.hint(wanted)}"
        )


@SOURCES.register("tfrecord")
def open_tfrecord(path: str) -> Dataset:
    """`tfrecord:FILE`, or a pattern such as `tfrecord:train-*.tfrecord`, whose files are one set.

    Each record has `image/source_id` (or `label`), and the picture in `image/encoded` (or `image_raw`), or its path in
    `image/img_path`: looked for beside the record file, and not outside of that folder. With `,images=DIR` it is
    `image/filename` in DIR instead. The files are looked through once; an index of large ones is kept in the cache.
    """
    pattern, options = with_options(path, "tfrecord", ("images",))
    whole = os.path.expanduser(pattern)
    matches = (
        []
        if os.path.isfile(whole) or not glob.has_magic(whole)
        else sorted(glob.glob(whole, recursive=True))
    )
    files = [Path(match) for match in matches if os.path.isfile(match)] or [
        existing(pattern, "tfrecord", "file")
    ]
    pictures = existing(options["images"], "tfrecord", "folder") if "images" in options else None
    found = remembered("tfrecord", files, [], lambda: _index(files))
    names = Texts(found["names"], found["name_ends"])
    file_of, offsets, lengths, begins, ends, paths, labels = (found[column] for column in COLUMNS)
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


def _index(files: list[Path]) -> Arrays:
    """Where the records and their pictures are, and whose."""
    rows, name_ends, names = (
        array("q"),
        array("q"),
        bytearray(),
    )  # millions of tuples would take ten times the memory
    total = sum(file.stat().st_size for file in files)
    with tqdm(
        total=total, desc="index", unit="B", unit_scale=True, delay=2, dynamic_ncols=True
    ) as bar:
        for number, file in enumerate(files):
            for offset, length, where, record in _records(file, bar):
                label, name = record.first_of(LABELS), record.first_of((NAME, PATH))
                picture = record.first_of((*PICTURES, PATH))
                if label is None or picture is None:
                    there = (
                        ", ".join(
                            sorted(
                                ascii(key.decode("utf-8", "replace")[:40])
                                for key in record.features
                            )[:6]
                        )
                        or "nothing"
                    )
                    raise WorkbenchError(
                        f"{where}: has {there}; expected image/source_id with image/encoded or image/img_path, "
                        "or label with image_raw"
                    )
                try:
                    span = first_bytes(record.data, picture)
                    rows.extend(
                        (
                            number,
                            offset,
                            length,
                            *span,
                            record.first_of(PICTURES) is None,
                            first_integer(record.data, label),
                        )
                    )
                    if name:
                        begin, end = first_bytes(record.data, name)
                        names += record.data[begin:end]
                except ValueError as error:
                    raise WorkbenchError(
                        f"{where}: its label, picture or file name is of the wrong type ({error})"
                    ) from None
                name_ends.append(len(names))
    table = np.array(rows, dtype=np.int64).reshape(-1, len(COLUMNS)).T.copy()
    texts = {
        "names": np.frombuffer(bytes(names), np.uint8),
        "name_ends": np.array(name_ends, dtype=np.int64),
    }
    return {**{column: table[i] for i, column in enumerate(COLUMNS)}, **texts}
