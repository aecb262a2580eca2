"""Residual networks with squeeze-and-excitation, in the layout used for faces."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from workbench.backbones.base import Backbone, ImprovedResidual, initialise, relu, stem
from workbench.backbones.heads import Head, Scale, embedding_head, halved
from workbench.backbones.registry import register

INSIGHTFACE_EPS = 2e-5
"""Epsilon that every BN of InsightFace's MXNet networks adds to the variance."""


class SEResNet(Backbone):
    """Improved residual blocks with squeeze-and-excitation, and a fully connected head.

    The blocks and the head are those of Deng et al., "ArcFace", CVPR 2019, section 3.1, with the
    gates of Hu et al.: a 3x3 stem without stride, four stages that each halve the image, and
    BN - dropout - FC - BN on the flattened map.

    InsightFace's MXNet code (src/symbols/fresnet.py) has the same network under the name
    SE-LResNet-E-IR, which the paper does not use, with three differences: the activation between
    the two layers of a gate is PReLU instead of the ReLU of Hu et al., the scale of the last BN is
    fixed at 1, and the epsilon of every BN is 2e-5 instead of 1e-5. `exact` selects that variant.

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        image_size: Height and width in pixels, at least 16; an int means a square.
        dropout: Share of the inputs of the last FC that is dropped in training, 0..1.
        head: "flatten", "gdc" or "gap"; see `heads.embedding_head`.
        scale: Setting of the last BN: "trained", "frozen" or "none"; see `heads.closing_norm`. By
            default it is "frozen" with `exact`, and otherwise "trained".
        exact: Whether to use InsightFace's variant. Its state dict has other entries than that of
            the default.

    Attributes:
        blocks: Number of blocks in each of the four stages.

    Raises:
        WorkbenchError: If an option is out of range or unknown.
    """

    paper: ClassVar[str] = (
        "Deng et al., ArcFace, CVPR 2019; Hu et al., Squeeze-and-excitation networks, CVPR 2018"
    )
    blocks: ClassVar[tuple[int, int, int, int]]

    def __init__(
        self,
        embedding_dim: int = 512,
        image_size: int | tuple[int, int] = 112,
        dropout: float = 0.4,
        head: Head = "flatten",
        scale: Scale | None = None,
        exact: bool = False,
    ) -> None:
        super().__init__(embedding_dim, image_size, smallest=16)
        channels = (64, 128, 256, 512)
        gate_act = nn.PReLU if exact else relu
        if scale is None:
            scale = "frozen" if exact else "trained"
        blocks: list[nn.Module] = []
        for before, after, count in zip((64, *channels), channels, self.blocks, strict=False):
            blocks.append(ImprovedResidual(before, after, stride=2, gate_act=gate_act))
            blocks += [
                ImprovedResidual(after, after, stride=1, gate_act=gate_act)
                for _ in range(count - 1)
            ]
        self.features = nn.Sequential(stem(64), *blocks, nn.BatchNorm2d(channels[-1]))
        self.head = embedding_head(
            head,
            channels[-1],
            halved(self.image_size, len(channels)),
            embedding_dim,
            dropout,
            scale=scale,
        )
        self.apply(initialise)
        for layer in self.modules():
            if exact and isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                layer.eps = INSIGHTFACE_EPS

    def embed(self, images: Tensor) -> Tensor:
        """Computes the embeddings of checked images; see `Backbone.forward`."""
        embeddings: Tensor = self.head(self.features(images))
        return embeddings


@register("seresnet18")
class SEResNet18(SEResNet):
    """8 blocks, 24.1 million parameters at 112 pixels and D = 512."""

    blocks = (2, 2, 2, 2)


@register("seresnet34")
class SEResNet34(SEResNet):
    """16 blocks, 34.3 million parameters at 112 pixels and D = 512."""

    blocks = (3, 4, 6, 3)


@register("seresnet50")
class SEResNet50(SEResNet):
    """24 blocks of two convolutions without bottleneck, 43.8 million parameters."""

    blocks = (3, 4, 14, 3)
