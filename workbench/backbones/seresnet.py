"""Squeeze-and-excitation residual networks in the layout used for faces."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from workbench.backbones.base import Backbone, ImprovedResidual, initialise, stem
from workbench.backbones.heads import Head, embedding_head, halved
from workbench.backbones.registry import register


class SEResNet(Backbone):
    """Improved residual blocks with squeeze-and-excitation, and a fully connected embedding head.

    The SE-LResNet-E-IR family of Deng et al., "ArcFace", CVPR 2019, section 3.1: a 3x3 stem without stride, four stages
    that each halve the image, and BN - dropout - FC - BN on the flattened map (setting "E").

    Args:
        embedding_dim: D.
        image_size: pixels, at least 16.
        dropout: share of what enters the last FC that is dropped in training, 0..1.
        head: `flatten`, `gdc` or `gap`, see `heads.embedding_head`.
    """

    paper: ClassVar[str] = "Deng et al., ArcFace, CVPR 2019; Hu et al., Squeeze-and-excitation networks, CVPR 2018"
    blocks: ClassVar[tuple[int, int, int, int]]
    """Number of blocks in each stage."""

    def __init__(
        self, embedding_dim: int = 512, image_size: int | tuple[int, int] = 112, dropout: float = 0.4, head: Head = "flatten"
    ) -> None:
        super().__init__(embedding_dim, image_size, smallest=16)
        channels = (64, 128, 256, 512)
        blocks: list[nn.Module] = []
        for before, after, count in zip((64, *channels), channels, self.blocks, strict=False):
            blocks.append(ImprovedResidual(before, after, stride=2))
            blocks += [ImprovedResidual(after, after, stride=1) for _ in range(count - 1)]
        self.features = nn.Sequential(stem(64), *blocks, nn.BatchNorm2d(channels[-1]))
        self.head = embedding_head(head, channels[-1], halved(self.image_size, len(channels)), embedding_dim, dropout)
        self.apply(initialise)

    def embed(self, images: Tensor) -> Tensor:
        embeddings: Tensor = self.head(self.features(images))
        return embeddings


@register("seresnet18")
class SEResNet18(SEResNet):
    """SE-LResNet18E-IR: 8 blocks, 24.1 million parameters at 112 pixels and D = 512."""

    blocks = (2, 2, 2, 2)


@register("seresnet34")
class SEResNet34(SEResNet):
    """SE-LResNet34E-IR: 16 blocks, 34.3 million parameters at 112 pixels and D = 512."""

    blocks = (3, 4, 6, 3)


@register("seresnet50")
class SEResNet50(SEResNet):
    """SE-LResNet50E-IR: 24 blocks of two convolutions, as in the paper, none with a bottleneck; 43.8 million parameters."""

    blocks = (3, 4, 14, 3)
