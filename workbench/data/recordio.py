"""`recordio:DIR` - MXNet RecordIO as InsightFace's training sets have it: train.rec, train.idx, property."""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workbench.data.dataset import Dataset, EncodedImages, number_identities
from workbench.data.registry import SOURCES, existing
from workbench.errors import WorkbenchError

MAGIC = 0xCED7230A
FRAME = struct.Struct("<II")  # magic; part kind in the upper 3 bits, length in the lower 29
HEADER = struct.Struct("<IfQQ")  # flag, label, id, id2


class Record(NamedTuple):
    """One record: the labels (one, or `flag` many) and what follows them."""

    labels: tuple[float, ...]
    payload: bytes


def read_record(file: BinaryIO, offset: int, where: str) -> Record:
    """Read the record that starts at `offset`, joining its parts where it is split.

    Raises:
        WorkbenchError: the file ends early, or there is no record at that place.
    """
    file.seek(offset)
    data = bytearray()
    while True:
        frame = file.read(FRAME.size)
        if len(frame) < FRAME.size:
            raise WorkbenchError(f"{where}: the file ends at a record's frame (byte {offset}); it is truncated")
        magic, coded = FRAME.unpack(frame)
        if magic != MAGIC:
            raise WorkbenchError(f"{where}: no record at byte {offset} (magic {magic:#x}, expected {MAGIC:#x}); wrong .idx?")
        kind, length = coded >> 29, coded & ((1 << 29) - 1)
        part = file.read(length)
        if len(part) < length:
            raise WorkbenchError(f"{where}: the file ends within the record at byte {offset}; it is truncated")
        data += part
        if kind in (0, 3):
            return _parse(bytes(data), where, offset)
        data += struct.pack("<I", MAGIC)  # a payload is split where it contains the magic itself
        file.seek(-length % 4, 1)


def _parse(data: bytes, where: str, offset: int) -> Record:
    if len(data) < HEADER.size:
        raise WorkbenchError(f"{where}: record at byte {offset} has {len(data)} bytes, less than its header of {HEADER.size}")
    flag, label, _, _ = HEADER.unpack_from(data)
    if flag == 0:
        return Record((label,), data[HEADER.size :])
    end = HEADER.size + 4 * flag
    if end > len(data):
        raise WorkbenchError(f"{where}: record at byte {offset} announces {flag} labels in {len(data)} bytes")
    return Record(struct.unpack_from(f"<{flag}f", data, HEADER.size), data[end:])


@dataclass(frozen=True)
class RecordImages(EncodedImages):
    """The images of a .rec file. The file is opened anew for each, so that loader processes never share a position."""

    path: Path
    keys: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets)

    def where(self, index: int) -> str:
        return f"{self.path}, record {self.keys[index]}"

    def encoded(self, index: int) -> bytes:
        with self.path.open("rb") as file:
            return read_record(file, int(self.offsets[index]), self.where(index)).payload


@SOURCES.register("recordio")
def open_recordio(path: str) -> Dataset:
    """Open DIR/train.rec through DIR/train.idx, with or without the header record 0 that gives identity ranges."""
    root = existing(path, "recordio", "folder")
    rec, idx = root / "train.rec", root / "train.idx"
    for file in (rec, idx):
        if not file.is_file():
            raise WorkbenchError(f"recordio:{path}: {file.name} is missing; expected train.rec and train.idx in the folder")
    offset_of = _read_index(idx, rec)
    with rec.open("rb") as stream:
        first = read_record(stream, offset_of[min(offset_of)], f"{rec}, record {min(offset_of)}")
        if min(offset_of) == 0 and len(first.labels) >= 2 and not first.payload:
            keys, labels = _from_ranges(stream, rec, offset_of, first)
        else:
            keys = sorted(offset_of)
            labels = [read_record(stream, offset_of[key], f"{rec}, record {key}").labels[0] for key in keys]
    values = np.array(labels)
    whole = (np.abs(values) < 2**53) & (np.floor(values) == values)  # False for NaN
    if not whole.all():
        wrong = int(np.argmin(whole))
        raise WorkbenchError(f"{rec}, record {keys[wrong]}: the label {labels[wrong]} is not the number of an identity")
    identities, names = number_identities(values.astype(np.int64))
    offsets = np.array([offset_of[key] for key in keys], dtype=np.int64)
    reader = RecordImages(rec, np.array(keys, dtype=np.int64), offsets)
    return Dataset(root.resolve().name, reader, identities, names)


def _read_index(path: Path, rec: Path) -> dict[int, int]:
    """key -> offset. Raises WorkbenchError for an empty or malformed index, or one that leads past the end of `rec`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy only warns of an empty file and of fractions
            table = np.loadtxt(path, dtype=np.int64, delimiter="\t", ndmin=2)
    except (ValueError, Warning) as error:
        raise WorkbenchError(f"{path}: expected lines 'key<TAB>offset' ({error})") from None
    if table.shape[1:] != (2,) or len(table) == 0 or table.min() < 0:
        raise WorkbenchError(f"{path}: expected lines 'key<TAB>offset', found a table of shape {table.shape}")
    last, size = int(table[:, 1].max()), rec.stat().st_size
    if last >= size:
        raise WorkbenchError(f"{path}: a record at byte {last}, but {rec} has {size} bytes; truncated, or of another set?")
    return dict(zip(table[:, 0].tolist(), table[:, 1].tolist(), strict=True))


def _from_ranges(file: BinaryIO, rec: Path, offset_of: dict[int, int], first: Record) -> tuple[list[int], list[float]]:
    """Keys of the images and their labels, from record 0 and the identity records: one look per identity, not per image."""
    if not 1 <= first.labels[0] <= first.labels[1] <= max(offset_of) + 1:
        raise WorkbenchError(f"{rec}, record 0: expected a range of keys in 1..{max(offset_of) + 1}, found {first.labels[:2]}")
    begin, end = int(first.labels[0]), int(first.labels[1])
    keys: list[int] = []
    labels: list[float] = []

    def at(key: int) -> Record:
        if key not in offset_of:
            raise WorkbenchError(f"{rec}: record 0 speaks of key {key}, which the .idx does not have")
        return read_record(file, offset_of[key], f"{rec}, record {key}")

    for identity in range(begin, end):
        span = at(identity).labels
        if len(span) < 2 or not 1 <= span[0] <= span[1] <= begin:
            raise WorkbenchError(f"{rec}, record {identity}: expected a range of image keys in 1..{begin}, found {span[:2]}")
        members = range(int(span[0]), int(span[1]))
        if len(keys) + len(members) >= begin:
            raise WorkbenchError(f"{rec}, record {identity}: its images {span[:2]} belong to another identity already")
        missing = next((key for key in members if key not in offset_of), None)
        if missing is not None:
            raise WorkbenchError(f"{rec}, record {identity}: names image {missing}, which the .idx does not have")
        if members:
            keys += members
            labels += [at(members[0]).labels[0]] * len(members)
    return keys, labels
