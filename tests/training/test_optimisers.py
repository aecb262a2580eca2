"""Groups of parameters, and optimisers by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import Complaint
from torch import nn

import workbench as wb
from workbench.training import config
from workbench.training.optimisers import OPTIMIZERS, create_optimizer, parameter_groups

CPU = torch.device("cpu")
DEFAULTS: dict[str, Any] = {
    "weight_decay": 5e-4,
    "decay_norm_and_bias": False,
    "lr_factor_loss": 1.0,
    "layer_decay": 1.0,
}
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm)


def _net(name: str = "iresnet18") -> wb.backbones.Backbone:
    with torch.device("meta"):
        return wb.backbones.create(name, embedding_dim=8, image_size=112)


def _loss(name: str = "softmax") -> wb.losses.Loss:
    return wb.losses.create(name, embedding_dim=8, num_classes=10)


@pytest.mark.parametrize("name", ["iresnet18", "seresnet18", "vit_tiny", "sphereface20"])
@pytest.mark.parametrize("layer_decay", [1.0, 0.7])
def test_norms_biases_and_slopes_do_not_decay(name: str, layer_decay: float) -> None:
    net, loss = _net(name), _loss()
    groups = parameter_groups(net, loss, **DEFAULTS | {"layer_decay": layer_decay})
    decay_of = {
        parameter: group["weight_decay"] for group in groups for parameter in group["params"]
    }
    for layer in net.modules():
        for key, parameter in layer.named_parameters(recurse=False):
            fixed = isinstance(layer, (*NORMS, nn.PReLU)) or key == "bias"
            assert decay_of[parameter] == (0.0 if fixed else 5e-4)
    assert decay_of[loss.weight] == 5e-4
    assert decay_of[loss.bias] == 0.0


@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
@pytest.mark.parametrize("decay_norm_and_bias", [False, True])
@pytest.mark.parametrize("extra", [None, nn.Linear(8, 2)])
def test_each_weight_is_in_one_group(
    layer_decay: float, decay_norm_and_bias: bool, extra: nn.Module | None
) -> None:
    net, loss = _net(), _loss()
    options = {"layer_decay": layer_decay, "decay_norm_and_bias": decay_norm_and_bias}
    groups = parameter_groups(net, loss, **DEFAULTS | options, extra=extra)
    modules = [net, loss] if extra is None else [net, loss, extra]
    expected = [id(parameter) for module in modules for parameter in module.parameters()]
    assert sorted(id(one) for group in groups for one in group["params"]) == sorted(expected)
    assert all(group["params"] for group in groups)
    assert len({group["name"] for group in groups}) == len(groups)


def test_old_recipes_decay_everything_in_one_group_each() -> None:
    groups = parameter_groups(_net(), _loss(), **DEFAULTS | {"decay_norm_and_bias": True})
    assert [(group["name"], group["weight_decay"], group["lr_factor"]) for group in groups] == [
        ("backbone", 5e-4, 1.0),
        ("loss", 5e-4, 1.0),
    ]


def test_without_weight_decay_there_is_nothing_to_divide() -> None:
    groups = parameter_groups(_net(), _loss(), **DEFAULTS | {"weight_decay": 0.0})
    assert [group["name"] for group in groups] == ["backbone", "loss"]


def test_a_loss_without_weights_has_no_group() -> None:
    groups = parameter_groups(_net(), _loss("triplet"), **DEFAULTS)
    assert [group["name"] for group in groups] == ["backbone", "backbone, no decay"]


def test_learning_rates_fall_from_stage_to_stage_towards_the_input() -> None:
    options = DEFAULTS | {"layer_decay": 0.5, "lr_factor_loss": 10.0, "decay_norm_and_bias": True}
    groups = parameter_groups(_net(), _loss(), **options, extra=nn.Linear(8, 2))
    assert {group["name"]: group["lr_factor"] for group in groups} == {
        "backbone, conv1": 0.5**5,
        "backbone, layer1.0": 0.5**4,
        "backbone, layer2.0": 0.5**3,
        "backbone, layer3.0": 0.5**2,
        "backbone, layer4.0": 0.5,
        "backbone, head": 1.0,
        "loss": 10.0,
        "tasks": 1.0,
    }


def test_the_names_in_the_settings_are_those_of_the_optimisers() -> None:
    assert list(config.OPTIMIZERS) == list(OPTIMIZERS)


def _train(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> torch.Tensor:
    for step in range(5):
        optimizer.zero_grad()
        (parameter * (step + 1)).sin().sum().backward()
        optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("SGD", {}, lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01)),
        (
            "SGD",
            {"nesterov": True, "fused": False},
            lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01, nesterov=True),
        ),
        ("Adam", {}, lambda p: torch.optim.Adam(p, 0.1, weight_decay=0.01)),
        (
            "Adam",
            {"betas": [0.5, 0.9], "amsgrad": True},
            lambda p: torch.optim.Adam(p, 0.1, (0.5, 0.9), weight_decay=0.01, amsgrad=True),
        ),
        ("AdamW", {"eps": 0.1}, lambda p: torch.optim.AdamW(p, 0.1, eps=0.1, weight_decay=0.01)),
    ],
)
def test_it_is_the_optimiser_of_pytorch(name: str, options: dict[str, Any], theirs: Any) -> None:
    ours_at, theirs_at = (nn.Parameter(torch.tensor([0.3, -2.0])) for _ in range(2))
    groups = [{"params": [ours_at], "weight_decay": 0.01, "lr_factor": 1.0, "name": "backbone"}]
    ours = create_optimizer(name, groups, 0.1, 0.9, options, CPU)
    torch.testing.assert_close(_train(ours, ours_at), _train(theirs([theirs_at]), theirs_at))


@pytest.mark.parametrize(
    ("name", "options", "texts"),
    [
        ("Adamw", {}, ["unknown optimizer", "did you mean 'AdamW'"]),
        ("SGD", {"nestrov": True}, ["option of optimizer 'SGD'", "did you mean 'nesterov'"]),
        ("SGD", {"betas": [0.9, 0.99]}, ["unknown option", "'betas'"]),
        ("SGD", {"momentum": 0.5}, ["'momentum' is not allowed here"]),
        ("Adam", {"lr": 0.5}, ["'lr' is not allowed here"]),
        ("Adam", {"weight_decay": 0.5}, ["'weight_decay' is not allowed here"]),
        ("Adam", {"params": []}, ["unknown option", "'params'"]),
        ("Adam", {"betas": [2.0, 0.9]}, ["optimizer_options", "beta"]),
        ("Adam", {"betas": "x"}, ["optimizer_options"]),
        ("Adam", {"betas": [0.9]}, ["optimizer_options"]),
        ("AdamW", {"eps": -1}, ["optimizer_options", "epsilon"]),
        ("SGD", {"nesterov": True, "dampening": 0.5}, ["optimizer_options", "Nesterov"]),
        ("SGD", {"foreach": True}, ["optimizer_options", "fused"]),
    ],
)
def test_bad_options_are_one_line(
    name: str, options: dict[str, Any], texts: list[str], complaint: Complaint
) -> None:
    groups = [{"params": [nn.Parameter(torch.zeros(1))]}]
    with complaint(*texts):
        create_optimizer(name, groups, 0.1, 0.9, options, CPU)


def test_weight_decay_shrinks_only_what_decays() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    backbone = wb.backbones.create("smallresnet", embedding_dim=4, image_size=16)
    groups = parameter_groups(backbone, net, **DEFAULTS | {"weight_decay": 0.5})
    optimizer = create_optimizer("SGD", groups, 0.1, 0.0, {}, CPU)
    before = {name: value.clone() for name, value in net.named_parameters()}
    for parameter in [*backbone.parameters(), *net.parameters()]:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, value in net.named_parameters():
        factor = 1 - 0.1 * 0.5 if name == "0.weight" else 1.0
        torch.testing.assert_close(value, factor * before[name])
