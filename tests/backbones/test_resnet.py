from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import workbench as wb


def _images(height: int, width: int) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_the_trunk_is_torchvisions(name: str) -> None:
    from torchvision import models

    torch.manual_seed(1)
    theirs = models.get_model(name, weights=None)
    theirs.fc = nn.Identity()  # leaves the means over the last map
    ours = wb.backbones.create(name, embedding_dim=4, image_size=(48, 33), stem="imagenet")
    assert isinstance(ours.trunk, nn.Sequential)
    ours.trunk.load_state_dict(theirs.state_dict(), strict=True)
    images = _images(48, 33)
    torch.testing.assert_close(ours.eval().trunk(images).mean((2, 3)), theirs.eval()(images))


def test_the_embedding_is_the_head_on_the_trunk() -> None:
    net, images = (
        wb.backbones.create("resnet18", embedding_dim=4, image_size=16).eval(),
        _images(16, 16),
    )
    assert isinstance(net.trunk, nn.Module)
    assert isinstance(net.head, nn.Sequential)
    torch.testing.assert_close(net(images), net.head(net.trunk(images)))


@pytest.mark.parametrize(
    ("stem", "size", "places"),
    [
        ("face", (112, 112), (14, 14)),
        ("face", (17, 31), (3, 4)),
        ("imagenet", (112, 112), (4, 4)),
        ("imagenet", (33, 64), (2, 2)),
    ],
)
def test_places_on_the_last_map(stem: str, size: tuple[int, int], places: tuple[int, int]) -> None:
    net = wb.backbones.create(
        "resnet18", embedding_dim=2, image_size=size, stem=stem, head="flatten"
    ).eval()
    assert isinstance(net.trunk, nn.Module)
    assert net.trunk(_images(*size)).shape == (2, 512, *places)
    assert net(_images(*size)).shape == (2, 2)


def test_the_face_stem_is_one_small_convolution() -> None:
    net = wb.backbones.create("resnet18", embedding_dim=2, image_size=16)
    assert isinstance(net.trunk, nn.Sequential)
    conv = net.trunk.conv1
    assert isinstance(conv, nn.Conv2d)
    assert (conv.kernel_size, conv.stride, conv.padding) == ((3, 3), (1, 1), (1, 1))
    assert not any(isinstance(layer, nn.MaxPool2d) for layer in net.modules())


@pytest.mark.parametrize(
    ("name", "published", "channels"),
    [("resnet18", 11_689_512, 512), ("resnet34", 21_797_672, 512), ("resnet50", 25_557_032, 2048)],
)
def test_parameters_are_as_many_as_published(name: str, published: int, channels: int) -> None:
    with torch.device("meta"):
        net = wb.backbones.create(name, embedding_dim=10, image_size=112, stem="imagenet")
    classes = 1000 * channels + 1000
    assert (
        sum(parameter.numel() for parameter in net.parameters())
        == published - classes + 10 * channels + 10 + 2 * 10
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stem": "faces"}, "unknown stem 'faces': did you mean 'face'"),
        ({"head": "fc"}, "unknown head 'fc'"),
        ({"dropout": 2}, "dropout"),
        ({"dropuot": 0.1}, "did you mean 'dropout'"),
        ({"image_size": 15}, "ResNet18 needs images of at least 16 x 16, got 15 x 15"),
    ],
)
def test_bad_options_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(wb.WorkbenchError, match=message) as caught:
        wb.backbones.create("resnet18", **{"embedding_dim": 2, "image_size": 16} | options)
    assert "\n" not in str(caught.value)
