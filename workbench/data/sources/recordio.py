"""`recordio:DIR` - MXNet's RecordIO, the format of InsightFace's training sets.

A set has the files train.rec, train.idx and property. Each line of the .idx has the key of a record
and the byte at which it begins in the .rec.
"""

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
from workbench.data.io.indexes import cached_index
from workbench.data.io.reading import SharedFile
from workbench.data.io.tables import line_of
from workbench.data.registry import SOURCES, existing
from workbench.errors import WorkbenchError

MAGIC = 0xCED7230A
FRAME = struct.Struct("<II")
"""The magic number; the kind of the part in the upper 3 bits, its length in the lower 29."""
HEADER = struct.Struct("<IfQQ")
"""Flag (number of labels, 0 for one), label, id, id2."""

GUESS = 2**15
"""Bytes that are read of a record whose length is not known."""
FARTHEST = 2**20
"""Most bytes that are read of a record at once, if the .idx says where the next one begins."""
CHUNK = 2**22
"""Bytes of an .idx that are parsed at once."""
LARGEST = 200_000_000
"""Largest record in bytes."""
MOST_PARTS = 1000
"""Parts of a record. A record is split at each place where it contains the magic number."""
GROUP = 512
"""Records whose labels are read at once."""
DENSE = 2**14
"""A group of records is read in one piece if it has no more bytes per record than this."""
EXACT = 2**24
"""Whole numbers up to this one are exact in float32.

Record 0, and the records of the identities, store ranges of keys as float32.
"""
NAMES = "identities.txt"
"""Optional file next to the .rec, which only this program writes.

It holds the name of label 0, 1, ..., one per line.
"""

Keys = NDArray[np.int64] | range


class Record(NamedTuple):
    """A record.

    Attributes:
        labels: one label, or as many as the header announces.
        payload: what follows the labels, usually an image file.
    """

    labels: tuple[float, ...]
    payload: bytes


def read_record(file: SharedFile, offset: int, where: str, expected: int = GUESS) -> Record:
    """Reads a record, and joins its parts if it is split.

    Args:
        file: the .rec file.
        offset: byte at which the record's frame begins.
        where: name of the record, for error messages.
        expected: bytes that the record probably takes with its frame. If they are enough, the file
            is read only once.

    Returns:
        The record.

    Raises:
        WorkbenchError: if the file ends early, or there is no record at that place.
    """
    piece = file.read(offset, expected)
    if len(piece) >= FRAME.size:
        magic, coded = FRAME.unpack_from(piece)
        # The kind of a record of one part is 0, so that `coded` is its length.
        if magic == MAGIC and FRAME.size + coded <= len(piece):
            return _parse(piece, FRAME.size, FRAME.size + coded, where, offset)
    data = _joined_parts(file, offset, where)
    return _parse(data, 0, len(data), where, offset)


def _joined_parts(file: SharedFile, offset: int, where: str) -> bytes:
    """Reads the parts of a record and joins them."""
    at, size, data = offset, file.size, bytearray()
    for _ in range(MOST_PARTS):
        frame = file.read(at, FRAME.size)
        if len(frame) < FRAME.size:
            raise WorkbenchError(
                f"{where}: the file ends at a record's frame (byte {offset}); it is truncated"
            )
        magic, coded = FRAME.unpack(frame)
        if magic != MAGIC:
            raise WorkbenchError(
                f"{where}: no record at byte {offset} (magic {magic:#x}, expected {MAGIC:#x}); "
                "is this the right .idx?"
            )
        kind, length = coded >> 29, coded & ((1 << 29) - 1)
        at += FRAME.size
        if len(data) + length > LARGEST:
            break
        # A wrong length takes no memory, because nothing is read beyond the end of the file.
        part = file.read(at, length) if at + length <= size else b""
        if len(part) < length:
            raise WorkbenchError(
                f"{where}: the file ends within the record at byte {offset}; it is truncated"
            )
        data += part
        if kind in (0, 3):  # the only part, or the last one
            return bytes(data)
        data += struct.pack("<I", MAGIC)  # the record was split because it contains the magic
        at += length + -length % 4
    raise WorkbenchError(
        f"{where}: the record at byte {offset} is larger, or in more parts, than an image can be"
    )


