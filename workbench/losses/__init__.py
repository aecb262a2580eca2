"""Losses: `names()`, `create(name, embedding_dim=..., num_classes=..., **options)`, `register(name)` for one's own."""

from __future__ import annotations

from typing import Any

from workbench.losses.arcface import ArcFace
from workbench.losses.base import ClassificationLoss, Loss, MarginSoftmax
from workbench.losses.cosface import CosFace
from workbench.losses.normface import NormFace
from workbench.losses.registry import LOSSES, register
from workbench.losses.softmax import Softmax
from workbench.losses.sphereface import SphereFace
from workbench.losses.triplet import Triplet

__all__ = [
    "ArcFace",
    "ClassificationLoss",
    "CosFace",
    "Loss",
    "MarginSoftmax",
    "NormFace",
    "Softmax",
    "SphereFace",
    "Triplet",
    "create",
    "names",
    "register",
]


def names() -> list[str]:
    """Registered losses, sorted."""
    return LOSSES.names()


def create(name: str, *, embedding_dim: int, num_classes: int, **options: Any) -> Loss:
    """Make a loss by name, e.g. `create("arcface", embedding_dim=512, num_classes=85742, s=64.0, m=0.5)`.

    Raises:
        WorkbenchError: unknown name or option (the nearest is suggested), or a value out of range.
    """
    return LOSSES.create(name, embedding_dim=embedding_dim, num_classes=num_classes, **options)
