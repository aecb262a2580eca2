"""`recordio:DIR` - MXNet RecordIO as InsightFace's training sets have it: train.rec, train.idx, property."""

from __future__ import annotations

import os
import struct
import warnings
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from workbench.data.dataset import Dataset, EncodedImages, number_identities
from workbench.data.io.indexes import remembered
from workbench.data.io.reading import SharedFile
from workbench.data.io.tables import line_of
from workbench.data.registry import SOURCES, existing
from workbench.errors import WorkbenchError

MAGIC = 0xCED7230A
FRAME = struct.Struct("<II")  # magic; part kind in the upper 3 bits, length in the lower 29
HEADER = struct.Struct("<IfQQ")  # flag, label, id, id2

GUESS, FARTHEST = 2**15, 2**20
"""Bytes read of a record whose length is not known, and the most that are read where the .idx tells the next one's place."""
CHUNK = 2**22
"""Bytes of an .idx that are parsed at once."""
LARGEST, MOST_PARTS = 200_000_000, 1000
"""Bytes of a record, and the parts that it is split into, one more than it contains the magic."""
GROUP, DENSE = 512, 2**14
"""Records whose labels are read at once; in one piece, where there are on average no more bytes than this to a record."""
EXACT = 2**24
"""Up to there float32, in which record 0 and the identities' records have their ranges of keys, knows every whole number."""
NAMES = "identities.txt"
"""Beside the .rec, of label 0, 1, ... a line each: no other program's, and not needed."""

Keys = NDArray[np.int64] | range


class Record(NamedTuple):
    """One record: the labels (one, or `flag` many) and what follows them."""

    labels: tuple[float, ...]
    payload: bytes


def read_record(file: SharedFile, offset: int, where: str, expected: int = GUESS) -> Record:
    """Read the record that starts at `offset`, joining its parts where it is split.

    Args:
        file: the .rec file.
        offset: byte at which the record's frame begins.
        where: what to call the record in an error.
        expected: bytes that the record probably takes with its frame; if that is enough, the file is read once.

    Raises:
        WorkbenchError: the file ends early, or there is no record at that place.
    """
    piece = file.read(offset, expected)
    if len(piece) >= FRAME.size:
        magic, coded = FRAME.unpack_from(piece)
        if magic == MAGIC and FRAME.size + coded <= len(
            piece
        ):  # of one part: its kind, 0, leaves the length alone
            return _parse(piece, FRAME.size, FRAME.size + coded, where, offset)
    at, size, data, parts = offset, file.size, bytearray(), 0
    while True:
        frame = file.read(at, FRAME.size)
        if len(frame) < FRAME.size:
            raise WorkbenchError(
                f"{where}: the file ends at a record's frame (byte {offset}); it is truncated"
            )
        magic, coded = FRAME.unpack(frame)
        if magic != MAGIC:
            raise WorkbenchError(
                f"{where}: no record at byte {offset} (magic {magic:#x}, expected {MAGIC:#x}); wrong .idx?"
            )
        kind, length = coded >> 29, coded & ((1 << 29) - 1)
        at += FRAME.size
        parts += 1
        if parts > MOST_PARTS or len(data) + length > LARGEST:
            raise WorkbenchError(
                f"{where}: the record at byte {offset} is larger, or in more parts, than any picture"
            )
        part = (
            file.read(at, length) if at + length <= size else b""
        )  # nothing is read, so a wrong length takes no memory
        if len(part) < length:
            raise WorkbenchError(
                f"{where}: the file ends within the record at byte {offset}; it is truncated"
            )
        data += part
        if kind in (0, 3):
            return _parse(bytes(data), 0, len(data), where, offset)
        data += struct.pack("<I", MAGIC)  # a payload is split where it contains the magic itself
        at += length + -length % 4


def _parse(data: bytes, begin: int, end: int, where: str, offset: int) -> Record:
    """The record in data[begin:end]."""
    if end - begin < HEADER.size:
        raise WorkbenchError(
            f"{where}: record at byte {offset} has {end - begin} bytes, less than its header of {HEADER.size}"
        )
    flag, label, _, _ = HEADER.unpack_from(data, begin)
    begin += HEADER.size
    if flag == 0:
        return Record((label,), data[begin:end])
    if begin + 4 * flag > end:
        raise WorkbenchError(
            f"{where}: record at byte {offset} announces {flag} labels in {end - begin + HEADER.size} bytes"
        )
    return Record(struct.unpack_from(f"<{flag}f", data, begin), data[begin + 4 * flag : end])


