"""A small network that a laptop without GPU trains in a minute."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from workbench.backbones.base import Backbone, ImprovedResidual, initialise, relu, stem
from workbench.backbones.heads import Head, Scale, embedding_head, halved
from workbench.backbones.registry import register
from workbench.errors import WorkbenchError


@register("smallresnet")
class SmallResNet(Backbone):
    """One improved residual block per scale, on narrow maps; global depthwise head.

    0.3 million parameters.

    Args:
        embedding_dim: D.
        image_size: pixels, at least 16.
        width: channels of the first scale; the others are 2, 4 and 8 times as wide.
        head: `gdc`, `flatten` or `gap`, see `heads.embedding_head`.
        scale: of the closing BN, `trained`, `frozen` or `none`, see `heads.closing_norm`.
    """

    paper: ClassVar[str] = (
        "blocks of Deng et al., ArcFace, CVPR 2019; head of Chen et al., MobileFaceNets, CCBR 2018"
    )

    def __init__(
        self,
        embedding_dim: int = 128,
        image_size: int | tuple[int, int] = 64,
        width: int = 16,
        head: Head = "gdc",
        scale: Scale = "trained",
    ) -> None:
        super().__init__(embedding_dim, image_size, smallest=16)
        if width < 1:
            raise WorkbenchError(f"smallresnet: width must be positive, got {width}")
        channels = (width, 2 * width, 4 * width, 8 * width)
        # Pictures of 28 pixels have none to spare; larger ones are halved at once, which costs a quarter of the time.
        stride = 2 if min(self.image_size) >= 48 else 1
        blocks = [
            ImprovedResidual(before, after, stride=1 if before == after else 2, act=relu)
            for before, after in zip((width, *channels), channels, strict=False)
        ]
        last = channels[-1]
        self.features = nn.Sequential(
            stem(width, stride, relu), *blocks, nn.BatchNorm2d(last), relu(last)
        )
        self.head = embedding_head(
            head, last, halved(self.image_size, 3 + (stride == 2)), embedding_dim, scale=scale
        )
        self.apply(initialise)

    def embed(self, images: Tensor) -> Tensor:
        embeddings: Tensor = self.head(self.features(images))
        return embeddings
