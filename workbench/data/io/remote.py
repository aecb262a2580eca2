"""Files behind an address, fetched when they are needed and kept while there is room: sets larger than the disk."""

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
from workbench.data.io.reading import SharedFile
from workbench.errors import WorkbenchError

ROOM = "WORKBENCH_SHARDS_GB"
"""Environment variable: gigabytes of fetched files that are kept, 50 if it is not set."""
OPEN = 8
"""Files that stay open in a process; those who read fewer at a time never fetch one twice."""


class RemoteFiles:
    """Files behind addresses of which pieces are read, by any number of processes; of those kept, the least recently used go first.

    Args:
        addresses: `http://...`, `https://...`, or `pipe:COMMAND`, whose output is the file.
        sizes: bytes of each, where they are known: what is fetched is compared with them.
    """

    def __init__(self, addresses: Sequence[str], sizes: NDArray[np.int64] | None = None) -> None:
        self.addresses, self.sizes = addresses, sizes
        self._files: dict[int, SharedFile] = {}

    def __getstate__(self) -> tuple[Sequence[str], NDArray[np.int64] | None]:
        return self.addresses, self.sizes

    def __setstate__(self, state: tuple[Sequence[str], NDArray[np.int64] | None]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def read(self, number: int, begin: int, size: int) -> bytes:
        """Up to `size` bytes of file number `number` from `begin` on. Raises WorkbenchError where it cannot be fetched."""
        file = self._files.pop(number, None) or self._opened(number)
        self._files[number] = file
        for oldest in list(self._files)[:-OPEN]:
            self._files.pop(oldest, None)
        return file.read(begin, size)

    def _opened(self, number: int) -> SharedFile:
        for _ in range(3):  # another process may clear it away before it is open here
            file = SharedFile(
                fetched(
                    self.addresses[number], None if self.sizes is None else int(self.sizes[number])
                )
            )
            with suppress(WorkbenchError):
                file.read(0, 1)
                return file
        raise WorkbenchError(
            f"{self.addresses[number][:200]}: is cleared away as soon as it is fetched; {ROOM} is too small"
        )


def fetched(address: str, size: int | None = None, again: bool = False) -> Path:
    """The file behind an address, from the cache or fetched into it.

    Args:
        address: as `RemoteFiles` takes them.
        size: its bytes, where they are known.
        again: fetch it also where it is there.

    Raises:
        WorkbenchError: it cannot be fetched, or has another size.
    """
    from webdataset.cache import FileCache  # brings torch with it

    folder = cache_folder() / "shards"
    name = hashlib.sha256(address.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    keep = FileCache(
        str(folder),
        url_to_name=lambda _: name,
        validator=None,
        cache_size=room(),
        cache_cleanup_interval=0,
    )
    (folder.parent / "locks").mkdir(parents=True, exist_ok=True)
    with FileLock(
        folder.parent / "locks" / f"{name}.lock"
    ):  # loader processes ask for the same file at the same time
        if again:
            (folder / name).unlink(missing_ok=True)
        try:
            path = Path(keep.get_file(address))
            os.utime(path)  # who was used last is told by this
        except Exception as error:  # whatever a command, a server or a disk comes up with
            for part in folder.glob(f"{name}.temp*"):
                part.unlink(missing_ok=True)
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise WorkbenchError(f"{address[:200]}: cannot be fetched ({reason})") from None
        found = path.stat().st_size
        if size is not None and found != size:
            path.unlink()
            raise WorkbenchError(
                f"{address[:200]}: has {found:,} bytes, its index says {size:,}; it was changed since it was indexed, or cut off"
            )
    return path


def room() -> int:
    """Bytes of fetched files that are kept. Raises WorkbenchError where the environment says nonsense."""
    text = os.environ.get(ROOM, "50")
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = 0.0
    if not 0 < gigabytes < 1e9:
        raise WorkbenchError(f"{ROOM} is {text[:40]!r}: expected a number of gigabytes, e.g. 50")
    return max(int(gigabytes * 1e9), 1)