def _parse(data: bytes, begin: int, end: int, where: str, offset: int) -> Record:
    """Returns the record in data[begin:end]."""
    size = end - begin
    if size < HEADER.size:
        raise WorkbenchError(
            f"{where}: the record at byte {offset} has {size} bytes, "
            f"less than its header of {HEADER.size}"
        )
    flag, label, _, _ = HEADER.unpack_from(data, begin)
    begin += HEADER.size
    if flag == 0:
        return Record((label,), data[begin:end])
    if begin + 4 * flag > end:
        raise WorkbenchError(
            f"{where}: the record at byte {offset} announces {flag} labels in {size} bytes"
        )
    return Record(struct.unpack_from(f"<{flag}f", data, begin), data[begin + 4 * flag : end])


@dataclass(frozen=True)
class RecordImages(EncodedImages):
    """Reader of the images of a .rec file.

    Attributes:
        file: the .rec file.
        keys: N keys of the records.
        offsets: (N,) int64 where each record begins.
    """

    file: SharedFile
    keys: Keys
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets)

    def where(self, index: int) -> str:
        return f"{self.file.path}, record {self.keys[index]}"

    def encoded(self, index: int) -> bytes:
        offset = int(self.offsets[index])
        # The record probably ends where the next one begins.
        length = int(self.offsets[index + 1]) - offset if index + 1 < len(self.offsets) else 0
        expected = length if 0 < length <= FARTHEST else GUESS
        return read_record(self.file, offset, self.where(index), expected).payload


@SOURCES.register("recordio")
def open_recordio(path: str) -> Dataset:
    """Opens a .rec file and the .idx file next to it.

    Record 0 usually is a header that leads to a range of keys for each identity; then the label of
    one image of each identity is read. Images that are in no range, and those with keys above the
    2^24 that float32 represents exactly, are labelled by their own records. If there is no header,
    or it holds only one label, the label of each image is read once, and kept in the cache if that
    takes long. `property` and a .lst file are not needed, because the records hold everything.

    Args:
        path: a folder with train.rec, or with only one .rec file; or a .rec file.

    Raises:
        WorkbenchError: if a file is missing, malformed or truncated, or the .idx does not fit the
            .rec.
    """
    rec = _rec_file(path)
    idx = rec.with_suffix(".idx")
    if not idx.is_file():
        raise WorkbenchError(
            f"recordio:{path}: {idx.name} is missing; expected it in the folder of {rec.name} "
            "(MXNet's tools/rec2idx.py makes it)"
        )
    keys, offsets = _read_index(idx, rec)
    file = SharedFile(rec)
    first = read_record(file, int(offsets[0]), f"{rec}, record {keys[0]}")
    has_header = keys[0] == 0 and not first.payload
    if has_header and len(first.labels) == 1:
        keys, offsets = _after_header(file, keys, offsets, first.labels[0])
    if has_header and len(first.labels) >= 2:
        lows, highs = _ranges(file, keys, offsets, first)
        label_of_range, labels = _labels_of(file, idx, _keys_at(keys, lows), offsets[lows])
        identities = np.repeat(label_of_range, highs - lows)
        chosen = _concatenated(lows, highs)
        keys, offsets = _keys_at(keys, chosen), offsets[chosen]
    else:
        identities, labels = _labels_of(file, idx, keys, offsets)
    name = rec.stem
    if rec.stem == "train" or not path.endswith(".rec"):
        name = rec.resolve().parent.name.removesuffix(".rec")
    names = _names(rec.with_name(NAMES), labels)
    return Dataset(name, RecordImages(file, keys, offsets), identities, names)


