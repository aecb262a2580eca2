"""Vision transformers in the layout used for faces: small patches and no class token."""

from __future__ import annotations

from math import gcd
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.backbones.base import Backbone
from workbench.backbones.heads import Head, Scale, closing_norm, embedding_head
from workbench.backbones.registry import register
from workbench.errors import WorkbenchError

GRID = 12
"""Number of patches along the shorter side that the default patch size should give. It comes from
patches of 9 pixels on 108 pixels in arcface_torch."""


class FaceViT(Backbone):
    """Vision transformer whose embedding is computed from all tokens.

    Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021, eq. 1-4, with the changes of
    InsightFace's arcface_torch: no class token, ReLU6 instead of GELU, no biases for queries, keys
    and values, and the embedding from the map of all tokens by FC - BN - FC - BN. In arcface_torch,
    patches have 9 pixels and the last 4 of 112 pixels are unused (`patch=9, cover=False`). By
    default, the patches cover the image.

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        image_size: Height and width in pixels, at least 16; an int means a square.
        patch: Side of a patch in pixels, a divisor of height and width; see `patch_size`. By
            default it is the one that gives closest to 12 patches along the shorter side (the
            larger of two equally close ones): 8 for 112 and 64 pixels, 2 for 28, 16 for 160 and
            224.
        depth: Number of transformer blocks, >= 1. By default 12, and 24 for `vit_base` and
            `vit_large`.
        heads: Number of attention heads of a block, a divisor of the length of a token.
        drop_path: Share of the images for which the last block is skipped in training,
            0 <= drop_path < 1. The share grows linearly from 0 at the first block (Huang et al.,
            "Deep networks with stochastic depth", ECCV 2016, eq. 4).
        width: Length of a token, >= 1. By default that of the network's name.
        expansion: Factor by which the hidden layer of a block's perceptron is wider than a token,
            >= 1.
        cover: Whether the patches must cover the image. If not, `patch` need not divide height and
            width, and the last rows and columns of pixels are unused.
        head: "flatten", "gap" or "gdc"; see `heads.embedding_head`. It acts on the map of tokens.
        dropout: Share of the map of tokens that is dropped in training, 0..1.
        scale: Setting of the last BN: "trained", "frozen" or "none"; see `heads.closing_norm`.

    Attributes:
        default_width: Length of a token, unless `width` is given.
        default_depth: Number of blocks, unless `depth` is given.

    Raises:
        WorkbenchError: If an option is out of range or unknown.
    """

    paper: ClassVar[str] = (
        "Dosovitskiy et al., An image is worth 16x16 words, ICLR 2021; layout of arcface_torch"
    )
    default_width: ClassVar[int]
    default_depth: ClassVar[int] = 12

    def __init__(
        self,
        embedding_dim: int = 512,
        image_size: int | tuple[int, int] = 112,
        patch: int | None = None,
        depth: int | None = None,
        heads: int = 8,
        drop_path: float = 0.05,
        head: Head = "flatten",
        dropout: float = 0.0,
        scale: Scale = "trained",
        width: int | None = None,
        expansion: int = 4,
        cover: bool = True,
    ) -> None:
        super().__init__(embedding_dim, image_size, smallest=16)
        name = type(self).__name__
        depth = self.default_depth if depth is None else depth
        width = self.default_width if width is None else width
        for option, value in (("depth", depth), ("width", width), ("expansion", expansion)):
            if value < 1:
                raise WorkbenchError(f"{name}: {option} must be positive, got {value}")
        if heads < 1 or width % heads:
            raise WorkbenchError(f"{name}: heads must divide the width {width}, got {heads}")
        if not 0 <= drop_path < 1:
            raise WorkbenchError(
                f"{name}: drop_path must be a share 0 <= drop_path < 1, got {drop_path}"
            )
        self.patch = patch_size(self.image_size, patch, cover)
        rows, columns = (side // self.patch for side in self.image_size)
        self.patches = nn.Conv2d(3, width, self.patch, stride=self.patch)
        self.positions = nn.Parameter(torch.empty(1, rows * columns, width))
        self.blocks = nn.Sequential(
            *(
                _Block(width, heads, expansion, drop_path * number / max(depth - 1, 1))
                for number in range(depth)
            )
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Sequential(
            *embedding_head(head, width, (rows, columns), width, dropout),
            nn.Linear(width, embedding_dim, bias=False),
            closing_norm(embedding_dim, scale),
        )
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.apply(_initialise)

    def embed(self, images: Tensor) -> Tensor:
        """Computes the embeddings of checked images; see `Backbone.forward`."""
        grid = self.patches(images)
        tokens = self.norm(self.blocks(grid.flatten(2).transpose(1, 2) + self.positions))
        embeddings: Tensor = self.head(tokens.transpose(1, 2).reshape(grid.shape))
        return embeddings


@register("vit_tiny")
class ViTTiny(FaceViT):
    """The network vit_t of arcface_torch, with tokens of length 256."""

    default_width = 256


@register("vit_small")
class ViTSmall(FaceViT):
    """The network vit_s of arcface_torch, with tokens of length 512."""

    default_width = 512


@register("vit_base")
class ViTBase(FaceViT):
    """The network vit_b of arcface_torch, with 24 blocks and tokens of length 512."""

    default_width = 512
    default_depth = 24


@register("vit_large")
class ViTLarge(FaceViT):
    """The network vit_l of arcface_torch, with 24 blocks and tokens of length 768.

    The network vit_h is `width=1024, depth=48`.
    """

    default_width = 768
    default_depth = 24


def patch_size(image_size: tuple[int, int], patch: int | None = None, cover: bool = True) -> int:
    """Checks the side of a patch, or selects one.

    Args:
        image_size: Height and width in pixels.
        patch: Side of a patch in pixels, or None to select the one that gives closest to 12 patches
            along the shorter side.
        cover: Whether the patches must cover the image.

    Returns:
        The side in pixels.

    Raises:
        WorkbenchError: If the patch must divide height and width and does not, if it is larger than
            the image, or if no patch gives 6 to 24 along the shorter side.

    Example:
        >>> patch_size((112, 112))
        8
    """
    height, width = image_size
    common = gcd(height, width)
    divisors = [side for side in range(1, common + 1) if common % side == 0]
    if patch is not None and not cover:
        if not 1 <= patch <= min(image_size):
            raise WorkbenchError(
                f"patches of {patch} x {patch} do not fit into images of {height} x {width}; give "
                f"a side from 1 to {min(image_size)}"
            )
        return patch
    if patch is not None:
        if patch not in divisors:
            listed = ", ".join(map(str, divisors))
            raise WorkbenchError(
                f"patches of {patch} x {patch} do not fill images of {height} x {width}; "
                f"sides that do: {listed}"
            )
        return patch
    shorter = min(image_size)
    suitable = [side for side in divisors if GRID // 2 <= shorter // side <= 2 * GRID]
    if not suitable:
        raise WorkbenchError(
            f"no square patch divides {height} x {width} into 6 to 24 along the shorter side; "
            "give patch=..., or an image_size such as 112"
        )
    return min(suitable, key=lambda side: (abs(shorter // side - GRID), -side))


class _Block(nn.Module):
    """Pre-norm transformer block: attention, then a two-layer perceptron."""

    def __init__(self, width: int, heads: int, expansion: int, drop_path: float) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.LayerNorm(width), _Attention(width, heads), _DropPath(drop_path)
        )
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, expansion * width),
            nn.ReLU6(),
            nn.Linear(expansion * width, width),
            _DropPath(drop_path),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(tokens)
        out: Tensor = tokens + self.mlp(tokens)
        return out


class _Attention(nn.Module):
    """Multi-head self-attention on (N, T, width) tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = (
            self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class _DropPath(nn.Module):
    """Sets a share of the images to zero in training, and scales the others to keep the mean."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.share == 0:
            return x
        kept = torch.empty(len(x), 1, 1, dtype=x.dtype, device=x.device).bernoulli_(1 - self.share)
        return x * kept / (1 - self.share)


def _initialise(module: nn.Module) -> None:
    """Initialises linear layers with a truncated normal distribution of standard deviation 0.02."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
