"""Trainings with each optimiser, schedule and option of the optimisation, and their resumption."""

from __future__ import annotations

import math
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Complaint, paint_people
from safetensors.torch import load_file

import workbench as wb
from workbench import runs
from workbench.training import loop
from workbench.training.optimisers import OPTIMIZERS
from workbench.training.schedules import SCHEDULES

PEOPLE, IMAGES, BATCH, EPOCHS = 4, 8, 8, 3
STEPS = PEOPLE * IMAGES // BATCH  # an epoch


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint_people(tmp_path_factory.mktemp("data") / "faces", PEOPLE, IMAGES)


@pytest.fixture
def settings(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    return {
        "data": f"folder:{faces}",
        "image_size": 16,
        "embedding_dim": 8,
        "batch_size": BATCH,
        "epochs": EPOCHS,
        "log_every": 1,
        "device": "cpu",
        "precision": "fp32",
        "loss_options": {"s": 16.0, "m": 0.3},
        "backbone_options": {"width": 8},
    }


def _train(settings: dict[str, Any], **others: Any) -> runs.Run:
    return wb.train(settings | others, progress=False)


def _train_with_a_stop(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, at: int, **others: Any
) -> runs.Run:
    """Stops a training after step number `at`, and resumes it."""
    real = loop.margin_ramp

    def margin_ramp(step: int, ramp: int) -> float:
        if step == at:
            signal.raise_signal(signal.SIGINT)
        return real(step, ramp)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "margin_ramp", margin_ramp)
        with pytest.raises(KeyboardInterrupt):
            _train(settings, **others)
    return wb.train(resume=f"runs/{others['name']}", progress=False)


def _assert_same(one: runs.Run, other: runs.Run, files: tuple[str, ...] = (runs.MODEL,)) -> None:
    for file in files:
        weights, expected = load_file(one.path / file), load_file(other.path / file)
        assert weights.keys() == expected.keys()
        for key, value in weights.items():
            assert torch.equal(value, expected[key]), key
    columns = ["step", "loss", "lr"]
    assert one.metrics()[columns].equals(other.metrics()[columns])


OPTIONS: dict[str, dict[str, Any]] = {
    "step": {"every": 1.5},
    "multi-step": {"epochs": [1, 2]},
    "auto": {"patience": 5, "factor": 0.5},
}
LR = {"SGD": 0.1, "Adam": 0.01, "AdamW": 0.01}


