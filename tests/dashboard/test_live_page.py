"""The page Live: what it says in each state of a training, and that it needs no torch."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from workbench import runs
from workbench.activity import ACTIVITY, Entry, Tracker, tracked

Opened = Callable[..., AppTest]
EPOCHS = 4


def _said(app: AppTest) -> str:
    kinds = (app.markdown, app.caption, app.info, app.error, app.warning, app.success, app.code)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def _bars(app: AppTest) -> list[str]:
    return [element.proto.text for element in app.get("progress")]


def _charts(app: AppTest) -> list[dict[str, Any]]:
    return [json.loads(element.proto.spec) for element in app.get("plotly_chart")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "live runs"


@pytest.fixture
def run(folder: Path) -> runs.Run:
    """A run in its third epoch, with snapshots of two sets."""
    config = {"data": "synthfaces", "loss": "arcface", "epochs": EPOCHS, "batch_size": 32}
    run = runs.create(folder, "arcface-live", config)
    rows = [
        {"step": step, "epoch": step / 10, "loss": 9 - step / 10, "images_per_second": 100.0}
        for step in range(1, 26)
    ]
    (run.path / runs.METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    draw = np.random.default_rng(0)
    identities = np.repeat(np.arange(20), 5)
    for epoch in range(3):
        directions = np.repeat(draw.normal(size=(20, 8)), 5, axis=0)
        embeddings = (epoch + 0.5) * directions + draw.normal(size=(100, 8))
        one = {
            "embeddings": embeddings.astype(np.float16),
            "identities": identities,
            "images": np.arange(100),
        }
        arrays = {f"{name}/{key}": one[key] for name in ("train", "synthfaces-pose") for key in one}
        path = runs.snapshot_path(run, epoch)
        path.parent.mkdir(exist_ok=True)
        np.savez(path, allow_pickle=False, epoch=epoch, step=10 * epoch, **arrays)
    return run


@pytest.fixture
def training(run: runs.Run) -> Iterator[runs.Run]:
    with run.lock():
        run.set_status("running", step=25, checkpoint=20, total=40)
        yield run


@pytest.fixture
def tracker(folder: Path) -> Iterator[Tracker]:
    with tracked(folder, "the demo", [Entry("arcface"), Entry("softmax")]) as tracker:
        yield tracker


def test_an_empty_folder_gets_the_commands_that_train(open_page: Opened, folder: Path) -> None:
    app = open_page("live", folder)
    assert not app.exception
    assert "Nothing is trained" in _said(app)
    assert "workbench demo" in _said(app)


def test_rendering_shows_how_many_images_are_done(
    open_page: Opened, folder: Path, tracker: Tracker
) -> None:
    tracker.entry(0, "rendering")
    tracker.doing("rendering synthfaces", 3200, 8000)
    app = open_page("live", folder)
    assert not app.exception
    assert _bars(app) == ["Rendering synthfaces: 3,200 of 8,000 images"]
    (table,) = app.dataframe
    assert table.value["run"].tolist() == ["arcface", "softmax"]
    assert table.value["state"].tolist() == ["rendering images", "waiting"]
    assert "Nothing" not in _said(app)


def test_a_training_shows_its_progress_curves_and_snapshots(
    open_page: Opened, folder: Path, training: runs.Run, tracker: Tracker
) -> None:
    tracker.entry(0, "training", name=training.name)
    app = open_page("live", folder)
    assert not app.exception
    (bar,) = _bars(app)
    assert "**arcface-live**: epoch 2.5 of 4, loss 6.50, 100 images/s" in bar
    assert "less than a minute left" in bar
    (table,) = app.dataframe
    accuracies = table.value["accuracy on synthfaces-pose"].tolist()
    assert accuracies[0].endswith("%")
    assert accuracies[1] == ""
    loss, accuracy, angles = _charts(app)
    assert loss["layout"]["yaxis"]["title"]["text"] == "Training loss"
    assert accuracy["data"][0]["name"] == "arcface-live"
    assert [frame["name"] for frame in angles["frames"]] == ["0", "1", "2"]
    assert app.selectbox(key="live-set").options == [
        "unseen people of synthfaces-pose",
        "people of the training set",
    ]
    app.selectbox(key="live-set").select("train").run()
    assert not app.exception


def test_a_training_that_nobody_announced_is_shown_too(
    open_page: Opened, folder: Path, training: runs.Run
) -> None:
    app = open_page("live", folder)
    assert not app.exception
    assert "**arcface-live**: epoch 2.5 of 4" in _bars(app)[0]
    assert len(_charts(app)) == 3
    assert "Nothing is trained" not in _said(app)


def test_a_training_without_snapshots_says_how_to_get_them(
    open_page: Opened, folder: Path, training: runs.Run
) -> None:
    shutil.rmtree(training.path / runs.SNAPSHOTS)
    app = open_page("live", folder)
    assert not app.exception
    assert len(_charts(app)) == 1
    assert "snapshots" in _said(app)


def test_a_run_that_has_just_begun_is_shown(open_page: Opened, folder: Path) -> None:
    run = runs.create(folder, "new", {"loss": "arcface"})
    with run.lock():
        run.set_status("running")
        app = open_page("live", folder)
    assert not app.exception


def test_a_finished_queue_shows_its_runs(open_page: Opened, folder: Path, run: runs.Run) -> None:
    run.set_status("finished", step=40, checkpoint=40, total=40)
    with tracked(folder, "the demo", [Entry("arcface")]) as tracker:
        tracker.entry(0, "finished", name=run.name)
    app = open_page("live", folder)
    assert not app.exception
    assert "All runs of the queue are trained and evaluated" in _said(app)
    assert app.dataframe[0].value["epochs"].tolist() == ["4.0 of 4"]
    assert len(_charts(app)) == 3


def test_what_failed_is_said(open_page: Opened, folder: Path, tracker: Tracker) -> None:
    tracker.entry(0, "failed", problem="the loss became nan at step 7; in a new run, lower lr")
    tracker.doing("rendering synthfaces-pose", 1, 12)
    app = open_page("live", folder)
    assert not app.exception
    assert app.error[0].value == "arcface: the loss became nan at step 7; in a new run, lower lr"
    assert _bars(app)


def test_the_end_of_the_process_is_said(open_page: Opened, folder: Path) -> None:
    with pytest.raises(RuntimeError), tracked(folder, "the demo", [Entry("arcface")]):
        raise RuntimeError("the disk is full")
    app = open_page("live", folder)
    assert "the disk is full" in app.error[0].value
    with pytest.raises(KeyboardInterrupt), tracked(folder, "the demo", [Entry("arcface")]):
        raise KeyboardInterrupt
    assert "continues it" in _said(open_page("live", folder))


def test_a_process_that_was_killed_is_noticed(open_page: Opened, folder: Path) -> None:
    with tracked(folder, "the demo", [Entry("arcface", state="training")]):
        pass
    path = folder / ACTIVITY
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"end": "", "heartbeat": time.time() - 3600}))
    app = open_page("live", folder)
    assert "ended without saying" not in _said(app)
    assert "last checkpoint" in app.error[0].value
    assert app.dataframe[0].value["state"].tolist() == ["stopped"]


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"queue": 3}', b'{"queue": [{"a": 1}]}', b"\xff"]
)
def test_a_damaged_file_counts_as_none(open_page: Opened, folder: Path, content: bytes) -> None:
    folder.mkdir()
    (folder / ACTIVITY).write_bytes(content)
    app = open_page("live", folder)
    assert not app.exception
    assert "Nothing is trained" in _said(app)


def test_a_damaged_snapshot_is_named(open_page: Opened, folder: Path, training: runs.Run) -> None:
    runs.snapshot_path(training, 1).write_bytes(b"damaged")
    app = open_page("live", folder)
    assert not app.exception
    assert "epoch-0001.npz" in app.warning[0].value


def test_the_page_is_there_beside_runs_that_do_not_train(open_page: Opened) -> None:
    app = open_page("live")
    assert not app.exception
    assert "Nothing is trained" in _said(app)
    assert os.environ["WORKBENCH_RUNS"]
