"""Resuming a run: settings that may change, the lock, and its files after every kind of end."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import workbench as wb
from workbench import files, runs
from workbench.training import checkpoint, loop, records, running, setup
from workbench.training.ordering import without_copies

PEOPLE, IMAGES, BATCH, EPOCHS = 4, 4, 8, 2
STEPS = PEOPLE * IMAGES // BATCH


def _paint(root: Path, images: list[int]) -> Path:
    """One colour a person, with noise; so many images of each."""
    draw = np.random.default_rng(0)
    for person, count in enumerate(images):
        (root / f"person{person}").mkdir(parents=True)
        for number in range(count):
            pixels = np.clip(60 * person + draw.normal(0, 40, (16, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / f"person{person}" / f"{number}.png")
    return root


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    _paint(tmp_path / "faces", [IMAGES] * PEOPLE)
    return {
        "data": "folder:faces",
        "image_size": 16,
        "embedding_dim": 8,
        "batch_size": BATCH,
        "epochs": EPOCHS,
        "log_every": 1,
        "device": "cpu",
        "precision": "fp32",
        "name": "a",
        "loss_options": {"s": 16.0, "m": 0.3},
        "backbone_options": {"width": 8},
    }


def _train(settings: dict[str, Any], **others: Any) -> runs.Run:
    return wb.train(settings | others, progress=False)


def _resume(run: runs.Run | str, **changes: Any) -> runs.Run:
    return wb.train(resume=run, changes=changes, progress=False)


def _at_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], Any]) -> None:
    """Call `act` in the middle of training step number `step` (from 0), once."""
    real, done = loop.margin_ramp, []

    def margin_ramp(now: int, *others: Any) -> float:
        if now == step and not done:
            done.append(now)
            act()
        return real(now, *others)

    monkeypatch.setattr(loop, "margin_ramp", margin_ramp)


def _stop_at(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, step: int, **others: Any
) -> runs.Run:
    with monkeypatch.context() as patch:
        _at_step(patch, step, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            _train(settings, **others)
    return runs.open("runs/a")


def _edit(run: runs.Run, **changes: Any) -> None:
    (run.path / runs.CONFIG).write_text(yaml.safe_dump(runs.Run(run.path).config | changes))


def _state_of(run: runs.Run) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(run.path / runs.CHECKPOINT, weights_only=True)
    return state


def _refused(match: str, act: Callable[[], Any]) -> str:
    with pytest.raises(wb.WorkbenchError, match=match) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What may change


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("batch_size", 4),
        ("loss", "cosface"),
        ("loss_options", {"s": 16.0, "m": 0.2}),
        ("image_size", 20),
        ("channels", "bgr"),
        ("pixel_mean", 0.0),
        ("backbone", "resnet18"),
        ("embedding_dim", 4),
        ("seed", 1),
        ("lr", 0.2),
        ("augment", "none"),
        ("images_per_identity", 2),
    ],
)
def test_a_setting_that_is_what_the_run_is_cannot_be_changed(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, setting: str, value: Any
) -> None:
    run = _stop_at(settings, monkeypatch, 0)
    before = run.config.get(setting)
    kept = (run.path / runs.CHECKPOINT).read_bytes(), (run.path / runs.METRICS).read_bytes()
    said = f"cannot be resumed with {setting} from "
    message = _refused(said, lambda: _resume(run, **{setting: value}))
    assert f"{setting} from {before!r} to {value!r}" in message
    assert runs.Run(run.path).config[setting] == before
    _edit(run, **{setting: value})
    _refused(said, lambda: _resume(runs.Run(run.path)))
    assert (
        (run.path / runs.CHECKPOINT).read_bytes(),
        (run.path / runs.METRICS).read_bytes(),
    ) == kept
    _edit(run, **{setting: before})
    assert _resume(runs.Run(run.path)).state == "finished"


def test_what_may_change_is_taken_and_recorded(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _stop_at(settings, monkeypatch, 0)
    resumed = _resume(run, epochs=3, log_every=2, broken="skip", workers=0)
    assert resumed.status["total"] == 3 * STEPS
    on_disk = runs.Run(run.path)
    assert [on_disk.config[name] for name in ("epochs", "log_every", "broken", "workers")] == [
        3,
        2,
        "skip",
        0,
    ]
    (entry,) = on_disk.environment["resumed"]
    assert entry["step"] == 1
    assert entry["changes"] == {
        "epochs": [2, 3],
        "workers": [None, 0],
        "broken": ["stop", "skip"],
        "log_every": [1, 2],
    }
    assert entry["torch"] == torch.__version__
    assert _state_of(run)["config"] == on_disk.config


@pytest.mark.parametrize("how", ["given", "edited"])
def test_a_finished_run_with_more_epochs_trains_on(settings: dict[str, Any], how: str) -> None:
    run = _train(settings)
    if how == "edited":
        _edit(run, epochs=4)
    resumed = _resume(runs.Run(run.path), **({"epochs": 4} if how == "given" else {}))
    assert resumed.state == "finished"
    assert resumed.status["step"] == resumed.status["total"] == 4 * STEPS
    assert resumed.metrics()["step"].tolist() == list(range(1, 4 * STEPS + 1))
    assert runs.Run(run.path).config["epochs"] == 4


def test_fewer_epochs_than_are_done_are_refused(settings: dict[str, Any]) -> None:
    run = _train(settings)
    _refused("epochs is 1, but 2 are done", lambda: _resume(run, epochs=1))
    assert runs.Run(run.path).state == "finished"


def test_name_and_folder_cannot_be_given_and_do_not_matter(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _stop_at(settings, monkeypatch, 0)
    for setting in ("name", "runs_dir"):
        _refused(
            f"^{setting} cannot be set", lambda setting=setting: _resume(run, **{setting: "b"})
        )  # type: ignore[misc]
    _edit(run, name="other", runs_dir="elsewhere")
    assert _resume(runs.Run(run.path)).state == "finished"
    with pytest.raises(wb.WorkbenchError, match="changes are for a run that is resumed"):
        wb.train(settings, changes={"epochs": 3})


def _make_old(run: runs.Run) -> None:
    """As checkpoints were before they said what they were made with."""
    state = {
        key: value for key, value in _state_of(run).items() if key not in ("config", "clipped")
    }
    torch.save(state, run.path / runs.CHECKPOINT)


def test_a_checkpoint_that_does_not_say_what_it_was_made_with_resumes(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _stop_at(settings, monkeypatch, 1)
    _make_old(run)
    _edit(run, batch_size=4)
    _refused("an epoch had 2 steps .*it has 4", lambda: _resume(runs.Run(run.path)))
    _edit(run, batch_size=BATCH)
    assert _resume(runs.Run(run.path)).state == "finished"
    assert "config" in _state_of(run)
    _make_old(run)
    assert _resume(run).status["step"] == EPOCHS * STEPS


def test_a_finished_run_without_checkpoint_is_left_alone(settings: dict[str, Any]) -> None:
    run = _train(settings)
    (run.path / runs.CHECKPOINT).unlink()
    assert _resume(run) == run
    _refused("missing", lambda: _resume(run, epochs=5))


# Where the data are


def test_a_relative_path_is_found_from_another_folder(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = runs.Run(_stop_at(settings, monkeypatch, 0).path.resolve())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert _resume(run).state == "finished"


def test_data_that_have_moved_are_named_and_can_be_given(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = _stop_at(settings, monkeypatch, 0)
    (tmp_path / "faces").rename(tmp_path / "moved")
    message = _refused("no such folder", lambda: _resume(run))
    assert (
        f"'folder:faces' is stored in {run.path / runs.CONFIG} of a run that began in {tmp_path}"
        in message
    )
    assert "--data" in message
    _paint(tmp_path / "others", [5] * PEOPLE)
    _refused("is not the data the run began with", lambda: _resume(run, data="folder:others"))
    assert _resume(run, data="folder:moved").state == "finished"
    assert runs.Run(run.path).config["data"] == "folder:moved"
    assert runs.Run(run.path).environment["resumed"][0]["changes"] == {
        "data": ["folder:faces", "folder:moved"]
    }


def test_a_finished_run_too_takes_only_its_own_data(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    run = _train(settings)
    weights = run.model_path.read_bytes()
    _paint(tmp_path / "others", [5] * PEOPLE)
    _refused("is not the data the run began with", lambda: _resume(run, data="folder:others"))
    (tmp_path / "faces").rename(tmp_path / "moved")
    assert _resume(run, data="folder:moved").state == "finished"
    assert runs.Run(run.path).config["data"] == "folder:moved"
    assert run.model_path.read_bytes() == weights


# Who may train it


def test_a_second_process_is_refused_while_one_trains(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "LOCK_SECONDS", 0.05)
    seen: list[Any] = []

    def other() -> None:
        seen.append(runs.Run(Path("runs/a")).state)
        try:
            _resume("runs/a")
        except wb.WorkbenchError as error:
            seen.append(str(error))

    def in_a_thread() -> None:  # a lock counts between threads as between processes
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    _at_step(monkeypatch, 1, in_a_thread)
    run = _train(settings)
    assert seen == [
        "running",
        "runs/a: is being trained already, by another process; wait for it or stop it",
    ]
    assert run.metrics()["step"].tolist() == list(range(1, EPOCHS * STEPS + 1))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_run_is_resumed_at_once(settings: dict[str, Any], workers: int) -> None:
    code = (
        "import json, sys, workbench as wb; from workbench.training import records;"
        "records.EPOCH_CHECKPOINT_SECONDS = 0.0;"
        "wb.train(json.loads(sys.argv[1]), progress=False)"
    )
    long = settings | {"epochs": 100_000, "workers": workers}
    path = Path("runs/a")
    process = subprocess.Popen([sys.executable, "-c", code, json.dumps(long)])
    try:
        deadline = time.monotonic() + 300
        while not (path / runs.CHECKPOINT).is_file():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert runs.open(path).state == "running"
    finally:
        process.kill()
        process.wait()
    assert json.loads((path / runs.STATUS).read_text())["state"] == "running"
    assert runs.open(path).state == "stalled"
    step = _state_of(runs.open(path))["step"]
    run = _resume(str(path), epochs=-(-step // STEPS) + 1)
    assert run.state == "finished"
    assert run.metrics()["step"].is_unique


def test_a_run_that_cannot_be_locked_is_one_line(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _stop_at(settings, monkeypatch, 0)
    (run.path / runs.LOCK).unlink()
    (run.path / runs.LOCK).mkdir()
    _refused(r"run\.lock: cannot be locked", lambda: _resume(run))


# How it ends


@pytest.mark.parametrize("step", [0, 2])
def test_after_an_interrupt_the_status_says_the_step_of_the_checkpoint(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    run = _stop_at(settings, monkeypatch, step)
    assert run.status["step"] == run.status["checkpoint"] == _state_of(run)["step"] == step + 1


def test_a_failure_says_the_step_reached_and_that_of_the_checkpoint(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash() -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr(records, "EPOCH_CHECKPOINT_SECONDS", 0.0)
    _at_step(monkeypatch, STEPS + 1, crash)
    with pytest.raises(RuntimeError):
        _train(settings)
    status = runs.open("runs/a").status
    assert (status["state"], status["step"], status["checkpoint"]) == ("failed", STEPS + 1, STEPS)


def test_a_learning_rate_far_too_high_fails_with_a_diagnosis(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    _paint(tmp_path / "six", [5] * 6)
    message = _refused(
        r"at step \d+; in a new run, lower lr \(it was 1e\+06\)",
        lambda: _train(settings, data="folder:six", image_size=32, epochs=3, lr=1e6),
    )
    assert "no checkpoint was saved before" in message
    run = runs.open("runs/a")
    assert run.state == "failed"
    assert run.status["checkpoint"] is None
    assert not (run.path / runs.CHECKPOINT).exists()
    assert not (run.path / runs.MODEL).exists()


@pytest.mark.parametrize("what", ["running_var", "momentum", "weight of the loss"])
def test_what_is_not_finite_is_never_saved_over_what_is(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    real = checkpoint.save

    def poisoned(run: Any, config: Any, made: setup.Setup, step: int, *others: Any) -> None:
        net, loss, optimizer = made.net, made.loss, made.optimizer
        if step > STEPS:
            if what == "running_var":
                next(value for name, value in net.named_buffers() if name.endswith("running_var"))[
                    0
                ] = torch.inf
            elif what == "momentum":
                next(iter(optimizer.state.values()))["momentum_buffer"].fill_(torch.nan)
            else:
                loss.weight.data[0, 0] = torch.nan
        real(run, config, made, step, *others)

    monkeypatch.setattr(records, "EPOCH_CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "save", poisoned)
    named = {
        "running_var": "running_var",
        "momentum": "momentum_buffer",
        "weight of the loss": r"loss\.weight",
    }[what]
    message = _refused(
        rf"the model at step {2 * STEPS}: .*{named}.*lower lr", lambda: _train(settings)
    )
    assert f"the checkpoint of step {STEPS} is kept" in message
    run = runs.open("runs/a")
    assert (run.state, run.status["checkpoint"], _state_of(run)["step"]) == ("failed", STEPS, STEPS)


def test_embeddings_as_evaluation_makes_them_are_looked_at(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = wb.backbones.Backbone.forward

    def forward(self: wb.backbones.Backbone, images: torch.Tensor) -> torch.Tensor:
        embeddings = real(self, images)
        return (
            embeddings
            if self.training
            else embeddings * torch.tensor([[torch.inf]] + [[1.0]] * (len(images) - 1))
        )

    monkeypatch.setattr(wb.backbones.Backbone, "forward", forward)
    _refused(
        rf"at step {EPOCHS * STEPS}, 1 of {BATCH} embeddings .* as in evaluation; in a new run",
        lambda: _train(settings),
    )
    assert runs.open("runs/a").state == "failed"
    assert not Path("runs/a", runs.MODEL).exists()


def test_a_checkpoint_that_is_not_finite_is_not_resumed(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _stop_at(settings, monkeypatch, 0)
    state = _state_of(run)
    state["loss"]["weight"][0, 0] = torch.nan
    torch.save(state, run.path / runs.CHECKPOINT)
    _refused(r"last\.ckpt: 1 of .*loss\.weight", lambda: _resume(run))


# Full disks


def _full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_while_metrics_are_written_fails_in_one_line_and_leaves_whole_lines(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = os.write, []

    def write(descriptor: int, content: bytes) -> int:
        """Half of the third line finds room."""
        if not content.startswith(b'{"step"') and len(written) < 3:
            return real(descriptor, content)
        if len(written) >= 3:
            _full()
        written.append(content)
        return real(descriptor, content if len(written) < 3 else content[:10])

    monkeypatch.setattr(records.os, "write", write)
    _refused(r"metrics\.jsonl: cannot be written \(No space left", lambda: _train(settings))
    run = runs.open("runs/a")
    assert run.state == "failed"
    assert [
        json.loads(line)["step"] for line in (run.path / runs.METRICS).read_text().splitlines()
    ] == [1, 2]


def test_a_full_disk_that_cannot_hold_the_status_either_is_still_one_line(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _at_step(monkeypatch, 1, lambda: monkeypatch.setattr(files.tempfile, "mkstemp", _full))
    _refused(r"cannot be written \(No space left", lambda: _train(settings))
    run = runs.open("runs/a")
    assert run.state == "stalled"
    assert not (run.path / runs.CHECKPOINT).exists()


@pytest.mark.parametrize("resuming", [False, True])
def test_room_is_looked_for_before_training(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, resuming: bool
) -> None:
    if resuming:
        run = _stop_at(settings, monkeypatch, 0)
        before = {path.name: path.read_bytes() for path in run.path.iterdir()}
    monkeypatch.setattr(files, "free_bytes", lambda folder: 1000)
    monkeypatch.setattr(running, "loop", _full)
    _refused(
        "MiB are free on this disk, about",
        lambda: _resume("runs/a") if resuming else _train(settings),
    )
    if resuming:
        assert {path.name: path.read_bytes() for path in run.path.iterdir()} == before
    else:
        assert not Path("runs").exists()


def test_the_estimate_holds_two_of_each_file(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _train(settings)
    asked: list[int] = []
    monkeypatch.setattr(checkpoint, "check_writable", lambda folder, needed: asked.append(needed))
    made = setup.prepare(wb.TrainConfig(**settings))
    there = sum((run.path / name).stat().st_size for name in (runs.CHECKPOINT, runs.MODEL))
    checkpoint.check_space(run.path.parent, made)
    checkpoint.check_space(run.path, made)
    assert asked[1] == max(asked[0] - there, 0)
    tensors = sum(value.nbytes for value in _state_of(run)["backbone"].values())
    assert 5 * tensors < asked[0] < 2 * there


def test_a_run_whose_config_cannot_be_written_leaves_nothing(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.tempfile, "mkstemp", _full)
    _refused("No space left", lambda: runs.create("runs", "a", settings))
    assert os.listdir("runs") == []


# Losses that compare images of one identity


@pytest.mark.parametrize("loss", ["triplet", "contrastive", "softmax+triplet"])
def test_one_image_of_everybody_is_refused(
    settings: dict[str, Any], tmp_path: Path, loss: str
) -> None:
    _paint(tmp_path / "single", [1] * 12)
    _refused(
        "folder:single: no identity has two images, but .* compares images of one identity",
        lambda: _train(settings, data="folder:single", loss=loss, loss_options={}),
    )
    assert not Path("runs").exists()


def test_who_has_no_partner_is_counted_and_no_copy_is_taken_for_one(
    settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    _paint(tmp_path / "some", [1, 1, 2, 4])
    seen: list[list[int]] = []
    real = wb.losses.Loss.forward

    def forward(
        self: wb.losses.Loss, embeddings: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        seen.append(labels.tolist())
        return real(self, embeddings, labels)

    monkeypatch.setattr(wb.losses.Loss, "forward", forward)
    run = wb.train(
        settings | {"data": "folder:some", "loss": "triplet", "loss_options": {}, "batch_size": 16},
        progress=True,
    )
    assert "2 of 4 identities (50%) have one image" in capfd.readouterr().err
    assert run.environment["data"]["identities_without_partner"] == 2
    assert seen
    shown = [np.bincount(labels, minlength=4).tolist() for labels in seen]
    assert all(
        count in (0, images)
        for counts in shown
        for count, images in zip(counts, [1, 1, 2, 4], strict=True)
    )
    assert "identities_without_partner" not in _train(settings, name="b").environment["data"]


def test_copies_are_left_out_and_nothing_else() -> None:
    images = torch.arange(12.0).view(6, 2, 1, 1).contiguous(memory_format=torch.channels_last)
    numbers = torch.tensor([4, 2, 4, 9, 2, 1])
    kept, which = without_copies(images, numbers)
    assert which.tolist() == [4, 2, 9, 1]
    assert kept[:, 0, 0, 0].tolist() == [0.0, 2.0, 6.0, 10.0]
    assert kept.is_contiguous(memory_format=torch.channels_last)
    assert without_copies(images, torch.arange(6))[0] is images


# Clipping


def test_backbone_and_loss_are_clipped_apart_and_counted(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _train(settings, clip_norm=1e-3, clip_norm_loss=1e6, log_every=4)
    assert run.metrics()["clipped"].tolist() == [1.0, 1.0]
    assert run.metrics()["clipped_loss"].tolist() == [0.0, 0.0]
    assert "clipped_loss" not in _train(settings, epochs=1).metrics()
    unbroken = _train(settings, clip_norm=2.0, log_every=4, name="c").metrics()["clipped"].tolist()
    shutil.rmtree("runs/a")
    stopped = _stop_at(settings, monkeypatch, 0, clip_norm=2.0, log_every=4)
    assert _resume(stopped).metrics()["clipped"].tolist() == unbroken


def test_the_norms_are_those_of_each_part(settings: dict[str, Any]) -> None:
    from workbench.training.clipping import Clipper

    net, loss = torch.nn.Linear(2, 1, bias=False), torch.nn.Linear(2, 1, bias=False)
    net.weight.grad, loss.weight.grad = torch.tensor([[3.0, 4.0]]), torch.tensor([[30.0, 40.0]])
    clipper = Clipper(net, loss, 1.0, None)
    assert clipper.clip().item() == 5.0
    torch.testing.assert_close(net.weight.grad, torch.tensor([[0.6, 0.8]]))
    torch.testing.assert_close(loss.weight.grad, torch.tensor([[30.0, 40.0]]))
    clipper = Clipper(net, loss, 2.0, 5.0)
    clipper.clip()
    torch.testing.assert_close(net.weight.grad, torch.tensor([[0.6, 0.8]]))
    torch.testing.assert_close(loss.weight.grad, torch.tensor([[3.0, 4.0]]))
    assert clipper.shares() == {"clipped": 0.0, "clipped_loss": 1.0}
    assert clipper.state_dict() == {"updates": 0, "clipped": 0.0, "clipped_loss": 0.0}
