"""Files at an address, which are fetched when they are needed and kept while there is room.

This way a data set may be larger than the disk. Fetching needs the library webdataset (extra
`webdataset`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from workbench.cache import cache_folder
from workbench.data.io.reading import FileCollection, SharedFile
from workbench.data.io.shards import require
from workbench.errors import WorkbenchError

ROOM = "WORKBENCH_SHARDS_GB"
"""Environment variable: gigabytes of fetched files that are kept, 50 if it is not set."""
OPEN = 8
"""Files that stay open in a process. A process that reads no more of them fetches none twice."""
ATTEMPTS = 3
"""How often a file is fetched that another process deletes before it is open here."""


class RemoteFiles(FileCollection):
    """Files at addresses, of which pieces are read by any number of processes.

    Fetched files are kept in the cache folder. When they take more than `room()` bytes, the least
    recently used ones are deleted.

    Args:
        addresses: `http://...`, `https://...`, or `pipe:COMMAND` whose output is the file.
        sizes: size of each file in bytes, with which a fetched file is compared; None if unknown.
    """

    def __init__(self, addresses: Sequence[str], sizes: NDArray[np.int64] | None = None) -> None:
        super().__init__(OPEN)
        self.addresses, self.sizes = addresses, sizes

    def __getstate__(self) -> tuple[Sequence[str], NDArray[np.int64] | None]:
        return self.addresses, self.sizes

    def __setstate__(self, state: tuple[Sequence[str], NDArray[np.int64] | None]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def _open_file(self, number: int) -> SharedFile:
        size = None if self.sizes is None else int(self.sizes[number])
        for _ in range(ATTEMPTS):
            file = SharedFile(fetch(self.addresses[number], size))
            with suppress(WorkbenchError):
                file.read(0, 1)
                return file
        raise WorkbenchError(
            f"{self.addresses[number][:200]}: is deleted from the cache as soon as it is fetched; "
            f"{ROOM} is too small"
        )


def fetch(address: str, size: int | None = None, again: bool = False) -> Path:
    """Returns the file at an address, from the cache if it is there.

    Args:
        address: as `RemoteFiles` takes it.
        size: size of the file in bytes, if it is known.
        again: whether to fetch the file even if it is in the cache.

    Returns:
        The file in the cache folder.

    Raises:
        WorkbenchError: if the library webdataset is not installed, the file cannot be fetched, or
            it has another size.
    """
    require("webdataset", "fetching shards")
    from webdataset.cache import FileCache  # imports torch

    folder = cache_folder() / "shards"
    name = hashlib.sha256(address.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    cache = FileCache(
        str(folder),
        url_to_name=lambda _: name,
        validator=None,
        cache_size=room(),
        cache_cleanup_interval=0,
    )
    locks = folder.parent / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    # Worker processes ask for the same file at the same time; one of them fetches it.
    with FileLock(locks / f"{name}.lock"):
        if again:
            (folder / name).unlink(missing_ok=True)
        try:
            path = Path(cache.get_file(address))
            os.utime(path)  # the cache deletes the files with the oldest times first
        except Exception as error:  # commands, servers and disks fail in many ways
            for part in folder.glob(f"{name}.temp*"):
                part.unlink(missing_ok=True)
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise WorkbenchError(f"{address[:200]}: cannot be fetched ({reason})") from None
        actual_size = path.stat().st_size
        if size is not None and actual_size != size:
            path.unlink()
            raise WorkbenchError(
                f"{address[:200]}: has {actual_size:,} bytes, its index says {size:,}; "
                "it was changed after it was indexed, or it is truncated"
            )
    return path


def room() -> int:
    """Returns how many bytes of fetched files are kept.

    Raises:
        WorkbenchError: if the environment variable `WORKBENCH_SHARDS_GB` is not a positive number.
    """
    text = os.environ.get(ROOM, "50")
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = 0.0
    if not 0 < gigabytes < 1e9:
        raise WorkbenchError(f"{ROOM} is {text[:40]!r}: expected a number of gigabytes, e.g. 50")
    return max(int(gigabytes * 1e9), 1)
