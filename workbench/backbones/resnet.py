"""The residual networks of torchvision, with an embedding head instead of the classifier."""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar, Literal

from torch import Tensor, nn

from workbench.backbones.base import Backbone, initialise
from workbench.backbones.heads import Head, Scale, embedding_head, halved
from workbench.backbones.registry import register
from workbench.errors import unknown_name

Stem = Literal["face", "imagenet"]
"""First layers. "face" is a 3x3 convolution without stride. "imagenet" is a 7x7 convolution with
stride 2 and max-pooling, which leaves 1/16 of the positions."""

HALVINGS: dict[str, int] = {"face": 3, "imagenet": 5}
"""Number of times that the network halves the image, by stem."""


class ResNet(Backbone):
    """ResNet of torchvision up to its last feature map, with an embedding head.

    He et al., "Deep residual learning for image recognition", CVPR 2016, table 1. For images of 112
    pixels, the last feature map has 14 x 14 positions with the stem "face", and 4 x 4 with
    "imagenet". The weights of `trunk` have the same names as in torchvision.

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        image_size: Height and width in pixels, at least 16; an int means a square.
        stem: First layers: "face" keeps the resolution, "imagenet" is torchvision's.
        head: "gap", "flatten" or "gdc"; see `heads.embedding_head`.
        dropout: Share of the inputs of the last FC that is dropped in training, 0..1.
        scale: Setting of the last BN: "trained", "frozen" or "none"; see `heads.closing_norm`.

    Attributes:
        torchvision_name: Name of the network in torchvision.

    Raises:
        WorkbenchError: If an option is out of range or unknown.
    """

    paper: ClassVar[str] = "He et al., Deep residual learning for image recognition, CVPR 2016"
    torchvision_name: ClassVar[str]

    def __init__(
        self,
        embedding_dim: int = 512,
        image_size: int | tuple[int, int] = 112,
        stem: Stem = "face",
        head: Head = "gap",
        dropout: float = 0.0,
        scale: Scale = "trained",
    ) -> None:
        super().__init__(embedding_dim, image_size, smallest=16)
        if stem not in HALVINGS:
            raise unknown_name("stem", stem, HALVINGS)
        from torchvision import models  # imported here because it takes seconds

        net = models.get_model(self.torchvision_name, weights=None)
        channels = net.fc.in_features
        layers = OrderedDict(
            (name, layer) for name, layer in net.named_children() if name not in ("avgpool", "fc")
        )
        if stem == "face":
            layers["conv1"] = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            del layers["maxpool"]
        self.trunk = nn.Sequential(layers)
        self.head = embedding_head(
            head,
            channels,
            halved(self.image_size, HALVINGS[stem]),
            embedding_dim,
            dropout,
            ends_in_norm=False,
            scale=scale,
        )
        self.apply(initialise)

    def embed(self, images: Tensor) -> Tensor:
        """Computes the embeddings of checked images; see `Backbone.forward`."""
        embeddings: Tensor = self.head(self.trunk(images))
        return embeddings


@register("resnet18")
class ResNet18(ResNet):
    """8 blocks of two convolutions, 11.4 million parameters at D = 512."""

    torchvision_name = "resnet18"


@register("resnet34")
class ResNet34(ResNet):
    """16 blocks of two convolutions, 21.5 million parameters at D = 512."""

    torchvision_name = "resnet34"


@register("resnet50")
class ResNet50(ResNet):
    """16 bottleneck blocks of three convolutions, 24.5 million parameters at D = 512."""

    torchvision_name = "resnet50"
