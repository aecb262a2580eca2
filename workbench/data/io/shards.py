"""Tar shards of WebDataset: finds the images in each shard, and their labels.

A sample is a run of members whose names agree up to the first dot of the file name: KEY.jpg with
KEY.cls, which holds a whole number, or with KEY.json, which has "identity" or "label".
"""

from __future__ import annotations

import json
import re
import tarfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from workbench import images
from workbench.data.dataset import number_identities
from workbench.data.io.image_lists import in_order
from workbench.data.io.indexes import Arrays, Texts
from workbench.data.io.not_listed import NotListed
from workbench.errors import WorkbenchError, missing_extra

BLOCK = 512
"""Bytes of a block of a tar file; a block of zeros is its end."""
LARGEST, LARGEST_LABEL = 200_000_000, 1_000_000
"""Largest image, and largest label file, in bytes."""
LONGEST_NOTE = 2000
JSON_LABELS = ("identity", "label", "cls", "class")
"""Keys of a .json file under which its label is looked for."""
TEXT_KINDS = frozenset({"txt", "caption", "key", "url", "xml", "csv", "npy", "npz"})
"""Extensions of members that describe an image, and are not counted as left out."""
IMAGE_KINDS = frozenset(suffix.removeprefix(".") for suffix in images.SUFFIXES)

_NUMBERS = ("shard_bytes", "shard_of", "offsets", "sizes", "identities")
_TEXTS = ("shards", "identity_names", "names")


def require(package: str, what: str) -> None:
    """Checks that a package of the extra `webdataset` is installed, without importing it.

    Args:
        package: "webdataset" or "braceexpand".
        what: what needs the package; the error message begins with it.

    Raises:
        WorkbenchError: if the package is not installed.
    """
    if find_spec(package) is None:
        raise missing_extra(package, "webdataset", what)


