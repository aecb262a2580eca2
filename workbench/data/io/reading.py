"""Reads pieces of large files, from any number of threads and processes at once."""

from __future__ import annotations

import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from workbench.errors import WorkbenchError


class SharedFile:
    """A file of which pieces are read, by any number of threads and processes.

    The file is opened when it is first read and stays open as long as the object exists: opening it
    for each image would take as long as reading the image. Each piece is read at its own offset
    (`pread`), so that processes that inherit the open file do not share a position. The file is not
    mapped into memory: if a mapped file is truncated later, reading it kills the process, while
    `pread` only raises an error.

    Args:
        path: the file. It does not have to exist before the first read.
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
        """Reads a piece of the file.

        Args:
            begin: offset of the piece in bytes.
            size: bytes to read.

        Returns:
            `size` bytes, or fewer if the file ends before.

        Raises:
            WorkbenchError: if the file cannot be read.
        """
        try:
            return _pread(self._opened(), size, begin)
        except OSError as error:
            raise WorkbenchError(f"{self.path}: cannot be read ({error.strerror})") from None

    @property
    def size(self) -> int:
        """Current size in bytes. Raises WorkbenchError if the file cannot be opened."""
        try:
            return os.fstat(self._opened()).st_size
        except OSError as error:
            raise WorkbenchError(f"{self.path}: cannot be read ({error.strerror})") from None

    def _opened(self) -> int:
        if self._handle is not None:
            return self._handle
        handle = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        # If two threads get here at once, each handle is closed in the end.
        weakref.finalize(self, os.close, handle)
        self._handle = handle
        return handle


class FileCollection(ABC):
    """Base of collections of files of which pieces are read.

    The most recently read files stay open; a file that drops out of this cache is closed as soon
    as no thread reads it any more.

    Args:
        capacity: number of files that stay open.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._recent: dict[int, SharedFile] = {}  # the least recently read one comes first

    @abstractmethod
    def _open_file(self, number: int) -> SharedFile:
        """Returns file number `number`, ready to be read."""

    def read(self, number: int, begin: int, size: int) -> bytes:
        """Reads a piece of a file.

        Args:
            number: number of the file.
            begin: offset of the piece in bytes.
            size: bytes to read.

        Returns:
            `size` bytes, or fewer if the file ends before.

        Raises:
            WorkbenchError: if the file cannot be read.
        """
        file = self._recent.pop(number, None) or self._open_file(number)
        self._recent[number] = file
        for oldest in list(self._recent)[: -self.capacity]:
            self._recent.pop(oldest, None)  # another thread may have removed it already
        return file.read(begin, size)


class SharedFiles(FileCollection):
    """Files on the disk of which pieces are read, such as the shards of a data set.

    Args:
        paths: the files.
        capacity: number of files that stay open.
    """

    def __init__(self, paths: Sequence[Path], capacity: int = 32) -> None:
        super().__init__(capacity)
        self.paths = paths

    def __getstate__(self) -> tuple[Sequence[Path], int]:
        return self.paths, self.capacity

    def __setstate__(self, state: tuple[Sequence[Path], int]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def _open_file(self, number: int) -> SharedFile:
        return SharedFile(self.paths[number])


def _seek_and_read(handle: int, size: int, begin: int) -> bytes:
    """Replaces `pread` on Windows, where no process inherits an open file but threads share it."""
    with _lock:
        os.lseek(handle, begin, os.SEEK_SET)
        return os.read(handle, size)


_lock = Lock()
_pread = getattr(os, "pread", _seek_and_read)
