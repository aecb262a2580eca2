"""Work in worker processes: answers, errors, and processes that die."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from helpers import Complaint

from workbench.data.jobs import processes
from workbench.errors import WorkbenchError


def double(number: int) -> list[int]:
    print("a library that prints")
    return [number, 2 * number, os.getpid()]


def refuse(number: int) -> None:
    raise WorkbenchError(f"no {number} today")


def fail(number: int) -> float:
    return number / 0


def die(number: int) -> None:
    os._exit(9)


def threads(name: str) -> str | None:
    return os.environ.get(name)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_piece_is_answered_once(workers: int) -> None:
    answers: list[list[int]] = []
    processes.work(double, list(range(20)), answers.append, workers=workers)
    assert sorted(answer[:2] for answer in answers) == [
        [number, 2 * number] for number in range(20)
    ]
    ours = {answer[2] == os.getpid() for answer in answers}
    assert ours == {workers == 0}


def test_nothing_to_do_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_start", None)
    processes.work(double, [], print, workers=3)


def test_a_worker_has_one_thread() -> None:
    answers: list[str] = []
    processes.work(threads, ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"], answers.append, workers=1)
    assert answers == ["1", "1"]


@pytest.mark.parametrize(
    ("job", "reason"),
    [(refuse, "no 1 today"), (fail, "ZeroDivisionError"), (die, "exit code 9")],
    ids=["refuse", "fail", "die"],
)
def test_what_goes_wrong_in_a_worker_is_one_line(
    job: Callable[[int], object],
    reason: str,
    complaint: Complaint,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with complaint(reason):
        processes.work(job, [1], print, workers=1)


def test_a_worker_that_ends_before_it_listens_is_one_line(
    complaint: Complaint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", ""], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        process.wait()
        return process

    monkeypatch.setattr(processes, "_start", start)
    with complaint("a worker process ended (exit code 0"):
        processes.work(double, [1], print, workers=1)


def test_what_cannot_be_sent_is_said(complaint: Complaint) -> None:
    with complaint("cannot be sent to other processes", "workers=0"):
        processes.work(lambda number: number, [1], print, workers=1)


def test_what_a_worker_cannot_import_is_said(
    complaint: Complaint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(double, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "double", double, raising=False)
    with complaint("a worker process cannot read the images", "workers=0"):
        processes.work(double, [1], print, workers=1)


def test_negative_workers(complaint: Complaint) -> None:
    with complaint("workers must be 0 or more, got -1"):
        processes.work(double, [1], print, workers=-1)


def test_an_error_ends_the_other_workers() -> None:
    def stop(answer: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        processes.work(double, list(range(6)), stop, workers=2)
