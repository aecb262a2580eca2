"""What sources of large files share: an index made once and kept in the cache, and many texts in little memory."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from workbench.cache import cache_folder
from workbench.errors import WorkbenchError
from workbench.files import atomic_path

VERSION = 2
KEPT_SECONDS = 2.0
"""An index that took no longer than this is made anew each time."""
SETTLED_SECONDS = 4.0
"""A file that was changed less than this ago may change again and have the same time of change: FAT counts in two seconds."""
MOST_UNPACKED = 300_000_000
"""Bytes that the compressed arrays of an index may take; half a million synthetic faces take half of it."""

Arrays = Mapping[str, NDArray[Any]]


def remembered(
    kind: str, files: Sequence[Path], about: Sequence[str], make: Callable[[], Arrays]
) -> Arrays:
    """The arrays that `make` makes of `files`; from the cache where these files were looked at before.

    Args:
        kind: of source, part of the name in the cache.
        files: looked at for their sizes and times of change, by which a kept index is found again. Nothing is kept of files
            that were changed a moment ago, or while they were read.
        about: whatever else the index depends on.
        make: reads the files; called where nothing is kept, or what is kept is damaged.
    """
    looks = _looks(files)
    key = hashlib.sha256(
        repr((VERSION, kind, looks, list(about))).encode("utf-8", "surrogateescape")
    ).hexdigest()[:24]
    kept = cache_folder() / "indexes" / f"{kind}-{key}.npz"
    if kept.is_file():
        with suppress(WorkbenchError):  # e.g. a full disk when it was written
            return load(kept)
    begun, now = time.monotonic(), time.time()
    arrays = make()
    settled = all(now - written / 1e9 > SETTLED_SECONDS for _, _, (written, _) in looks)
    if time.monotonic() - begun > KEPT_SECONDS and settled and looks == _looks(files):
        with suppress(
            WorkbenchError, OSError
        ):  # a cache that cannot be written costs time, not the data
            save(kept, arrays)
    return arrays


def _looks(files: Sequence[Path]) -> list[tuple[str, int, tuple[int, int]]]:
    """Place, size and times of each file, that of its contents, and that of anything about it, which no program can set back."""
    found = []
    for file in files:
        status = file.stat()
        found.append(
            (os.path.abspath(file), status.st_size, (status.st_mtime_ns, status.st_ctime_ns))
        )
    return found


def save(path: Path, arrays: Arrays) -> None:
    """Write arrays as .npz, atomically."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load(path: Path) -> dict[str, NDArray[Any]]:
    """Read an .npz of plain arrays, as `save` writes it. Raises WorkbenchError for whatever is none."""
    try:
        with ZipFile(path) as archive:
            members = archive.infolist()
            for kind, most in ((ZIP_STORED, os.path.getsize(path)), (ZIP_DEFLATED, MOST_UNPACKED)):
                if (
                    size := sum(
                        member.file_size for member in members if member.compress_type == kind
                    )
                ) > most:
                    raise ValueError(f"its arrays claim {size:,} bytes")
            return {
                member.filename.removesuffix(".npy"): _array(archive, member) for member in members
            }
    except Exception as error:  # damaged archives raise nearly anything
        raise WorkbenchError(
            f"{path}: not an index ({' '.join(str(error).split())[:160] or type(error).__name__})"
        ) from None


def _array(archive: ZipFile, member: ZipInfo) -> NDArray[Any]:
    """An array of an .npz that takes no more memory than its member has bytes, whatever its header claims."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, columns_first, dtype = read(file)
        if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED) or dtype.hasobject:
            raise ValueError(
                f"{member.filename[:40]!r} is compressed in another way or holds objects"
            )
        size = math.prod(shape) * dtype.itemsize
        if not 0 <= size <= member.file_size:
            raise ValueError(f"{member.filename[:40]!r} claims {size:,} bytes")
        data = file.read(size)
        if len(data) < size:
            raise ValueError(f"{member.filename[:40]!r} is cut off")
        return (
            np.frombuffer(data, dtype).reshape(shape, order="F" if columns_first else "C").copy()
        )  # which can be written to


@dataclass(frozen=True)
class Texts(Sequence[str]):
    """Millions of short texts as one array of bytes, a tenth of what Python's own would take."""

    data: NDArray[np.uint8]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Iterable[str | bytes]) -> Texts:
        """From texts, or bytes in UTF-8; bytes that are not are kept as file names are."""
        encoded = [
            text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
            for text in texts
        ]
        ends = np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends)

    @property
    def sound(self) -> bool:
        """Whether the ends lie in the data, one behind the other."""
        ends = self.ends
        if (
            ends.ndim != 1
            or ends.dtype != np.int64
            or self.data.ndim != 1
            or self.data.dtype != np.uint8
        ):
            return False
        return not len(ends) or bool(
            ends[0] >= 0 and (np.diff(ends) >= 0).all() and ends[-1] == len(self.data)
        )

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
