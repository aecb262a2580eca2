"""Backbones: `names()` lists them, `create(name, ...)` makes one, `register(name)` adds yours."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from workbench.backbones import external
from workbench.backbones.base import Backbone
from workbench.backbones.fashion_cnn import FashionCNN
from workbench.backbones.heads import embedding_head
from workbench.backbones.iresnet import IResNet18, IResNet34, IResNet50, IResNet100
from workbench.backbones.mobilefacenet import MobileFaceNet
from workbench.backbones.registry import BACKBONES, register
from workbench.backbones.resnet import ResNet18, ResNet34, ResNet50
from workbench.backbones.seresnet import SEResNet18, SEResNet34, SEResNet50
from workbench.backbones.small import SmallResNet
from workbench.backbones.sphereface_net import SphereFace20, SphereFace64
from workbench.backbones.vit import ViTBase, ViTLarge, ViTSmall, ViTTiny

__all__ = [
    "Backbone",
    "FashionCNN",
    "IResNet18",
    "IResNet34",
    "IResNet50",
    "IResNet100",
    "MobileFaceNet",
    "ResNet18",
    "ResNet34",
    "ResNet50",
    "SEResNet18",
    "SEResNet34",
    "SEResNet50",
    "SmallResNet",
    "SphereFace20",
    "SphereFace64",
    "ViTBase",
    "ViTLarge",
    "ViTSmall",
    "ViTTiny",
    "accepts",
    "create",
    "embedding_head",
    "names",
    "register",
    "without_fetching",
]


def names() -> list[str]:
    """Returns the names of all registered backbones, sorted.

    Example:
        >>> import workbench as wb
        >>> wb.backbones.names()[:2]
        ['fashion_cnn', 'iresnet100']
    """
    return BACKBONES.names()


def create(name: str, **options: Any) -> Backbone:
    """Creates a backbone by name.

    Names with a colon are models of other libraries: `timm:NAME` and `torchvision:NAME`. For their
    options see `external.External`.

    Args:
        name: Name of a backbone; see `names`.
        **options: Options of the backbone, such as `embedding_dim` and `image_size`.

    Returns:
        The backbone, a `torch.nn.Module` that maps (N, 3, H, W) images to (N, D) embeddings.

    Raises:
        WorkbenchError: If the name or an option is unknown (the message suggests the nearest one),
            or the backbone does not support the image size.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> net = wb.backbones.create("smallresnet", embedding_dim=32, image_size=28)
        >>> net(torch.zeros(2, 3, 28, 28)).shape
        torch.Size([2, 32])
    """
    make = external.create if ":" in str(name) else BACKBONES.create
    return make(name, **_with_square_as_int(options))


def accepts(name: str, option: str) -> bool:
    """Returns whether a backbone has an option of a given name.

    Args:
        name: Name of a backbone, as in `create`.
        option: Name of the option.

    Raises:
        WorkbenchError: If the backbone is unknown. The message suggests the nearest name.

    Example:
        >>> import workbench as wb
        >>> wb.backbones.accepts("iresnet50", "dropout")
        True
    """
    library, colon, _ = str(name).partition(":")
    factory = external.LIBRARIES.get(library) if colon else BACKBONES.get(name)
    return option in inspect.signature(factory).parameters


def without_fetching(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns options that create the same backbone without downloading pretrained weights.

    It is for backbones whose weights are loaded from a file anyway.

    Args:
        options: Options of a backbone.

    Example:
        >>> import workbench as wb
        >>> wb.backbones.without_fetching({"pretrained": True, "dropout": 0.1})
        {'pretrained': False, 'dropout': 0.1}
    """
    return {**options, "pretrained": False} if "pretrained" in options else dict(options)


def _with_square_as_int(options: Mapping[str, Any]) -> dict[str, Any]:
    """Replaces a square `image_size` by a single number, since some backbones only accept that."""
    size = options.get("image_size")
    if isinstance(size, tuple | list) and len(size) == 2 and size[0] == size[1]:
        return {**options, "image_size": size[0]}
    return dict(options)
