"""A sweep trains what is missing, survives failures and interruptions, and writes its tables."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from filelock import FileLock
from helpers import Complaint
from safetensors.torch import load_file

from workbench import experiments, runs
from workbench.errors import WorkbenchError
from workbench.experiments import executing, jobs
from workbench.training import TrainConfig


def _sweep(plan: Any, told: list[str] | None = None, **options: Any) -> experiments.SweepResult:
    options = {"jobs": 0, "progress": False, **options}
    result = experiments.sweep(plan, tell=[].append if told is None else told.append, **options)
    assert isinstance(result, experiments.SweepResult)
    return result


def test_a_sweep_trains_evaluates_and_writes_its_tables(plan: dict[str, Any]) -> None:
    told: list[str] = []
    result = _sweep(plan, told)
    assert [run.state for run in result.runs] == ["finished"] * 4
    assert [run.name for run in result.runs] == [
        f"small-{loss}-seed{seed}" for loss in ("softmax", "arcface") for seed in (0, 1)
    ]
    (benchmark,) = plan["benchmarks"]
    table = result.table(benchmark).set_index("row")
    accuracies = [run.figures("test")["accuracy"] for run in result.runs]
    assert table.loc["softmax", "mean"] == pytest.approx(np.mean(accuracies[:2]))
    assert table.loc["softmax", "sd"] == pytest.approx(np.std(accuracies[:2], ddof=1))
    folder = Path(plan["directory"])
    assert {path.name for path in folder.iterdir()} == {
        "comparisons.csv", "report.md", "runs.csv", "sweep.lock", "sweep.yaml",
        "test.csv", "test.html", "test.md", "test.tex",
    }  # fmt: skip
    assert yaml.safe_load((folder / "sweep.yaml").read_text()) == plan
    lines = pd.read_csv(folder / "runs.csv")
    assert lines["value"].tolist() == pytest.approx(accuracies)
    assert (folder / "test.md").read_text().splitlines()[0].startswith("| loss")
    assert "plotly" in (folder / "test.html").read_text()
    report = (folder / "report.md").read_text()
    assert report == experiments.report(result)
    for words in ("cannot be told apart", "p = ", "80 % power", "people", "2 seeds of each"):
        assert words in report
    assert len(pd.read_csv(folder / "comparisons.csv")) == 1

    told.clear()
    assert [run.path for run in _sweep(plan, told).runs] == [run.path for run in result.runs]
    assert sum("trained already" in line for line in told) == 4
    assert not any("evaluating" in line for line in told)


def test_a_file_is_a_plan_too_and_runs_of_another_sweep_are_reused(
    plan: dict[str, Any], tmp_path: Path
) -> None:
    first = _sweep(plan)
    plan["vary"]["seed"] = [0, 1, 2]
    plan |= {"name": "other", "directory": str(tmp_path / "other")}
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(plan))
    told: list[str] = []
    second = _sweep(path, told)
    assert sum(line.endswith(": training") for line in told) == 2
    assert {run.path for run in first.runs} < {run.path for run in second.runs}


def test_with_one_seed_there_is_no_claim(plan: dict[str, Any]) -> None:
    plan["vary"]["seed"] = [0]
    report = experiments.report(_sweep(plan))
    assert "No claim about settings with one seed" in report
    assert "only about them (paired difference)" in report
    assert "(1 seed)" in report
    assert "**" not in report.replace("**No claim about settings with one seed.**", "")


def test_a_run_that_fails_does_not_stop_the_others(
    plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = jobs.train

    def fails_once(config: TrainConfig | None = None, **options: Any) -> runs.Run:
        if config is not None and (config.loss, config.seed) == ("softmax", 1):
            raise RuntimeError("CUDA out\nof memory")
        return original(config, **options)

    monkeypatch.setattr(jobs, "train", fails_once)
    result = _sweep(plan)
    assert result.failures == {"softmax, smallresnet, seed 1": "RuntimeError: CUDA out of memory"}
    assert len(result.runs) == 3
    report = experiments.report(result)
    assert "## Runs that failed" in report
    assert "(1 seed)" in result.markdown(plan["benchmarks"][0])
    monkeypatch.undo()
    assert _sweep(plan).failures == {}


def test_an_interrupted_sweep_writes_what_it_has_and_is_continued(
    plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = jobs.train

    def interrupted(config: TrainConfig | None = None, **options: Any) -> runs.Run:
        if config is not None and config.loss == "arcface":
            original(config, **options | {"stop_after": 1})
            raise KeyboardInterrupt
        return original(config, **options)

    monkeypatch.setattr(jobs, "train", interrupted)
    told: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        _sweep(plan, told)
    assert "stopped; " in told[-1]
    assert "2 of 4 runs are finished" in (Path(plan["directory"]) / "report.md").read_text()
    monkeypatch.undo()
    told.clear()
    assert len(_sweep(plan, told).runs) == 4
    assert sum("resuming" in line for line in told) == 1


def test_the_whole_grid_is_checked_before_the_first_training(
    plan: dict[str, Any], complaint: Complaint, painted: Path
) -> None:
    runs_dir = Path(plan["base"]["runs_dir"])
    plan["vary"]["loss"].append({"loss": "cosface", "loss_options": {"mm": 0.3}})
    with complaint("cosface (mm 0.3), smallresnet, seed 0", "'mm'"):
        _sweep(plan)
    plan["vary"]["loss"][-1] = "cosfase"
    with complaint("unknown loss 'cosfase'", "'cosface'"):
        _sweep(plan)
    del plan["vary"]["loss"][-1]
    plan["benchmarks"].append(f"folder:{painted / 'tset'}")
    with complaint("tset"):
        _sweep(plan)
    assert not runs_dir.exists()


def test_two_processes_do_not_work_on_the_same_sweep(
    plan: dict[str, Any], complaint: Complaint
) -> None:
    folder = Path(plan["directory"])
    folder.mkdir()
    with FileLock(folder / "sweep.lock"), complaint("another process is working on this sweep"):
        _sweep(plan)


def test_a_run_that_another_process_trains_is_a_failure_of_that_run(plan: dict[str, Any]) -> None:
    cell = experiments.read_plan(plan).cells[0]
    run = runs.create(cell.config.runs_dir, "elsewhere", cell.config.plain())
    with run.lock():
        run.set_status("running")
        result = _sweep(plan)
    assert list(result.failures) == [cell.title]
    assert "is being trained" in result.failures[cell.title]


def test_mistakes_in_the_arguments(plan: dict[str, Any], complaint: Complaint) -> None:
    with complaint("needs a list of benchmarks"):
        experiments.sweep([])  # type: ignore[call-overload]
    with complaint("are named in the plan"):
        experiments.sweep(plan, ["orl"])  # type: ignore[call-overload]
    for count in (-1, True, 1.5):
        with complaint(f"jobs is {count!r}"):
            experiments.sweep(plan, jobs=count)  # type: ignore[arg-type]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Computes with a single thread of PyTorch."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _command(path: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "workbench", "sweep", str(path), *options]


@pytest.mark.slow
def test_runs_beside_each_other_in_processes(
    plan: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as here, so that sums are rounded alike
    told: list[str] = []
    result = _sweep(plan, told, jobs=3)
    assert len(result.runs) == 4
    assert not result.failures
    alone = dict(plan, directory=str(tmp_path / "alone"))
    alone["base"] = plan["base"] | {"runs_dir": str(tmp_path / "alone-runs")}
    assert result.table(plan["benchmarks"][0]).equals(_sweep(alone).table(plan["benchmarks"][0]))
    logs = sorted(path.name for path in (Path(plan["directory"]) / "logs").iterdir())
    assert logs == sorted(f"{run.name}.txt" for run in result.runs)


@pytest.mark.slow
def test_a_failing_process_is_reported(plan: dict[str, Any], painted: Path, tmp_path: Path) -> None:
    config = experiments.read_plan(plan).cells[0].config
    missing = config.model_copy(update={"data": "folder:nowhere", "name": "bad"})
    todo = [jobs.Job("bad", missing, ()), jobs.Job("good", config, ())]
    told: list[str] = []
    bad, good = executing.in_processes(todo, [{}], tmp_path / "out", told.append)
    assert bad.run is None
    assert "folder:nowhere" in bad.problem
    assert good.run is not None
    assert good.problem == ""
    assert any("failed" in line and "bad.txt" in line for line in told)


@pytest.mark.slow
def test_ctrl_c_stops_all_processes_and_the_sweep_is_continued(
    plan: dict[str, Any], tmp_path: Path
) -> None:
    plan["base"]["epochs"] = 3000
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(plan))
    process = subprocess.Popen(_command(path, "--jobs", "2"), stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    folder = Path(plan["base"]["runs_dir"])
    while time.monotonic() < deadline:
        if sum(run.status.get("step", 0) > 2 for run in runs.list(folder)) == 2:
            break
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "stopping: each run" in out
    assert "Start the sweep again to continue it" in out
    stopped = runs.list(folder)
    assert [run.state for run in stopped] == ["stopped", "stopped"]
    assert all((run.path / runs.CHECKPOINT).is_file() for run in stopped)
    steps = [job.steps() for job in map(_job, experiments.read_plan(path).cells[:2])]
    assert all("resuming" in next(step).words for step in steps)


def _job(cell: experiments.Cell) -> jobs.Job:
    return jobs.Job(cell.title, cell.config, ())


def test_each_process_sees_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    config = TrainConfig(data="orl")
    assert executing.default_count() == 2
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in executing.slots_for(3, [config])] == [
        "0",
        "1",
        "0",
    ]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert executing.slots_for(2, [config])[1] == {"CUDA_VISIBLE_DEVICES": "7"}
    on_cpu = config.model_copy(update={"device": "cpu"})
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert executing.slots_for(2, [on_cpu]) == [{"OMP_NUM_THREADS": "3"}] * 2
    monkeypatch.delenv("OMP_NUM_THREADS")
    (slot,) = executing.slots_for(1, [on_cpu])
    assert int(slot["OMP_NUM_THREADS"]) == os.cpu_count()


def test_the_error_of_a_process_is_its_last_line(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert executing._last_line(log) == ""
    log.write_bytes(b"\n10%\r20%\rerror: unknown loss\nnote: bye\n")
    assert executing._last_line(log) == "unknown loss"
    log.write_text("Traceback\n  File\nValueError: odd\n")
    assert executing._last_line(log) == "ValueError: odd"


def test_stop_after_needs_a_positive_number(plan: dict[str, Any], complaint: Complaint) -> None:
    from workbench.training import train

    config = experiments.read_plan(plan).cells[0].config
    for epochs in (0, True, 1.5):
        with complaint(f"stop_after is {epochs!r}"):
            train(config, stop_after=epochs, progress=False)  # type: ignore[arg-type]


def test_an_interrupted_training_ends_with_the_same_weights(
    plan: dict[str, Any], tmp_path: Path
) -> None:
    from workbench.training import train

    config = experiments.read_plan(plan).cells[0].config
    whole = train(config, progress=False)
    run = train(config, stop_after=1, progress=False)
    assert (run.state, run.status["step"]) == ("stopped", 2)
    assert train(resume=run, stop_after=1, progress=False).status["step"] == 2
    assert train(resume=run, stop_after=3, progress=False).state == "stopped"
    assert train(resume=run, stop_after=4, progress=False).state == "finished"
    weights = [load_file(one.path / runs.MODEL) for one in (run, whole)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


def test_the_check_of_a_config_names_what_is_wrong(plan: dict[str, Any]) -> None:
    from workbench.training import check

    config = experiments.read_plan(plan).cells[0].config
    check(config)
    for change in ({"device": "cuda:9"}, {"loss": "arcfase"}, {"data": "folder:nowhere"}):
        with pytest.raises(WorkbenchError, match=r"cuda:9|arcface|nowhere"):
            check(config.model_copy(update=change))
    assert not Path(config.runs_dir).exists()
