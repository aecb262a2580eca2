"""The registry of backbones."""

from __future__ import annotations

from workbench.backbones.base import Backbone
from workbench.registry import Registry

BACKBONES: Registry[Backbone] = Registry("backbone")
"""Backbones by name."""
register = BACKBONES.register
