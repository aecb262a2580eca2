"""MobileFaceNet: a small and fast network for mobile devices."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from torch import Tensor, nn

from workbench.backbones.base import Activation, Backbone, initialise, relu
from workbench.backbones.heads import Head, Scale, embedding_head, halved
from workbench.backbones.registry import register
from workbench.errors import WorkbenchError, unknown_name

Variant = Literal["arcface_torch", "foamliu"]
"""Implementations of the network that differ in activations and in the first unit."""
HIDDEN = (128, 256, 256)
"""Hidden channels of a bottleneck without stride, by stage. The bottlenecks with stride 2 have 128,
256 and 512."""


@register("mobilefacenet")
class MobileFaceNet(Backbone):
    """Inverted bottlenecks with PReLU, and a global depthwise convolution instead of pooling.

    Chen et al., "MobileFaceNets: Efficient CNNs for accurate real-time face verification on mobile
    devices", CCBR 2018, table 1. The default is `mbf` of InsightFace's arcface_torch, for which
    results are reported today. It has twice as many channels between the bottlenecks as the paper,
    and the same number inside them: 2.06 million parameters at 112 pixels and D = 512. The paper's
    network is `width=1, embedding_dim=128`, with 1.00 million parameters and 221 million
    multiply-adds. `mbf_large` of arcface_torch is `width=4, blocks=(2, 8, 12, 4)`.

    `variant="foamliu"` is the network of the repository foamliu/MobileFaceNet, which has ReLU6
    instead of PReLU, and a pointwise convolution after the first depthwise convolution, both of
    them followed by ReLU. Its published weights are for `width=1, embedding_dim=128`.

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        image_size: Height and width in pixels, at least 16; an int means a square.
        width: Factor on the paper's numbers of channels between bottlenecks, 64 and 128; >= 1.
        blocks: Number of units without stride in the first layer and in the three stages, each
            >= 1. A single unit in the first layer is a 3x3 convolution with 64 groups.
        head: "gdc", "flatten" or "gap"; see `heads.embedding_head`.
        dropout: Share of the inputs of the last FC that is dropped in training, 0..1.
        scale: Setting of the last BN: "trained", "frozen" or "none"; see `heads.closing_norm`.
        variant: "arcface_torch" or "foamliu". The latter needs `blocks[0] = 1`.

    Raises:
        WorkbenchError: If an option is out of range or unknown.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> net = wb.backbones.create("mobilefacenet", embedding_dim=8, image_size=16)
        >>> net(torch.zeros(2, 3, 16, 16)).shape
        torch.Size([2, 8])
    """

    paper: ClassVar[str] = "Chen et al., MobileFaceNets, CCBR 2018"

    def __init__(
        self,
        embedding_dim: int = 512,
        image_size: int | tuple[int, int] = 112,
        width: int = 2,
        blocks: tuple[int, int, int, int] = (1, 4, 6, 2),
        head: Head = "gdc",
        dropout: float = 0.0,
        scale: Scale = "trained",
        variant: Variant = "arcface_torch",
    ) -> None:
        super().__init__(embedding_dim, image_size, smallest=16)
        if variant not in get_args(Variant):
            raise unknown_name("variant of mobilefacenet", variant, get_args(Variant))
        if width < 1:
            raise WorkbenchError(f"mobilefacenet: width must be positive, got {width}")
        if len(blocks) != 4 or min(blocks) < 1:
            raise WorkbenchError(
                "mobilefacenet: blocks must be four positive numbers, e.g. (1, 4, 6, 2), "
                f"got {tuple(blocks)}"
            )
        if variant == "foamliu" and blocks[0] != 1:
            raise WorkbenchError(
                f"mobilefacenet: blocks[0] must be 1 for variant 'foamliu', got {blocks[0]}"
            )
        narrow, wide, last = 64 * width, 128 * width, 512
        act = nn.PReLU if variant == "arcface_torch" else _relu6
        first: list[nn.Module] = [_conv(narrow, narrow, 3, groups=64, act=act)]
        if variant == "foamliu":
            first = [_separable(narrow)]
        elif blocks[0] > 1:
            first = [_Bottleneck(narrow, narrow, HIDDEN[0], act) for _ in range(blocks[0])]
        self.features = nn.Sequential(
            _conv(3, narrow, 3, stride=2, act=act),
            *first,
            _Bottleneck(narrow, narrow, 128, act, stride=2),
            *(_Bottleneck(narrow, narrow, HIDDEN[0], act) for _ in range(blocks[1])),
            _Bottleneck(narrow, wide, 256, act, stride=2),
            *(_Bottleneck(wide, wide, HIDDEN[1], act) for _ in range(blocks[2])),
            _Bottleneck(wide, wide, 512, act, stride=2),
            *(_Bottleneck(wide, wide, HIDDEN[2], act) for _ in range(blocks[3])),
            _conv(wide, last, 1, act=act),
        )
        self.head = embedding_head(
            head,
            last,
            halved(self.image_size, 4),
            embedding_dim,
            dropout,
            ends_in_norm=False,
            scale=scale,
        )
        self.apply(initialise)

    def embed(self, images: Tensor) -> Tensor:
        """Computes the embeddings of checked images; see `Backbone.forward`."""
        embeddings: Tensor = self.head(self.features(images))
        return embeddings


class _Bottleneck(nn.Module):
    """Bottleneck: pointwise convolution, depthwise 3x3 convolution, linear pointwise convolution.

    It is added to its input if it has no stride. Sandler et al., "MobileNetV2", CVPR 2018, table 1,
    with PReLU or ReLU6.
    """

    def __init__(
        self, channels_in: int, channels: int, hidden: int, act: Activation, stride: int = 1
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(channels_in, hidden, 1, act=act),
            _conv(hidden, hidden, 3, stride, groups=hidden, act=act),
            nn.Sequential(nn.Conv2d(hidden, channels, 1, bias=False), nn.BatchNorm2d(channels)),
        )
        self.residual = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return x + out if self.residual else out


def _conv(
    channels_in: int,
    channels: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    act: Activation = nn.PReLU,
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
        act(channels),
    )


def _separable(channels: int) -> nn.Sequential:
    """Creates a depthwise and a pointwise convolution, each followed by BN and ReLU."""
    return nn.Sequential(
        _conv(channels, channels, 3, groups=channels, act=relu),
        _conv(channels, channels, 1, act=relu),
    )


def _relu6(channels: int) -> nn.Module:
    """Creates a ReLU6, which has no parameters, as an `Activation`."""
    return nn.ReLU6(inplace=True)
