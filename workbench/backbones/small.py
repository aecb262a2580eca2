"""A small network that trains in about a minute on a laptop without a GPU."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from workbench.backbones.base import Backbone, ImprovedResidual, initialise, relu
from workbench.backbones.heads import Head, Scale, embedding_head, halved
from workbench.backbones.registry import register
from workbench.backbones.stems import Stem, styled_stem
from workbench.errors import WorkbenchError


@register("smallresnet")
class SmallResNet(Backbone):
    """One improved residual block for each scale with few channels, and a global depthwise head.

    It has 0.3 million parameters by default. Images of at least 48 pixels are halved by the first
    layer.

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        image_size: Height and width in pixels, at least 16; an int means a square.
        width: Number of channels of the first scale, a multiple of 8. The others have 2, 4 and 8
            times that.
        head: "gdc", "flatten" or "gap"; see `heads.embedding_head`.
        scale: Setting of the last BN: "trained", "frozen" or "none"; see `heads.closing_norm`.
        stem: "batch", "ibn", "instance", "mixstyle" or "standardised"; see `stems.styled_stem`.

    Raises:
        WorkbenchError: If an option is out of range or unknown.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> net = wb.backbones.create("smallresnet", embedding_dim=8, image_size=28)
        >>> net(torch.zeros(2, 3, 28, 28)).shape
        torch.Size([2, 8])
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
        stem: Stem = "batch",
    ) -> None:
        super().__init__(embedding_dim, image_size, smallest=16)
        # For other widths, convolutions of PyTorch 2.15 on a CPU write beyond their memory.
        if width < 1 or width % 8:
            raise WorkbenchError(
                f"smallresnet: width must be a positive multiple of 8, got {width}"
            )
        channels = (width, 2 * width, 4 * width, 8 * width)
        # Images of 28 pixels keep their resolution. The first layer halves larger ones, which
        # reduces the time to a quarter.
        stride = 2 if min(self.image_size) >= 48 else 1
        blocks = [
            ImprovedResidual(before, after, stride=1 if before == after else 2, act=relu)
            for before, after in zip((width, *channels), channels, strict=False)
        ]
        last = channels[-1]
        halvings = 4 if stride == 2 else 3
        self.features = nn.Sequential(
            styled_stem(stem, width, stride, relu), *blocks, nn.BatchNorm2d(last), relu(last)
        )
        self.head = embedding_head(
            head, last, halved(self.image_size, halvings), embedding_dim, scale=scale
        )
        self.apply(initialise)

    def embed(self, images: Tensor) -> Tensor:
        """Computes the embeddings of checked images; see `Backbone.forward`."""
        embeddings: Tensor = self.head(self.features(images))
        return embeddings
