"""`workbench demo`: the dashboard and the training beside it, which begin and end together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import RunCommand, paint_people

from workbench import runs
from workbench.activity import read_activity
from workbench.cli import dashboard, live_process
from workbench.errors import WorkbenchError

WAIT = 120.0
STUB = (
    "import pathlib, sys; pathlib.Path('begun').write_text(' '.join(sys.argv[1:])); "
    "sys.stdin.buffer.read(); pathlib.Path('ended').touch()"
)
"""Code in place of the training: it waits for the end of its input."""


def _until(reached: Callable[[], Any]) -> None:
    end = time.monotonic() + WAIT
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.05)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, into which no reference runs are copied."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dashboard, "_copy_reference_runs", lambda runs_dir: None)
    return tmp_path


def test_the_demo_starts_although_the_reference_runs_cannot_be_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(folder: Path) -> None:
        raise WorkbenchError(f"{folder}: cannot be written")

    monkeypatch.setattr("workbench.reference.runs", fail)
    dashboard._copy_reference_runs(tmp_path)
    assert f"{tmp_path}: cannot be written" in capsys.readouterr().err


@pytest.fixture
def stubs(here: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Replaces the training and the dashboard by small programs."""

    def replace(served: str) -> None:
        monkeypatch.setattr(live_process, "START", STUB)
        command = [sys.executable, "-c", served]
        monkeypatch.setattr(dashboard, "_streamlit", lambda *_: (command, dict(os.environ)))

    return replace


SERVED = "import os, pathlib, time; pathlib.Path('served').write_text(str(os.getpid())); "


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_both(
    run_command: RunCommand, here: Path, stubs: Callable[[str], None], number: signal.Signals
) -> None:
    stubs(SERVED + "time.sleep(600)")

    def interrupt() -> None:
        _until(lambda: Path("served").exists() and Path("begun").exists())
        time.sleep(0.2)  # the name of the file is there before its content
        signal.pthread_kill(threading.main_thread().ident or 0, number)

    threading.Thread(target=interrupt).start()
    result = run_command("demo --runs-dir some")
    assert result.code == 0
    assert "Traceback" not in result.err
    assert "saves a checkpoint" in result.out
    assert Path("begun").read_text() == "some"
    assert Path("ended").exists()
    assert not _is_alive(int(Path("served").read_text()))


def test_the_training_ends_with_the_dashboard(
    run_command: RunCommand, here: Path, stubs: Callable[[str], None]
) -> None:
    stubs(SERVED + "time.sleep(1); raise SystemExit(3)")
    result = run_command("demo --full --runs-dir some")
    assert result.code == 3
    assert Path("begun").read_text() == "some --full"
    assert Path("ended").exists()


def test_the_dashboard_stays_when_the_training_is_over(
    run_command: RunCommand,
    here: Path,
    stubs: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stubs(SERVED + "time.sleep(2)")
    monkeypatch.setattr(live_process, "START", "raise SystemExit(2)")
    begin = time.monotonic()
    result = run_command("demo")
    assert result.code == 0
    assert time.monotonic() - begin >= 2
    assert "saves a checkpoint" not in result.out


def test_a_training_that_does_not_end_is_killed(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_process, "START", "import time; time.sleep(600)")
    monkeypatch.setattr(live_process, "STOP_SECONDS", 0.2)
    training = live_process.LiveTraining(here, full=False)
    assert training.is_running()
    training.stop()
    assert not training.is_running()


def test_both_addresses_are_printed(
    run_command: RunCommand, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboard, "_serve_beside_training", lambda *_: 0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    result = run_command(f"demo --port {port}")
    assert f"http://localhost:{port}/live" in result.out


TINY = """
import sys
from workbench import experiments
from workbench.cli import live_process
from workbench.evaluation import projection
from workbench.experiments import DemoPlan
from workbench.training import TrainConfig

def tiny_plan(runs_dir):
    config = dict(data="folder:faces", image_size=16, embedding_dim=8, batch_size=8, epochs=40)
    config |= dict(backbone_options={"width": 8}, snapshots=["folder:others"], device="cpu")
    config |= dict(runs_dir=str(runs_dir), loss_options={"s": 16.0})
    names = {"first": {}, "second": {"epochs": 1}, "broken": {"data": "folder:missing"}}
    configs = [TrainConfig(**config | {"name": name} | own) for name, own in names.items()]
    return DemoPlan(tuple(configs[:1] + configs[2:] + configs[1:2]), ("folder:others",))

experiments.live_plan = tiny_plan
projection._umap = lambda unit, seed: projection.pca(unit)[0]  # compiling UMAP takes 20 s
live_process.main()
"""


@pytest.fixture
def begin(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], live_process.LiveTraining]]:
    """Starts the training of a tiny plan. A test that fails leaves no process behind."""
    paint_people(here / "faces", 6, 8)
    paint_people(here / "others", 5, 4, seed=1)
    monkeypatch.setattr(live_process, "START", TINY)
    started: list[live_process.LiveTraining] = []

    def start() -> live_process.LiveTraining:
        started.append(live_process.LiveTraining(here / "runs", full=False))
        return started[-1]

    yield start
    for training in started:
        training.process.kill()
        training.process.wait()


@pytest.mark.slow
def test_a_training_is_stopped_continued_and_finished(
    here: Path, begin: Callable[[], live_process.LiveTraining], capfd: pytest.CaptureFixture[str]
) -> None:
    first = runs.Run(here / "runs" / "first")

    training = begin()
    _until(lambda: len(first.snapshots()) > 2)
    training.stop()
    assert training.process.returncode == 0
    assert first.state == "stopped"
    assert (first.path / runs.CHECKPOINT).is_file()
    activity = read_activity(here / "runs")
    assert activity is not None
    assert activity.end == "stopped"
    out, err = capfd.readouterr()
    assert "stopped; the next `workbench demo` continues it" in out
    assert "Traceback" not in err

    training = begin()
    assert training.process.wait(WAIT) == 0
    out, err = capfd.readouterr()
    assert "resuming" in out
    assert "epoch 40 of 40, loss" in out
    assert "of the pairs of others right" in out
    assert "Traceback" not in err
    assert first.state == "finished"
    assert first.evaluations() == ["others"]
    assert len(first.snapshots()) == 41
    activity = read_activity(here / "runs")
    assert activity is not None
    assert [entry.state for entry in activity.queue] == ["finished", "failed", "finished"]
    assert "missing" in activity.queue[1].problem
    assert f"arcface: failed: {activity.queue[1].problem}" in out

    changed = (first.path / runs.MODEL).stat().st_mtime_ns
    training = begin()
    assert training.process.wait(WAIT) == 0
    assert "epoch" not in capfd.readouterr().out
    assert (first.path / runs.MODEL).stat().st_mtime_ns == changed


@pytest.mark.slow
def test_the_training_ends_if_the_command_is_killed(here: Path) -> None:
    paint_people(here / "faces", 6, 8)
    paint_people(here / "others", 5, 4, seed=1)
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from workbench.cli import live_process\n"
        f"live_process.START = {TINY!r}\n"
        "training = live_process.LiveTraining(Path('runs'), full=False)\n"
        "print(training.process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    run = runs.Run(here / "runs" / "first")
    _until(lambda: len(run.snapshots()) > 1)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    _until(lambda: run.state != "running")
    assert run.state in ("stopped", "finished")
    _until(lambda: not _is_running(child))


def _is_running(process: int) -> bool:
    """Whether a process runs that is not a child; one that nobody waits for may be a zombie."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return _is_alive(process) and not Path("/proc").is_dir()
    return stat.rpartition(")")[2].split()[0] != "Z"