@dataclass(frozen=True)
class RecordImages(EncodedImages):
    """The images of a .rec file."""

    file: SharedFile
    keys: Keys
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets)

    def where(self, index: int) -> str:
        return f"{self.file.path}, record {self.keys[index]}"

    def encoded(self, index: int) -> bytes:
        offset = int(self.offsets[index])
        behind = int(self.offsets[index + 1]) - offset if index + 1 < len(self.offsets) else 0
        return read_record(
            self.file, offset, self.where(index), behind if 0 < behind <= FARTHEST else GUESS
        ).payload


@SOURCES.register("recordio")
def open_recordio(path: str) -> Dataset:
    """`recordio:DIR` for DIR/train.rec, or the only .rec in DIR; `recordio:FILE.rec` for another. The .idx lies beside it.

    A header record 0 gives ranges of keys for each identity, and the label of one image of each is read; images in no range, or
    beyond the 2^24 keys that float32 tells apart, say themselves whose they are. Without it, or where it holds one label alone,
    each image's label is read once, and kept in the cache where that takes long. `property` and a .lst are not looked at: the
    records say it all.
    """
    rec = _rec_file(path)
    idx = rec.with_suffix(".idx")
    if not idx.is_file():
        raise WorkbenchError(
            f"recordio:{path}: {idx.name} is missing; expected it beside {rec.name} (MXNet's tools/rec2idx.py makes it)"
        )
    keys, offsets = _read_index(idx, rec)
    file = SharedFile(rec)
    first = read_record(file, int(offsets[0]), f"{rec}, record {keys[0]}")
    headed = keys[0] == 0 and not first.payload
    if headed and len(first.labels) == 1:
        keys, offsets = _behind_header(file, keys, offsets, first.labels[0])
    if headed and len(first.labels) >= 2:
        lows, highs = _ranges(file, keys, offsets, first)
        of_each, people = _labels_of(file, idx, _keys_at(keys, lows), offsets[lows])
        identities = np.repeat(of_each, highs - lows)
        chosen = _one_behind_the_other(lows, highs)
        keys, offsets = _keys_at(keys, chosen), offsets[chosen]
    else:
        identities, people = _labels_of(file, idx, keys, offsets)
    name = (
        rec.stem
        if rec.stem != "train" and path.endswith(".rec")
        else rec.resolve().parent.name.removesuffix(".rec")
    )
    return Dataset(
        name, RecordImages(file, keys, offsets), identities, _names(rec.with_name(NAMES), people)
    )


def _behind_header(
    file: SharedFile, keys: Keys, offsets: NDArray[np.int64], said: float
) -> tuple[Keys, NDArray[np.int64]]:
    """The images behind a record 0 of one label, which is the key behind the last image: what holds no picture there is none."""
    begin = int(said) if 1 <= said <= int(keys[-1]) else int(keys[-1]) + 1
    first = int(_positions(keys, np.array([begin]))[0])
    records = (
        read_record(file, int(offsets[i]), f"{file.path}, record {keys[i]}")
        for i in range(first, len(keys))
    )
    chosen = np.concatenate(
        [
            np.arange(1, first),
            np.array([first + i for i, record in enumerate(records) if record.payload], int),
        ]
    )
    if not len(chosen):
        raise WorkbenchError(f"{file.path}: holds no images, record 0 alone")
    return _keys_at(keys, chosen), offsets[chosen]


def _names(file: Path, labels: list[str]) -> list[str]:
    """The identities' names where `write_recordio` has left a list of them, else their labels."""
    if not file.is_file():
        return labels
    names = (
        file.read_text(encoding="utf-8", errors="surrogateescape").removesuffix("\n").split("\n")
    )
    if last := next((label for label in labels if not 0 <= int(label) < len(names)), None):
        raise WorkbenchError(
            f"{file}: {len(names):,} names, but an image has label {last}; of another set? Remove it if so"
        )
    return [names[int(label)] for label in labels]


