"""Indexes of large files, which are kept in the cache, and many texts in little memory."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, overload
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from workbench.cache import cache_folder
from workbench.errors import WorkbenchError
from workbench.files import atomic_path

VERSION = 2
KEPT_SECONDS = 2.0
"""An index that was made in less time is not kept, but made again each time."""
SETTLED_SECONDS = 4.0
"""A file that was modified within this time may be modified again without a change of its time.

The file system FAT counts time in steps of two seconds.
"""
MOST_UNPACKED = 300_000_000
"""Bytes that the compressed arrays of an index may take.

The index of half a million synthetic faces takes half of it.
"""

Arrays = Mapping[str, NDArray[Any]]


def cached_index(
    kind: str, files: Sequence[Path], about: Sequence[str], make: Callable[[], Arrays]
) -> Arrays:
    """Returns the index of files, from the cache if these files were indexed before.

    Args:
        kind: kind of the source, which is part of the name in the cache.
        files: the files that the index describes. Their sizes and times of modification identify
            the index in the cache. It is not kept if a file was modified in the last
            `SETTLED_SECONDS`, or while it was read.
        about: texts that the index depends on as well.
        make: reads the files and returns the arrays of the index. It is called if there is no
            index in the cache, or a damaged one.

    Returns:
        The arrays of the index.
    """
    states = _states(files)
    key = hashlib.sha256(
        repr((VERSION, kind, [tuple(state) for state in states], list(about))).encode(
            "utf-8", "surrogateescape"
        )
    ).hexdigest()[:24]
    cached = cache_folder() / "indexes" / f"{kind}-{key}.npz"
    if cached.is_file():
        with suppress(WorkbenchError):  # it is damaged, e.g. because the disk was full
            return load(cached)
    start, now = time.monotonic(), time.time()
    arrays = make()
    settled = all(now - state.times[0] / 1e9 > SETTLED_SECONDS for state in states)
    if time.monotonic() - start > KEPT_SECONDS and settled and states == _states(files):
        # If the cache cannot be written, the index is made again next time.
        with suppress(WorkbenchError, OSError):
            save(cached, arrays)
    return arrays


class _State(NamedTuple):
    """Identifies the contents of a file.

    Attributes:
        path: absolute path.
        size: bytes.
        times: times in nanoseconds at which the contents and the metadata were last changed. No
            program can set back the second one.
    """

    path: str
    size: int
    times: tuple[int, int]


def _states(files: Sequence[Path]) -> list[_State]:
    states = []
    for file in files:
        status = file.stat()
        times = (status.st_mtime_ns, status.st_ctime_ns)
        states.append(_State(os.path.abspath(file), status.st_size, times))
    return states


def save(path: Path, arrays: Arrays) -> None:
    """Writes arrays to an .npz file, atomically."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load(path: Path) -> dict[str, NDArray[Any]]:
    """Reads an .npz file of plain arrays, as `save` writes it.

    Raises:
        WorkbenchError: if the file is not an .npz file, is damaged, holds Python objects, or claims
            to hold more data than it does.
    """
    try:
        with ZipFile(path) as archive:
            members = archive.infolist()
            _check_claims(members, os.path.getsize(path))
            return {
                member.filename.removesuffix(".npy"): _array(archive, member) for member in members
            }
    except Exception as error:  # damaged archives raise nearly any exception
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise WorkbenchError(f"{path}: not an index ({reason})") from None


def _check_claims(members: Sequence[ZipInfo], file_size: int) -> None:
    """Raises ValueError if the members claim to be larger than they can be."""
    for compression, most in ((ZIP_STORED, file_size), (ZIP_DEFLATED, MOST_UNPACKED)):
        sizes = [member.file_size for member in members if member.compress_type == compression]
        if sum(sizes) > most:
            raise ValueError(f"its arrays claim {sum(sizes):,} bytes")


def _array(archive: ZipFile, member: ZipInfo) -> NDArray[Any]:
    """Reads an array of an .npz file.

    It takes no more memory than its member has bytes, whatever the header claims.
    """
    name = member.filename[:40]
    with archive.open(member) as file:
        if np.lib.format.read_magic(file) == (1, 0):
            shape, columns_first, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, columns_first, dtype = np.lib.format.read_array_header_2_0(file)
        if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED) or dtype.hasobject:
            raise ValueError(f"{name!r} is compressed in another way or holds objects")
        size = math.prod(shape) * dtype.itemsize
        if not 0 <= size <= member.file_size:
            raise ValueError(f"{name!r} claims {size:,} bytes")
        data = file.read(size)
        if len(data) < size:
            raise ValueError(f"{name!r} is truncated")
        array = np.frombuffer(data, dtype).reshape(shape, order="F" if columns_first else "C")
        return array.copy()  # `array` itself is read-only


@dataclass(frozen=True)
class Texts(Sequence[str]):
    """Millions of short texts as one array of bytes, a tenth of the size of a list of strings.

    Attributes:
        data: the bytes of all texts in UTF-8, one after the other.
        ends: (N,) where each text ends in `data`.

    Example:
        >>> Texts.of(["anna", "bert"])[1]
        'bert'
    """

    data: NDArray[np.uint8]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Iterable[str | bytes]) -> Texts:
        """Returns texts, or bytes in UTF-8, as `Texts`.

        Bytes that are not valid UTF-8 are kept, as Python keeps those of file names.
        """
        encoded = [
            text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
            for text in texts
        ]
        ends = np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends)

    @property
    def sound(self) -> bool:
        """Whether both arrays have the right type, and the ends ascend and lie in the data."""
        data, ends = self.data, self.ends
        if data.ndim != 1 or ends.ndim != 1:
            return False
        if data.dtype != np.uint8 or ends.dtype != np.int64:
            return False
        if len(ends) == 0:
            return True
        return bool(ends[0] >= 0 and (np.diff(ends) >= 0).all() and ends[-1] == len(data))

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        begin = self.ends[index - 1] if index else 0
        return self.data[begin : self.ends[index]].tobytes().decode("utf-8", "surrogateescape")
