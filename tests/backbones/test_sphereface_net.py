from __future__ import annotations

import pytest
import torch
from torch import nn

import workbench as wb

UNITS = {"sphereface20": (1, 2, 4, 1), "sphereface64": (3, 8, 16, 3)}
every_depth = pytest.mark.parametrize("name", UNITS)


def _on_paper(name: str, image_size: int | tuple[int, int] = (112, 96)) -> wb.backbones.Backbone:
    with torch.device("meta"):
        return wb.backbones.create(name, embedding_dim=512, image_size=image_size)


@every_depth
def test_depth_is_in_the_name(name: str) -> None:
    net = _on_paper(name)
    convolutions = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == int(name.removeprefix("sphereface"))
    assert all(layer.kernel_size == (3, 3) for layer in convolutions)
    assert [layer.out_channels for layer in convolutions if layer.stride == (2, 2)] == [
        64,
        128,
        256,
        512,
    ]
    (fc,) = (layer for layer in net.modules() if isinstance(layer, nn.Linear))
    assert (fc.in_features, fc.out_features) == (512 * 7 * 6, 512)


@every_depth
def test_number_of_weights(name: str) -> None:
    expected = 512 * 7 * 6 * 512 + 512
    for count, before, after in zip(
        UNITS[name], (3, 64, 128, 256), (64, 128, 256, 512), strict=True
    ):
        expected += 9 * before * after + after + after  # weights, biases, PReLU
        expected += count * 2 * (9 * after * after + after)
    assert sum(parameter.numel() for parameter in _on_paper(name).parameters()) == expected


@every_depth
@pytest.mark.parametrize("head", ["gap", "flatten", "gdc"])
def test_no_batch_normalisation_anywhere(name: str, head: str) -> None:
    net = wb.backbones.create(name, embedding_dim=2, image_size=(33, 17), head=head)
    assert not any(isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) for layer in net.modules())
    images = torch.rand(3, 3, 33, 17)
    together, alone = (
        net(images),
        net(images[:1]),
    )  # so an image does not depend on its batch, in training either
    assert together.shape == (3, 2)
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-6)


def test_sphereface20_computes_what_table_2_says() -> None:
    torch.manual_seed(0)
    net = wb.backbones.create("sphereface20", embedding_dim=5, image_size=(32, 17))
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.05)
    convolutions = iter([layer for layer in net.modules() if isinstance(layer, nn.Conv2d)])
    slopes = iter([layer.weight for layer in net.modules() if isinstance(layer, nn.PReLU)])
    (fc,) = (layer for layer in net.modules() if isinstance(layer, nn.Linear))

    def conv_prelu(x: torch.Tensor, stride: int) -> torch.Tensor:
        conv = next(convolutions)
        x = nn.functional.conv2d(x, conv.weight, conv.bias, stride=stride, padding=1)
        return x.clamp(min=0) + next(slopes).reshape(-1, 1, 1) * x.clamp(max=0)

    images = torch.rand(2, 3, 32, 17) * 2 - 1
    x = images
    for units in (1, 2, 4, 1):
        x = conv_prelu(x, stride=2)
        for _ in range(units):
            x = x + conv_prelu(conv_prelu(x, stride=1), stride=1)
    torch.testing.assert_close(net(images), x.flatten(1) @ fc.weight.T + fc.bias)


@every_depth
def test_units_begin_near_zero_and_maps_keep_their_size(name: str) -> None:
    torch.manual_seed(0)
    net = wb.backbones.create(name, embedding_dim=128, image_size=32)
    inside = [
        layer for layer in net.modules() if isinstance(layer, nn.Conv2d) and layer.stride == (1, 1)
    ]
    assert all(
        abs(layer.weight.std().item() - 0.01) < 0.001 and layer.bias is None for layer in inside
    )
    embeddings = net(torch.rand(4, 3, 32, 32) * 2 - 1)
    assert 0.01 < float(embeddings.detach().std()) < 10