def _after_header(
    file: SharedFile, keys: Keys, offsets: NDArray[np.int64], end: float
) -> tuple[Keys, NDArray[np.int64]]:
    """Returns the images after a record 0 of one label.

    The label is the key after the last image; records from there on are kept only if they hold an
    image.
    """
    end_key = int(end) if 1 <= end <= int(keys[-1]) else int(keys[-1]) + 1
    stop = int(_positions(keys, np.array([end_key]))[0])
    more = [
        i
        for i in range(stop, len(keys))
        if read_record(file, int(offsets[i]), f"{file.path}, record {keys[i]}").payload
    ]
    chosen = np.concatenate([np.arange(1, stop), np.array(more, int)])
    if not len(chosen):
        raise WorkbenchError(f"{file.path}: holds no images, only record 0")
    return _keys_at(keys, chosen), offsets[chosen]


def _names(file: Path, labels: list[str]) -> list[str]:
    """Returns the names of the identities, from the list that `write_recordio` writes.

    Without such a list they are the labels.
    """
    if not file.is_file():
        return labels
    text = file.read_text(encoding="utf-8", errors="surrogateescape")
    names = text.removesuffix("\n").split("\n")
    unnamed = next((label for label in labels if not 0 <= int(label) < len(names)), None)
    if unnamed:
        raise WorkbenchError(
            f"{file}: {len(names):,} names, but an image has label {unnamed}; "
            "remove the file if it is of another set"
        )
    return [names[int(label)] for label in labels]


def _rec_file(path: str) -> Path:
    if path.endswith(".rec") and not os.path.isdir(os.path.expanduser(path)):
        return existing(path, "recordio", "file")
    root = existing(path, "recordio", "folder")
    files = sorted(root.glob("*.rec"))
    if root / "train.rec" in files:
        return root / "train.rec"
    if not files:
        raise WorkbenchError(
            f"recordio:{path}: train.rec is missing; expected train.rec and train.idx in the folder"
        )
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:5])
        raise WorkbenchError(
            f"recordio:{path}: has {names}; name one of them, e.g. recordio:{root / files[0].name}"
        )
    return files[0]


# The .idx file


def _read_index(path: Path, rec: Path) -> tuple[Keys, NDArray[np.int64]]:
    """Returns the keys in ascending order, each once, and where the record of each begins.

    Keys without a gap are a range.

    Raises:
        WorkbenchError: if the index is empty or malformed, or leads past the end of `rec`.
    """
    keys: list[Keys] = []
    chunks: list[NDArray[np.int64]] = []
    with path.open("rb") as lines:
        while block := lines.read(CHUNK):
            table = _parsed(block + lines.readline(), path)
            keys.append(_as_range(table[:, 0]))
            chunks.append(table[:, 1].copy())
    if not keys:
        raise WorkbenchError(f"{path}: is empty, expected lines 'key<TAB>offset'")
    offsets = np.concatenate(chunks)
    last, size = int(offsets.max()), rec.stat().st_size
    if last >= size:
        raise WorkbenchError(
            f"{path}: a record at byte {last}, but {rec} has {size} bytes; "
            "is it truncated, or of another set?"
        )
    sorted_keys, offsets = _each_key_once(keys, offsets, path)
    _check_offsets(sorted_keys, offsets, path, rec)
    return sorted_keys, offsets


def _each_key_once(
    keys: list[Keys], offsets: NDArray[np.int64], path: Path
) -> tuple[Keys, NDArray[np.int64]]:
    """Returns the keys in ascending order, each once, with the offset of each."""
    all_ranges = all(isinstance(part, range) for part in keys)
    if all_ranges and all(a[-1] + 1 == b[0] for a, b in pairwise(keys)):
        return range(int(keys[0][0]), int(keys[-1][-1]) + 1), offsets
    numbers = np.concatenate([np.asarray(part, dtype=np.int64) for part in keys])
    order = np.argsort(numbers, kind="stable")
    numbers, offsets = numbers[order], offsets[order]
    repeated = numbers[1:] == numbers[:-1]
    contradicting = repeated & (offsets[1:] != offsets[:-1])
    if contradicting.any():
        at = int(np.argmax(contradicting))
        first, second = (line_of(path, int(order[i])) for i in (at, at + 1))
        raise WorkbenchError(
            f"{path}, lines {first} and {second}: key {numbers[at]} is at two places, "
            f"bytes {offsets[at]} and {offsets[at + 1]}"
        )
    keep = np.append(True, ~repeated)
    return _as_range(numbers[keep]), offsets[keep]


