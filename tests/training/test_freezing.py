"""Frozen stages and frozen batch statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import paint_people
from safetensors.torch import load_file
from torch import Tensor, nn

import workbench as wb
from workbench import runs
from workbench.training.freezing import Freezer

EPOCHS = 4


def _freezer(net: wb.backbones.Backbone, *options: Any, batch_norm: bool = False) -> Freezer:
    return Freezer(net, torch.optim.SGD(net.parameters(), lr=0.1), *options, batch_norm)


def _net(name: str = "smallresnet", **options: Any) -> wb.backbones.Backbone:
    return wb.backbones.create(name, embedding_dim=8, image_size=16, **options)


@pytest.mark.parametrize("name", ["smallresnet", "mobilefacenet", "vit_tiny", "sphereface20"])
def test_exactly_the_first_stages_get_no_gradient(name: str) -> None:
    net = _net(name, **({"depth": 2} if name == "vit_tiny" else {}))
    stages = net.stages()
    for count in (1, len(stages) - 1, None):
        freezer = _freezer(net, 3, count)
        freezer.apply(2)
        net.zero_grad()
        net(torch.randn(4, 3, 16, 16)).square().sum().backward()
        frozen = len(stages) - 1 if count is None else count
        for number, stage in enumerate(stages):
            trained = [one for one in stage.parameters if one.grad is not None]
            assert bool(trained) == (number >= frozen), stage.name
        freezer.apply(3)
        assert all(parameter.requires_grad for parameter in net.parameters())


def test_weights_that_a_backbone_fixes_stay_fixed() -> None:
    net = _net("iresnet18")  # the scale of its last normalisation is fixed
    freezer = _freezer(net, 1, None)
    for step in (0, 1, 0):
        freezer.apply(step)
        assert not net.features.weight.requires_grad
        assert net.conv1.weight.requires_grad == (step == 1)


def _statistics(net: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in net.named_buffers() if "running" in name}


def test_frozen_statistics_do_not_change_and_are_used() -> None:
    torch.manual_seed(0)
    net = _net()
    images = torch.randn(6, 3, 16, 16)
    net(images)  # moves the statistics away from those of a new network
    before = _statistics(net)
    _freezer(net, 0, None, batch_norm=True).apply(0)
    training = net(images)
    assert all(torch.equal(tensor, before[name]) for name, tensor in _statistics(net).items())
    torch.testing.assert_close(training, net.eval()(images))
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_frozen_stages_keep_their_statistics_and_the_others_do_not() -> None:
    net = _net()
    before = _statistics(net)
    freezer = _freezer(net, 5, 1)
    freezer.apply(0)
    net(torch.randn(6, 3, 16, 16))
    changed = {
        name for name, tensor in _statistics(net).items() if not torch.equal(tensor, before[name])
    }
    first = {id(buffer) for module in net.stages()[0].modules for buffer in module.buffers()}
    expected = {
        name
        for name, buffer in net.named_buffers()
        if "running" in name and id(buffer) not in first
    }
    assert changed == expected
    net.eval()  # as for an evaluation during the training
    freezer.apply(1)
    assert net.training
    assert not net.stages()[0].modules[0].training


@pytest.mark.parametrize("stages", [0, 5, 100])
def test_more_stages_than_there_are_is_one_line(stages: int, complaint: Any) -> None:
    net = _net()
    with complaint(f"freeze_stages is {stages}", "at most", "head"):
        _freezer(net, 1, stages)


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    return {
        "data": f"folder:{paint_people(tmp_path / 'faces', 4, 4)}",
        "image_size": 16,
        "embedding_dim": 8,
        "backbone_options": {"width": 8},
        "batch_size": 8,
        "epochs": EPOCHS,
        "lr": 0.02,
        "warmup_epochs": 0,
        "log_every": 1,
        "device": "cpu",
        "precision": "fp32",
        "runs_dir": str(tmp_path),
    }


class _Weights(wb.training.Callback):
    """Keeps the weights of each epoch."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, Tensor]] = []

    def on_epoch_end(self, training: Any) -> None:
        self.epochs.append(
            {name: tensor.clone() for name, tensor in training.net.state_dict().items()}
        )


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_a_stage_is_trained_after_its_epochs_only(settings: dict[str, Any], optimizer: str) -> None:
    weights = _Weights()
    wb.train(
        settings
        | {"freeze_epochs": 2, "freeze_stages": 2, "optimizer": optimizer, "weight_decay": 0.1},
        callbacks=[weights],
        progress=False,
    )
    first = "features.0.0.weight"
    assert torch.equal(weights.epochs[0][first], weights.epochs[1][first])
    assert not torch.equal(weights.epochs[1][first], weights.epochs[2][first])
    assert not torch.equal(weights.epochs[0]["head.3.weight"], weights.epochs[1]["head.3.weight"])
    statistics = "features.0.1.running_mean"
    assert not weights.epochs[1][statistics].any()
    assert weights.epochs[2][statistics].any()


class _StopAt(wb.training.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, training: Any) -> None:
        if training.step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("stop", [1, 3, 5], ids=["frozen", "at the end", "afterwards"])
def test_a_run_with_frozen_stages_resumes_bit_for_bit(settings: dict[str, Any], stop: int) -> None:
    settings |= {"freeze_epochs": 1.5, "optimizer": "AdamW", "ema": 0.9}
    whole = wb.train(settings | {"name": "whole"}, progress=False)
    with pytest.raises(KeyboardInterrupt):
        wb.train(settings | {"name": "parts"}, callbacks=[_StopAt(stop)], progress=False)
    parts = wb.train(resume=Path(settings["runs_dir"]) / "parts", progress=False)
    for file in (runs.MODEL, runs.AVERAGED_MODEL):
        expected, found = (load_file(run.path / file) for run in (whole, parts))
        assert expected.keys() == found.keys()
        assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    assert whole.metrics()["loss"].tolist() == parts.metrics()["loss"].tolist()


def test_batch_statistics_stay_those_of_the_weights_to_begin_with(
    settings: dict[str, Any],
) -> None:
    first = wb.train(settings | {"name": "first"}, progress=False)
    second = wb.train(
        settings | {"name": "second", "init": str(first.path), "batch_norm": "frozen"},
        progress=False,
    )
    before, after = (load_file(run.path / runs.MODEL) for run in (first, second))
    running = [name for name in before if "running" in name and name.startswith("backbone.")]
    assert running
    assert all(torch.equal(before[name], after[name]) for name in running)
    assert not torch.equal(before["backbone.head.3.weight"], after["backbone.head.3.weight"])
