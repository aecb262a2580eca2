"""Writing files so that nobody ever reads half of one, and so that a full disk is one line."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from workbench.errors import WorkbenchError

RESERVE = 1 << 20
"""Bytes that must be free beyond what is asked for: file systems need some for themselves."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give out a temporary path beside `path`; on success it becomes `path`, on any exception it is removed.

    Raises:
        WorkbenchError: the folder cannot be written to, or the disk is full.
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
            raise  # it is about another file, which the body was reading
        raise _cannot_write(path, error) from None
    except Exception as error:
        # PyTorch and safetensors report a failed write in words of their own; what the disk says is clearer.
        if not isinstance(error, WorkbenchError) and free_bytes(path.parent) < RESERVE:
            raise WorkbenchError(
                f"{path}: cannot be written (the disk is full); free some space and run again"
            ) from error
        raise
    finally:
        with suppress(OSError):  # it is gone where it has become `path`
            os.truncate(
                temporary, 0
            )  # whoever failed to write it may hold it open, and with it the room on the disk
        temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within, an OSError of writing to `path` becomes the one line that says so.

    Raises:
        WorkbenchError: the file cannot be opened or written to, or the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise _cannot_write(path, error) from None


def check_writable(folder: Path, needed_bytes: int = 0) -> None:
    """Check, before long work, that files can be written into a folder.

    Args:
        folder: where files are to be written; it need not exist yet.
        needed_bytes: how much will be written at least.

    Raises:
        WorkbenchError: the folder cannot be made or written to, or the disk has less than `needed_bytes` free.
    """
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise WorkbenchError(f"{there}: is a file, expected a folder to write into")
    try:
        with tempfile.NamedTemporaryFile(prefix=".writable.", dir=there) as probe:
            probe.write(b"0" * 4096)
    except OSError as error:
        raise _cannot_write(folder, error) from None
    free = free_bytes(there)
    if free < needed_bytes + RESERVE:
        raise WorkbenchError(
            f"{folder}: {free / 2**20:.1f} MiB are free on this disk, about {(needed_bytes + RESERVE) / 2**20:.1f} MiB are needed; "
            "free some space or choose another folder"
        )


def free_bytes(folder: Path) -> int:
    """Bytes that can still be written into a folder's file system."""
    return shutil.disk_usage(folder).free


def _cannot_write(path: Path, error: OSError) -> WorkbenchError:
    return WorkbenchError(
        f"{path}: cannot be written ({error.strerror}); check its permissions and the free space"
    )
