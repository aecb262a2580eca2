"""The stems of smallresnet, against the formulas of the papers in float64."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import workbench as wb
from workbench.backbones.stems import EPSILON, InstanceBatchNorm, MixStyle, Stem, mix_style

OTHERS = [kind for kind in get_args(Stem) if kind != "batch"]


def _net(seed: int = 0, **options: Any) -> wb.backbones.Backbone:
    torch.manual_seed(seed)
    return wb.backbones.create("smallresnet", **{"embedding_dim": 8, "image_size": 16} | options)


def _images(count: int = 4, size: int = 16) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _maps(count: int = 5, channels: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    spread = torch.rand(count, channels, 1, 1, generator=generator) * 3 + 0.1
    return torch.randn(count, channels, 4, 7, generator=generator) * spread + spread


def test_the_default_is_the_network_without_the_option() -> None:
    plain, named = _net(), _net(stem="batch")
    assert list(plain.state_dict()) == list(named.state_dict())
    assert plain.state_dict()["features.0.0.weight"].shape == (16, 3, 3, 3)
    assert [type(layer).__name__ for layer in plain.features[0]] == [
        "Conv2d",
        "BatchNorm2d",
        "ReLU",
    ]
    assert torch.equal(plain(_images()), named(_images()))


@pytest.mark.parametrize("kind", OTHERS)
def test_each_stem_has_the_weights_of_the_default_elsewhere(kind: str) -> None:
    plain, net = _net(), _net(stem=kind)
    convolution = next(layer for layer in net.modules() if isinstance(layer, nn.Conv2d))
    assert torch.equal(convolution.weight, plain.state_dict()["features.0.0.weight"])
    assert torch.equal(net.head[3].weight, plain.head[3].weight)
    embeddings = net(_images())
    embeddings.sum().backward()
    assert embeddings.shape == (4, 8)
    assert torch.isfinite(embeddings).all()
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize("kind", ["instance", "standardised"])
def test_brightness_and_contrast_of_an_image_do_not_matter(kind: str) -> None:
    net, images = _net(stem=kind).eval(), _images()
    # For "instance" the padding of the convolution is 0, so brightness matters at the edges.
    changed = 0.4 * images + (0.2 if kind == "standardised" else 0.0)
    torch.testing.assert_close(net(changed), net(images), rtol=0, atol=1e-3)
    assert not torch.allclose(_net().eval()(changed), _net().eval()(images), rtol=0, atol=1e-3)


def test_ibn_is_instance_norm_of_the_first_half_and_batch_norm_of_the_second() -> None:
    layer, maps = InstanceBatchNorm(5), _maps(channels=5)
    out, exact = layer(maps).double(), maps.double()
    for part, axes in ((slice(0, 2), (2, 3)), (slice(2, 5), (0, 2, 3))):
        mean = exact[:, part].mean(axes, keepdim=True)
        variance = exact[:, part].var(axes, keepdim=True, unbiased=False)
        expected = (exact[:, part] - mean) / (variance + 1e-5).sqrt()
        torch.testing.assert_close(out[:, part], expected, rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(
    weights=st.lists(st.floats(0, 1), min_size=5, max_size=5),
    partners=st.permutations(range(5)),
)
def test_mixed_maps_have_the_mixed_statistics(weights: list[float], partners: list[int]) -> None:
    maps = _maps()
    mixed = mix_style(maps, torch.tensor(partners), torch.tensor(weights)).double()
    exact, share = maps.double(), torch.tensor(weights, dtype=torch.float64)[:, None, None]
    mean = exact.mean((2, 3))
    std = (exact.var((2, 3)) + EPSILON).sqrt()
    share = share[:, 0]
    expected_mean = share * mean + (1 - share) * mean[partners]
    expected_std = share * std + (1 - share) * std[partners]
    torch.testing.assert_close(mixed.mean((2, 3)), expected_mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(mixed.std((2, 3)), expected_std, rtol=0, atol=1e-4)
    # Within a channel, positions keep their order and their relative distances.
    normed = (mixed - expected_mean[..., None, None]) / expected_std[..., None, None]
    original = (exact - mean[..., None, None]) / std[..., None, None]
    torch.testing.assert_close(normed, original, rtol=0, atol=1e-4)


def test_a_share_of_1_keeps_the_maps_and_no_gradient_flows_through_the_statistics() -> None:
    maps = _maps().requires_grad_()
    kept = mix_style(maps, torch.tensor([1, 2, 3, 4, 0]), torch.ones(5))
    torch.testing.assert_close(kept, maps, rtol=0, atol=1e-5)
    kept.sum().backward()
    torch.testing.assert_close(maps.grad, torch.ones_like(maps), rtol=0, atol=1e-4)


def test_mixstyle_acts_in_training_only_and_in_half_of_the_batches() -> None:
    layer, maps = MixStyle(), _maps()
    torch.manual_seed(0)
    changed = sum(not torch.equal(layer(maps), maps) for _ in range(200))
    assert 70 < changed < 130
    layer.eval()
    assert torch.equal(layer(maps), maps)


def test_mixstyle_keeps_the_type() -> None:
    maps = _maps().bfloat16()
    assert MixStyle(probability=1.0)(maps).dtype == torch.bfloat16


@pytest.mark.parametrize("options", [{"probability": 1.1}, {"alpha": 0}, {"alpha": float("nan")}])
def test_options_of_mixstyle_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(wb.WorkbenchError, match="MixStyle: expected"):
        MixStyle(**options)


def test_an_unknown_stem_is_refused() -> None:
    with pytest.raises(wb.WorkbenchError, match=r"unknown stem 'ibm'.*did you mean 'ibn'"):
        _net(stem="ibm")
