"""The network for faces on phones."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from workbench.backbones.base import Backbone, initialise
from workbench.backbones.heads import Head, Scale, embedding_head, halved
from workbench.backbones.registry import register
from workbench.errors import WorkbenchError

HIDDEN = (128, 256, 256)
"""Channels between the two pointwise convolutions of a bottleneck, by stage; 128, 256 and 512 where it halves the map."""


@register("mobilefacenet")
class MobileFaceNet(Backbone):
    """Inverted bottlenecks with PReLU, depthwise convolutions, and a global depthwise convolution in place of pooling.

    Chen et al., "MobileFaceNets: Efficient CNNs for accurate real-time face verification on mobile devices", CCBR 2018,
    table 1. The default is InsightFace's arcface_torch `mbf`, whose results are the ones reported today: the channels between
    bottlenecks are twice those of the paper, inside them they stay; 2.06 million parameters at 112 pixels and D = 512.
    `width=1, embedding_dim=128` is the paper's network: 1.00 million and 221 million multiply-adds. `mbf_large` there is
    `width=4, blocks=(2, 8, 12, 4)`.

    Args:
        embedding_dim: D.
        image_size: pixels, at least 16.
        width: channels between bottlenecks, in multiples of the paper's 64 and 128.
        blocks: units of the first layer and the three stages, of those that leave the map's size alone. One unit in the first
            layer is a single 3x3 convolution in 64 groups.
        head: `gdc`, `flatten` or `gap`, see `heads.embedding_head`.
        dropout: share of what enters the last FC that is dropped in training, 0..1.
        scale: of the closing BN, `trained`, `frozen` or `none`, see `heads.closing_norm`.
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
    ) -> None:
        super().__init__(embedding_dim, image_size, smallest=16)
        if width < 1:
            raise WorkbenchError(f"mobilefacenet: width must be positive, got {width}")
        if len(blocks) != 4 or min(blocks) < 1:
            raise WorkbenchError(
                f"mobilefacenet: blocks must be four positive numbers, e.g. (1, 4, 6, 2), got {tuple(blocks)}"
            )
        narrow, wide, last = 64 * width, 128 * width, 512
        first: list[nn.Module] = [_conv(narrow, narrow, 3, groups=64)]
        if blocks[0] > 1:
            first = [_Bottleneck(narrow, narrow, HIDDEN[0]) for _ in range(blocks[0])]
        self.features = nn.Sequential(
            _conv(3, narrow, 3, stride=2),
            *first,
            _Bottleneck(narrow, narrow, 128, stride=2),
            *(_Bottleneck(narrow, narrow, HIDDEN[0]) for _ in range(blocks[1])),
            _Bottleneck(narrow, wide, 256, stride=2),
            *(_Bottleneck(wide, wide, HIDDEN[1]) for _ in range(blocks[2])),
            _Bottleneck(wide, wide, 512, stride=2),
            *(_Bottleneck(wide, wide, HIDDEN[2]) for _ in range(blocks[3])),
            _conv(wide, last, 1),
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
        embeddings: Tensor = self.head(self.features(images))
        return embeddings


class _Bottleneck(nn.Module):
    """Pointwise up, depthwise 3x3, pointwise down without activation; added to its input where the shape stays.

    Sandler et al., "MobileNetV2", CVPR 2018, table 1, with PReLU.
    """

    def __init__(self, channels_in: int, channels: int, hidden: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(channels_in, hidden, 1),
            _conv(hidden, hidden, 3, stride, groups=hidden),
            nn.Sequential(nn.Conv2d(hidden, channels, 1, bias=False), nn.BatchNorm2d(channels)),
        )
        self.residual = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return x + out if self.residual else out


def _conv(
    channels_in: int, channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
        nn.PReLU(channels),
    )
