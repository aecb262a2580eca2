"""Pieces of large files, read from many processes at once."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from workbench.errors import WorkbenchError


class SharedFile:
    """A file of which pieces are read, by any number of threads and processes.

    It is opened when first read and stays open, until the object is gone: opening a file anew for each image costs as much as
    reading it. A piece is asked for with its place (`pread`), so that those who inherit the open file share no position. It is
    not mapped into memory: a mapped file that is cut off later ends the process, where reading it is an error of one line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def __getstate__(self) -> Path:
        return self.path

    def __setstate__(self, path: Path) -> None:
        self.__init__(path)  # type: ignore[misc]

    def __repr__(self) -> str:
        return f"SharedFile({str(self.path)!r})"

    def read(self, begin: int, size: int) -> bytes:
        """Up to `size` bytes from `begin` on, fewer where the file ends. Raises WorkbenchError where it cannot be read."""
        try:
            return _pread(self._handle if self._handle is not None else self._open(), size, begin)
        except OSError as error:
            raise WorkbenchError(f"{self.path}: cannot be read ({error.strerror})") from None

    @property
    def size(self) -> int:
        """Its bytes, as of now. Raises WorkbenchError where it cannot be opened."""
        try:
            return os.fstat(self._handle if self._handle is not None else self._open()).st_size
        except OSError as error:
            raise WorkbenchError(f"{self.path}: cannot be read ({error.strerror})") from None

    def _open(self) -> int:
        handle = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(
            self, os.close, handle
        )  # of two threads that come here at once each has its own closed
        self._handle = handle
        return handle


class SharedFiles:
    """Many files of which pieces are read, e.g. the shards of a set; the few that were read last stay open."""

    def __init__(self, paths: Sequence[Path], most: int = 32) -> None:
        self.paths, self.most = paths, most
        self._files: dict[int, SharedFile] = {}

    def __getstate__(self) -> tuple[Sequence[Path], int]:
        return self.paths, self.most

    def __setstate__(self, state: tuple[Sequence[Path], int]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def read(self, number: int, begin: int, size: int) -> bytes:
        """As `SharedFile.read`, of file number `number`."""
        file = self._files.pop(number, None) or SharedFile(self.paths[number])
        self._files[number] = file
        for oldest in list(self._files)[: -self.most]:
            self._files.pop(oldest, None)  # closed when nobody reads it any more
        return file.read(begin, size)


def _seek_and_read(handle: int, size: int, begin: int) -> bytes:
    """For Windows, where nobody inherits an open file, but threads share its position."""
    with _lock:
        os.lseek(handle, begin, os.SEEK_SET)
        return os.read(handle, size)


_lock = Lock()
_pread = getattr(os, "pread", _seek_and_read)
