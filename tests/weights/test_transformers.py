"""The vision transformers of arcface_torch and CVLface.

They are written here again from their description, with the names of their weights, and the
outputs are compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import workbench as wb
from workbench.weights import Checkpoint, Fit, fitting_backbone, read_checkpoint

DIM = 16


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        outputs = []
        queries, keys, values = self.qkv(tokens).chunk(3, dim=2)
        for head in range(self.heads):
            part = slice(head * self.size, (head + 1) * self.size)
            products = queries[..., part] @ keys[..., part].mT
            outputs.append((products / self.size**0.5).softmax(2) @ values[..., part])
        return self.proj(torch.cat(outputs, 2))


class _Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(self.fc1(tokens).clamp(0, 6))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width), _Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width), _Mlp(width, hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class _Patches(nn.Module):
    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)


class _Vit(nn.Module):
    """A ViT of arcface_torch, its weights named as there, as it embeds an image."""

    def __init__(
        self, width: int, depth: int, heads: int = 8, patch: int = 9, ratio: int = 4
    ) -> None:
        super().__init__()
        count = (112 // patch) ** 2
        self.pos_embed = nn.Parameter(torch.randn(1, count, width))
        self.mask_token = nn.Parameter(torch.randn(1, 1, width))
        self.patch_embed = _Patches(width, patch)
        self.blocks = nn.ModuleList(_Block(width, heads, ratio * width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.feature = nn.Sequential(
            nn.Linear(width * count, width, bias=False),
            nn.BatchNorm1d(width, eps=2e-5),
            nn.Linear(width, DIM, bias=False),
            nn.BatchNorm1d(DIM, eps=2e-5),
        )

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patch_embed.proj(images).flatten(2).transpose(1, 2) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        return self.feature(self.norm(tokens).flatten(1))


def _trained(net: nn.Module) -> nn.Module:
    """Draws weights and running statistics, among them very small variances."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(1e-5, 1e-3)
            elif tensor.is_floating_point():
                tensor.normal_(0, 0.1)
    return net.eval()


def _fit(state: dict[str, Tensor], **options: Any) -> Fit:
    return fitting_backbone(Checkpoint({"": state}, []), "vit.pt", **options)


def _assert_same_embeddings(fit: Fit, net: nn.Module) -> None:
    images = torch.randn(3, 3, 112, 112, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(
            fit.net.double()(images), net.double()(images), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize(
    ("network", "backbone", "options"),
    [
        ({"width": 256, "depth": 12}, "vit_tiny", {"patch": 9, "cover": False}),
        (
            {"width": 32, "depth": 3},
            "vit_small",
            {"patch": 9, "cover": False, "width": 32, "depth": 3},
        ),
        pytest.param(
            {"width": 512, "depth": 24},
            "vit_base",
            {"patch": 9, "cover": False},
            marks=pytest.mark.slow,
        ),
        (  # CVLface's small ViT has wider perceptrons
            {"width": 32, "depth": 3, "patch": 8, "ratio": 5},
            "vit_small",
            {"patch": 8, "expansion": 5, "width": 32, "depth": 3},
        ),
        (  # CVLface's base ViT has 16 attention heads
            {"width": 32, "depth": 24, "patch": 8, "ratio": 3, "heads": 16},
            "vit_small",
            {"patch": 8, "expansion": 3, "heads": 16, "width": 32, "depth": 24},
        ),
    ],
    ids=["vit_t", "own size", "vit_b", "CVLface small", "CVLface base"],
)
def test_a_vit_gives_the_same_embeddings(
    network: dict[str, int], backbone: str, options: dict[str, Any]
) -> None:
    net = _trained(_Vit(**network))
    state = net.state_dict()
    fit = _fit(state)
    assert (fit.name, fit.options) == (backbone, options)
    assert fit.notes[:2] == [
        f"{len(state) - 1} tensors were loaded, with the names of the ViTs of arcface_torch",
        "used in training only, left out: mask_token",
    ]
    _assert_same_embeddings(fit, net)


def test_a_safetensors_file_of_cvlface_with_two_prefixes(tmp_path: Path) -> None:
    net = _trained(_Vit(32, 2, patch=8, ratio=5))
    del net.mask_token  # CVLface has none if it was trained without masks
    state = {f"model.net.{name}": tensor for name, tensor in net.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    fit = fitting_backbone(read_checkpoint(tmp_path / "model.safetensors"), "model.safetensors")
    assert fit.notes[0].startswith(f"{len(state)} tensors were loaded under 'model.net.'")
    _assert_same_embeddings(fit, net)


def test_a_vit_that_needs_landmarks_is_refused(complaint: Any) -> None:
    state = _Vit(32, 2, patch=8, ratio=5).state_dict()
    state["blocks.0.attn.rpe_k.lookup_table_weight"] = torch.zeros(8, 4, 9)
    with complaint("vit.pt", "unexpected blocks.0.attn.rpe_k", "ONNX"):
        _fit(state, requested="vit_small")


def test_hostile_shapes_are_one_line(complaint: Any) -> None:
    state = _Vit(32, 2).state_dict()
    for name in ("patch_embed.proj.weight", "pos_embed", "blocks.0.mlp.fc1.weight"):
        for shape in ((), (0, 0), (1, 3, 0, 0), (32, 3, 200, 200)):
            with complaint("vit.pt"):
                _fit(state | {name: torch.zeros(shape)}, requested="vit_small")
    with complaint("vit.pt"):
        _fit(state | {"feature.0.weight": torch.zeros(32, 7)}, requested="vit_small")


def test_the_network_can_be_trained_with_the_options_of_the_import() -> None:
    fit = _fit(_trained(_Vit(32, 2)).state_dict())
    net = wb.backbones.create(fit.name, embedding_dim=DIM, image_size=112, **fit.options)
    net.load_state_dict(fit.net.state_dict())
    embeddings = net(torch.randn(4, 3, 112, 112))
    embeddings.square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