def _check_offsets(keys: Keys, offsets: NDArray[np.int64], path: Path, rec: Path) -> None:
    """Checks that no two keys have one record.

    An image would be in the set twice, perhaps under two identities.
    """
    if (offsets[1:] > offsets[:-1]).all():
        return
    order = np.argsort(offsets, kind="stable")
    repeated = np.diff(offsets[order]) == 0
    if repeated.any():
        at = int(np.argmax(repeated))
        first, second = (int(keys[i]) for i in order[at : at + 2].tolist())
        raise WorkbenchError(
            f"{path}: keys {first} and {second} both lead to the record at byte "
            f"{offsets[order[at]]} of {rec.name}"
        )


def _parsed(lines: bytes, path: Path) -> NDArray[np.int64]:
    """Returns (n, 2) numbers of a piece of an index."""
    lines = lines if lines.endswith(b"\n") else lines + b"\n"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy only warns of an empty file and of fractions
            table = _parsed_fast(lines)
            if table is not None:
                return table
            text = lines.decode("utf-8", "replace").splitlines()
            table = np.loadtxt(text, dtype=np.int64, ndmin=2)
    except (ValueError, Warning) as error:
        raise WorkbenchError(f"{path}: expected lines 'key<TAB>offset' ({error})") from None
    if table.shape[1:] != (2,) or len(table) == 0 or table.min() < 0:
        raise WorkbenchError(
            f"{path}: expected lines 'key<TAB>offset', found a table of shape {table.shape}"
        )
    return table


def _parsed_fast(lines: bytes) -> NDArray[np.int64] | None:
    """Parses lines with exactly one tab between two numbers; returns None for any others."""
    separators = np.frombuffer(lines, dtype=np.uint8)
    separators = separators[separators < ord("0")]
    if len(separators) % 2 or (separators.reshape(-1, 2) != (ord("\t"), ord("\n"))).any():
        return None
    numbers = np.fromstring(lines, dtype=np.int64, sep=" ")
    return numbers.reshape(-1, 2) if len(numbers) == len(separators) else None


def _as_range(keys: NDArray[np.int64]) -> Keys:
    """Returns keys as a range if they count up by 1."""
    first, last = int(keys[0]), int(keys[-1])
    no_gap = last - first == len(keys) - 1 and bool((keys[1:] - keys[:-1] == 1).all())
    return range(first, last + 1) if no_gap else keys


def _keys_at(keys: Keys, positions: NDArray[np.int64] | slice) -> Keys:
    if not isinstance(keys, range):
        return keys[positions]
    return keys[positions] if isinstance(positions, slice) else positions + keys.start


