"""The embedding heads: from the last map of a backbone to an embedding. Every backbone takes one of them as `head=`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import nn

from workbench.errors import unknown_name

Head = Literal["gap", "flatten", "gdc"]
"""Name of an embedding head."""


def embedding_head(
    kind: Head,
    channels: int,
    size: tuple[int, int],
    embedding_dim: int,
    dropout: float = 0.0,
    norm: bool = True,
    ends_in_norm: bool = True,
) -> nn.Sequential:
    """Layers from a map (N, channels, *size) to embeddings (N, D), not normalised.

    - `gap`: global average pooling - FC - BN; the same number of weights for any size of image.
    - `flatten`: BN - dropout - FC on the whole map - BN; setting "E" of Deng et al., "ArcFace", CVPR 2019, section 3.1. The
      first BN is that of the trunk where it ends in one.
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

    Raises:
        WorkbenchError: there is no such head; the nearest is suggested.
    """
    try:
        make = _HEADS[kind]
    except (KeyError, TypeError):
        raise unknown_name("head", kind, _HEADS) from None
    layers = make(channels, size, embedding_dim, dropout)
    if kind == "flatten" and not ends_in_norm:
        layers.insert(0, nn.BatchNorm2d(channels))
    return layers if norm else nn.Sequential(*(layer for layer in layers if not isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)))


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
        nn.BatchNorm1d(embedding_dim),
    )


def _flatten(channels: int, size: tuple[int, int], embedding_dim: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Flatten(),
        nn.Linear(channels * size[0] * size[1], embedding_dim),
        nn.BatchNorm1d(embedding_dim),
    )


def _gdc(channels: int, size: tuple[int, int], embedding_dim: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, size, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.Sequential(nn.Dropout(dropout), nn.Flatten()),  # in one, so that the weights keep the names they have in stored runs
        nn.Linear(channels, embedding_dim, bias=False),
        nn.BatchNorm1d(embedding_dim),
    )


_HEADS: dict[str, Callable[[int, tuple[int, int], int, float], nn.Sequential]] = {"gap": _gap, "flatten": _flatten, "gdc": _gdc}
