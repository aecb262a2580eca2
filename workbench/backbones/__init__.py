"""Backbones: `names()`, `create(name, embedding_dim=..., image_size=..., **options)`, `register(name)` for one's own."""

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
from workbench.backbones.vit import ViTSmall, ViTTiny

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
    """Registered backbones, sorted."""
    return BACKBONES.names()


def create(name: str, **options: Any) -> Backbone:
    """Make a backbone by name, e.g. `create("seresnet18", embedding_dim=512, image_size=112)`.

    Names with a colon are models of other libraries, `timm:NAME` and `torchvision:NAME`; see `external.External` for their
    options.

    Raises:
        WorkbenchError: unknown name or option (the nearest is suggested), or a size it cannot take.
    """
    make = external.create if ":" in str(name) else BACKBONES.create
    return make(name, **_with_side(options))


def _with_side(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options in which a square `image_size` is one number, which is all that some backbones take."""
    size = options.get("image_size")
    if isinstance(size, tuple | list) and len(size) == 2 and size[0] == size[1]:
        return {**options, "image_size": size[0]}
    return dict(options)


def accepts(name: str, option: str) -> bool:
    """Whether a backbone has an option of that name.

    Raises:
        WorkbenchError: there is no such backbone; the nearest is suggested.
    """
    library, colon, _ = str(name).partition(":")
    factory = external.LIBRARIES.get(library) if colon else BACKBONES.get(name)
    return option in inspect.signature(factory).parameters


def without_fetching(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a backbone whose weights are about to be loaded: without asking a library for its pretrained ones."""
    return {**options, "pretrained": False} if "pretrained" in options else dict(options)
