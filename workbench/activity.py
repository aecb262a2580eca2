"""What a process that trains several runs is doing, in a file of the folder of runs.

A run directory exists only from the first step of its training on. The file tells the dashboard
what happens before and after: which images are rendered, which run is evaluated, which runs wait,
and what failed. It is written by `tracked`, and read by `read_activity`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from workbench.errors import WorkbenchError
from workbench.files import check_writable
from workbench.runs import read_json, write_json

ACTIVITY, LOCK = ".activity.json", ".activity.lock"
WRITTEN_EVERY = 1.0
"""Seconds between two versions of the file while a number of images grows, and between two
heartbeats."""
STALE_SECONDS = 30.0
"""Age of the heartbeat from which a process that did not say how it ended is taken to be dead."""
STATES = ("waiting", "rendering", "training", "evaluating", "finished", "failed")
"""States of an entry of the queue."""
ENDS = ("finished", "stopped", "failed")
"""Ends of the process."""


@dataclass
class Entry:
    """One run of the queue.

    Attributes:
        title: The run in words.
        name: Name of the run directory; empty until it exists.
        state: One of `STATES`.
        problem: The error in one line; empty if there is none.
    """

    title: str
    name: str = ""
    state: str = "waiting"
    problem: str = ""


@dataclass
class Activity:
    """What a process is doing.

    Attributes:
        title: What the process works on, such as "the live training of the demo".
        queue: The runs, in their order.
        doing: What is done at the moment, in words; empty if only the run itself tells.
        done: Number of images that are done; 0 if nothing is counted.
        total: Number of all images; 0 if nothing is counted.
        end: One of `ENDS`; empty while the process works.
        problem: What ended the process, in one line; empty if nothing did.
        process: Number of the process.
        heartbeat: Time of the last sign of life, in seconds since 1970.
    """

    title: str
    queue: list[Entry] = field(default_factory=list)
    doing: str = ""
    done: int = 0
    total: int = 0
    end: str = ""
    problem: str = ""
    process: int = 0
    heartbeat: float = 0.0

    @property
    def is_working(self) -> bool:
        """Whether the process is still at work."""
        return not self.end and not self.is_lost

    @property
    def is_lost(self) -> bool:
        """Whether the process ended without saying so, for example because it was killed."""
        return not self.end and time.time() - self.heartbeat > STALE_SECONDS


def read_activity(folder: str | Path) -> Activity | None:
    """Reads what the last process in a folder of runs was doing.

    Args:
        folder: The folder of run directories.

    Returns:
        The activity; None if there is none, or its file is damaged or of another version.

    Example:
        >>> import tempfile
        >>> from workbench.activity import Entry, read_activity, tracked
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with tracked(folder, "two trainings", [Entry("arcface")]) as tracker:
        ...         tracker.doing("rendering", done=30, total=100)
        ...         now = read_activity(folder)
        ...     later = read_activity(folder)
        >>> now.doing, now.done, now.is_working, later.end
        ('rendering', 30, True, 'finished')
    """
    path = Path(folder) / ACTIVITY
    try:
        values: dict[str, Any] = read_json(path)
        queue = [Entry(**entry) for entry in values.pop("queue")]
        return Activity(**values, queue=queue)
    except (WorkbenchError, TypeError, KeyError, OSError, ValueError):
        return None


class Tracker:
    """Writes the file of an activity, and a heartbeat into it while the process lives.

    Args:
        path: The file.
        activity: The activity, which only this object changes.
    """

    def __init__(self, path: Path, activity: Activity) -> None:
        self.path, self.activity = path, activity
        self._lock = threading.Lock()
        self._written = 0.0

    def doing(self, text: str, done: int = 0, total: int = 0) -> None:
        """Says what is done now. Numbers that grow are written once a second.

        Args:
            text: What is done, in words.
            done: Number of images that are done.
            total: Number of all images.
        """
        is_new = text != self.activity.doing or total != self.activity.total
        self.activity.doing, self.activity.done, self.activity.total = text, done, total
        if is_new or time.time() - self._written >= WRITTEN_EVERY:
            self.write()

    def queue(self, entries: Sequence[Entry]) -> None:
        """Says which runs will be trained.

        Args:
            entries: The runs, in their order.
        """
        self.activity.queue = list(entries)
        self.write()

    def entry(self, number: int, state: str, name: str = "", problem: str = "") -> None:
        """Changes the state of an entry of the queue.

        Args:
            number: Number of the entry, from 0.
            state: One of `STATES`.
            name: Name of the run directory; by default unchanged.
            problem: The error in one line.
        """
        entry = self.activity.queue[number]
        entry.state, entry.name, entry.problem = state, name or entry.name, problem
        self.write()

    def ended(self, end: str, problem: str = "") -> None:
        """Says how the process ended.

        Args:
            end: One of `ENDS`.
            problem: What ended the process, in one line.
        """
        self.activity.end, self.activity.problem, self.activity.doing = end, problem, ""
        self.write()

    def write(self) -> None:
        """Writes the file. A full disk must not end the training, so errors are ignored."""
        with self._lock, suppress(WorkbenchError):
            self.activity.heartbeat = self._written = time.time()
            write_json(self.path, asdict(self.activity))

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Writes a heartbeat from a thread in the body of a `with` statement."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(5 * WRITTEN_EVERY):
                self.write()

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@contextmanager
def tracked(folder: str | Path, title: str, queue: Sequence[Entry] = ()) -> Iterator[Tracker]:
    """Tells in a folder of runs what the body of a `with` statement does.

    If the body ends with an error, the file says so: "stopped" after Ctrl-C, else "failed".

    Args:
        folder: The folder of run directories. It is created if it is missing.
        title: What the process works on.
        queue: The runs that it will train; `Tracker.queue` can name them later.

    Yields:
        The tracker.

    Raises:
        WorkbenchError: if another process does so in this folder, or the folder cannot be written
            to.
    """
    root = Path(folder)
    check_writable(root)
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / LOCK)
    try:
        lock.acquire(timeout=1)
    except Timeout:
        raise WorkbenchError(
            f"{root}: another process is training runs here already; wait for it or stop it"
        ) from None
    tracker = Tracker(root / ACTIVITY, Activity(title, list(queue), process=os.getpid()))
    try:
        tracker.write()
        with tracker.beating():
            yield tracker
        tracker.ended("finished")
    except KeyboardInterrupt:
        tracker.ended("stopped")
        raise
    except BaseException as error:
        tracker.ended("failed", f"{type(error).__name__}: {' '.join(str(error).split())}")
        raise
    finally:
        lock.release()
