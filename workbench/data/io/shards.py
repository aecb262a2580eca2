"""Tar shards as WebDataset has them: where in each the pictures are, and whose.

A sample is a run of members with one name up to its first dot: KEY.jpg with KEY.cls, a whole number, or with KEY.json, which has
"identity" or "label".
"""

from __future__ import annotations

import json
import re
import tarfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from workbench import images
from workbench.data.dataset import number_identities
from workbench.data.io.image_lists import in_order
from workbench.data.io.indexes import Arrays, Texts
from workbench.data.io.not_listed import NotListed
from workbench.errors import WorkbenchError

BLOCK = 512
LARGEST, LARGEST_LABEL = 200_000_000, 1_000_000
"""Bytes of a picture, and of what says whose it is."""
LONGEST_NOTE = 2000
JSON_LABELS = ("identity", "label", "cls", "class")
TEXT_KINDS = frozenset({"txt", "caption", "key", "url", "xml", "csv", "npy", "npz"})
"""Members that say something about a picture, and are not missed."""
IMAGE_KINDS = frozenset(suffix.removeprefix(".") for suffix in images.SUFFIXES)


@dataclass(frozen=True)
class Index:
    """Where the images of a set of shards are, and whose.

    Attributes:
        shards: S names, without folders.
        shard_bytes: (S,) size of each.
        shard_of: (N,) number of the shard that holds each image.
        offsets, sizes: (N,) the image's bytes in it.
        identities: (N,) 0..C-1.
        identity_names: C names.
        names: N names of images.
        left_out: what is in the shards beside pictures and labels, in words.
    """

    shards: Sequence[str]
    shard_bytes: NDArray[np.int64]
    shard_of: NDArray[np.int64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    identities: NDArray[np.int64]
    identity_names: Texts
    names: Texts
    left_out: str = ""

    @property
    def arrays(self) -> Arrays:
        """As it is kept in a file."""
        numbers = {
            name: getattr(self, name)
            for name in ("shard_bytes", "shard_of", "offsets", "sizes", "identities")
        }
        texts = {
            "shards": Texts.of(self.shards),
            "identity_names": self.identity_names,
            "names": self.names,
        }
        split = [
            (f"{name}{part}", array)
            for name, text in texts.items()
            for part, array in (("", text.data), ("_ends", text.ends))
        ]
        left_out = np.frombuffer(self.left_out.encode("utf-8", "replace"), np.uint8)
        return {**numbers, **dict(split), "left_out": left_out}

    @classmethod
    def of(cls, arrays: Arrays, where: str) -> Index:
        """From a file, of which nothing is taken on trust. Raises WorkbenchError with `where`."""
        numbers = {
            name: arrays.get(name)
            for name in ("shard_bytes", "shard_of", "offsets", "sizes", "identities")
        }
        texts = {
            name: Texts(arrays.get(name, np.empty(0)), arrays.get(f"{name}_ends", np.empty(0)))
            for name in ("shards", "identity_names", "names")
        }
        missing = [
            name
            for name, values in numbers.items()
            if values is None or values.dtype != np.int64 or values.ndim != 1
        ]
        missing += [name for name, text in texts.items() if not text.sound]
        if missing:
            raise WorkbenchError(
                f"{where}: not an index of shards ({', '.join(missing)} missing or of another kind)"
            )
        said = arrays.get("left_out", np.empty(0, np.uint8))  # older ones have none
        left_out = (
            said[:LONGEST_NOTE].tobytes().decode("utf-8", "replace")
            if said.dtype == np.uint8 and said.ndim == 1
            else ""
        )
        found = cls(texts.pop("shards")[:], **numbers, **texts, left_out=left_out)  # type: ignore[arg-type]
        if not found._sound():
            raise WorkbenchError(
                f"{where}: an index of shards that contradicts itself; damaged, or of another program?"
            )
        return found

    def _sound(self) -> bool:
        columns = (self.shard_of, self.offsets, self.sizes, self.identities, self.names)
        if len({len(column) for column in columns}) > 1 or len(self.shards) != len(
            self.shard_bytes
        ):
            return False
        if not len(self.names):
            return True
        low = min(
            self.shard_of.min(), self.offsets.min(), self.identities.min(), self.sizes.min() - 1
        )
        if (
            low < 0
            or self.shard_of.max() >= len(self.shards)
            or self.identities.max() >= len(self.identity_names)
        ):
            return False
        room = (
            self.shard_bytes[self.shard_of] - self.offsets
        )  # no sum, which could be too large for 64 bits
        return bool((self.sizes <= room).all() and self.sizes.max() <= LARGEST)

    def of_shards(self, wanted: Sequence[str]) -> Index:
        """The part that is in some of the shards, numbered as `wanted`. Raises KeyError for one that is not known."""
        number = {name: i for i, name in enumerate(self.shards)}
        chosen = [number[name] for name in wanted]
        if chosen == list(range(len(self.shards))):
            return self
        place = np.full(len(self.shards), -1, dtype=np.int64)
        place[chosen] = np.arange(len(chosen))
        keep = np.flatnonzero(place[self.shard_of] >= 0)
        used, identities = np.unique(self.identities[keep], return_inverse=True)
        return Index(
            list(wanted),
            self.shard_bytes[chosen],
            place[self.shard_of[keep]],
            self.offsets[keep],
            self.sizes[keep],
            identities.astype(np.int64),
            Texts.of(self.identity_names[int(i)] for i in used),
            Texts.of(self.names[int(i)] for i in keep),
            self.left_out,
        )


def look_through(
    names: Sequence[str], shard: Callable[[int], Path], progress: bool = True
) -> Index:
    """The index of shards, made by reading the heads of all their members.

    Args:
        names: of the shards.
        shard: gives the file of a shard by its number; asked for one after the other.
        progress: show a bar where it takes a while.

    Raises:
        WorkbenchError: a shard is cut off or no tar, or an image in it has no label.
    """
    rows, sizes, keys, ends, labels = array("q"), array("q"), bytearray(), array("q"), _Numbers()
    left = NotListed(flat=True)
    for number in tqdm(
        range(len(names)),
        desc="index",
        unit="shard",
        delay=2,
        dynamic_ncols=True,
        disable=not progress,
    ):
        file = shard(number)
        sizes.append(file.stat().st_size)
        for sample in samples(file, names[number], left):
            rows.extend((number, sample.offset, sample.size, labels.number_of(str(sample.label))))
            keys += sample.name.encode("utf-8", "surrogateescape")
            ends.append(len(keys))
    table = np.array(rows, dtype=np.int64).reshape(-1, 4).T.copy()
    order, identity_names = number_identities(in_order(list(labels.known)))
    identities = order[table[3]] if len(order) else table[3]
    texts = Texts(np.frombuffer(bytes(keys), np.uint8), np.array(ends, dtype=np.int64))
    known = Texts.of(identity_names)
    return Index(
        [*names],
        np.array(sizes, dtype=np.int64),
        table[0],
        table[1],
        table[2],
        identities,
        known,
        texts,
        "; ".join(left.important),
    )


@dataclass
class _Numbers:
    known: dict[str, int] = field(default_factory=dict)

    def number_of(self, label: str) -> int:
        return self.known.setdefault(label, len(self.known))


@dataclass
class Sample:
    """A picture in a shard: its member's name, where its bytes are, its label, and the kinds of members that are neither."""

    key: str
    name: str = ""
    offset: int = 0
    size: int = 0
    label: str | None = None
    others: list[str] = field(default_factory=list)


def samples(file: Path, where: str, left: NotListed) -> Iterator[Sample]:
    """The pictures of a shard that is a plain tar file. Of samples without a picture `left` counts what is in the place of one."""
    size = file.stat().st_size
    current = Sample("")
    with file.open("rb") as stream:
        if stream.read(3)[:2] == b"\x1f\x8b":
            raise WorkbenchError(
                f"{where}: is compressed; pictures can be read from anywhere only in a plain tar, gunzip it"
            )
        for member in _members(stream, size, where):
            match = re.fullmatch(r"((?:.*/)?[^./]+)\.([^/]*)", member.name, re.DOTALL)
            if (
                match is None
                and member.isreg()
                and not left.passes_over(member.name.rpartition("/")[2])
            ):
                left.suffixes[""] += 1
            if (
                match is None
                or not member.isreg()
                or member.issparse()
                or re.match(r"__[^/]*__($|/)", member.name)
            ):
                continue
            key, kind = match[1], match[2].lower()
            if key != current.key:
                yield from _complete(current, where, left)
                current = Sample(key)
            begin, length = member.offset_data, member.size
            if begin + length > size:
                raise WorkbenchError(f"{where}: ends within {member.name[:100]!r}; it is truncated")
            if kind in IMAGE_KINDS and not current.name:
                if not 0 < length <= LARGEST:
                    raise WorkbenchError(
                        f"{where}, {member.name[:100]!r}: {length:,} bytes, which is no picture"
                    )
                current.name, current.offset, current.size = member.name, begin, length
            elif kind in ("cls", "json"):
                if length > LARGEST_LABEL:
                    raise WorkbenchError(
                        f"{where}, {member.name[:100]!r}: {length:,} bytes, which is no label"
                    )
                stream.seek(begin)
                current.label = (
                    _label(kind, stream.read(length), f"{where}, {member.name[:100]!r}")
                    or current.label
                )
            elif kind not in TEXT_KINDS:
                current.others.append(f".{kind}")
        yield from _complete(current, where, left)


def _complete(sample: Sample, where: str, left: NotListed) -> Iterator[Sample]:
    if not sample.name:
        left.suffixes.update(sample.others or [".cls or .json alone"] * (sample.label is not None))
    if sample.name and sample.label is None:
        raise WorkbenchError(
            f"{where}, {sample.name[:100]!r}: has no label; expected a whole number in {sample.key[:60]}.cls, or 'identity' or "
            f"'label' in {sample.key[:60]}.json"
        )
    if sample.name:
        yield sample


def _label(kind: str, content: bytes, where: str) -> str | None:
    """None for a .json that says nothing of an identity."""
    if kind == "cls":
        text = content.strip().decode("utf-8", "replace")
        if not re.fullmatch(r"-?[0-9]{1,18}", text):
            raise WorkbenchError(f"{where}: expected a whole number, found {text[:60]!r}")
        return str(int(text))
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise WorkbenchError(f"{where}: not JSON ({' '.join(str(error).split())[:100]})") from None
    if not isinstance(value, dict):
        return None
    label = next((value[name] for name in JSON_LABELS if value.get(name) is not None), None)
    if label is None:
        return None
    if (
        isinstance(label, bool)
        or not isinstance(label, int | str)
        or not 0 < len(str(label)) <= 1000
        or not _is_text(str(label))
    ):
        raise WorkbenchError(
            f"{where}: expected a whole number or a name as label, found {str(label)[:60]!r}"
        )
    return str(label)


def _is_text(label: str) -> bool:
    """Whether it is no half of a pair of surrogates, which JSON can spell and no file can hold."""
    try:
        label.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


class _Bounded:
    """A file of which nobody reads more than is there, whatever length a tar header claims."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size, self.name, self.mode = file, size, "", "rb"
        self.seek, self.tell = file.seek, file.tell

    def read(self, length: int = -1) -> bytes:
        rest = max(self.size - self.file.tell(), 0)
        return self.file.read(min(length, rest) if length >= 0 else rest)


def _members(stream: BinaryIO, size: int, where: str) -> Iterator[tarfile.TarInfo]:
    """The members of a tar. Python's reader takes damage between two of them for the end, so the end is looked at."""
    stream.seek(0)
    try:
        with tarfile.open(fileobj=_Bounded(stream, size), mode="r:") as archive:  # type: ignore[call-overload]
            while (member := archive.next()) is not None:
                if (
                    archive.offset <= member.offset
                ):  # a negative size: the next one would be this one, for ever
                    raise WorkbenchError(
                        f"{where}: {member.name[:100]!r} has a negative size; not a sound tar file"
                    )
                yield member
                archive.members.clear()  # it keeps them all
            end = archive.offset
    except WorkbenchError:
        raise
    except (
        Exception
    ) as error:  # beside TarError ValueError, OverflowError, UnicodeError, ... of made-up headers
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise WorkbenchError(f"{where}: not a tar file, or truncated ({reason})") from None
    stream.seek(end)
    if stream.read(BLOCK) != bytes(BLOCK):
        raise WorkbenchError(
            f"{where}: damaged or truncated at byte {end:,}; there is neither a member nor the end of a tar"
        )
