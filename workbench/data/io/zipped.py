"""Image files inside a zip archive, which may be damaged or hostile."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

from workbench.data.dataset import EncodedImages
from workbench.errors import WorkbenchError

MAX_FILE_BYTES = 50_000_000
"""Largest image file, unpacked, that is read from a zip archive."""


def names_in(path: Path) -> list[str]:
    """Returns the names of the members of a zip archive.

    Raises:
        WorkbenchError: if the file is not a zip archive, or a damaged one.
    """
    try:
        with ZipFile(path) as archive:
            return archive.namelist()
    except Exception as error:  # a damaged directory raises much more than BadZipFile
        raise WorkbenchError(f"{path}: not a zip file ({error})") from None


@dataclass(frozen=True)
class ZippedImages(EncodedImages):
    """Reader of image files in a zip archive.

    Nothing is unpacked to disk, so the name of a member cannot lead to another place.

    Attributes:
        path: the archive.
        names: names of the members that are the images.
    """

    path: Path
    names: list[str]
    _open: dict[int, ZipFile] = field(default_factory=dict, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def where(self, index: int) -> str:
        return f"{self.path}, {self.names[index]}"

    def encoded(self, index: int) -> bytes:
        where = self.where(index)
        try:
            archive = self._archive()
            member = archive.getinfo(self.names[index])
            size = member.file_size
            if size > MAX_FILE_BYTES:
                raise WorkbenchError(
                    f"{where}: {size / 1e6:.0f} MB unpacked, "
                    f"more than the {MAX_FILE_BYTES / 1e6:.0f} MB allowed"
                )
            if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
                raise WorkbenchError(
                    f"{where}: is compressed with a method that cannot be read piece by piece; "
                    "create the zip file with 'deflate'"
                )
            with archive.open(member) as stream:
                # `size` is only a claim. Reading no more than that stops a zip bomb.
                return stream.read(size)
        except WorkbenchError:
            raise
        except Exception as error:
            # Damaged archives raise BadZipFile, zlib.error, RuntimeError, struct.error and more.
            raise WorkbenchError(f"{where}: cannot be unpacked ({error})") from None

    def _archive(self) -> ZipFile:
        """Returns the open archive of this process.

        A forked worker process must not share the file position of its parent.
        """
        process = os.getpid()
        if process not in self._open:
            self._open.setdefault(process, ZipFile(self.path))
        return self._open[process]

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "names": self.names, "_open": {}}
