"""A small plain convolutional network for small images, with embeddings of 2 or 3 numbers."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from workbench.backbones.base import Backbone, initialise
from workbench.backbones.heads import Head, Scale, embedding_head
from workbench.backbones.registry import register


@register("fashion_cnn")
class FashionCNN(Backbone):
    """LeNets++: three stages of two 5x5 convolutions, then one FC.

    Each convolution is followed by PReLU, and each stage by 2x2 max-pooling. The stages have 32, 64
    and 128 channels. Wen et al., "A discriminative feature learning approach for deep face
    recognition", ECCV 2016, table 1. The paper plots ten classes in the plane with this network.
    SphereFace and ArcFace show their margins with it, too.

    Args:
        embedding_dim: Length D of an embedding, >= 1. 2 or 3 can be drawn without a projection.
        image_size: Height and width in pixels, at least 8; an int means a square.
        norm: Whether to use batch normalisation after each convolution and after the FC. The paper
            has none. With it, the network can be trained at the default learning rate of 0.1.
        head: "flatten", "gap" or "gdc"; see `heads.embedding_head`.
        dropout: Share of the inputs of the last FC that is dropped in training, 0..1.
        scale: Setting of the last BN: "trained", "frozen" or "none"; see `heads.closing_norm`.

    Raises:
        WorkbenchError: If an option is out of range or unknown.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> net = wb.backbones.create("fashion_cnn", embedding_dim=2, image_size=28)
        >>> net(torch.zeros(2, 3, 28, 28)).shape
        torch.Size([2, 2])
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
        """Computes the embeddings of checked images; see `Backbone.forward`."""
        embeddings: Tensor = self.head(self.features(images))
        return embeddings


def _conv(channels_in: int, channels: int, norm: bool) -> list[nn.Module]:
    norms = [nn.BatchNorm2d(channels)] if norm else []
    return [
        nn.Conv2d(channels_in, channels, 5, padding=2, bias=not norm),
        *norms,
        nn.PReLU(channels),
    ]
