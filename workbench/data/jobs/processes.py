"""Work on many images in worker processes: a job is sent to each of them once, then one piece of work after the other.

They are not of `multiprocessing`, which runs the caller's main module again in each: a script without a guard, or what Streamlit
takes for the main module, would start to train or to draw there.
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
"""From a piece of work to its answer, both as JSON has them; a job itself can be pickled, and so can what it holds."""


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_workers(workers: int | None) -> None:
    """Raises WorkbenchError where `work` would, before anything is written."""
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
    """Do every piece of work, in no fixed order.

    Args:
        job: what is done with each piece.
        pieces: what to do it with.
        done: is told the answers, one at a time.
        workers: processes, one thread each; 0 works in this one. As many as there are cores by default.
        called: what to call a piece in the error of a process that ended with it in hand.

    Raises:
        WorkbenchError: of the job, or a process ended.
        KeyboardInterrupt: Ctrl-C; no answer follows.
    """
    check_workers(workers)
    count = min(cores() if workers is None else workers, len(pieces))
    if not count:
        for piece in pieces:
            done(job(piece))
        return
    sent = _pickled(job)
    todo: SimpleQueue[Any] = SimpleQueue()
    for piece in pieces:
        todo.put(piece)
    lock = Lock()

    def one_by_one(answer: Any) -> None:
        with lock:
            done(answer)

    processes: list[subprocess.Popen[bytes]] = []
    with ThreadPoolExecutor(count) as threads:
        try:
            for _ in range(count):
                processes.append(_start())
            for task in as_completed(
                [
                    threads.submit(_serve, process, sent, todo, one_by_one, called)
                    for process in processes
                ]
            ):
                task.result()
        except BaseException:
            for process in processes:
                process.kill()
            raise


def _pickled(job: Job) -> bytes:
    try:
        return pickle.dumps(job, protocol=pickle.HIGHEST_PROTOCOL)
    except (
        Exception
    ) as error:  # PicklingError, AttributeError, TypeError, ... of whatever the images are read by
        raise WorkbenchError(
            f"the reader of the images cannot be sent to other processes ({' '.join(str(error).split())[:200]}); use workers=0"
        ) from None


def _start() -> subprocess.Popen[bytes]:
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "workbench.data.jobs.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | dict.fromkeys(THREADS, "1") | {"PYTHONPATH": path},
        start_new_session=True,  # Ctrl-C is for us; a worker whose parent is gone ends with its standard input
    )


def _serve(
    process: subprocess.Popen[bytes],
    job: bytes,
    todo: SimpleQueue[Any],
    done: Callable[[Any], None],
    called: Callable[[Any], str] | None,
) -> None:
    with process:  # closes its standard input at the end, and waits for it
        assert process.stdin is not None
        assert process.stdout is not None
        said, at = job, ""
        while True:
            try:
                process.stdin.write(said)
                process.stdin.flush()
                answer = process.stdout.readline()
            except OSError:  # a broken pipe, which Windows calls by another name
                answer = b""
                with suppress(OSError):
                    process.stdin.close()  # which tries again to send what is left
            if not answer:
                raise WorkbenchError(
                    f"a worker process ended{at} (exit code {process.wait()}; -9 may mean out of memory: use fewer workers)"
                )
            told = json.loads(answer)
            if "error" in told:
                raise WorkbenchError(told["error"])
            if said is not job:
                done(told["answer"])
            try:
                piece = todo.get_nowait()
            except Empty:
                return
            said, at = json.dumps(piece).encode() + b"\n", f" at {called(piece)}" if called else ""