@dataclass(frozen=True)
class Index:
    """Where the images of a set of shards are, and their identities.

    Attributes:
        shards: S names of shards, without folders.
        shard_bytes: (S,) int64 size of each shard.
        shard_of: (N,) int64 number of the shard that holds each image.
        offsets: (N,) int64 where each image begins in its shard.
        sizes: (N,) int64 bytes of each image.
        identities: (N,) int64, 0..C-1.
        identity_names: C names.
        names: N names of images.
        left_out: a text that says what the shards hold besides images and labels.
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
        """The index as the arrays of an .npz file."""
        arrays = {name: getattr(self, name) for name in _NUMBERS}
        for name in _TEXTS:
            texts = Texts.of(self.shards) if name == "shards" else getattr(self, name)
            arrays[name], arrays[f"{name}_ends"] = texts.data, texts.ends
        arrays["left_out"] = np.frombuffer(self.left_out.encode("utf-8", "replace"), np.uint8)
        return arrays

    @classmethod
    def of(cls, arrays: Arrays, where: str) -> Index:
        """Returns the index in the arrays of an .npz file.

        Args:
            arrays: as `arrays` returns them; every claim in them is checked.
            where: name of the file, for error messages.

        Raises:
            WorkbenchError: if an array is missing or of another type, or they contradict each
                other.
        """
        numbers = {name: arrays.get(name) for name in _NUMBERS}
        texts = {
            name: Texts(arrays.get(name, np.empty(0)), arrays.get(f"{name}_ends", np.empty(0)))
            for name in _TEXTS
        }
        wrong = [
            name
            for name, values in numbers.items()
            if values is None or values.dtype != np.int64 or values.ndim != 1
        ]
        wrong += [name for name, text in texts.items() if not text.sound]
        if wrong:
            raise WorkbenchError(
                f"{where}: not an index of shards ({', '.join(wrong)} missing or of another kind)"
            )
        note = arrays.get("left_out", np.empty(0, np.uint8))  # older indexes have none
        left_out = ""
        if note.dtype == np.uint8 and note.ndim == 1:
            left_out = note[:LONGEST_NOTE].tobytes().decode("utf-8", "replace")
        columns: dict[str, Any] = {**numbers, **texts, "shards": texts["shards"][:]}
        index = cls(**columns, left_out=left_out)
        if not index._is_consistent():
            raise WorkbenchError(
                f"{where}: an index of shards that contradicts itself; it is damaged or was "
                "written by another program"
            )
        return index

    def _is_consistent(self) -> bool:
        columns = (self.shard_of, self.offsets, self.sizes, self.identities, self.names)
        if len({len(column) for column in columns}) > 1:
            return False
        if len(self.shards) != len(self.shard_bytes):
            return False
        if not len(self.names):
            return True
        in_range = (
            self.shard_of.min() >= 0
            and self.shard_of.max() < len(self.shards)
            and self.identities.min() >= 0
            and self.identities.max() < len(self.identity_names)
            and self.offsets.min() >= 0
            and self.sizes.min() >= 1
            and self.sizes.max() <= LARGEST
        )
        if not in_range:
            return False
        # Offset plus size could be too large for 64 bits, so the size is compared with the rest.
        rest = self.shard_bytes[self.shard_of] - self.offsets
        return bool((self.sizes <= rest).all())

    def of_shards(self, wanted: Sequence[str]) -> Index:
        """Returns the index of some of the shards.

        Args:
            wanted: names of shards; their order becomes that of the new index.

        Raises:
            KeyError: if a shard is not in the index.
        """
        number = {name: i for i, name in enumerate(self.shards)}
        chosen = [number[name] for name in wanted]
        if chosen == list(range(len(self.shards))):
            return self
        new_number = np.full(len(self.shards), -1, dtype=np.int64)
        new_number[chosen] = np.arange(len(chosen))
        keep = np.flatnonzero(new_number[self.shard_of] >= 0)
        used, identities = np.unique(self.identities[keep], return_inverse=True)
        return Index(
            list(wanted),
            self.shard_bytes[chosen],
            new_number[self.shard_of[keep]],
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
    """Makes the index of shards by reading the headers of all their members.

    Args:
        names: names of the shards.
        shard: returns the file of a shard, given its number. It is called for one shard after the
            other.
        progress: whether to show a progress bar, if it takes more than two seconds.

    Returns:
        The index.

    Raises:
        WorkbenchError: if a shard is truncated or not a tar file, or an image in it has no label.
    """
    # Arrays of numbers and one array of bytes take a tenth of the memory of lists of objects.
    rows, shard_sizes, keys, key_ends = array("q"), array("q"), bytearray(), array("q")
    label_numbers: dict[str, int] = {}
    not_listed = NotListed(flat=True)
    for number in tqdm(
        range(len(names)),
        desc="index",
        unit="shard",
        delay=2,
        dynamic_ncols=True,
        disable=not progress,
    ):
        file = shard(number)
        shard_sizes.append(file.stat().st_size)
        for sample in samples(file, names[number], not_listed):
            label = label_numbers.setdefault(str(sample.label), len(label_numbers))
            rows.extend((number, sample.offset, sample.size, label))
            keys += sample.name.encode("utf-8", "surrogateescape")
            key_ends.append(len(keys))
    shard_of, offsets, sizes, labels = np.array(rows, dtype=np.int64).reshape(-1, 4).T.copy()
    identity_of_label, identity_names = number_identities(in_order(list(label_numbers)))
    return Index(
        [*names],
        np.array(shard_sizes, dtype=np.int64),
        shard_of,
        offsets,
        sizes,
        identity_of_label[labels] if len(identity_of_label) else labels,
        Texts.of(identity_names),
        Texts(np.frombuffer(bytes(keys), np.uint8), np.array(key_ends, dtype=np.int64)),
        "; ".join(not_listed.important),
    )


@dataclass
class Sample:
    """An image in a shard.

    Attributes:
        key: name of its members up to the first dot.
        name: name of the member that is the image; empty as long as none was met.
        offset: where the image begins in the shard.
        size: bytes of the image.
        label: its label; None as long as none was met.
        other_kinds: extensions of the members that are neither image, label nor text.
    """

    key: str
    name: str = ""
    offset: int = 0
    size: int = 0
    label: str | None = None
    other_kinds: list[str] = field(default_factory=list)


def samples(file: Path, where: str, not_listed: NotListed) -> Iterator[Sample]:
    """Yields the images of a shard with their labels.

    Args:
        file: the shard, a tar file without compression.
        where: name of the shard, for error messages.
        not_listed: counts the members of samples without an image.

    Raises:
        WorkbenchError: if the shard is compressed, truncated or not a tar file, or an image in it
            has no label.
    """
    size = file.stat().st_size
    current = Sample("")
    with file.open("rb") as stream:
        if stream.read(3)[:2] == b"\x1f\x8b":
            raise WorkbenchError(
                f"{where}: is compressed; images can be read at any place only in a plain tar "
                "file, gunzip it"
            )
        for member in _members(stream, size, where):
            key, kind = _key_and_kind(member, not_listed)
            if not key:
                continue
            if key != current.key:
                yield from _complete(current, where, not_listed)
                current = Sample(key)
            if member.offset_data + member.size > size:
                raise WorkbenchError(f"{where}: ends within {member.name[:100]!r}; it is truncated")
            _add_member(current, member, kind, stream, where)
        yield from _complete(current, where, not_listed)


def _key_and_kind(member: tarfile.TarInfo, not_listed: NotListed) -> tuple[str, str]:
    """Returns the key of a member and its extension; "" if it belongs to no sample."""
    if not member.isreg():
        return "", ""
    match = re.fullmatch(r"((?:.*/)?[^./]+)\.([^/]*)", member.name, re.DOTALL)
    if match is None:
        if not not_listed.passes_over(member.name.rpartition("/")[2]):
            not_listed.suffixes[""] += 1
        return "", ""
    if member.issparse() or re.match(r"__[^/]*__($|/)", member.name):
        return "", ""
    return match[1], match[2].lower()


def _add_member(
    sample: Sample, member: tarfile.TarInfo, kind: str, stream: BinaryIO, where: str
) -> None:
    """Adds an image, a label or another member to a sample."""
    where = f"{where}, {member.name[:100]!r}"
    if kind in IMAGE_KINDS and not sample.name:
        if not 0 < member.size <= LARGEST:
            raise WorkbenchError(f"{where}: {member.size:,} bytes, which cannot be an image")
        sample.name, sample.offset, sample.size = member.name, member.offset_data, member.size
    elif kind in ("cls", "json"):
        if member.size > LARGEST_LABEL:
            raise WorkbenchError(f"{where}: {member.size:,} bytes, which cannot be a label")
        stream.seek(member.offset_data)
        sample.label = _label(kind, stream.read(member.size), where) or sample.label
    elif kind not in TEXT_KINDS:
        sample.other_kinds.append(f".{kind}")


def _complete(sample: Sample, where: str, not_listed: NotListed) -> Iterator[Sample]:
    """Yields a sample if it has an image, and counts it as left out if it has none."""
    if not sample.name:
        only_label = [".cls or .json only"] if sample.label is not None else []
        not_listed.suffixes.update(sample.other_kinds or only_label)
        return
    if sample.label is None:
        key = sample.key[:60]
        raise WorkbenchError(
            f"{where}, {sample.name[:100]!r}: has no label; expected a whole number in {key}.cls, "
            f"or 'identity' or 'label' in {key}.json"
        )
    yield sample


def _label(kind: str, content: bytes, where: str) -> str | None:
    """Returns the label in a .cls or .json file; None for a .json file without one."""
    if kind == "cls":
        text = content.strip().decode("utf-8", "replace")
        if not re.fullmatch(r"-?[0-9]{1,18}", text):
            raise WorkbenchError(f"{where}: expected a whole number, found {text[:60]!r}")
        return str(int(text))
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise WorkbenchError(f"{where}: not JSON ({' '.join(str(error).split())[:100]})") from None
    if not isinstance(values, dict):
        return None
    label = next((values[name] for name in JSON_LABELS if values.get(name) is not None), None)
    if label is None:
        return None
    is_label = isinstance(label, int | str) and not isinstance(label, bool)
    if not is_label or not 0 < len(str(label)) <= 1000 or not _is_text(str(label)):
        raise WorkbenchError(
            f"{where}: expected a whole number or a name as label, found {str(label)[:60]!r}"
        )
    return str(label)


def _is_text(label: str) -> bool:
    """Returns whether a label has no lone surrogate, which JSON can spell but no file can hold."""
    try:
        label.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


class _Bounded:
    """A file of which no more is read than there is, whatever size a tar header claims."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size, self.name, self.mode = file, size, "", "rb"
        self.seek, self.tell = file.seek, file.tell

    def read(self, length: int = -1) -> bytes:
        rest = max(self.size - self.file.tell(), 0)
        return self.file.read(min(length, rest) if length >= 0 else rest)


def _members(stream: BinaryIO, size: int, where: str) -> Iterator[tarfile.TarInfo]:
    """Yields the members of a tar file.

    Python's reader takes damage between two members for the end of the file, so the end is checked.
    """
    stream.seek(0)
    try:
        bounded: Any = _Bounded(stream, size)
        with tarfile.open(fileobj=bounded, mode="r:") as archive:
            while (member := archive.next()) is not None:
                # After a negative size the next member would be this one, forever.
                if archive.offset <= member.offset:
                    raise WorkbenchError(
                        f"{where}: {member.name[:100]!r} has a negative size; not a valid tar file"
                    )
                yield member
                # It keeps all members, which may be millions.
                archive.members.clear()  # type: ignore[attr-defined]
            end = archive.offset
    except WorkbenchError:
        raise
    except Exception as error:
        # Forged headers raise ValueError, OverflowError, UnicodeError and more besides TarError.
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise WorkbenchError(f"{where}: not a tar file, or truncated ({reason})") from None
    stream.seek(end)
    if stream.read(BLOCK) != bytes(BLOCK):
        raise WorkbenchError(
            f"{where}: damaged or truncated at byte {end:,}, where neither a member nor the end of "
            "a tar file is"
        )
