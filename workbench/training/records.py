"""What training writes as it goes on: status.json, metrics.jsonl and broken.txt of the run."""

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

CHECKPOINT_SECONDS, EPOCH_CHECKPOINT_SECONDS = 300.0, 15.0


class Status:
    """How far a run is: signs of life in status.json, and the clock of checkpoints.

    Args:
        run: whose.
        total: steps there will be.
        step: steps done.
        saved: steps done at the last checkpoint; None where there is none.
    """

    def __init__(self, run: runs.Run, total: int, step: int, saved: int | None) -> None:
        self.run, self.total, self.step, self.saved = run, total, step, saved
        self.beaten = -math.inf
        self.saved_at = time.monotonic()

    def beat(self, step: int) -> None:
        """Note that a step is done; written to the file now and then."""
        self.step = step
        if time.monotonic() - self.beaten >= runs.HEARTBEAT_SECONDS:
            self.beaten = time.monotonic()
            self._write("running")

    def checkpoint_due(self, epoch_done: bool) -> bool:
        """After each epoch, but not all the time where epochs are short; within long ones now and then."""
        return time.monotonic() - self.saved_at >= (
            EPOCH_CHECKPOINT_SECONDS if epoch_done else CHECKPOINT_SECONDS
        )

    def checkpointed(self) -> None:
        """Note that the step reached is in last.ckpt."""
        self.saved, self.saved_at = self.step, time.monotonic()

    def finished(self) -> None:
        """Write that all is done."""
        self._write("finished")

    def stopped(self) -> None:
        """Write that the user interrupted the run, and how to go on."""
        if self.saved is None:
            said = "interrupted before the first checkpoint; start it anew"
        else:
            said = f"interrupted; go on with workbench train --resume {self.run.path}"
            said += f" from the checkpoint of step {self.saved}" if self.saved != self.step else ""
        self._write_if_possible("stopped", said)

    def failed(self, error: BaseException) -> None:
        """Write why the run failed."""
        self._write_if_possible("failed", f"{type(error).__name__}: {error}")

    def last_checkpoint(self) -> str:
        """Half a sentence about what is left when a run fails."""
        return (
            "no checkpoint had been saved before"
            if self.saved is None
            else f"the checkpoint of step {self.saved} is from before"
        )

    def _write_if_possible(self, state: str, message: str) -> None:
        with suppress(
            WorkbenchError
        ):  # a full disk is why the run fails, and its error is the one to be read
            self._write(state, message=message)

    def _write(self, state: str, **details: Any) -> None:
        self.run.set_status(
            state, **details, step=self.step, checkpoint=self.saved, total=self.total
        )


class Metrics:
    """metrics.jsonl, to which whole lines are appended.

    Args:
        path: the file.
        keep: bytes of it that are kept: what a checkpoint said of its length.

    Raises:
        WorkbenchError: it cannot be written to.
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
        """Write a line, or nothing of it.

        Raises:
            WorkbenchError: the disk is full.
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


class LeftOut:
    """Names images that cannot be read in broken.txt, each once, also when a run is resumed."""

    MOST_SHOWN = 5

    def __init__(self, run: runs.Run, bar: tqdm[NoReturn]) -> None:
        self.path, self.bar = run.path / runs.BROKEN, bar
        self.known = (
            set(self.path.read_text(encoding="utf-8", errors="replace").splitlines())
            if self.path.is_file()
            else set()
        )

    def __call__(self, reason: str) -> None:
        line = reason.encode("utf-8", "backslashreplace").decode()  # file names may be no UTF-8
        if line in self.known:
            return
        self.known.add(line)
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        if not self.bar.disable and len(self.known) <= self.MOST_SHOWN:
            rest = f"; others only in {self.path}" if len(self.known) == self.MOST_SHOWN else ""
            self.bar.write(f"left out: {line}{rest}", file=sys.stderr)
