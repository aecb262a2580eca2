"""Models of timm and torchvision as backbones; no test downloads weights."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import nn

import workbench as wb
from workbench.backbones.cost import cost

SMALL = [
    ("timm:mobilenetv3_small_050", 32),
    ("timm:vit_tiny_patch16_224", (48, 32)),
    ("timm:test_resnet.r160_in1k", 32),
    ("torchvision:squeezenet1_1", 32),
    ("torchvision:mobilenet_v3_small", (48, 32)),
    ("torchvision:shufflenet_v2_x0_5", 32),
    ("torchvision:regnet_x_400mf", 32),
]


@pytest.mark.parametrize(("name", "size"), SMALL)
def test_a_model_of_another_library_is_a_backbone(name: str, size: int | tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = wb.backbones.create(name, embedding_dim=5, image_size=size)
    assert isinstance(net, wb.backbones.Backbone)
    assert net.training
    images = torch.randn(2, 3, *net.image_size)
    embeddings = net(images)
    assert embeddings.shape == (2, 5)
    embeddings.square().sum().backward()
    assert [key for key, parameter in net.named_parameters() if parameter.grad is None] == []
    again = wb.backbones.create(name, embedding_dim=5, image_size=size)
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.eval()(images), net.eval()(images))


def test_the_classifier_is_gone_and_the_rest_stays() -> None:
    from torchvision import models

    theirs = models.mobilenet_v3_small().eval()
    ours = wb.backbones.create(
        "torchvision:mobilenet_v3_small", embedding_dim=4, image_size=32
    ).eval()
    assert isinstance(ours.trunk, nn.Module)
    last = theirs.classifier[3]
    ours.trunk.load_state_dict(
        {
            key: value
            for key, value in theirs.state_dict().items()
            if not key.startswith("classifier.3")
        }
    )
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(last(ours.trunk(images)), theirs(images))


@pytest.mark.parametrize("name", ["torchvision:googlenet", "torchvision:inception_v3"])
def test_extra_classifiers_of_training_are_gone_too(name: str) -> None:
    net = wb.backbones.create(name, embedding_dim=4, image_size=80)
    assert net(torch.zeros(2, 3, 80, 80)).shape == (2, 4)
    assert not any("aux" in key.lower() for key, _ in net.named_parameters())


def test_a_transformer_of_torchvision_takes_square_images() -> None:
    with torch.device("meta"):
        net = wb.backbones.create("torchvision:vit_b_16", embedding_dim=4, image_size=32)
    assert net.image_size == (32, 32)
    with pytest.raises(wb.WorkbenchError, match="cannot take images of 48 x 32"):
        wb.backbones.create("torchvision:vit_b_16", embedding_dim=4, image_size=(48, 32))


@pytest.mark.parametrize(
    ("name", "options", "hint"),
    [
        ("timm:mobilenetv3_smal_100", {}, "did you mean 'mobilenetv3_small_100'"),
        ("torchvision:resnet8", {}, "did you mean 'resnet18'"),
        ("torchvision:fcn_resnet50", {}, "unknown torchvision model"),
        ("tim:resnet18", {}, "did you mean 'timm'"),
        (":", {}, "known: timm, torchvision"),
        ("timm:", {}, "unknown timm model ''"),
        ("timm:resnet18", {"pretraind": True}, "did you mean 'pretrained'"),
        ("timm:resnet18", {"model": "resnet34"}, "after the colon"),
        ("timm:resnet18", {"image_size": 0}, "at least 1 x 1"),
        ("timm:resnet18", {"embedding_dim": 0}, "embedding_dim must be positive"),
        ("timm:resnet18", {"dropout": 2}, "dropout"),
        ("timm:vit_tiny_patch16_224", {"image_size": 8}, "8 x 8"),
        (
            "torchvision:alexnet",
            {"image_size": 32},
            "torchvision:alexnet cannot take images of 32 x 32",
        ),
        (
            "torchvision:vit_b_16",
            {"pretrained": True, "image_size": 112},
            "torchvision:vit_b_16 cannot be made with pretrained",
        ),
    ],
)
def test_what_cannot_be_is_one_line(name: str, options: dict[str, Any], hint: str) -> None:
    with pytest.raises(wb.WorkbenchError) as caught:
        wb.backbones.create(name, **{"embedding_dim": 4, "image_size": 32} | options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert hint in str(caught.value)


def test_without_timm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(wb.WorkbenchError, match=r"pip install 'margin-workbench\[timm\]'"):
        wb.backbones.create("timm:resnet18", embedding_dim=4, image_size=32)


def test_weights_are_downloaded_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import _api

    asked: list[object] = []

    def fetch(self: object, *_: object, **__: object) -> dict[str, object]:
        asked.append(self)
        raise OSError("no network\nhere")

    monkeypatch.setattr(_api.WeightsEnum, "get_state_dict", fetch)
    wb.backbones.create("torchvision:squeezenet1_1", embedding_dim=4, image_size=32)
    assert asked == []
    with pytest.raises(
        wb.WorkbenchError, match=r"cannot be made with pretrained weights \(no network here\)"
    ):
        wb.backbones.create(
            "torchvision:squeezenet1_1", embedding_dim=4, image_size=32, pretrained=True
        )
    assert len(asked) == 1


def test_it_has_a_cost() -> None:
    found = cost("torchvision:regnet_x_400mf", 10, 224)
    theirs = 400e6  # the name says so
    assert found.multiply_adds == pytest.approx(theirs, rel=0.05)
    assert found.parameters == pytest.approx(5.1e6, rel=0.05)
