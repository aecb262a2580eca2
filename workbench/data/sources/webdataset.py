"""`webdataset:PATTERN` - tar shards of WebDataset, on this machine or at an address.

Aizman, Maltby and Breuel, "High performance I/O for large scale deep learning", 2019. The shards
are plain tar files with KEY.jpg and KEY.cls (`workbench/data/io/shards.py`), and may be more than
fit on the disk. Where the images are in them is read from `index.npz` next to them, which
`workbench data pack` writes, or found by reading all of them once.

Braces in a pattern, and shards at an address, need the extra `webdataset`.
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
from numpy.typing import NDArray

from workbench.data.dataset import Dataset, EncodedImages, Images, Joined, Picked
from workbench.data.io.commands import allow
from workbench.data.io.indexes import Arrays, Texts, cached_index, load
from workbench.data.io.not_listed import LeftOutWarning
from workbench.data.io.reading import SharedFiles
from workbench.data.io.remote import RemoteFiles, fetch
from workbench.data.io.shards import Index, look_through, require
from workbench.data.registry import SOURCES, existing
from workbench.errors import WorkbenchError, WorkbenchWarning

INDEX = "index.npz"
MOST_SHARDS = 1_000_000
LONGEST_NUMBER = 12
"""Digits of a number in braces, with its sign."""


@dataclass(frozen=True)
class ShardImages(EncodedImages):
    """Reader of images in tar shards.

    Attributes:
        files: the shards.
        shards: S names of the shards, for error messages.
        shard_of: (N,) int64 number of the shard that holds each image.
        offsets: (N,) int64 where each image begins in its shard.
        sizes: (N,) int64 bytes of each image.
        names: N names of the images.
    """

    files: SharedFiles | RemoteFiles
    shards: Sequence[str]
    shard_of: NDArray[np.int64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    names: Texts

    @property
    def remote(self) -> bool:
        """Whether a shard is fetched before it is read, so that few should be read at a time."""
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
    """Returns the shards that have to be fetched to read images.

    Training reads the images of one shard after the other, so that no shard is fetched twice.

    Args:
        images: a reader of N images.

    Returns:
        (N,) int64 number of the shard of each image, -1 for an image that is on this machine; None
        if all are.
    """
    if isinstance(images, Picked):
        shard_of = shards_to_fetch(images.images)
        return None if shard_of is None else shard_of[images.keep]
    if isinstance(images, Joined):
        parts = [shards_to_fetch(part) for part in images.parts]
        if all(part is None for part in parts):
            return None
        columns: list[NDArray[np.int64]] = []
        first = 0  # the number of the next part's first shard
        for part, reader in zip(parts, images.parts, strict=True):
            if part is None:
                columns.append(np.full(len(reader), -1, dtype=np.int64))
                continue
            columns.append(np.where(part < 0, -1, part + first))
            first += int(part.max(initial=-1)) + 1
        return np.concatenate(columns)
    return images.shard_of if isinstance(images, ShardImages) and images.remote else None


@SOURCES.register("webdataset")
def open_webdataset(path: str) -> Dataset:
    """Opens a folder of shards, or the shards of a pattern.

    Patterns are `faces-{000000..000099}.tar` or `faces-*.tar`. The shards of
    `https://HOST/faces-{000..999}.tar` and `pipe:COMMAND faces-{000..999}.tar` are fetched when
    they are needed; the environment variable WORKBENCH_SHARDS_GB says how many gigabytes of them
    are kept (50 by default). The command after `pipe:` is run by the shell. A command that only a
    file of a run contains, and nobody typed on this machine, is refused.

    With the option `,index=FILE` the index is a local file. Without any index, all shards are read
    once.

    Args:
        path: folder, file or pattern, and options.

    Raises:
        WorkbenchError: if shards are missing, damaged, compressed or cannot be fetched, an image
            has no label, or the extra `webdataset` is needed and not installed.
    """
    pattern, index_file = _split_index(path)
    remote = re.match(r"(https?://|pipe:)", pattern) is not None
    if not remote and re.match(r"[A-Za-z][A-Za-z0-9+.]+://", pattern):
        raise WorkbenchError(
            f"webdataset:{path[:200]}: expected files, http://, https:// or pipe:COMMAND, "
            "e.g. pipe:aws s3 cp ... -"
        )
    if pattern.startswith("pipe:"):
        allow(pattern)
    if remote:
        require("webdataset", "fetching shards")
    shards = _expanded(pattern) if remote else _local_shards(pattern, path)
    names = _names(shards) if remote else [os.path.basename(shard) for shard in shards]
    if len(set(names)) < len(names):
        raise WorkbenchError(
            f"webdataset:{path[:200]}: two shards have the same name; give each shard once"
        )
    files: SharedFiles | RemoteFiles
    if remote:
        index = _remote_index(shards, names, index_file)
        files, folder = RemoteFiles(shards, index.shard_bytes), ""
    else:
        index = _local_index(shards, names, index_file)
        files = SharedFiles([Path(shard) for shard in shards])
        folder = os.path.dirname(os.path.abspath(shards[0]))
    if index.left_out:
        warnings.warn(f"webdataset:{path[:200]}: {index.left_out}", LeftOutWarning, stacklevel=2)
    return Dataset(
        _set_name(names[0], folder),
        ShardImages(files, shards, index.shard_of, index.offsets, index.sizes, index.names),
        index.identities,
        index.identity_names[:],
        {"file": index.names},
        index.left_out,
    )


def _split_index(path: str) -> tuple[str, Path | None]:
    """Splits the option `,index=FILE` from a pattern."""
    match = re.fullmatch(r"(.*),index=([^,]*)", path, re.DOTALL)
    return (match[1], existing(match[2], "index", "file")) if match else (path, None)


def _expanded(pattern: str) -> list[str]:
    """Returns all names that the braces of a pattern stand for."""
    if not re.search("[{}]", pattern):
        return [pattern]
    require("braceexpand", "a pattern with braces")
    from braceexpand import braceexpand

    too_many = WorkbenchError(f"webdataset:{pattern[:200]}: more than {MOST_SHARDS:,} shards")
    # The numbers are counted first, because the library makes a list of each range.
    ranges = re.findall(r"\{(-?\d+)\.\.(-?\d+)", pattern)
    if any(len(number) > LONGEST_NUMBER for numbers in ranges for number in numbers):
        raise too_many
    if math.prod(abs(int(last) - int(first)) + 1 for first, last in ranges) > MOST_SHARDS:
        raise too_many
    try:
        names = list(islice(braceexpand(pattern, escape=False), MOST_SHARDS + 1))
    except ValueError as error:
        raise WorkbenchError(f"webdataset:{pattern[:200]}: {error}") from None
    if len(names) > MOST_SHARDS:
        raise too_many
    return names


def _local_shards(pattern: str, path: str) -> list[str]:
    """Returns the existing files of a folder, a name or a pattern."""
    expanded = os.path.expanduser(pattern)
    if not pattern:
        raise WorkbenchError(
            "webdataset: needs shards after the colon, e.g. webdataset:faces-{000000..000099}.tar"
        )
    if os.path.isdir(expanded):
        files = sorted(glob.glob(os.path.join(glob.escape(expanded), "*.tar")))
        if not files:
            raise WorkbenchError(f"webdataset:{path}: no .tar file in the folder")
        return files
    if os.path.isfile(expanded):
        return [expanded]
    files = []
    for name in _expanded(expanded):
        is_pattern = glob.has_magic(name) and not os.path.isfile(name)
        files += sorted(glob.glob(name)) if is_pattern else [name]
    if not files:
        raise WorkbenchError(f"webdataset:{path[:200]}: no such files")
    missing = [name for name in files if not os.path.isfile(name)]
    if missing:
        raise WorkbenchError(
            f"webdataset:{path[:200]}: {len(missing)} of {len(files)} shards are missing, "
            f"e.g. {missing[0][:200]}"
        )
    return files


def _names(addresses: Sequence[str]) -> list[str]:
    """Returns the names that shards at addresses have in an index.

    It is the last part of an address, or the last word of a command that ends in .tar.
    """
    names = []
    for address in addresses:
        words = re.findall(r"[^\s/?#'\"]+\.tar\b", address)
        names.append(words[-1] if words else address.rpartition("/")[2] or address)
    return names


def _set_name(shard: str, folder: str) -> str:
    """Returns the name of the data set: "faces" for faces-000000.tar, or that of the folder."""
    stem = re.sub(r"[-_.]?[0-9]*\.tar$", "", shard)
    return re.sub(r"[^\w.-]+", "-", stem or os.path.basename(folder))[:80] or "webdataset"


def _local_index(shards: list[str], names: list[str], index_file: Path | None) -> Index:
    """Returns the index of local shards.

    It is the file that the user gave, or the one next to the shards, or is made from the shards if
    there is none or it does not fit.
    """
    files = [Path(shard) for shard in shards]
    file = index_file or files[0].parent / INDEX
    one_folder = len({file.parent for file in files}) == 1
    if index_file or (file.is_file() and one_folder):
        try:
            index = Index.of(load(file), str(file)).of_shards(names)
            if [shard.stat().st_size for shard in files] == index.shard_bytes.tolist():
                return index
            problem = f"{file}: is the index of shards of other sizes"
        except KeyError as error:
            problem = f"{file}: does not have the shard {error}"
        except WorkbenchError as error:
            problem = str(error)
        if index_file:
            raise WorkbenchError(problem)
        warnings.warn(
            f"{problem}; it is not used, and the shards are read instead",
            WorkbenchWarning,
            stacklevel=4,
        )
    arrays = cached_index(
        "webdataset", files, [], lambda: look_through(names, files.__getitem__).arrays
    )
    return Index.of(arrays, "the index in the cache")


def _remote_index(shards: list[str], names: list[str], index_file: Path | None) -> Index:
    """Returns the index of shards at an address.

    It is the file that the user gave, or the one next to the shards, or is made from all shards. No
    address or command in it is used.
    """
    address = None
    if index_file is None and not shards[0].startswith("pipe:"):
        address = f"{shards[0].partition('?')[0].rpartition('/')[0]}/{INDEX}"
        try:
            index_file = fetch(address, again=True)
        except WorkbenchError as error:
            warnings.warn(
                f"{error}; all {len(shards)} shards are fetched to make an index",
                WorkbenchWarning,
                stacklevel=4,
            )
    if index_file is not None:
        where = address or str(index_file)
        try:
            return Index.of(load(index_file), where).of_shards(names)
        except KeyError as error:
            raise WorkbenchError(f"{where}: does not have the shard {error}") from None
        except WorkbenchError:
            if address:
                index_file.unlink(missing_ok=True)  # it is fetched again next time
            raise
    arrays = cached_index("webdataset", [], shards, lambda: _index_of_fetched(shards, names))
    return Index.of(arrays, "the index in the cache")


def _index_of_fetched(shards: list[str], names: list[str]) -> Arrays:
    """Fetches all shards, one after the other, and returns their index."""
    last = Path()

    def fetch_shard(number: int) -> Path:
        nonlocal last
        last = fetch(shards[number])
        return last

    try:
        return look_through(names, fetch_shard).arrays
    except WorkbenchError:
        if last.is_file():
            last.unlink()  # it may be an error page of the server instead of a shard
        raise
