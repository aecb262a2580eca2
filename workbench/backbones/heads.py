"""The embedding heads: from the last map of a backbone to an embedding. Every backbone takes one of them as `head=`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from torch import nn

from workbench.errors import unknown_name

Head = Literal["gap", "flatten", "gdc"]
"""Name of an embedding head."""
Scale = Literal["trained", "frozen", "none"]
"""What becomes of the scale of the batch normalisation (BN) that closes a head; see `closing_norm`."""


def embedding_head(
    kind: Head,
    channels: int,
    size: tuple[int, int],
    embedding_dim: int,
    dropout: float = 0.0,
    norm: bool = True,
    ends_in_norm: bool = True,
    scale: Scale = "trained",
) -> nn.Sequential:
    """Layers from a map (N, channels, *size) to embeddings (N, D), not normalised.

    - `gap`: global average pooling - FC - BN; the same number of weights for any size of image.
    - `flatten`: BN - dropout - FC on the whole map - BN, the head of Deng et al., "ArcFace", CVPR 2019, section 3.1
      ("BN-Dropout-FC-BN"; InsightFace's code calls it "E"). The first BN is that of the trunk where it ends in one.
    - `gdc`: global depthwise convolution - BN - FC without bias - BN; Chen et al., "MobileFaceNets", CCBR 2018,
      section 3.1. Each place of the map is weighed by channel, as the eyes of an aligned face always stand at the same place.

    Args:
        kind: which.
        channels: of the map.
        size: height and width of the map.
        embedding_dim: D.
        dropout: share of what enters the FC that is dropped in training, 0..1.
        norm: False leaves out every BN, for networks that have none.
        ends_in_norm: whether the map comes out of a BN; if not, `flatten` begins with one.
        scale: of the closing BN, see `closing_norm`; without effect where `norm` is False.

    Raises:
        WorkbenchError: there is no such head or scale; the nearest is suggested.
    """
    try:
        make = _HEADS[kind]
    except (KeyError, TypeError):
        raise unknown_name("head", kind, _HEADS) from None
    layers = nn.Sequential(
        *make(channels, size, embedding_dim, dropout), closing_norm(embedding_dim, scale)
    )
    if kind == "flatten" and not ends_in_norm:
        layers.insert(0, nn.BatchNorm2d(channels))
    return (
        layers
        if norm
        else nn.Sequential(
            *(layer for layer in layers if not isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d))
        )
    )


def closing_norm(embedding_dim: int, scale: Scale) -> nn.BatchNorm1d:
    """The BN that closes a head. Each coordinate of an embedding is normalised over the batch, and then

    - `trained`: multiplied by a trained scale and shifted by a trained bias, so that embeddings can become longer or shorter
      on the whole;
    - `frozen`: only shifted, the scale stays at 1, as in arcface_torch's iresnet: over a batch, the mean of the squared
      lengths is D plus the squared length of the bias;
    - `none`: neither, as in AdaFace's network: over a batch, the mean of the squared lengths is D.

    All have the same names in a state dict: with `none` there are a weight and a bias too, which stay at 1 and 0.

    Raises:
        WorkbenchError: there is no such scale; the nearest is suggested.
    """
    if scale not in get_args(Scale):
        raise unknown_name("scale of the head", scale, get_args(Scale))
    norm = nn.BatchNorm1d(embedding_dim)
    norm.weight.requires_grad_(scale == "trained")
    norm.bias.requires_grad_(scale != "none")
    return norm


def halved(size: tuple[int, int], times: int) -> tuple[int, int]:
    """Height and width of the map after `times` layers of stride 2, padded so that a map of n gives one of ceil(n / 2)."""
    height, width = (-(-side // 2**times) for side in size)
    return height, width


def _gap(channels: int, size: tuple[int, int], embedding_dim: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(channels, embedding_dim),
    )


def _flatten(
    channels: int, size: tuple[int, int], embedding_dim: int, dropout: float
) -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Flatten(),
        nn.Linear(channels * size[0] * size[1], embedding_dim),
    )


def _gdc(channels: int, size: tuple[int, int], embedding_dim: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, size, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.Sequential(
            nn.Dropout(dropout), nn.Flatten()
        ),  # in one, so that the weights keep the names they have in stored runs
        nn.Linear(channels, embedding_dim, bias=False),
    )


_HEADS: dict[str, Callable[[int, tuple[int, int], int, float], nn.Sequential]] = {
    "gap": _gap,
    "flatten": _flatten,
    "gdc": _gdc,
}
