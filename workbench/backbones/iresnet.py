"""The residual networks of arcface_torch, with the same names and shapes of weights."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from workbench.backbones.base import Backbone, initialise, shortcut
from workbench.backbones.heads import Head, Scale, embedding_head, halved
from workbench.backbones.registry import register


class IResNet(Backbone):
    """Improved residual blocks without squeeze-and-excitation, and a fully connected head.

    The networks of Deng et al., "ArcFace", CVPR 2019, section 3.1, as implemented in InsightFace's
    arcface_torch. The names and shapes of the weights are the same, so its published weights can be
    loaded. (InsightFace's older code calls these networks LResNet-E-IR. The paper does not.)

    Args:
        embedding_dim: Length D of an embedding, >= 1. Published weights have 512.
        image_size: Height and width in pixels, at least 16; an int means a square. Published
            weights have 112.
        dropout: Share of the inputs of the last FC that is dropped in training, 0..1.
        head: "flatten" (with the layer names of arcface_torch), "gdc" or "gap"; see
            `heads.embedding_head`.
        scale: Setting of the last BN: "trained", "frozen" or "none"; see `heads.closing_norm`. By
            default it is "frozen" with the head "flatten", as in arcface_torch, and otherwise
            "trained".

    Attributes:
        blocks: Number of blocks in each of the four stages.

    Raises:
        WorkbenchError: If an option is out of range or unknown.
    """

    paper: ClassVar[str] = "Deng et al., ArcFace, CVPR 2019"
    head_layers: ClassVar[tuple[str, ...]] = ("head", "dropout", "flatten", "fc", "features")
    blocks: ClassVar[tuple[int, int, int, int]]

    def __init__(
        self,
        embedding_dim: int = 512,
        image_size: int | tuple[int, int] = 112,
        dropout: float = 0.0,
        head: Head = "flatten",
        scale: Scale | None = None,
    ) -> None:
        super().__init__(embedding_dim, image_size, smallest=16)
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.prelu = nn.PReLU(64)
        self.layer1 = _stage(64, 64, self.blocks[0])
        self.layer2 = _stage(64, 128, self.blocks[1])
        self.layer3 = _stage(128, 256, self.blocks[2])
        self.layer4 = _stage(256, 512, self.blocks[3])
        self.bn2 = nn.BatchNorm2d(512)
        if scale is None:
            scale = "frozen" if head == "flatten" else "trained"
        layers = embedding_head(
            head, 512, halved(self.image_size, 4), embedding_dim, dropout, scale=scale
        )
        self.head: nn.Sequential | None = None
        if head == "flatten":
            self.dropout, self.flatten, self.fc, self.features = layers
        else:
            self.head = layers
        self.apply(initialise)

    def embed(self, images: Tensor) -> Tensor:
        """Computes the embeddings of checked images; see `Backbone.forward`."""
        x = self.prelu(self.bn1(self.conv1(images)))
        x = self.bn2(self.layer4(self.layer3(self.layer2(self.layer1(x)))))
        if self.head is not None:
            x = self.head(x)
        else:
            x = self.dropout(x)
            x = self.features(self.fc(self.flatten(x)))
        embeddings: Tensor = x
        return embeddings


class _Block(nn.Module):
    """`ImprovedResidual` without squeeze-and-excitation, with the layer names of arcface_torch."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.downsample = shortcut(channels_in, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        residual = self.bn3(self.conv2(residual))
        out: Tensor = self.downsample(x) + residual
        return out


def _stage(channels_in: int, channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(
        _Block(channels_in, channels, 2),
        *(_Block(channels, channels, 1) for _ in range(blocks - 1)),
    )


@register("iresnet18")
class IResNet18(IResNet):
    """The network r18 of arcface_torch: 24.03 million parameters at 112 pixels and D = 512."""

    blocks = (2, 2, 2, 2)


@register("iresnet34")
class IResNet34(IResNet):
    """The network r34 of arcface_torch: 34.14 million parameters at 112 pixels and D = 512."""

    blocks = (3, 4, 6, 3)


@register("iresnet50")
class IResNet50(IResNet):
    """The network r50 of arcface_torch: 43.59 million parameters at 112 pixels and D = 512."""

    blocks = (3, 4, 14, 3)


@register("iresnet100")
class IResNet100(IResNet):
    """The network r100 of arcface_torch: 65.16 million parameters at 112 pixels and D = 512."""

    blocks = (3, 13, 30, 3)
