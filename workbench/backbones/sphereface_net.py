"""The residual networks of SphereFace, without batch normalisation."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from workbench.backbones.base import Backbone
from workbench.backbones.heads import Head, embedding_head, halved
from workbench.backbones.registry import register


class SphereFaceNet(Backbone):
    """Four stages of a convolution with stride 2 and residual units, then one FC.

    A unit is conv - PReLU - conv - PReLU. Liu et al., "SphereFace: Deep hypersphere embedding for
    face recognition", CVPR 2017, table 2. Biases and initial weights are as in the authors' Caffe
    code. Without normalisation the initial outputs of the units must be close to zero, because
    otherwise the activations grow from unit to unit.

    Args:
        embedding_dim: Length D of an embedding, >= 1; 512 in the paper.
        image_size: Height and width in pixels, at least 16; an int means a square. The paper has
            112 x 96.
        dropout: Share of the inputs of the last FC that is dropped in training, 0..1.
        head: "flatten", "gdc" or "gap"; see `heads.embedding_head`. There is no BN, so "flatten" is
            the plain FC of the paper.

    Attributes:
        units: Number of residual units in each of the four stages.

    Raises:
        WorkbenchError: If an option is out of range or unknown.
    """

    paper: ClassVar[str] = "Liu et al., SphereFace, CVPR 2017"
    units: ClassVar[tuple[int, int, int, int]]

    def __init__(
        self,
        embedding_dim: int = 512,
        image_size: int | tuple[int, int] = (112, 96),
        dropout: float = 0.0,
        head: Head = "flatten",
    ) -> None:
        super().__init__(embedding_dim, image_size, smallest=16)
        channels = (64, 128, 256, 512)
        layers: list[nn.Module] = []
        for before, after, count in zip((3, *channels), channels, self.units, strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.PReLU(after)]
            layers += [_Unit(after) for _ in range(count)]
        self.features = nn.Sequential(*layers)
        self.head = embedding_head(
            head,
            channels[-1],
            halved(self.image_size, len(channels)),
            embedding_dim,
            dropout,
            norm=False,
        )
        self.apply(_initialise)

    def embed(self, images: Tensor) -> Tensor:
        """Computes the embeddings of checked images; see `Backbone.forward`."""
        embeddings: Tensor = self.head(self.features(images))
        return embeddings


class _Unit(nn.Module):
    """Residual unit: two convolutions with PReLU, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.PReLU(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


def _initialise(module: nn.Module) -> None:
    """Initialises a unit with a normal distribution of standard deviation 0.01.

    Other layers get Caffe's "xavier": a uniform distribution of variance 1 / fan-in.
    """
    if isinstance(module, _Unit):  # `apply` calls it after its convolutions
        for layer in module.body:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
    elif isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_uniform_(module.weight, nonlinearity="linear")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@register("sphereface20")
class SphereFace20(SphereFaceNet):
    """20 convolutions; 22.7 million parameters at 112 x 96 and D = 512."""

    units = (1, 2, 4, 1)


@register("sphereface64")
class SphereFace64(SphereFaceNet):
    """64 convolutions; 48.2 million parameters at 112 x 96 and D = 512."""

    units = (3, 8, 16, 3)
