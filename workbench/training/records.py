"""The files that training writes while it runs: status.json, metrics.jsonl, notes.jsonl, ..."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from tqdm.auto import tqdm

from workbench import runs
from workbench.errors import WorkbenchError
from workbench.files import writing

CHECKPOINT_SECONDS = 300.0
"""Seconds since the last checkpoint after which one is due within an epoch."""
EPOCH_CHECKPOINT_SECONDS = 15.0
"""Seconds since the last checkpoint after which one is due at the end of an epoch."""


class Status:
    """The progress of a run: writes status.json, and decides when a checkpoint is due.

    Args:
        run: The run.
        total: Total number of steps.
        step: Number of steps done.
        saved: Number of steps done at the last checkpoint; None if there is none.
    """

    def __init__(self, run: runs.Run, total: int, step: int, saved: int | None) -> None:
        self.run, self.total, self.step, self.saved = run, total, step, saved
        self.last_heartbeat = -math.inf
        self.saved_at = time.monotonic()

    def beat(self, step: int) -> None:
        """Records that a step is done; writes status.json if the last heartbeat is old.

        Args:
            step: Number of steps done.
        """
        self.step = step
        if time.monotonic() - self.last_heartbeat >= runs.HEARTBEAT_SECONDS:
            self.last_heartbeat = time.monotonic()
            self._write("running")

    def checkpoint_due(self, epoch_done: bool) -> bool:
        """Whether it is time for a checkpoint.

        One is due after each epoch, unless epochs are very short, and every few minutes within
        long epochs.

        Args:
            epoch_done: Whether the current step was the last one of an epoch.
        """
        interval = EPOCH_CHECKPOINT_SECONDS if epoch_done else CHECKPOINT_SECONDS
        return time.monotonic() - self.saved_at >= interval

    def checkpointed(self) -> None:
        """Records that a checkpoint of the current step was saved."""
        self.saved, self.saved_at = self.step, time.monotonic()

    def finished(self) -> None:
        """Writes the state "finished"."""
        self._write("finished")

    def stopped(self) -> None:
        """Writes the state "stopped", with a message that says how to resume the run."""
        if self.saved is None:
            message = "interrupted before the first checkpoint; start a new run"
        else:
            message = f"interrupted; resume it with workbench train --resume {self.run.path}"
            if self.saved != self.step:
                message += f" from the checkpoint of step {self.saved}"
        self._write_if_possible("stopped", message)

    def failed(self, error: BaseException) -> None:
        """Writes the state "failed", with the error as message."""
        self._write_if_possible("failed", f"{type(error).__name__}: {error}")

    def last_checkpoint(self) -> str:
        """Returns a clause about the last checkpoint, for the error of a run that fails."""
        if self.saved is None:
            return "no checkpoint was saved before"
        return f"the checkpoint of step {self.saved} is kept"

    def _write_if_possible(self, state: str, message: str) -> None:
        # If the run fails because the disk is full, the user must see that error, not this one.
        with suppress(WorkbenchError):
            self._write(state, message=message)

    def _write(self, state: str, **details: Any) -> None:
        self.run.set_status(
            state, **details, step=self.step, checkpoint=self.saved, total=self.total
        )


class Metrics:
    """The file metrics.jsonl, to which complete lines are appended. Use it in a `with` statement.

    Args:
        path: The file.
        keep: Number of bytes to keep, which the checkpoint stores; later bytes are removed.

    Raises:
        WorkbenchError: if the file cannot be written to.
    """

    def __init__(self, path: Path, keep: int) -> None:
        self.path = path
        with writing(path):
            self.file = path.open("ab", buffering=0)
            self.length = min(keep, self.file.tell())
            self.file.truncate(self.length)

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def append(self, row: Mapping[str, Any]) -> None:
        """Appends one line. If this fails, no part of the line remains in the file.

        Args:
            row: Plain values by name.

        Raises:
            WorkbenchError: if the disk is full.
        """
        line = json.dumps(row).encode() + b"\n"
        with writing(self.path):
            try:
                rest = line
                while rest:
                    rest = rest[os.write(self.file.fileno(), rest) :]
            except OSError:
                self.file.truncate(self.length)
                raise
        self.length += len(line)


class Notes:
    """Prints notes and warnings above the progress bar, and writes them to notes.jsonl.

    Args:
        run: The run. A note that its notes.jsonl has already is printed, but not written again.
        step: Number of steps done. Later notes, of a part that is now trained again, are removed.
        bar: The progress bar; if it is disabled, nothing is printed.
    """

    def __init__(self, run: runs.Run, step: int, bar: tqdm[NoReturn]) -> None:
        self.path, self.bar = run.path / runs.NOTES, bar
        self.notes = [note for note in run.notes() if note.get("step", 0) <= step]
        if self.path.is_file():
            self._write()

    @property
    def kinds(self) -> set[str]:
        """The kinds of the notes so far."""
        return {str(note.get("kind")) for note in self.notes}

    def add(self, step: int, kind: str, level: str, text: str) -> None:
        """Prints a note, and writes it to the file.

        Args:
            step: Number of steps done.
            kind: Short name of what the note is about.
            level: "note" or "warning".
            text: The note, in one line.

        Raises:
            WorkbenchError: if the file cannot be written.
        """
        if not self.bar.disable:
            self.bar.write(f"{level}: {text}", file=sys.stderr)
        if all(note["text"] != text for note in self.notes):
            self.notes.append({"step": step, "kind": kind, "level": level, "text": text})
            self._write()

    def _write(self) -> None:
        runs.write_text(self.path, "".join(json.dumps(note) + "\n" for note in self.notes))


class LeftOut:
    """Writes to broken.txt which images cannot be read, and names each of them once.

    Args:
        run: The run. Images that its broken.txt lists already are not added again.
        bar: The progress bar; the first images are also printed above it.
    """

    MAX_SHOWN = 5
    """Number of images that are printed."""

    def __init__(self, run: runs.Run, bar: tqdm[NoReturn]) -> None:
        self.path, self.bar = run.path / runs.BROKEN, bar
        self.lines: set[str] = set()
        if self.path.is_file():
            self.lines.update(self.path.read_text(encoding="utf-8", errors="replace").splitlines())

    def __call__(self, reason: str) -> None:
        """Adds an image.

        Args:
            reason: The error message, which names the image.
        """
        line = reason.encode("utf-8", "backslashreplace").decode()  # file names may not be UTF-8
        if line in self.lines:
            return
        self.lines.add(line)
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        if not self.bar.disable and len(self.lines) <= self.MAX_SHOWN:
            hint = ""
            if len(self.lines) == self.MAX_SHOWN:
                hint = f"; further images are listed only in {self.path}"
            self.bar.write(f"left out: {line}{hint}", file=sys.stderr)
