"""Tests that every backbone must pass.

Larger images are tested on the "meta" device, which computes nothing.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

import workbench as wb
from workbench.backbones.base import as_size
from workbench.backbones.cost import default_size

SMALL = 16
SLOW = {
    *("iresnet34", "iresnet50", "iresnet100", "resnet34", "seresnet34", "seresnet50"),
    *("sphereface64", "vit_small", "vit_base", "vit_large"),
}
SHALLOW = {"vit_base": {"depth": 2}, "vit_large": {"depth": 2, "patch": 4}}
"""Options of networks that would fill the memory at their full depth."""


def _make(name: str, seed: int = 0, **options: Any) -> wb.backbones.Backbone:
    torch.manual_seed(seed)
    defaults = {"embedding_dim": 8, "image_size": SMALL}
    # The number of blocks does not matter here; patches of 4 pixels do not fill every image.
    shallow = SHALLOW.get(name, {}) if options.get("image_size", SMALL) == SMALL else {}
    return wb.backbones.create(name, **defaults | shallow | options)


def _on_meta(name: str, **options: Any) -> wb.backbones.Backbone:
    with torch.device("meta"):
        return _make(name, **options)


def _images(*size: int, count: int = 2) -> Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
        for name in wb.backbones.names()
    ],
)
def name(request: pytest.FixtureRequest) -> str:
    """Each backbone in turn. The tests of one run together, so that `net` is created once."""
    return str(request.param)


@pytest.fixture(scope="module")
def net(name: str) -> wb.backbones.Backbone:
    """A network with seed 1 in evaluation mode, which no test changes."""
    return _make(name, seed=1).eval()


@pytest.mark.parametrize(("size", "head"), [(64, "gap"), ((112, 96), "gdc"), ((17, 31), "flatten")])
def test_images_of_any_size_become_embeddings_by_any_head(
    name: str, size: int | tuple[int, int], head: str
) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    net = _on_meta(name, image_size=size, embedding_dim=2, head=head)
    assert (net.image_size, net.embedding_dim) == ((height, width), 2)
    assert net.eval()(torch.zeros(3, 3, height, width, device="meta")).shape == (3, 2)


def test_without_options_it_is_made_for_its_own_size(name: str) -> None:
    with torch.device("meta"):
        net = wb.backbones.create(name)
    assert net.image_size == as_size(default_size(name))
    assert net.paper


def test_every_weight_learns_from_finite_gradients(net: wb.backbones.Backbone) -> None:
    net = deepcopy(net).train()
    embeddings = net(_images(SMALL, SMALL, count=6))
    assert embeddings.shape == (6, 8)
    assert torch.isfinite(embeddings).all()
    (embeddings * torch.randn_like(embeddings)).sum().backward()
    trained = {
        key: parameter.grad for key, parameter in net.named_parameters() if parameter.requires_grad
    }
    assert [
        key
        for key, gradient in trained.items()
        if gradient is None or not torch.isfinite(gradient).all()
    ] == []
    assert [
        key for key, gradient in trained.items() if gradient.ndim > 1 and not gradient.any()
    ] == []


def test_evaluation_is_deterministic_and_each_image_stands_alone(
    net: wb.backbones.Backbone,
) -> None:
    images = _images(SMALL, SMALL)
    both = net(images)
    assert torch.equal(both, net(images))
    torch.testing.assert_close(net(images[:1]), both[:1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(both[0], both[1])


def test_the_seed_decides_the_weights_and_the_state_is_all_there_is(
    name: str, net: wb.backbones.Backbone
) -> None:
    images = _images(SMALL, SMALL)
    other = _make(name, seed=2)
    other(images)  # moves the running statistics, which are part of the state
    assert not torch.equal(other.eval()(images), net(images))
    again = _make(name, seed=1)
    own, state = net.state_dict(), again.state_dict()
    assert own.keys() == state.keys()
    assert all(torch.equal(own[key], state[key]) for key in own)
    again.load_state_dict(other.state_dict())
    assert torch.equal(again.eval()(images), other(images))


def test_autocast_and_channels_last_are_close_to_plain(net: wb.backbones.Backbone) -> None:
    images = _images(SMALL, SMALL)
    plain = net(images)
    last = deepcopy(net).to(memory_format=torch.channels_last)
    torch.testing.assert_close(
        last(images.to(memory_format=torch.channels_last)), plain, rtol=1e-4, atol=1e-4
    )
    with torch.autocast("cpu", torch.bfloat16):
        low = last(images)
    assert torch.isfinite(low).all()
    assert torch.nn.functional.cosine_similarity(low.float(), plain).min() > 0.99


def test_training_on_two_images_under_autocast_stays_finite(net: wb.backbones.Backbone) -> None:
    net = deepcopy(net).train()
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = net(_images(SMALL, SMALL))
    assert torch.isfinite(embeddings).all()
    embeddings.float().square().sum().backward()
    gradients = [parameter.grad for parameter in net.parameters() if parameter.requires_grad]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)


def test_an_unknown_head_is_an_error_with_a_suggestion(name: str) -> None:
    with pytest.raises(wb.WorkbenchError, match="did you mean 'gdc'"):
        _on_meta(name, head="gcd")


@pytest.mark.parametrize("size", [7, 1, 0, -16, (16, 4), (4, 112)])
def test_images_too_small_are_refused(name: str, size: int | tuple[int, int]) -> None:
    with pytest.raises(wb.WorkbenchError, match="needs images of at least") as caught:
        _make(name, image_size=size)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "shape",
    [
        (2, 3, 17, 16),
        (2, 3, 16, 17),
        (2, 1, 16, 16),
        (3, 16, 16),
        (2, 16, 16, 3),
        (1, 2, 3, 16, 16),
    ],
)
def test_images_of_another_shape_are_refused(
    net: wb.backbones.Backbone, shape: tuple[int, ...]
) -> None:
    with pytest.raises(wb.WorkbenchError, match=r"images have shape .*expected \(N, 3, 16, 16\)"):
        net(torch.zeros(shape))


@pytest.mark.parametrize(
    "options",
    [{"embedding_dim": 0}, {"embedding_dim": -1}, {"embedding_dim": "x"}, {"image_size": None}],
)
def test_sizes_that_make_no_sense_are_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(wb.WorkbenchError) as caught:
        _make(name, **options)
    assert "\n" not in str(caught.value)


def test_an_unknown_option_is_an_error_with_a_suggestion(name: str) -> None:
    with pytest.raises(wb.WorkbenchError, match="did you mean 'image_size'"):
        _make(name, imagesize=SMALL)