def _rec_file(path: str) -> Path:
    if path.endswith(".rec") and not os.path.isdir(os.path.expanduser(path)):
        return existing(path, "recordio", "file")
    root = existing(path, "recordio", "folder")
    found = sorted(root.glob("*.rec"))
    if root / "train.rec" in found:
        return root / "train.rec"
    if not found:
        raise WorkbenchError(
            f"recordio:{path}: train.rec is missing; expected train.rec and train.idx in the folder"
        )
    if len(found) > 1:
        names = ", ".join(file.name for file in found[:5])
        raise WorkbenchError(
            f"recordio:{path}: has {names}; name one of them, e.g. recordio:{root / found[0].name}"
        )
    return found[0]


def _read_index(path: Path, rec: Path) -> tuple[Keys, NDArray[np.int64]]:
    """Keys in ascending order, each once, and the place of each one's record; keys without a gap are a range.

    Raises:
        WorkbenchError: an empty or malformed index, or one that leads past the end of `rec`.
    """
    keys: list[Keys] = []
    offsets: list[NDArray[np.int64]] = []
    with path.open("rb") as lines:
        while block := lines.read(CHUNK):
            table = _parsed(block + lines.readline(), path)
            keys.append(_as_range(table[:, 0]))
            offsets.append(table[:, 1].copy())
    if not keys:
        raise WorkbenchError(f"{path}: is empty, expected lines 'key<TAB>offset'")
    places = np.concatenate(offsets)
    last, size = int(places.max()), rec.stat().st_size
    if last >= size:
        raise WorkbenchError(
            f"{path}: a record at byte {last}, but {rec} has {size} bytes; truncated, or of another set?"
        )
    numbers, places = _one_place_each(keys, places, path)
    _check_places(numbers, places, path, rec)
    return numbers, places


def _one_place_each(
    keys: list[Keys], places: NDArray[np.int64], path: Path
) -> tuple[Keys, NDArray[np.int64]]:
    """The keys in ascending order, each once, with the place of each."""
    if all(isinstance(part, range) for part in keys) and all(
        a[-1] + 1 == b[0] for a, b in pairwise(keys)
    ):
        return range(int(keys[0][0]), int(keys[-1][-1]) + 1), places
    numbers = np.concatenate([np.asarray(part, dtype=np.int64) for part in keys])
    order = np.argsort(numbers, kind="stable")
    numbers, places = numbers[order], places[order]
    again = numbers[1:] == numbers[:-1]
    if (two := again & (places[1:] != places[:-1])).any():
        at = int(np.argmax(two))
        first, second = (line_of(path, int(order[i])) for i in (at, at + 1))
        raise WorkbenchError(
            f"{path}, lines {first} and {second}: key {numbers[at]} is at two places, bytes {places[at]} and {places[at + 1]}"
        )
    each = np.append(True, ~again)
    return _as_range(numbers[each]), places[each]


def _check_places(keys: Keys, places: NDArray[np.int64], path: Path, rec: Path) -> None:
    """Two keys with one record would be an image twice, perhaps of two people."""
    if (places[1:] > places[:-1]).all():
        return
    order = np.argsort(places, kind="stable")
    if (again := np.diff(places[order]) == 0).any():
        at = int(np.argmax(again))
        one, other = (int(keys[i]) for i in order[at : at + 2].tolist())
        raise WorkbenchError(
            f"{path}: keys {one} and {other} both lead to the record at byte {places[order[at]]} of {rec.name}"
        )


def _parsed(lines: bytes, path: Path) -> NDArray[np.int64]:
    """(n, 2) numbers of a piece of an index."""
    lines = lines if lines.endswith(b"\n") else lines + b"\n"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy only warns of an empty file and of fractions
            between = np.frombuffer(lines, dtype=np.uint8)
            between = between[between < ord("0")]
            if not len(between) % 2 and (between.reshape(-1, 2) == (ord("\t"), ord("\n"))).all():
                numbers = np.fromstring(lines, dtype=np.int64, sep=" ")
                if len(numbers) == len(between):
                    return numbers.reshape(-1, 2)
            table = np.loadtxt(
                lines.decode("utf-8", "replace").splitlines(), dtype=np.int64, ndmin=2
            )
    except (ValueError, Warning) as error:
        raise WorkbenchError(f"{path}: expected lines 'key<TAB>offset' ({error})") from None
    if table.shape[1:] != (2,) or len(table) == 0 or table.min() < 0:
        raise WorkbenchError(
            f"{path}: expected lines 'key<TAB>offset', found a table of shape {table.shape}"
        )
    return table


