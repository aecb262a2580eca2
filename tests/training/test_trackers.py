"""Trackers, read back with the libraries' own readers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import workbench as wb
from workbench import losses, runs
from workbench.errors import WorkbenchError, WorkbenchWarning
from workbench.training import TrainConfig, trackers
from workbench.training.callbacks import Callbacks, Training
from workbench.training.config import TRACKERS
from workbench.training.trackers import Tracker, create_trackers

Steps = list[tuple[int, float]]


def make_training(folder: Path, name: str) -> Training:
    config = TrainConfig(data="synthfaces-mini", trackers=[name], lr=0.05)
    net: Any = nn.Linear(3, 2)
    path = folder / "run"
    return Training(
        run=runs.open(path) if path.exists() else runs.create(folder, "run", config.plain()),
        config=config,
        net=net,
        loss=losses.create("normface", embedding_dim=2, num_classes=3),
        device=torch.device("cpu"),
        total=60,
        steps_per_epoch=30,
    )


def log(training: Training, steps: range) -> None:
    """Logs rows as the loop does, and leaves without `on_end`, as a crash does, if it stops."""
    callbacks = Callbacks(create_trackers(training.config.trackers))
    training.step = steps.start
    with callbacks.around(training):
        for step in steps[1:]:
            training.step = step
            row = {"step": step, "loss": 100.0 - step, "lr": 0.1, "text": "no number"}
            callbacks.on_log(training, row)
            callbacks.check()


def log_twice(folder: Path, name: str) -> Training:
    """A run of 30 steps, resumed from the checkpoint of step 20 to step 60."""
    log(make_training(folder, name), range(0, 31, 10))
    training = make_training(folder, name)
    log(training, range(20, 61, 10))
    return training


EXPECTED: Steps = [(step, 100.0 - step) for step in range(10, 61, 10)]


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_the_names_in_the_settings_are_those_of_the_registry() -> None:
    assert sorted(TRACKERS) == trackers.TRACKERS.names()


def test_tensorboard_has_each_step_once_and_the_settings(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log_twice(tmp_path, "tensorboard")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == EXPECTED
    assert set(events.Tags()["scalars"]) == {"loss", "lr"}
    texts = {
        tag: events.Tensors(tag)[-1].tensor_proto.string_val[0].decode()
        for tag in events.Tags()["tensors"]
    }
    assert '"lr": 0.05' in texts["config/text_summary"]
    assert "state: finished" in texts["summary/text_summary"]
    assert "loss: 40" in texts["summary/text_summary"]


@pytest.mark.slow
def test_mlflow_has_each_step_once_the_settings_and_the_state(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    from mlflow import MlflowClient

    log_twice(tmp_path, "mlflow")
    client = MlflowClient()
    experiment = client.get_experiment_by_name("margin-workbench")
    [run] = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "loss")
    assert sorted((metric.step, metric.value) for metric in history) == EXPECTED
    assert run.data.params["lr"] == "0.05"
    assert run.data.params["trackers"] == "['mlflow']"
    assert run.data.tags["state"] == "finished"
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run")


@pytest.mark.slow
def test_wandb_offline_has_each_step_once_and_the_settings(tmp_path: Path) -> None:
    pytest.importorskip("wandb")

    log_twice(tmp_path, "wandb")
    files = sorted((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len({file.stem for file in files}) == 1  # both parts have the same identifier
    steps, configs, state = _wandb_records(files)
    assert steps == EXPECTED
    assert configs["lr"] == 0.05
    assert state == "finished"


def _wandb_records(files: list[Path]) -> tuple[Steps, dict[str, Any], str]:
    from wandb.proto import wandb_internal_pb2

    steps: Steps = []
    config: dict[str, Any] = {}
    state = ""
    for content in (content for file in files for content in _leveldb_records(file)):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(content)
        config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        row = {_key(item): json.loads(item.value_json) for item in record.history.item}
        if "loss" in row:
            steps.append((record.history.step.num or row["_step"], row["loss"]))
        for item in record.summary.update:
            if _key(item) == "state":
                state = json.loads(item.value_json)
    return steps, config, state


def _key(item: Any) -> str:
    key: str = item.key or item.nested_key[0]
    return key


def _leveldb_records(file: Path) -> list[bytes]:
    """The records of a .wandb file: LevelDB's log format after a header of 7 bytes."""
    content, position, block = file.read_bytes(), 7, 32 * 1024
    records = [b""]
    while position + 7 <= len(content):
        rest = block - position % block
        if rest < 7:  # a record header does not cross the end of a block
            position += rest
            continue
        length = int.from_bytes(content[position + 4 : position + 6], "little")
        kind = content[position + 6]  # 1: whole, 2: first part, 3: middle part, 4: last part
        records[-1] += content[position + 7 : position + 7 + length]
        if kind in (1, 4):
            records.append(b"")
        position += 7 + length
    return records[:-1]


