"""The log of `align`, OUT/alignment.jsonl: what a call knows of those before it.

The first line has the settings. A line with "photo" gives the next number, from 0 on, to a photo and the name of its face; it is
written before the face is. A line with "number" says what became of that photo; of several the last one counts.
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
"""A file that was changed less than this ago may change again and have the same time of change: FAT counts in two seconds."""

Row = dict[str, Any]
Key = tuple[str, str, int]
"""Identity, photo, and how many of that name were before it."""


@dataclass
class AlignmentLog:
    """A log that is open for reading and for adding to.

    Attributes:
        folder: of the faces and the log.
        settings: of all calls.
        keys: number of each photo.
        files: by number, the name of its face in the folder.
        begins: by number, where in the file its last line begins; -1 where there is none.
        gone: numbers of photos that were gone when an earlier call looked.
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
        """Open the log of a folder. One is begun where there was no call yet, or one that finished nothing.

        Args:
            folder: of the faces.
            settings: as they are now.
            own: names of files and folders of `align` itself that may be there.

        Raises:
            WorkbenchError: the folder holds something else, or is of a call with other settings.
        """
        path = folder / LOG
        settings = {"version": VERSION, **settings}
        others = sorted(entry.name for entry in folder.iterdir() if entry.name not in (*own, LOG))
        if not path.is_file() or (not others and _finished_nothing(path)):
            if others:
                raise WorkbenchError(
                    f"{folder}: is not empty (it has {others[0]}) and was not made by aligning; name another folder"
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
                self._know(
                    (str(row["identity"]), str(row["photo"]), int(row["time"])), str(row["file"])
                )
            elif (
                isinstance(number, int)
                and 0 <= number < len(self.files)
                and row.get("outcome") in OUTCOMES
            ):
                self._note(number, row, begin)
            begin += len(line)
        if not line.endswith(b"\n"):  # cut off by a kill
            self.stream.write(b"\n")

    def _know(self, key: Key, file: str) -> None:
        self.keys[key] = len(self.files)
        self.files.append(file)
        self.begins.append(-1)

    def _note(self, number: int, row: Row, begin: int) -> None:
        self.begins[number] = begin
        if row["outcome"] == "gone":
            self.gone.add(number)
        else:
            self.gone.discard(number)

    def close(self) -> None:
        self.stream.close()

    def file_of(self, key: Key) -> str | None:
        """The name of a photo's face; None where the photo is not known, or was gone when an earlier call looked."""
        number = self.keys.get(key)
        return None if number is None or number in self.gone else self.files[number]

    def plan(self, keys: Sequence[Key], names: Sequence[str]) -> None:
        """Give numbers to the photos that have none yet, each with the name that its face will have."""
        self.stream.seek(0, os.SEEK_END)
        for key, name in zip(keys, names, strict=True):
            if self.file_of(key) is None:
                self._know(key, name)
                row = {"identity": key[0], "photo": key[1], "time": key[2], "file": name}
                self.stream.write(json.dumps(row).encode() + b"\n")
        self.stream.flush()

    def add(self, rows: Sequence[Row]) -> None:
        """Write what became of photos, told by their "number"."""
        self.stream.seek(0, os.SEEK_END)
        for row in rows:
            self._note(row["number"], row, self.stream.tell())
            self.stream.write(json.dumps(row).encode() + b"\n")
        self.stream.flush()

    def row(self, number: int) -> Row | None:
        """What became of a photo; None where nothing did yet, or where it was gone."""
        if self.begins[number] < 0 or number in self.gone:
            return None
        self.stream.seek(self.begins[number])
        return _row(self.stream.readline())

    def still_there(self, number: int, row: Row) -> bool:
        """Whether a photo's face is in the folder, as large as it was written."""
        try:
            return bool((self.folder / self.files[number]).stat().st_size == row.get("bytes"))
        except OSError:
            return False

    def remove(self, number: int, row: Row) -> bool:
        """Remove the face that a row is about, and folders that become empty; False where the file is not what was written."""
        file = self.folder / self.files[number]
        if "crop" not in row or not os.path.lexists(file):
            return True
        if not file.is_file() or digest(file.read_bytes()) != row["crop"]:
            return False
        file.unlink()
        with suppress(OSError):  # not empty
            for parent in file.parents:
                if parent == self.folder:
                    break
                parent.rmdir()
        return True


def digest(content: bytes) -> str:
    """16 hex digits."""
    return hashlib.sha256(content).hexdigest()[:16]


def digest_of(reader: Images, number: int) -> str:
    """Of the file of an image, or of its pixels where it has none. Raises WorkbenchError if it cannot be read."""
    source, inner = source_of(reader, number)
    if isinstance(source, EncodedImages):
        return digest(source.encoded(inner))
    pixels = source[inner]
    return digest(repr(pixels.shape).encode() + pixels.tobytes())


def stamp(reader: Images, number: int) -> list[int] | None:
    """Size and time of change of an image's file, from which it is known again unread.

    None where the image is no file of its own, or where it was changed a moment ago and its time says too little.
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
    """Whether a log has settings and plans alone."""
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
