"""Applies a job to many images in worker processes.

The job is sent to each process once, and then one piece of work after another. The processes are
not started by `multiprocessing`, because it would run the main module of the caller again in each
of them: a script without `if __name__ == "__main__"`, or a page of Streamlit, would start to train
or to draw there.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any

from workbench.errors import WorkbenchError

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)
Job = Callable[[Any], Any]
"""A function from a piece of work to its answer, both of which JSON can represent. It must be
picklable."""


def cores() -> int:
    """The number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_workers(workers: int | None) -> None:
    """Raise the error that `work` would raise, before anything is written.

    Args:
        workers: Number of worker processes, or None.

    Raises:
        WorkbenchError: If `workers` is negative.
    """
    if workers is not None and workers < 0:
        raise WorkbenchError(f"workers must be 0 or more, got {workers}")


def work(
    job: Job,
    pieces: Sequence[Any],
    done: Callable[[Any], object],
    *,
    workers: int | None = None,
    called: Callable[[Any], str] | None = None,
) -> None:
    """Apply a job to every piece of work, in no fixed order.

    Args:
        job: The function to apply.
        pieces: The pieces of work.
        done: Called with each answer, one at a time.
        workers: Number of worker processes, which use one thread each. 0 works in this process. The
            default is the number of CPU cores.
        called: Returns the name of a piece for the error message if a process dies while it works
            on it.

    Raises:
        WorkbenchError: If the job raises one, or a process dies.
        KeyboardInterrupt: If the user presses Ctrl-C. `done` is not called after that.
    """
    check_workers(workers)
    count = min(cores() if workers is None else workers, len(pieces))
    if not count:
        for piece in pieces:
            done(job(piece))
        return
    pickled_job = _pickled(job)
    queue: SimpleQueue[Any] = SimpleQueue()
    for piece in pieces:
        queue.put(piece)
    lock = Lock()

    def one_by_one(answer: Any) -> None:
        with lock:
            done(answer)

    processes: list[subprocess.Popen[bytes]] = []
    with ThreadPoolExecutor(count) as threads:
        try:
            for _ in range(count):
                processes.append(_start())
            tasks = [
                threads.submit(_serve, process, pickled_job, queue, one_by_one, called)
                for process in processes
            ]
            for task in as_completed(tasks):
                task.result()
        except BaseException:
            for process in processes:
                process.kill()
            raise


def _pickled(job: Job) -> bytes:
    try:
        return pickle.dumps(job, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # A reader of images can raise almost any error here.
        reason = " ".join(str(error).split())[:200]
        raise WorkbenchError(
            f"the reader of the images cannot be sent to other processes ({reason}); use workers=0"
        ) from None


def _start() -> subprocess.Popen[bytes]:
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "workbench.data.jobs.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | dict.fromkeys(THREADS, "1") | {"PYTHONPATH": path},
        start_new_session=True,  # Ctrl-C goes to this process only. A worker ends with its input.
    )


def _serve(
    process: subprocess.Popen[bytes],
    job: bytes,
    queue: SimpleQueue[Any],
    done: Callable[[Any], None],
    called: Callable[[Any], str] | None,
) -> None:
    """Send a process the job and then pieces from the queue, until the queue is empty."""
    with process:  # At the end this closes its standard input and waits for it.
        assert process.stdin is not None
        assert process.stdout is not None
        message, at_piece = job, ""
        while True:
            try:
                process.stdin.write(message)
                process.stdin.flush()
                answer = process.stdout.readline()
            except OSError:  # A broken pipe, which is another error on Windows.
                answer = b""
                with suppress(OSError):
                    process.stdin.close()  # This tries to send the rest of the message again.
            if not answer:
                raise WorkbenchError(
                    f"a worker process ended{at_piece} (exit code {process.wait()}; "
                    "-9 may mean out of memory: use fewer workers)"
                )
            reply = json.loads(answer)
            if "error" in reply:
                raise WorkbenchError(reply["error"])
            if message is not job:
                done(reply["answer"])
            try:
                piece = queue.get_nowait()
            except Empty:
                return
            message = json.dumps(piece).encode() + b"\n"
            at_piece = f" at {called(piece)}" if called else ""