def _positions(keys: Keys, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns how many keys are lower than each wanted one, which is its position if it exists."""
    if isinstance(keys, range):
        return np.clip(wanted - keys.start, 0, len(keys)).astype(np.int64)
    return np.searchsorted(keys, wanted).astype(np.int64)


# The ranges of keys in record 0


def _ranges(
    file: SharedFile, keys: Keys, offsets: NDArray[np.int64], header: Record
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the positions among the keys where the images of each identity begin and end.

    They follow from record 0, which holds the range of keys of the identities' records, and from
    these, each of which holds the range of keys of the identity's images. An image that is in no
    range, or whose key float32 may not represent, is a range of its own.
    """
    rec, end_of_keys = file.path, int(keys[-1]) + 1
    begin, end = _identity_keys(file, keys, offsets, header)
    exact = min(EXACT, begin)
    first_image, first_inexact, first_identity, stop = _positions(
        keys, np.array([1, exact, begin, min(end, end_of_keys)])
    ).tolist()
    spans = _labels(file, keys[first_identity:stop], offsets[first_identity:stop], 2)
    lows, highs = _image_positions(rec, keys, spans, begin)
    has_images = highs > lows
    if not has_images.any():
        raise WorkbenchError(f"{rec}: none of its {end - begin} identities has an image")
    lows, highs = lows[has_images], highs[has_images]
    order = np.argsort(lows)
    # A gap lies between the end of each range and the beginning of the next one.
    gap_begins = np.concatenate([[first_image], highs[order]])
    gap_ends = np.concatenate([lows[order], [first_inexact]])
    if (gap_begins > gap_ends).any():
        raise WorkbenchError(
            f"{rec}: its identities have {(highs - lows).sum()} images; "
            "some belong to several identities"
        )
    in_gaps = [
        np.arange(gap_begins[gap], gap_ends[gap]) for gap in np.flatnonzero(gap_ends > gap_begins)
    ]
    single = np.concatenate([*in_gaps, np.arange(first_inexact, first_identity)])
    return np.concatenate([lows, single]), np.concatenate([highs, single + 1])


def _identity_keys(
    file: SharedFile, keys: Keys, offsets: NDArray[np.int64], header: Record
) -> tuple[int, int]:
    """Returns the range of keys of the identities' records, which record 0 holds."""
    rec, end_of_keys = file.path, int(keys[-1]) + 1
    low, high = header.labels[:2]
    if not 1 <= low <= high <= np.float32(end_of_keys):
        raise WorkbenchError(
            f"{rec}, record 0: expected a range of keys in 1..{end_of_keys}, "
            f"found {header.labels[:2]}"
        )
    begin, end = _exact_begin(file, keys, offsets, int(low)), min(int(high), end_of_keys)
    first, stop = _positions(keys, np.array([begin, end])).tolist()
    if stop - first < end - begin:
        existing_keys = np.asarray(keys[first:stop])
        as_expected = existing_keys == begin + np.arange(len(existing_keys))
        missing = begin + int(np.argmin(np.append(as_expected, False)))
        raise WorkbenchError(
            f"{rec}: record 0 refers to key {missing}, which the .idx does not have"
        )
    return begin, end


def _image_positions(
    rec: Path, keys: Keys, spans: NDArray[np.float32], begin: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the positions among the keys where the images of each identity begin and end.

    Args:
        rec: the .rec file, for error messages.
        keys: all keys.
        spans: (C, 2) ranges of keys, from the identities' records.
        begin: key of the first identity's record, before which all images are.
    """
    low, high = spans[:, 0], spans[:, 1]
    valid = (low >= 1) & (low <= high) & (high <= np.float32(begin))  # False for NaN
    if not valid.all():
        wrong = int(np.argmin(valid))
        raise WorkbenchError(
            f"{rec}, record {begin + wrong}: expected a range of image keys in 1..{begin}, "
            f"found {tuple(spans[wrong].tolist())}"
        )
    exact_spans = np.minimum(spans, min(EXACT, begin)).astype(np.int64)
    lows, highs = (_positions(keys, exact_spans[:, side]) for side in (0, 1))
    complete = highs - lows == exact_spans[:, 1] - exact_spans[:, 0]
    if not complete.all():
        wrong = int(np.argmin(complete))
        raise WorkbenchError(
            f"{rec}, record {begin + wrong}: names the images {tuple(spans[wrong].tolist())}, "
            "some of which the .idx does not have"
        )
    return lows, highs


def _exact_begin(file: SharedFile, keys: Keys, offsets: NDArray[np.int64], rounded: int) -> int:
    """Returns the key of the first identity's record, which record 0 holds rounded to float32."""
    error = int(np.spacing(np.float32(rounded)) / 2)
    if error == 0:
        return rounded
    nearby = _positions(keys, np.array([rounded - error, rounded + error + 1])).tolist()
    for number in range(*nearby):
        record = read_record(file, int(offsets[number]), f"{file.path}, record {keys[number]}")
        if len(record.labels) == 2 and not record.payload:
            return int(keys[number])
    return rounded


def _concatenated(lows: NDArray[np.int64], highs: NDArray[np.int64]) -> NDArray[np.int64] | slice:
    """Returns the numbers of several ranges, one range after the other.

    It is a slice, which copies nothing, if each range begins where the previous one ends.
    """
    if (lows[1:] == highs[:-1]).all():
        return slice(int(lows[0]), int(highs[-1]))
    counts = highs - lows
    return np.repeat(lows - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())


# Labels


def _labels_of(
    file: SharedFile, idx: Path, keys: Keys, offsets: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[str]]:
    """Returns the identities 0..C-1 of records, and the label of each identity.

    The first label of each record counts. The labels are kept in the cache.
    """

    def make() -> dict[str, NDArray[np.float32]]:
        return {"labels": _labels(file, keys, offsets, 1)[:, 0]}

    values = cached_index("recordio", [file.path, idx], [], make).get("labels", np.empty(0))
    if values.shape != offsets.shape or values.dtype != np.float32:
        values = make()["labels"]
    whole = (values >= 0) & (values < 2**53) & (np.floor(values) == values)  # False for NaN
    if not whole.all():
        wrong = int(np.argmin(whole))
        raise WorkbenchError(
            f"{file.path}, record {keys[wrong]}: the label {values[wrong]:g} is not the number of "
            "an identity, 0 or more"
        )
    fits_32_bits = np.abs(values).max() < 2**31  # which takes half the memory
    return number_identities(values.astype(np.int32 if fits_32_bits else np.int64))


def _labels(
    file: SharedFile, keys: Keys, offsets: NDArray[np.int64], count: int
) -> NDArray[np.float32]:
    """Returns the first labels of records.

    The file is read once, from its beginning to its end.

    Args:
        file: the .rec file.
        keys: n keys of the records.
        offsets: (n,) where they begin.
        count: number of labels wanted of each record.

    Returns:
        (n, count) labels, NaN where a record has fewer.
    """
    order = None if (offsets[1:] > offsets[:-1]).all() else np.argsort(offsets)
    labels = np.empty((len(offsets), count), dtype=np.float32)
    with tqdm(total=len(offsets), desc="labels", unit="record", delay=2, dynamic_ncols=True) as bar:
        for begin in range(0, len(offsets), GROUP):
            group = np.arange(begin, min(begin + GROUP, len(offsets)))
            group = group if order is None else order[group]
            labels[group], is_valid = _first_labels(file, offsets[group], count)
            for number in group[~is_valid].tolist():
                record = read_record(
                    file, int(offsets[number]), f"{file.path}, record {keys[number]}"
                )
                labels[number] = (*record.labels, *[np.nan] * count)[:count]
            bar.update(len(group))
    return labels


def _first_labels(
    file: SharedFile, offsets: NDArray[np.int64], count: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Reads the headers of records, which must be in the order in which they lie in the file.

    Returns:
        (n, count) labels, and (n,) whether they are valid. They are valid for records of one part
        with a correct frame and header.
    """
    fields = [
        ("magic", "<u4"),
        ("coded", "<u4"),
        ("flag", "<u4"),
        ("label", "<f4"),
        ("id", "<u8"),
        ("id2", "<u8"),
    ]
    head = np.dtype([*fields, ("more", "<f4", (count,))])
    low, high = int(offsets[0]), int(offsets[-1]) + head.itemsize
    if high - low <= DENSE * len(offsets):
        piece = np.frombuffer(file.read(low, high - low).ljust(high - low, b"\0"), dtype=np.uint8)
        raw = piece[(offsets - low)[:, None] + np.arange(head.itemsize)].tobytes()
    else:
        pieces = (file.read(offset, head.itemsize) for offset in offsets.tolist())
        raw = b"".join(piece.ljust(head.itemsize, b"\0") for piece in pieces)
    heads = np.frombuffer(raw, dtype=head)
    # The length of a part of several is larger than any record here, as its kind is not 0.
    length, flag = heads["coded"].astype(np.int64), heads["flag"].astype(np.int64)
    is_valid = (heads["magic"] == MAGIC) & (length < 1 << 29) & (length >= HEADER.size + 4 * flag)
    is_valid &= offsets + FRAME.size + length <= file.size
    labels = np.where(np.arange(count) < flag[:, None], heads["more"], np.float32(np.nan))
    labels[:, 0] = np.where(flag == 0, heads["label"], heads["more"][:, 0])
    return labels, is_valid