@pytest.mark.parametrize("schedule", SCHEDULES.names())
def test_a_training_with_each_schedule_resumes_bit_for_bit(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, schedule: str
) -> None:
    others = {
        "schedule": schedule,
        "schedule_options": OPTIONS.get(schedule, {}),
        "warmup_epochs": 0.5,
    }
    whole = _train(settings, name="whole", **others)
    assert whole.status["state"] == "finished"
    assert whole.metrics()["loss"].map(math.isfinite).all()
    stopped = _train_with_a_stop(settings, monkeypatch, 7, name="stopped", **others)
    _assert_same(stopped, whole)
    rates = whole.metrics()["lr"].tolist()
    assert rates[:2] != rates[2:4]
    assert len(set(rates)) == {"constant": 2, "step": 3, "multi-step": 4}.get(
        schedule, len(set(rates))
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_training_with_each_optimiser_resumes_bit_for_bit(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    others: dict[str, Any] = {
        "optimizer": optimizer,
        "lr": LR[optimizer],
        "ema": 0.9,
        "label_smoothing": 0.1,
        "layer_decay": 0.8,
        "lr_factor_loss": 2.0,
        "schedule": "auto",
        "schedule_options": OPTIONS["auto"],
    }
    whole = _train(settings, name="whole", **others)
    stopped = _train_with_a_stop(settings, monkeypatch, 5, name="stopped", **others)
    _assert_same(stopped, whole, (runs.MODEL, runs.AVERAGED_MODEL))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_optimiser_learns_to_tell_the_people_apart(
    settings: dict[str, Any], optimizer: str
) -> None:
    run = _train(settings, name="a", optimizer=optimizer, lr=LR[optimizer], epochs=8)
    accuracy = run.metrics()["accuracy"]
    assert accuracy.tail(4).mean() > 0.9 > accuracy.head(2).mean()


def test_auto_ends_a_training_early_and_the_run_is_finished(settings: dict[str, Any]) -> None:
    options = {"patience": 4, "factor": 0.01, "smallest_lr": 1e-5}
    run = _train(
        settings,
        name="a",
        epochs=200,
        lr=1e-3,
        warmup_epochs=0,
        schedule="auto",
        schedule_options=options,
    )
    metrics = run.metrics()
    assert run.status["state"] == "finished"
    assert metrics["step"].iloc[-1] < 200 * STEPS
    assert metrics["lr"].iloc[-1] >= 1e-5
    before = (run.path / runs.MODEL).read_bytes()
    assert wb.train(resume=run, progress=False).status["state"] == "finished"
    assert (run.path / runs.MODEL).read_bytes() == before


def _without_batch_statistics(
    settings: dict[str, Any], name: str, **others: Any
) -> dict[str, torch.Tensor]:
    """Weights after a training of a network without batch normalisation."""
    plain = {
        "backbone": "fashion_cnn",
        "backbone_options": {"norm": False},
        "lr": 0.01,
        "epochs": 2,
        "warmup_epochs": 0,
    }
    return load_file(_train(settings, name=name, **plain | others).path / runs.MODEL)


def test_accumulated_gradients_are_those_of_a_large_batch(settings: dict[str, Any]) -> None:
    large = _without_batch_statistics(settings, "large", batch_size=16)
    accumulated = _without_batch_statistics(settings, "accumulated", batch_size=4, accumulate=4)
    initial = _without_batch_statistics(settings, "other", batch_size=16, lr=1e-12)
    for key, value in large.items():
        torch.testing.assert_close(accumulated[key], value, rtol=1e-3, atol=1e-5)
    assert not torch.allclose(initial["loss.weight"], large["loss.weight"], atol=1e-3)


def test_a_large_weight_decay_leaves_norms_as_they_are(settings: dict[str, Any]) -> None:
    """With a learning rate times decay of 0.5 and hardly any gradient, decaying weights vanish."""
    others = {
        "schedule": "constant",
        "warmup_epochs": 0,
        "lr": 1e-6,
        "weight_decay": 5e5,
        "momentum": 0.0,
        "clip_norm": 1.0,
        "clip_norm_loss": 1.0,
    }
    default = load_file(_train(settings, name="default", **others).path / runs.MODEL)
    everything = load_file(
        _train(settings, name="all", decay_norm_and_bias=True, **others).path / runs.MODEL
    )
    norm, conv = "backbone.features.0.1.weight", "backbone.features.0.0.weight"
    torch.testing.assert_close(default[norm], torch.ones_like(default[norm]), atol=1e-3, rtol=0)
    assert everything[norm].max() < 1e-3
    assert default[conv].abs().max() < 1e-3
    assert default["loss.weight"].abs().max() < 1e-3


def test_a_small_layer_decay_leaves_the_first_stages_as_they_are(settings: dict[str, Any]) -> None:
    others = {"weight_decay": 0.0, "warmup_epochs": 0}
    first, head = "backbone.features.0.0.weight", "backbone.head.3.weight"
    start = load_file(_train(settings, name="start", lr=1e-12, **others).path / runs.MODEL)
    decayed = load_file(
        _train(settings, name="decayed", layer_decay=1e-3, **others).path / "model.safetensors"
    )
    torch.testing.assert_close(decayed[first], start[first], atol=1e-6, rtol=0)
    assert not torch.allclose(decayed[head], start[head], atol=1e-3)


def test_the_average_is_evaluated_and_the_last_weights_are_kept(settings: dict[str, Any]) -> None:
    run = _train(settings, name="a", ema=0.5)
    plain = _train(settings, name="plain")
    _assert_same(run, plain)  # the average does not change the training
    averaged = load_file(run.path / runs.AVERAGED_MODEL)
    last = load_file(run.path / runs.MODEL)
    assert set(averaged) == {key for key in last if key.startswith("backbone.")}
    assert not torch.equal(averaged["backbone.head.3.weight"], last["backbone.head.3.weight"])
    model = wb.evaluation.load_model(run, "cpu")
    assert model.averaged
    assert torch.equal(model.net.state_dict()["head.3.weight"], averaged["backbone.head.3.weight"])
    assert not (plain.path / runs.AVERAGED_MODEL).exists()


@pytest.mark.parametrize(
    ("others", "texts"),
    [
        ({"schedule": "cosin"}, ["did you mean 'cosine'"]),
        ({"schedule": "step"}, ["'step' needs every"]),
        ({"schedule_options": {"finl": 0.1}}, ["did you mean 'final'"]),
        ({"optimizer": "adamm"}, ["did you mean 'Adam'"]),
        ({"optimizer_options": {"nestrov": True}}, ["did you mean 'nesterov'"]),
        ({"loss": "triplet", "loss_options": {}, "label_smoothing": 0.1}, ["no softmax"]),
        ({"label_smoothing": 1.0}, ["label_smoothing"]),
        ({"ema": 1.0}, ["ema"]),
        ({"loss": "triplet", "loss_options": {}, "accumulate": 2}, ["accumulate is 2"]),
    ],
)
def test_bad_settings_are_one_line_and_leave_no_run(
    settings: dict[str, Any], others: dict[str, Any], texts: list[str], complaint: Complaint
) -> None:
    with complaint(*texts):
        _train(settings, name="a", **others)
    assert not Path("runs/a").exists()
