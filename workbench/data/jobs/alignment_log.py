"""The log of `align`, OUT/alignment.jsonl, from which a call continues the work of earlier calls.

The first line has the settings. A line with "photo" gives a photo the next number, counted from 0,
and the name of its face; it is written before the face. A line with "number" holds the result for
the photo with that number; the last such line counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from array import array
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from workbench import runs
from workbench.data.dataset import EncodedImages, Images, source_of
from workbench.data.io.readers import Files
from workbench.errors import WorkbenchError

LOG = "alignment.jsonl"
VERSION = 2
OUTCOMES = ("aligned", "cropped", "missed", "broken", "gone")
SETTLED_SECONDS = 4.0
"""A file that was changed less than this time ago may change again without a new time of change,
because FAT stores times in steps of two seconds."""

Row = dict[str, Any]
Key = tuple[str, str, int]
"""Identity, photo, and the number of photos with the same identity and name before it."""


@dataclass
class AlignmentLog:
    """A log that is open for reading and appending.

    Attributes:
        folder: The folder of the faces and the log.
        settings: The settings of all calls.
        stream: The open file.
        keys: The number of each photo.
        files: For each number, the name of the face in the folder.
        begins: For each number, the offset of its last line in the file, or -1 if it has none.
        gone: Numbers of the photos that were missing when an earlier call looked for them.
    """

    folder: Path
    settings: Row
    stream: BinaryIO
    keys: dict[Key, int] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    begins: array[int] = field(default_factory=lambda: array("q"))
    gone: set[int] = field(default_factory=set)

    @classmethod
    def open(cls, folder: Path, settings: Row, own: Sequence[str]) -> AlignmentLog:
        """Open the log of a folder, or begin one if no call has finished a photo there.

        Args:
            folder: The folder of the faces.
            settings: The settings of this call.
            own: Names of files and folders of `align` that the folder may contain.

        Raises:
            WorkbenchError: If the folder contains something else, or was made with other settings.
        """
        path = folder / LOG
        settings = {"version": VERSION, **settings}
        others = sorted(entry.name for entry in folder.iterdir() if entry.name not in (*own, LOG))
        if not path.is_file() or (not others and _finished_nothing(path)):
            if others:
                raise WorkbenchError(
                    f"{folder}: is not empty (it has {others[0]}) and was not made by aligning; "
                    "name another folder"
                )
            runs.write_text(path, json.dumps(settings) + "\n")
        stream = path.open("r+b")
        log = cls(folder, settings, stream)
        try:
            first = _row(stream.readline())
            if first != settings:
                raise WorkbenchError(
                    f"{folder}: {_difference(first, settings)}; name another folder"
                )
            log._read()
        except BaseException:
            stream.close()
            raise
        return log

    def _read(self) -> None:
        begin, line = self.stream.tell(), b"\n"
        for line in self.stream:
            row = _row(line)
            number = row.get("number")
            if {"photo", "identity", "file", "time"} <= row.keys():
                key = (str(row["identity"]), str(row["photo"]), int(row["time"]))
                self._add_photo(key, str(row["file"]))
            elif (
                isinstance(number, int)
                and 0 <= number < len(self.files)
                and row.get("outcome") in OUTCOMES
            ):
                self._set_result(number, row, begin)
            begin += len(line)
        # The last line is incomplete if the process was killed while writing it.
        if not line.endswith(b"\n"):
            self.stream.write(b"\n")

    def _add_photo(self, key: Key, file: str) -> None:
        self.keys[key] = len(self.files)
        self.files.append(file)
        self.begins.append(-1)

    def _set_result(self, number: int, row: Row, begin: int) -> None:
        self.begins[number] = begin
        if row["outcome"] == "gone":
            self.gone.add(number)
        else:
            self.gone.discard(number)

    def close(self) -> None:
        self.stream.close()

    def file_of(self, key: Key) -> str | None:
        """The name of the face of a photo, or None if the photo is new or was gone before."""
        number = self.keys.get(key)
        if number is None or number in self.gone:
            return None
        return self.files[number]

    def plan(self, keys: Sequence[Key], names: Sequence[str]) -> None:
        """Give a number, and the name of its future face, to each photo that has none."""
        self.stream.seek(0, os.SEEK_END)
        for key, name in zip(keys, names, strict=True):
            if self.file_of(key) is None:
                self._add_photo(key, name)
                row = {"identity": key[0], "photo": key[1], "time": key[2], "file": name}
                self.stream.write(json.dumps(row).encode() + b"\n")
        self.stream.flush()

    def add(self, rows: Sequence[Row]) -> None:
        """Append the results for photos; the "number" of each row identifies the photo."""
        self.stream.seek(0, os.SEEK_END)
        for row in rows:
            self._set_result(row["number"], row, self.stream.tell())
            self.stream.write(json.dumps(row).encode() + b"\n")
        self.stream.flush()

    def row(self, number: int) -> Row | None:
        """The result for a photo; None if there is none yet, or if the photo was gone."""
        if self.begins[number] < 0 or number in self.gone:
            return None
        self.stream.seek(self.begins[number])
        return _row(self.stream.readline())

    def still_there(self, number: int, row: Row) -> bool:
        """Whether the face of a photo is in the folder and has the size that was written."""
        try:
            return bool((self.folder / self.files[number]).stat().st_size == row.get("bytes"))
        except OSError:
            return False

    def remove(self, number: int, row: Row) -> bool:
        """Remove the face of a photo, and the folders that become empty.

        Args:
            number: The number of the photo.
            row: The result for the photo.

        Returns:
            False if the file is not the one that was written, and is therefore kept.
        """
        file = self.folder / self.files[number]
        if "crop" not in row or not os.path.lexists(file):
            return True
        if not file.is_file() or digest(file.read_bytes()) != row["crop"]:
            return False
        file.unlink()
        with suppress(OSError):  # The folder is not empty.
            for parent in file.parents:
                if parent == self.folder:
                    break
                parent.rmdir()
        return True


def digest(content: bytes) -> str:
    """The SHA-256 of the content, shortened to 16 hex digits."""
    return hashlib.sha256(content).hexdigest()[:16]


def digest_of(reader: Images, number: int) -> str:
    """The digest of the file of an image, or of its pixels if it is not a file.

    Raises:
        WorkbenchError: If the image cannot be read.
    """
    source, inner = source_of(reader, number)
    if isinstance(source, EncodedImages):
        return digest(source.encoded(inner))
    pixels = source[inner]
    return digest(repr(pixels.shape).encode() + pixels.tobytes())


def stamp(reader: Images, number: int) -> list[int] | None:
    """The size and time of change of the file of an image, which identify it without reading it.

    Returns:
        [size in bytes, time in nanoseconds]; None if the image has no file of its own, or if the
        file was changed so recently that it may change again without a new time.
    """
    source, inner = source_of(reader, number)
    if not isinstance(source, Files):
        return None
    try:
        status = os.stat(source.where(inner))
    except OSError:
        return None
    settled = time.time() - status.st_mtime > SETTLED_SECONDS
    return [status.st_size, status.st_mtime_ns] if settled else None


def _finished_nothing(path: Path) -> bool:
    """Whether a log has settings and names but no results."""
    with path.open("rb") as log:
        return bool(_row(log.readline())) and not any("outcome" in _row(line) for line in log)


def _row(line: bytes) -> Row:
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}


def _difference(before: Row, now: Row) -> str:
    if not before:
        return f"{LOG} is damaged"
    if before.get("version") != now["version"]:
        return "was begun by an earlier version of the workbench"
    if before.get("source") != now["source"]:
        return f"was begun with {before.get('source')}, not with {now['source']}"
    key = next((key for key in now if before.get(key) != now[key]), "settings")
    return f"was begun with {key} {_plain(before.get(key))}, not {_plain(now.get(key))}"


def _plain(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)