@pytest.mark.slow
def test_trackio_has_each_step_once_and_the_settings(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    import sqlite3

    training = log_twice(tmp_path, "trackio")
    stored = runs.read_json(training.run.path / runs.TRACKERS / "trackio.json")
    [file] = (tmp_path / "trackio").glob("margin-workbench*.db")
    with sqlite3.connect(file) as database:
        rows = database.execute(
            "select step, metrics from metrics where run_name = ? order by id", (stored["id"],)
        ).fetchall()
    losses_by_step = [(step, json.loads(text).get("loss")) for step, text in rows]
    assert [pair for pair in losses_by_step if pair[1] is not None] == EXPECTED


class Broken(Tracker):
    """A tracker that fails at a point."""

    name = "broken"
    package = "json"
    at = "log"

    def start(self, training: Training, earlier: str | None) -> str:
        self.calls: list[str] = []
        self._maybe("start")
        return "1"

    def log(self, step: int, values: Any) -> None:
        self._maybe("log")

    def finish(self, state: str, values: Any) -> None:
        self._maybe("finish")

    def _maybe(self, point: str) -> None:
        self.calls.append(point)
        if point == self.at:
            raise ConnectionError("no\nnetwork")


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Broken]:
    def run(at: str) -> Broken:
        tracker = Broken()
        tracker.at = at
        training = make_training(tmp_path, "tensorboard")
        callbacks = Callbacks([tracker])
        with callbacks.around(training):
            for step in (10, 20):
                callbacks.on_log(training, {"step": step, "loss": 1.0})
                callbacks.check()
        return tracker

    return run


def test_a_tracker_that_fails_later_is_left_out_with_one_warning(
    broken: Callable[[str], Broken],
) -> None:
    with pytest.warns(
        WorkbenchWarning, match=r"broken failed .*ConnectionError: no network"
    ) as all_:
        tracker = broken("log")
    assert len(all_) == 1
    assert tracker.calls == ["start", "log"]


def test_a_tracker_that_cannot_start_stops_the_training(broken: Callable[[str], Broken]) -> None:
    with pytest.raises(WorkbenchError, match=r"Broken\.on_start failed at step 0"):
        broken("start")


def test_a_missing_package_is_named_before_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(
        WorkbenchError, match=r"the tracker wandb needs wandb: pip install .*\[wandb"
    ):
        create_trackers(["wandb"])


def test_a_repeated_name_counts_once() -> None:
    pytest.importorskip("tensorboard")
    assert len(create_trackers(["tensorboard", "tensorboard"])) == 1


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(WorkbenchError, match=r"did you mean 'tensorboard'"):
        wb.TrainConfig(data="synthfaces-mini", trackers=["tensorbord"])


def test_one_name_is_a_list_of_one() -> None:
    config = wb.TrainConfig(data="synthfaces-mini", trackers="TensorBoard")  # type: ignore[arg-type]
    assert config.trackers == ["tensorboard"]
