from __future__ import annotations

from typing import Any

import pytest
import torch

import workbench as wb
from workbench.backbones.cost import cost
from workbench.backbones.vit import ViTTiny, patch_size


@pytest.mark.parametrize(("name", "gflops"), [("vit_tiny", 1.5), ("vit_small", 5.74)])
def test_they_cost_what_arcface_torch_says(name: str, gflops: float) -> None:
    """There, vit_t and vit_s use 12 x 12 patches of 9 pixels, and 4 of 112 pixels are unused."""
    assert cost(name, 512, 108, patch=9).multiply_adds / 1e9 == pytest.approx(gflops, rel=0.005)


@pytest.mark.parametrize(
    ("size", "side"),
    [
        ((112, 112), 8),
        ((112, 96), 8),
        ((108, 108), 9),
        ((64, 64), 8),
        ((28, 28), 2),
        ((160, 160), 16),
        ((224, 224), 16),
    ],
)
def test_the_patch_suits_the_size(size: tuple[int, int], side: int) -> None:
    assert patch_size(size) == side


def test_a_patch_that_does_not_fill_the_image_is_refused() -> None:
    with pytest.raises(
        wb.WorkbenchError,
        match=r"patches of 9 x 9 do not fill images of 112 x 112; sides that do: 1, 2, 4, 7, 8",
    ):
        wb.backbones.create("vit_tiny", image_size=112, patch=9)
    with pytest.raises(wb.WorkbenchError, match="no square patch divides 112 x 97"):
        wb.backbones.create("vit_tiny", image_size=(112, 97))


def test_attention_is_the_softmax_of_products() -> None:
    """Vaswani et al., "Attention is all you need", NeurIPS 2017, eq. 1, head by head."""
    from workbench.backbones.vit import _Attention

    torch.manual_seed(0)
    layer, tokens, heads, width = _Attention(12, 3), torch.randn(2, 5, 12), 3, 4
    query, key, value = layer.qkv(tokens).chunk(3, dim=-1)
    parts = []
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        weights = (query[..., own] @ key[..., own].mT / width**0.5).softmax(-1)
        parts.append(weights @ value[..., own])
    torch.testing.assert_close(layer(tokens), layer.out(torch.cat(parts, -1)))


def test_positions_tell_patches_apart() -> None:
    """A mean over tokens depends on the order of the patches only through their positions."""
    torch.manual_seed(0)
    net = ViTTiny(4, 16, patch=8, depth=2, head="gap").eval()
    image = torch.rand(1, 3, 16, 16)
    moved = torch.cat([image[..., 8:], image[..., :8]], -1)
    assert not torch.allclose(net(image), net(moved), atol=1e-5)
    torch.nn.init.zeros_(net.positions)
    torch.testing.assert_close(net(image), net(moved))


def test_drop_path_keeps_the_mean_and_acts_in_training_only() -> None:
    from workbench.backbones.vit import _DropPath

    torch.manual_seed(0)
    layer, ones = _DropPath(0.25), torch.ones(20_000, 2, 3)
    dropped = layer(ones)
    assert (dropped == dropped[:, :1, :1]).all()  # of an image all tokens or none
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(layer.eval()(ones), ones)


def test_blocks_are_dropped_in_proportion_to_their_depth() -> None:
    from workbench.backbones.vit import _DropPath

    net = ViTTiny(4, 16, depth=3, drop_path=0.2)
    assert [
        layer.share for layer in net.modules() if isinstance(layer, _DropPath)
    ] == pytest.approx([0, 0, 0.1, 0.1, 0.2, 0.2])


@pytest.mark.parametrize(
    "options",
    [
        {"depth": 0},
        {"depth": "deep"},
        {"heads": 7},
        {"heads": 0},
        {"drop_path": 1.0},
        {"drop_path": -0.1},
        {"drop_path": "much"},
        {"patch": 0},
        {"patch": "x"},
        {"dropout": 2},
    ],
)
def test_an_option_out_of_range_is_one_line(options: dict[str, Any]) -> None:
    with pytest.raises(wb.WorkbenchError) as caught:
        wb.backbones.create("vit_tiny", embedding_dim=8, image_size=16, **options)
    assert "\n" not in str(caught.value)
