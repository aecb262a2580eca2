"""Squeeze-and-excitation residual networks in the layout used for faces."""

from __future__ import annotations

from math import ceil

from torch import Tensor, nn

from workbench.backbones.base import Backbone, ImprovedResidual, initialise, stem
from workbench.backbones.registry import register


@register("seresnet18")
class SEResNet18(Backbone):
    """ResNet-18 of improved residual blocks with squeeze-and-excitation, and a fully connected embedding head.

    The SE-LResNet-E-IR family of Deng et al., "ArcFace", CVPR 2019, section 3.1: a 3x3 stem without stride, four stages
    that each halve the image, and BN - dropout - FC - BN on the flattened map (setting "E").

    Args:
        embedding_dim: D.
        image_size: pixels, at least 16.
        dropout: share of the flattened map that is dropped in training, 0..1.
    """

    def __init__(self, embedding_dim: int = 512, image_size: int | tuple[int, int] = 112, dropout: float = 0.4) -> None:
        super().__init__(embedding_dim, image_size, smallest=16)
        channels = (64, 128, 256, 512)
        blocks: list[nn.Module] = []
        for before, after in zip((64, *channels), channels, strict=False):
            blocks += [ImprovedResidual(before, after, stride=2), ImprovedResidual(after, after, stride=1)]
        height, width = (ceil(side / 2 ** len(channels)) for side in self.image_size)
        self.features = nn.Sequential(stem(64), *blocks, nn.BatchNorm2d(channels[-1]))
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Linear(channels[-1] * height * width, embedding_dim),
            nn.BatchNorm1d(embedding_dim),
        )
        self.apply(initialise)

    def embed(self, images: Tensor) -> Tensor:
        embeddings: Tensor = self.head(self.features(images))
        return embeddings
