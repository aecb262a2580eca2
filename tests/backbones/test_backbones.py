from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import workbench as wb


def _make(name: str, seed: int = 0, **options: Any) -> wb.backbones.Backbone:
    torch.manual_seed(seed)
    return wb.backbones.create(name, **{"embedding_dim": 8, "image_size": 16} | options)


def _images(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def _parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def test_an_unknown_backbone_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(wb.WorkbenchError, match="did you mean 'seresnet18'"):
        _make("seresnet1")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("seresnet18", {"dropout": 1.5}),
        ("seresnet18", {"dropout": -0.1}),
        ("seresnet18", {"dropout": "much"}),
        ("smallresnet", {"width": 0}),
        ("smallresnet", {"width": -8}),
        ("smallresnet", {"width": 12}),
        ("smallresnet", {"width": "wide"}),
    ],
)
def test_an_option_out_of_range_is_one_line(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(wb.WorkbenchError) as caught:
        _make(name, **options)
    assert "\n" not in str(caught.value)


def test_dropout_acts_in_training_only() -> None:
    net, images = _make("seresnet18", dropout=0.5), _images(16, 16)
    assert not torch.equal(net(images), net(images))
    net.eval()
    assert torch.equal(net(images), net(images))


def test_seresnet18_has_the_size_of_the_family() -> None:
    assert 24.0e6 < _parameters(_make("seresnet18", embedding_dim=512, image_size=112)) < 24.5e6


def test_smallresnet_is_small() -> None:
    for size in (28, 64, 112):
        assert _parameters(_make("smallresnet", embedding_dim=128, image_size=size)) < 0.5e6
    assert (
        _parameters(_make("smallresnet", width=8)) < _parameters(_make("smallresnet", width=16)) / 3
    )
