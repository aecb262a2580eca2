"""Embedding heads: the layers from the last feature map of a backbone to an embedding.

Every backbone selects one of them with its option `head`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from torch import nn

from workbench.errors import unknown_name

Head = Literal["gap", "flatten", "gdc"]
"""Names of the embedding heads; see `embedding_head`."""
Scale = Literal["trained", "frozen", "none"]
"""Settings of the scale of the last batch normalisation (BN) of a head; see `closing_norm`."""


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
    """Creates the layers from a feature map (N, channels, *size) to embeddings (N, D).

    - "gap": global average pooling - FC - BN. The number of weights does not depend on the size.
    - "flatten": BN - dropout - FC on the whole map - BN, the head of Deng et al., "ArcFace", CVPR
      2019, section 3.1 ("BN-Dropout-FC-BN", called "E" in InsightFace's code). If the trunk ends in
      a BN, that one is the first BN.
    - "gdc": global depthwise convolution - BN - FC without bias - BN, the head of Chen et al.,
      "MobileFaceNets", CCBR 2018, section 3.1. It has a weight for each position and channel, since
      the eyes of an aligned face are always at the same position.

    Args:
        kind: "gap", "flatten" or "gdc".
        channels: Number of channels of the feature map.
        size: Height and width of the feature map.
        embedding_dim: Length D of an embedding.
        dropout: Share of the inputs of the FC that is dropped in training, 0..1.
        norm: Whether to use BN. False is for networks without BN.
        ends_in_norm: Whether the trunk ends in a BN. If not, "flatten" starts with one.
        scale: Setting of the last BN; see `closing_norm`. Without `norm` it has no effect.

    Returns:
        The layers. The embeddings are not normalised.

    Raises:
        WorkbenchError: If the head or the scale is unknown. The message suggests the nearest one.

    Example:
        >>> import torch
        >>> head = embedding_head("gdc", channels=16, size=(7, 7), embedding_dim=8)
        >>> head(torch.zeros(2, 16, 7, 7)).shape
        torch.Size([2, 8])
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
    if norm:
        return layers
    without_norm = [
        layer for layer in layers if not isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)
    ]
    return nn.Sequential(*without_norm)


def closing_norm(embedding_dim: int, scale: Scale) -> nn.BatchNorm1d:
    """Creates the last BN of a head.

    It normalises each coordinate of the embeddings over the batch. Then,

    - with "trained", it multiplies by a trained scale and adds a trained bias, so that the
      embeddings can become longer or shorter overall,
    - with "frozen", it only adds the bias, and the scale stays at 1, as in the iresnet of
      arcface_torch. The mean squared length over a batch is D plus the squared length of the bias.
    - with "none", it does neither, as in AdaFace's network. The mean squared length is D.

    All three have the same names in a state dict. With "none" the weight and the bias exist but
    stay at 1 and 0.

    Args:
        embedding_dim: Length D of an embedding.
        scale: "trained", "frozen" or "none".

    Returns:
        The BN.

    Raises:
        WorkbenchError: If the scale is unknown. The message suggests the nearest one.

    Example:
        >>> norm = closing_norm(8, "frozen")
        >>> norm.weight.requires_grad, norm.bias.requires_grad
        (False, True)
    """
    if scale not in get_args(Scale):
        raise unknown_name("scale of the head", scale, get_args(Scale))
    norm = nn.BatchNorm1d(embedding_dim)
    norm.weight.requires_grad_(scale == "trained")
    norm.bias.requires_grad_(scale != "none")
    return norm


def halved(size: tuple[int, int], times: int) -> tuple[int, int]:
    """Returns the size of a feature map after several layers with stride 2.

    The layers are padded so that a side n becomes ceil(n / 2).

    Args:
        size: Height and width.
        times: Number of layers with stride 2.

    Returns:
        Height and width.

    Example:
        >>> halved((112, 96), times=4)
        (7, 6)
    """
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
        # One layer, so that the weights keep the names that they have in stored runs.
        nn.Sequential(nn.Dropout(dropout), nn.Flatten()),
        nn.Linear(channels, embedding_dim, bias=False),
    )


_HEADS: dict[str, Callable[[int, tuple[int, int], int, float], nn.Sequential]] = {
    "gap": _gap,
    "flatten": _flatten,
    "gdc": _gdc,
}
