from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import workbench as wb

every_backbone = pytest.mark.parametrize("name", wb.backbones.names())


def _make(name: str, seed: int = 0, **options: Any) -> wb.backbones.Backbone:
    torch.manual_seed(seed)
    return wb.backbones.create(name, **{"embedding_dim": 8, "image_size": 16} | options)


def _images(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def _parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@every_backbone
@pytest.mark.parametrize("size", [16, 28, 64, 112, (112, 96), (17, 31)])
@pytest.mark.parametrize("embedding_dim", [2, 128])
def test_images_become_embeddings_and_gradients_come_back(name: str, size: int | tuple[int, int], embedding_dim: int) -> None:
    net = _make(name, embedding_dim=embedding_dim, image_size=size)
    height, width = (size, size) if isinstance(size, int) else size
    assert net.image_size == (height, width)
    assert net.embedding_dim == embedding_dim
    embeddings = net(_images(height, width))
    assert embeddings.shape == (2, embedding_dim)
    assert torch.isfinite(embeddings).all()
    (embeddings * torch.randn_like(embeddings)).sum().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key


@every_backbone
def test_every_weight_learns_something(name: str) -> None:
    net = _make(name)
    torch.manual_seed(0)
    (net(torch.rand(8, 3, 16, 16)) * torch.randn(8, 8)).sum().backward()
    assert [key for key, parameter in net.named_parameters() if parameter.ndim > 1 and not parameter.grad.any()] == []


@every_backbone
def test_evaluation_is_deterministic_and_each_image_stands_alone(name: str) -> None:
    net, images = _make(name).eval(), _images(16, 16)
    both = net(images)
    assert torch.equal(both, net(images))
    torch.testing.assert_close(net(images[:1]), both[:1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(both[0], both[1])


@every_backbone
def test_state_dict_round_trip(name: str) -> None:
    net, other, images = _make(name, seed=1), _make(name, seed=2), _images(16, 16)
    net(images)  # moves the running statistics, which are part of the state
    assert not torch.equal(net.eval()(images), other.eval()(images))
    other.load_state_dict(net.state_dict())
    assert torch.equal(net(images), other(images))


@every_backbone
def test_same_seed_same_weights(name: str) -> None:
    one, two = _make(name, seed=1).state_dict(), _make(name, seed=1).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)


@every_backbone
def test_autocast_and_channels_last_are_close_to_plain(name: str) -> None:
    net, images = _make(name).eval(), _images(16, 16)
    plain = net(images)
    last = net.to(memory_format=torch.channels_last)
    torch.testing.assert_close(last(images.to(memory_format=torch.channels_last)), plain, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        low = last(images)
    assert torch.nn.functional.cosine_similarity(low.float(), plain).min() > 0.99


@every_backbone
@pytest.mark.parametrize("size", [15, 1, 0, -16, (16, 8), (8, 112)])
def test_images_too_small_are_refused(name: str, size: int | tuple[int, int]) -> None:
    with pytest.raises(wb.WorkbenchError, match="needs images of at least 16 x 16") as caught:
        _make(name, image_size=size)
    assert "\n" not in str(caught.value)


@every_backbone
@pytest.mark.parametrize("shape", [(2, 3, 17, 16), (2, 3, 16, 17), (2, 1, 16, 16), (3, 16, 16), (2, 16, 16, 3), (1, 2, 3, 16, 16)])
def test_images_of_another_shape_are_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(wb.WorkbenchError, match=r"images have shape .*expected \(N, 3, 16, 16\)"):
        _make(name)(torch.zeros(shape))


@every_backbone
@pytest.mark.parametrize("options", [{"embedding_dim": 0}, {"embedding_dim": -1}, {"embedding_dim": "x"}, {"image_size": None}])
def test_sizes_that_make_no_sense_are_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(wb.WorkbenchError) as caught:
        _make(name, **options)
    assert "\n" not in str(caught.value)


@every_backbone
def test_an_unknown_option_is_an_error_with_a_suggestion(name: str) -> None:
    with pytest.raises(wb.WorkbenchError, match="did you mean 'image_size'"):
        _make(name, imagesize=16)


def test_an_unknown_backbone_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(wb.WorkbenchError, match="did you mean 'seresnet18'"):
        _make("seresnet")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("seresnet18", {"dropout": 1.5}),
        ("seresnet18", {"dropout": -0.1}),
        ("seresnet18", {"dropout": "much"}),
        ("smallresnet", {"width": 0}),
        ("smallresnet", {"width": -4}),
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
    assert _parameters(_make("smallresnet", width=8)) < _parameters(_make("smallresnet", width=16)) / 3
