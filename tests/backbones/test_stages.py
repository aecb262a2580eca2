"""The stages of backbones: each weight is in one of them, and they run from input to output."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from workbench.backbones.stages import HEAD, split

SLOW = {"iresnet50", "iresnet100", "resnet50", "seresnet34", "seresnet50", "sphereface64"}
EXTERNAL = [
    "timm:vit_tiny_patch16_224",
    "timm:mobilenetv3_small_050",
    "torchvision:squeezenet1_1",
    "torchvision:mobilenet_v3_small",
    "torchvision:shufflenet_v2_x0_5",
    "torchvision:regnet_x_400mf",
]
NAMES = [
    pytest.param(name, marks=pytest.mark.slow) if name in SLOW | {"vit_small"} else name
    for name in [*wb.backbones.names(), *EXTERNAL]
]


def _on_meta(name: str, image_size: int = 112) -> wb.backbones.Backbone:
    with torch.device("meta"):
        return wb.backbones.create(name, embedding_dim=8, image_size=image_size)


@pytest.mark.parametrize("name", NAMES)
def test_each_weight_is_in_one_stage_and_stages_are_applied_in_order(name: str) -> None:
    net = wb.backbones.create(name, embedding_dim=8, image_size=32).eval()
    stages = net.stages()
    assert len(stages) >= 4
    assert [stage.name for stage in stages].index(HEAD) == len(stages) - 1
    assert len({stage.name for stage in stages}) == len(stages)
    listed = [id(parameter) for stage in stages for parameter in stage.parameters]
    assert sorted(listed) == sorted(id(parameter) for parameter in net.parameters())

    stage_of = {
        layer: number
        for number, stage in enumerate(stages)
        for module in stage.modules
        for layer in module.modules()
    }
    applied: list[int] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if any(True for _ in layer.parameters(recurse=False)):
            applied.append(stage_of[layer])

    for layer in stage_of:
        layer.register_forward_pre_hook(note)
    net(torch.zeros(1, 3, 32, 32))
    assert applied == sorted(applied)
    assert set(applied) == set(range(len(stages)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("iresnet18", ["conv1", "layer1.0", "layer2.0", "layer3.0", "layer4.0", "head"]),
        ("resnet18", ["trunk.conv1", "trunk.layer2.0", "trunk.layer3.0", "trunk.layer4.0", "head"]),
        ("seresnet18", [f"features.{number}" for number in ("0.0", 1, 3, 5, 7)] + ["head"]),
        ("smallresnet", [f"features.{number}" for number in ("0.0", 2, 3, 4)] + ["head"]),
        ("vit_tiny", ["positions", *(f"blocks.{number}" for number in range(12)), "head"]),
    ],
)
def test_stages_are_those_of_the_papers(name: str, expected: list[str]) -> None:
    assert [stage.name for stage in _on_meta(name).stages()] == expected


def test_the_head_of_iresnet_is_a_stage_with_every_kind_of_head() -> None:
    for head in ("flatten", "gdc", "gap"):
        with torch.device("meta"):
            net = wb.backbones.create("iresnet18", head=head, image_size=32)
        last = net.stages()[-1]
        linear = [layer for module in last.modules for layer in module.modules()]
        assert [isinstance(layer, nn.Linear) for layer in linear].count(True) == 1


def test_a_pooling_layer_begins_a_stage_without_having_weights() -> None:
    stages = _on_meta("fashion_cnn", 28).stages()
    assert [stage.name for stage in stages] == ["features.0", "features.7", "features.14", "head"]
    assert isinstance(stages[1].modules[0], nn.Conv2d)


def test_without_a_named_head_the_last_layer_with_weights_is_the_head() -> None:
    class Plain(wb.backbones.Backbone):
        def __init__(self) -> None:
            super().__init__(4, 8, smallest=1)
            self.features = nn.Sequential(
                nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3, stride=2)
            )
            self.fc = nn.Linear(8, 4)
            self.last = nn.Flatten()

    stages = Plain().stages()
    assert [stage.name for stage in stages] == ["features.0", "features.2", "head"]
    assert [type(module) for module in stages[-1].modules] == [nn.Linear, nn.Flatten]


def test_a_shared_weight_belongs_to_the_first_stage_that_has_it() -> None:
    first, second = nn.Conv2d(1, 1, 3, stride=2), nn.Conv2d(1, 1, 3, stride=2)
    second.weight = first.weight
    stages = split(nn.Sequential(first, second, nn.Linear(1, 1)), head=())
    assert [len(stage.parameters) for stage in stages] == [2, 1, 2]


def test_a_network_without_weights_has_no_stages() -> None:
    assert split(nn.Sequential(nn.ReLU(), nn.Flatten()), head=("head",)) == []


def test_a_network_of_one_layer_has_one_stage() -> None:
    stages = split(nn.Sequential(nn.Linear(2, 2)), head=())
    assert [stage.name for stage in stages] == [HEAD]
