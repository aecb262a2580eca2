"""Writing files atomically, and checking whether a folder can be written to and has room."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from workbench.errors import WorkbenchError

RESERVE = 1 << 20
"""Bytes that must be free in addition to those needed, for the file system itself."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Replaces a file as a whole, so that no reader ever sees a part of it.

    The body of the `with` statement writes to a temporary file in the same folder. At the end of
    the body this file is flushed to the disk and renamed to `path`. If the body raises an error,
    the temporary file is removed and `path` stays as it was.

    Args:
        path: The file to write. Missing folders are created.

    Yields:
        The path of the temporary file.

    Raises:
        WorkbenchError: if the folder cannot be written to, or the disk is full.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "a.txt"
        ...     with atomic_path(path) as temporary:
        ...         _ = temporary.write_text("complete")
        ...     path.read_text()
        'complete'
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if error.filename not in (None, str(temporary)) or error.errno is None:
            raise  # the error is about another file that the body reads
        raise _cannot_write(path, error) from None
    except Exception as error:
        # PyTorch and safetensors raise errors of their own types if the disk is full.
        if not isinstance(error, WorkbenchError) and free_bytes(path.parent) < RESERVE:
            raise WorkbenchError(
                f"{path}: cannot be written (the disk is full); free some space and run again"
            ) from error
        raise
    finally:
        # After a failure the body may still hold the file open; truncating it frees the disk.
        with suppress(OSError):  # after the rename there is no temporary file
            os.truncate(temporary, 0)
        temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an OSError in the body of the `with` statement into a `WorkbenchError`.

    Args:
        path: The file that the body opens and writes, for the message.

    Raises:
        WorkbenchError: if the file cannot be opened or written to, or the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise _cannot_write(path, error) from None


def check_writable(folder: Path, needed_bytes: int = 0) -> None:
    """Checks, before work that takes long, that files can be written into a folder.

    Args:
        folder: The folder; it need not exist yet.
        needed_bytes: Number of bytes that will be written at least.

    Raises:
        WorkbenchError: if the folder cannot be created or written to, or if its disk has less
            than `needed_bytes` free.

    Example:
        >>> check_writable(Path(tempfile.gettempdir()), needed_bytes=1000)
    """
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise WorkbenchError(f"{existing}: is a file, expected a folder to write into")
    try:
        with tempfile.NamedTemporaryFile(prefix=".writable.", dir=existing) as probe:
            probe.write(b"0" * 4096)
    except OSError as error:
        raise _cannot_write(folder, error) from None
    free = free_bytes(existing)
    if free < needed_bytes + RESERVE:
        needed = needed_bytes + RESERVE
        raise WorkbenchError(
            f"{folder}: {free / 2**20:.1f} MiB are free on this disk, about "
            f"{needed / 2**20:.1f} MiB are needed; free some space or choose another folder"
        )


def free_bytes(folder: Path) -> int:
    """Returns the number of bytes that are free in the file system of an existing folder."""
    return shutil.disk_usage(folder).free


def _cannot_write(path: Path, error: OSError) -> WorkbenchError:
    return WorkbenchError(
        f"{path}: cannot be written ({error.strerror}); check its permissions and the free space"
    )