def _as_range(keys: NDArray[np.int64]) -> Keys:
    first, last = int(keys[0]), int(keys[-1])
    whole = last - first == len(keys) - 1 and bool((keys[1:] - keys[:-1] == 1).all())
    return range(first, last + 1) if whole else keys


def _keys_at(keys: Keys, chosen: NDArray[np.int64] | slice) -> Keys:
    if isinstance(keys, range):
        return keys[chosen] if isinstance(chosen, slice) else chosen + keys.start
    return keys[chosen]


def _positions(keys: Keys, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many keys are lower than each wanted one; its place, where it is there."""
    found = (
        np.clip(wanted - keys.start, 0, len(keys))
        if isinstance(keys, range)
        else np.searchsorted(keys, wanted)
    )
    return found.astype(np.int64)


def _ranges(
    file: SharedFile, keys: Keys, offsets: NDArray[np.int64], first: Record
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where among the keys the images of each identity begin and end, from record 0 and the identities' records.

    An image that is in no identity's range, or whose key float32 need not know, is a range of its own.
    """
    rec, most = file.path, int(keys[-1]) + 1
    said, last = first.labels[:2]
    if not 1 <= said <= last <= np.float32(most):
        raise WorkbenchError(
            f"{rec}, record 0: expected a range of keys in 1..{most}, found {first.labels[:2]}"
        )
    begin, end = _first_range(file, keys, offsets, int(said)), min(int(last), most)
    start, exact, images, stop = _positions(
        keys, np.array([1, min(EXACT, begin), begin, end])
    ).tolist()
    if stop - images < end - begin:
        there = np.asarray(keys[images:stop])
        missing = begin + int(np.argmin(np.append(there == begin + np.arange(len(there)), False)))
        raise WorkbenchError(
            f"{rec}: record 0 speaks of key {missing}, which the .idx does not have"
        )
    spans = _labels(file, keys[images:stop], offsets[images:stop], 2)
    good = (
        (spans[:, 0] >= 1) & (spans[:, 0] <= spans[:, 1]) & (spans[:, 1] <= np.float32(begin))
    )  # False for NaN
    if not good.all():
        wrong = int(np.argmin(good))
        found = tuple(spans[wrong].tolist())
        raise WorkbenchError(
            f"{rec}, record {begin + wrong}: expected a range of image keys in 1..{begin}, found {found}"
        )
    known = np.minimum(spans, min(EXACT, begin)).astype(np.int64)
    lows, highs = (_positions(keys, known[:, i]) for i in (0, 1))
    whole = highs - lows == known[:, 1] - known[:, 0]
    if not whole.all():
        wrong = int(np.argmin(whole))
        found = tuple(spans[wrong].tolist())
        raise WorkbenchError(
            f"{rec}, record {begin + wrong}: names images {found}, of which the .idx does not have all"
        )
    shown = highs > lows
    if not shown.any():
        raise WorkbenchError(f"{rec}: none of its {end - begin} identities has an image")
    lows, highs = lows[shown], highs[shown]
    order = np.argsort(lows)
    behind, ahead = np.concatenate([[start], highs[order]]), np.concatenate([lows[order], [exact]])
    if (behind > ahead).any():
        raise WorkbenchError(
            f"{rec}: its identities have {(highs - lows).sum()} images; some belong to several identities"
        )
    gaps = np.flatnonzero(ahead > behind)
    alone = [np.arange(behind[gap], ahead[gap]) for gap in gaps] + [np.arange(exact, images)]
    return np.concatenate([lows, *alone]), np.concatenate(
        [highs, *(numbers + 1 for numbers in alone)]
    )


def _first_range(file: SharedFile, keys: Keys, offsets: NDArray[np.int64], said: int) -> int:
    """The key of the first identity's record, which record 0 says to be `said`, rounded to float32."""
    error = int(np.spacing(np.float32(said)) / 2)
    near = _positions(keys, np.array([said - error, said + error + 1])).tolist()
    for number in range(*near) if error else ():
        record = read_record(file, int(offsets[number]), f"{file.path}, record {keys[number]}")
        if len(record.labels) == 2 and not record.payload:
            return int(keys[number])
    return said


def _one_behind_the_other(
    lows: NDArray[np.int64], highs: NDArray[np.int64]
) -> NDArray[np.int64] | slice:
    """The numbers of several ranges; a slice, which copies nothing, where each begins at the end of the one before."""
    if (lows[1:] == highs[:-1]).all():
        return slice(int(lows[0]), int(highs[-1]))
    counts = highs - lows
    return np.repeat(lows - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())


def _labels_of(
    file: SharedFile, idx: Path, keys: Keys, offsets: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[str]]:
    """Identities 0..C-1 of the images in these records, and their names: the first label of each record."""

    def make() -> dict[str, NDArray[np.float32]]:
        return {"labels": _labels(file, keys, offsets, 1)[:, 0]}

    values = remembered("recordio", [file.path, idx], [], make).get("labels", np.empty(0))
    if values.shape != offsets.shape or values.dtype != np.float32:
        values = make()["labels"]
    whole = (values >= 0) & (values < 2**53) & (np.floor(values) == values)  # False for NaN
    if not whole.all():
        wrong = int(np.argmin(whole))
        raise WorkbenchError(
            f"{file.path}, record {keys[wrong]}: the label {values[wrong]:g} is not the number of an identity, 0 or more"
        )
    return number_identities(
        values.astype(np.int32 if np.abs(values).max() < 2**31 else np.int64)
    )  # half the memory


def _labels(
    file: SharedFile, keys: Keys, offsets: NDArray[np.int64], count: int
) -> NDArray[np.float32]:
    """(n, count) first labels of each record, NaN where it has fewer. The file is read from its begin to its end, once."""
    order = None if (offsets[1:] > offsets[:-1]).all() else np.argsort(offsets)
    found = np.empty((len(offsets), count), dtype=np.float32)
    with tqdm(total=len(offsets), desc="labels", unit="record", delay=2, dynamic_ncols=True) as bar:
        for begin in range(0, len(offsets), GROUP):
            group = (
                np.arange(begin, min(begin + GROUP, len(offsets)))
                if order is None
                else order[begin : begin + GROUP]
            )
            found[group], known = _first_labels(file, offsets[group], count)
            for number in group[~known].tolist():
                record = read_record(
                    file, int(offsets[number]), f"{file.path}, record {keys[number]}"
                )
                found[number] = (*record.labels, *[np.nan] * count)[:count]
            bar.update(len(group))
    return found


def _first_labels(
    file: SharedFile, offsets: NDArray[np.int64], count: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(n, count) labels of records in the order they lie in, and which of them are sound and of one part; the rest is not known."""
    numbers = [
        ("magic", "<u4"),
        ("coded", "<u4"),
        ("flag", "<u4"),
        ("label", "<f4"),
        ("id", "<u8"),
        ("id2", "<u8"),
    ]
    head = np.dtype([*numbers, ("more", "<f4", (count,))])
    low, high = int(offsets[0]), int(offsets[-1]) + head.itemsize
    if high - low <= DENSE * len(offsets):
        piece = np.frombuffer(file.read(low, high - low).ljust(high - low, b"\0"), dtype=np.uint8)
        raw = piece[(offsets - low)[:, None] + np.arange(head.itemsize)].tobytes()
    else:
        raw = b"".join(
            file.read(at, head.itemsize).ljust(head.itemsize, b"\0") for at in offsets.tolist()
        )
    heads = np.frombuffer(raw, dtype=head)
    length, flag = (
        heads["coded"].astype(np.int64),
        heads["flag"].astype(np.int64),
    )  # of several parts: longer than any record
    known = (heads["magic"] == MAGIC) & (length < 1 << 29) & (length >= HEADER.size + 4 * flag)
    known &= offsets + FRAME.size + length <= file.size
    labels = np.where(np.arange(count) < flag[:, None], heads["more"], np.float32(np.nan))
    labels[:, 0] = np.where(flag == 0, heads["label"], heads["more"][:, 0])
    return labels, known
