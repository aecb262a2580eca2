"""`webdataset:PATTERN` - tar shards as WebDataset has them, on this machine or elsewhere, also more than fit on the disk.

Aizman, Maltby and Breuel, "High performance I/O for large scale deep learning", 2019. The shards are plain tar files of KEY.jpg
with KEY.cls (`shards.py`). Where the pictures are in them is read from `index.npz` beside them, which `write` puts there, or found
by looking through all of them once.
"""

from __future__ import annotations

import glob
import math
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from braceexpand import braceexpand
from numpy.typing import NDArray

from workbench.data.dataset import Dataset, EncodedImages, Images, Joined, Picked
from workbench.data.io.commands import allow
from workbench.data.io.indexes import Arrays, Texts, load, remembered
from workbench.data.io.not_listed import LeftOutWarning
from workbench.data.io.reading import SharedFiles
from workbench.data.io.remote import RemoteFiles, fetched
from workbench.data.io.shards import Index, look_through
from workbench.data.registry import SOURCES, existing
from workbench.errors import WorkbenchError, WorkbenchWarning

INDEX = "index.npz"
MOST_SHARDS = 1_000_000


@dataclass(frozen=True)
class ShardImages(EncodedImages):
    """Pictures in tar shards.

    Attributes:
        files: the shards.
        shards: their names.
        shard_of: (N,) number of the shard that holds each image.
        offsets, sizes: (N,) its bytes in it.
        names: of the images.
    """

    files: SharedFiles | RemoteFiles
    shards: Sequence[str]
    shard_of: NDArray[np.int64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    names: Texts

    @property
    def remote(self) -> bool:
        """Whether a shard has to be fetched before it is read, so that those who read should stay within a few."""
        return isinstance(self.files, RemoteFiles)

    def __len__(self) -> int:
        return len(self.shard_of)

    def where(self, index: int) -> str:
        return f"{self.shards[self.shard_of[index]]}, {self.names[index][:100]!r}"

    def encoded(self, index: int) -> bytes:
        size = int(self.sizes[index])
        data = self.files.read(int(self.shard_of[index]), int(self.offsets[index]), size)
        if len(data) < size:
            raise WorkbenchError(f"{self.where(index)}: the shard ends within it; it is truncated")
        return data


def shards_to_fetch(images: Images) -> NDArray[np.int64] | None:
    """(N,) the shard of each image where these have to be fetched one by one, -1 for an image that is at hand; None if all are."""
    if isinstance(images, Picked):
        shard_of = shards_to_fetch(images.images)
        return None if shard_of is None else shard_of[images.keep]
    if isinstance(images, Joined):
        parts = [shards_to_fetch(part) for part in images.parts]
        if all(part is None for part in parts):
            return None
        columns = [
            np.full(len(at_hand), -1) if part is None else part
            for part, at_hand in zip(parts, images.parts, strict=True)
        ]
        firsts = np.cumsum([0, *(column.max(initial=-1) + 1 for column in columns)])
        return np.concatenate(
            [
                np.where(column < 0, -1, column + first)
                for column, first in zip(columns, firsts, strict=False)
            ]
        )
    return images.shard_of if isinstance(images, ShardImages) and images.remote else None


@SOURCES.register("webdataset")
def open_webdataset(path: str) -> Dataset:
    """A folder of shards, or shards by a pattern: `webdataset:faces-{000000..000099}.tar`, `webdataset:faces-*.tar`.

    `webdataset:https://HOST/faces-{000..999}.tar` and `webdataset:pipe:COMMAND faces-{000..999}.tar` fetch each shard when it is
    needed, and keep as many gigabytes as the environment variable WORKBENCH_SHARDS_GB says (50). A command behind `pipe:` is run
    by the shell as it stands; what only the files of a run say, and nobody typed on this machine, is refused. With `,index=FILE`
    the index is a file here; where there is none, all shards are fetched once.
    """
    pattern, given = _with_index(path)
    remote = re.match(r"(https?://|pipe:)", pattern)
    if not remote and re.match(r"[A-Za-z][A-Za-z0-9+.]+://", pattern):
        raise WorkbenchError(
            f"webdataset:{path[:200]}: expected files, http://, https:// or pipe:COMMAND, e.g. pipe:aws s3 cp ... -"
        )
    if pattern.startswith("pipe:"):
        allow(pattern)
    shards = _expanded(pattern) if remote else _local(pattern, path)
    names = _names(shards) if remote else [os.path.basename(shard) for shard in shards]
    if len(set(names)) < len(names):
        raise WorkbenchError(
            f"webdataset:{path[:200]}: two shards of the same name; give each once"
        )
    index = _remote_index(shards, names, given) if remote else _local_index(shards, names, given)
    files = (
        RemoteFiles(shards, index.shard_bytes)
        if remote
        else SharedFiles([Path(shard) for shard in shards])
    )
    reader = ShardImages(files, shards, index.shard_of, index.offsets, index.sizes, index.names)
    folder = "" if remote else os.path.dirname(os.path.abspath(shards[0]))
    name, people = _name(names[0], folder), index.identity_names[:]
    if index.left_out:
        warnings.warn(f"webdataset:{path[:200]}: {index.left_out}", LeftOutWarning, stacklevel=2)
    return Dataset(name, reader, index.identities, people, {"file": index.names}, index.left_out)


def _with_index(path: str) -> tuple[str, Path | None]:
    match = re.fullmatch(r"(.*),index=([^,]*)", path, re.DOTALL)
    return (match[1], existing(match[2], "index", "file")) if match else (path, None)


def _expanded(pattern: str) -> list[str]:
    """All that the braces of a pattern stand for."""
    ranges = re.findall(
        r"\{(-?\d+)\.\.(-?\d+)", pattern
    )  # counted first: the library makes lists of them
    if (
        any(len(end) > 12 for ends in ranges for end in ends)
        or math.prod(abs(int(b) - int(a)) + 1 for a, b in ranges) > MOST_SHARDS
    ):
        raise WorkbenchError(f"webdataset:{pattern[:200]}: more than {MOST_SHARDS:,} shards")
    try:
        found = list(islice(braceexpand(pattern, escape=False), MOST_SHARDS + 1))
    except ValueError as error:
        raise WorkbenchError(f"webdataset:{pattern[:200]}: {error}") from None
    if len(found) > MOST_SHARDS:
        raise WorkbenchError(f"webdataset:{pattern[:200]}: more than {MOST_SHARDS:,} shards")
    return found


def _local(pattern: str, path: str) -> list[str]:
    """The files of a folder, a name or a pattern, all of which are there."""
    whole = os.path.expanduser(pattern)
    if not pattern:
        raise WorkbenchError(
            "webdataset: needs shards behind the colon, e.g. webdataset:faces-{000000..000099}.tar"
        )
    if os.path.isdir(whole):
        found = sorted(glob.glob(os.path.join(glob.escape(whole), "*.tar")))
        if not found:
            raise WorkbenchError(f"webdataset:{path}: no .tar in the folder")
        return found
    if os.path.isfile(whole):
        return [whole]
    found = []
    for name in _expanded(whole):
        found += (
            sorted(glob.glob(name)) if glob.has_magic(name) and not os.path.isfile(name) else [name]
        )
    missing = [name for name in found if not os.path.isfile(name)]
    if missing or not found:
        counted = (
            f"{len(missing)} of {len(found)} shards are missing, e.g. {missing[0][:200]}"
            if missing
            else "no such files"
        )
        raise WorkbenchError(f"webdataset:{path[:200]}: {counted}")
    return found


def _names(addresses: Sequence[str]) -> list[str]:
    """What shards are called in an index: the last part of an address; of a command, its last word that ends in .tar."""
    found = []
    for address in addresses:
        words = re.findall(r"[^\s/?#'\"]+\.tar\b", address)
        found.append(words[-1] if words else address.rpartition("/")[2] or address)
    return found


def _name(shard: str, folder: str) -> str:
    """faces of faces-000000.tar, else the folder."""
    stem = re.sub(r"[-_.]?[0-9]*\.tar$", "", shard)
    return re.sub(r"[^\w.-]+", "-", stem or os.path.basename(folder))[:80] or "webdataset"


def _local_index(shards: list[str], names: list[str], given: Path | None) -> Index:
    files = [Path(shard) for shard in shards]
    beside = given or files[0].parent / INDEX
    if given or (beside.is_file() and len({file.parent for file in files}) == 1):
        try:
            index = Index.of(load(beside), str(beside)).of_shards(names)
            if [file.stat().st_size for file in files] == index.shard_bytes.tolist():
                return index
            reason = "is of shards of other sizes"
        except KeyError as error:
            reason = f"knows no shard {error}"
        except WorkbenchError as error:
            reason = f"cannot be used ({error})"
        if given:
            raise WorkbenchError(
                f"{beside}: {reason.removesuffix(')').removeprefix('cannot be used (')}"
            )
        warnings.warn(
            f"{beside} {reason}; the shards are looked through instead",
            WorkbenchWarning,
            stacklevel=4,
        )
    arrays = remembered(
        "webdataset", files, [], lambda: look_through(names, files.__getitem__).arrays
    )
    return Index.of(arrays, "the kept index")


def _remote_index(shards: list[str], names: list[str], given: Path | None) -> Index:
    """The index given, else the one beside the shards, else made of all shards. No address or command is taken from it."""
    beside = None
    if given is None and not shards[0].startswith("pipe:"):
        beside = f"{shards[0].partition('?')[0].rpartition('/')[0]}/{INDEX}"
        try:
            given = fetched(beside, again=True)
        except WorkbenchError as error:
            warnings.warn(
                f"{error}; all {len(shards)} shards are fetched to make an index",
                WorkbenchWarning,
                stacklevel=4,
            )
    if given is not None:
        try:
            return Index.of(load(given), beside or str(given)).of_shards(names)
        except KeyError as error:
            raise WorkbenchError(f"{beside or given}: knows no shard {error}") from None
        except WorkbenchError:
            if beside:
                given.unlink(missing_ok=True)  # next time it is fetched anew
            raise

    def make() -> Arrays:
        taken = Path()

        def take(number: int) -> Path:
            nonlocal taken
            taken = fetched(shards[number])
            return taken

        try:
            return look_through(names, take).arrays
        except WorkbenchError:
            if taken.is_file():
                taken.unlink()  # e.g. a page that says what is wrong in the place of a shard
            raise

    return Index.of(remembered("webdataset", [], shards, make), "the kept index")
