"""A plain convolutional network for small pictures, whose embeddings of 2 or 3 numbers can be drawn as they are."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from workbench.backbones.base import Backbone, initialise
from workbench.backbones.heads import Head, Scale, embedding_head
from workbench.backbones.registry import register


@register("fashion_cnn")
class FashionCNN(Backbone):
    """LeNets++: three stages of two 5x5 convolutions with PReLU and 2x2 max-pooling, of 32, 64 and 128 channels; then one FC.

    Wen et al., "A discriminative feature learning approach for deep face recognition", ECCV 2016, table 1: the network behind
    its pictures of ten classes in the plane, on which SphereFace and ArcFace show their margins too.

    Args:
        embedding_dim: D; 2 or 3 to be drawn without a projection.
        image_size: pixels, at least 8.
        norm: batch normalisation after each convolution and after the FC. The paper has none; with it the network learns at the
            workbench's usual rate of 0.1.
        head: `flatten`, `gap` or `gdc`, see `heads.embedding_head`.
        dropout: share of what enters the FC that is dropped in training, 0..1.
        scale: of the closing BN, `trained`, `frozen` or `none`, see `heads.closing_norm`.
    """

    paper: ClassVar[str] = "Wen et al., A discriminative feature learning approach, ECCV 2016"

    def __init__(
        self,
        embedding_dim: int = 3,
        image_size: int | tuple[int, int] = 28,
        norm: bool = True,
        head: Head = "flatten",
        dropout: float = 0.0,
        scale: Scale = "trained",
    ) -> None:
        super().__init__(embedding_dim, image_size, smallest=8)
        channels = (32, 64, 128)
        layers: list[nn.Module] = []
        for before, after in zip((3, *channels), channels, strict=False):
            layers += [*_conv(before, after, norm), *_conv(after, after, norm), nn.MaxPool2d(2)]
        height, width = (side // 2 ** len(channels) for side in self.image_size)
        self.features = nn.Sequential(*layers)
        self.head = embedding_head(
            head, channels[-1], (height, width), embedding_dim, dropout, norm=norm, scale=scale
        )
        self.apply(initialise)

    def embed(self, images: Tensor) -> Tensor:
        embeddings: Tensor = self.head(self.features(images))
        return embeddings


def _conv(channels_in: int, channels: int, norm: bool) -> list[nn.Module]:
    middle = [nn.BatchNorm2d(channels)] if norm else []
    return [
        nn.Conv2d(channels_in, channels, 5, padding=2, bias=not norm),
        *middle,
        nn.PReLU(channels),
    ]
