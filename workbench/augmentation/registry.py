"""The registry of augmentations."""

from __future__ import annotations

from workbench.augmentation.base import Step
from workbench.registry import Registry

AUGMENTATIONS: Registry[Step] = Registry("augmentation")
"""Augmentations by name."""
register = AUGMENTATIONS.register
