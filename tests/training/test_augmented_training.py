"""Training with augmentation: resuming bit for bit, mixed labels, and what is refused."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import paint_people
from safetensors.torch import load_file

import workbench as wb
from workbench import augmentation, runs
from workbench.data.batches import batches, to_network
from workbench.training import TrainConfig, loop
from workbench.training.ordering import seed_of_step
from workbench.training.setup import prepare

SIZE = 16


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    paint_people(tmp_path / "faces", 4, 4, size=SIZE)
    return {
        "data": "folder:faces",
        "image_size": SIZE,
        "embedding_dim": 8,
        "batch_size": 8,
        "epochs": 2,
        "log_every": 1,
        "device": "cpu",
        "precision": "fp32",
        "loss_options": {"s": 16.0, "m": 0.3},
        "backbone_options": {"width": 8},
    }


def trained(settings: dict[str, Any], **others: Any) -> runs.Run:
    return wb.train(settings | others, progress=False)


def weights(run: runs.Run) -> dict[str, torch.Tensor]:
    return load_file(run.path / "model.safetensors")


@pytest.mark.parametrize(
    ("augment", "stem"),
    [
        ("strong", "batch"),
        ("digiface", "batch"),
        ("adaface", "batch"),
        (["strong", {"mixup": {"probability": 0.5, "alpha": 1.0}}], "batch"),
        (["mild", "random_convolution"], "mixstyle"),
    ],
    ids=["strong", "digiface", "adaface", "strong and mixup", "random convolution and mixstyle"],
)
def test_a_resumed_run_has_the_weights_of_an_uninterrupted_one(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, augment: Any, stem: str
) -> None:
    settings["backbone_options"]["stem"] = stem
    whole = trained(settings, augment=augment, name="whole")
    real = loop.margin_ramp

    def interrupting(step: int, ramp: int) -> float:
        if step == 1:
            signal.raise_signal(signal.SIGINT)
        return real(step, ramp)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "margin_ramp", interrupting)
        with pytest.raises(KeyboardInterrupt):
            trained(settings, augment=augment, name="stopped")
    resumed = wb.train(resume="runs/stopped", progress=False)
    expected = weights(whole)
    assert weights(resumed).keys() == expected.keys()
    assert all(torch.equal(weight, expected[name]) for name, weight in weights(resumed).items())
    assert resumed.config["augment"] == augment


def test_augmentation_changes_the_training_and_its_seed_too(settings: dict[str, Any]) -> None:
    losses = {
        (name, seed): trained(settings, augment=name, seed=seed, epochs=1, name=f"{name}{seed}")
        .metrics()["loss"]
        .tolist()
        for name in ("none", "strong")
        for seed in (0, 1)
    }
    assert len({tuple(values) for values in losses.values()}) == 4


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_loss_of_mixed_images_is_that_of_both_labels(
    settings: dict[str, Any], accumulate: int
) -> None:
    """The first step, recomputed: weight * loss(labels) + (1 - weight) * loss(labels[partner])."""
    settings |= {
        "augment": ["flip", {"mixup": {"alpha": 5.0}}],
        "batch_size": 8 // accumulate,
        "accumulate": accumulate,
        "warmup_epochs": 0.0,
    }
    run = trained(settings, name="mixed")
    config = TrainConfig(**settings)
    torch.manual_seed(config.seed)
    setup = prepare(config)
    order = setup.order_of_epoch(0, config.seed)
    images, numbers = next(iter(batches(setup.data.images, order, (SIZE, SIZE), 8)))
    labels = torch.from_numpy(setup.data.identities)[numbers]
    augment = augmentation.create(config.augment)
    mixed = augment(images, torch.Generator().manual_seed(seed_of_step(0, config.seed)))
    assert augment.mixing is not None
    partner, weight = augment.mixing
    assert 0.5 < weight < 0.99
    values = []
    for part in torch.arange(8).tensor_split(accumulate):
        embeddings = setup.net(
            to_network(mixed[part], config.pixel_mean, config.pixel_std, config.channels)
        )
        own = setup.loss(embeddings, labels[part])
        others = setup.loss(embeddings, labels[partner[part]])
        assert own.item() != pytest.approx(others.item(), rel=1e-3)
        values.append(weight * own.item() + (1 - weight) * others.item())
    assert run.metrics()["loss"][0] == pytest.approx(sum(values) / accumulate, rel=1e-5)


@pytest.mark.parametrize("loss", ["triplet", "contrastive", "arcface+triplet"])
def test_losses_that_compare_images_refuse_mixed_ones(settings: dict[str, Any], loss: str) -> None:
    with pytest.raises(wb.WorkbenchError) as raised:
        trained(settings, loss=loss, loss_options={}, augment=["flip", "mixup"])
    assert f"mixup gives an image two identities, but {loss} compares images" in str(raised.value)
    assert not Path("runs").exists()


@pytest.mark.parametrize("loss", ["softmax+center", "adaface", "curricularface", "sphereface2"])
def test_losses_with_class_centres_take_mixed_images(settings: dict[str, Any], loss: str) -> None:
    run = trained(settings, loss=loss, loss_options={}, augment=["mirror", "mixup"], epochs=1)
    assert run.metrics()["loss"].map(lambda value: 0 < value < 1000).all()


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        ("mirorr", "did you mean 'mirror'?"),
        (["flip", {"affine": {"rotatoin": 3}}], "did you mean 'rotation'?"),
        ([{"blur": {"size": [0.5, 0.1]}}], "must be [smallest, largest]"),
    ],
)
def test_a_wrong_augmentation_is_named_before_there_is_a_run(
    settings: dict[str, Any], augment: Any, message: str
) -> None:
    with pytest.raises(wb.WorkbenchError) as raised:
        trained(settings, augment=augment)
    assert message in str(raised.value)
    assert not Path("runs").exists()
