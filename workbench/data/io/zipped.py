"""Image files within a zip, which need not be an honest one."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

from workbench.data.dataset import EncodedImages
from workbench.errors import WorkbenchError

MAX_FILE_BYTES = 50_000_000


def names_in(path: Path) -> list[str]:
    """The names of a zip's members. Raises WorkbenchError if it is no zip, or a damaged one."""
    try:
        with ZipFile(path) as archive:
            return archive.namelist()
    except Exception as error:  # beside BadZipFile whatever a damaged directory leads to
        raise WorkbenchError(f"{path}: not a zip file ({error})") from None


@dataclass(frozen=True)
class ZippedImages(EncodedImages):
    """Image files within a zip; nothing is unpacked to disk, so a member's name can lead nowhere."""

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
            # One open zip per process: a forked loader process must not share its parent's file position.
            archive = self._open.get(os.getpid()) or self._open.setdefault(
                os.getpid(), ZipFile(self.path)
            )
            member = archive.getinfo(self.names[index])
            size = member.file_size
            if size > MAX_FILE_BYTES:
                raise WorkbenchError(
                    f"{where}: {size / 1e6:.0f} MB unpacked, more than the {MAX_FILE_BYTES / 1e6:.0f} allowed"
                )
            if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
                raise WorkbenchError(
                    f"{where}: compressed in a way that cannot be unpacked bit by bit; zip it with 'deflate'"
                )
            with archive.open(member) as stream:
                return stream.read(
                    size
                )  # the size is only a claim: without it a bomb would be unpacked first
        except WorkbenchError:
            raise
        except Exception as error:  # zipfile raises BadZipFile, zlib.error, RuntimeError, struct.error, ... on damaged files
            raise WorkbenchError(f"{where}: cannot be unpacked ({error})") from None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "names": self.names, "_open": {}}
