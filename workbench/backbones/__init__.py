"""Backbones: `names()`, `create(name, embedding_dim=..., image_size=..., **options)`, `register(name)` for one's own."""

from __future__ import annotations

from typing import Any

from workbench.backbones.base import Backbone
from workbench.backbones.registry import BACKBONES, register
from workbench.backbones.seresnet import SEResNet18
from workbench.backbones.small import SmallResNet

__all__ = ["Backbone", "SEResNet18", "SmallResNet", "create", "names", "register"]


def names() -> list[str]:
    """Registered backbones, sorted."""
    return BACKBONES.names()


def create(name: str, **options: Any) -> Backbone:
    """Make a backbone by name, e.g. `create("seresnet18", embedding_dim=512, image_size=112)`.

    Raises:
        WorkbenchError: unknown name or option (the nearest is suggested), or a size it cannot take.
    """
    return BACKBONES.create(name, **options)
