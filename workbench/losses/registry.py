"""The registries of losses and of parts that can be added to a loss."""

from __future__ import annotations

from workbench.losses.base import Loss, Reweighting, Term
from workbench.registry import Registry

LOSSES: Registry[Loss] = Registry("loss")
"""Losses by name."""
PARTS: Registry[Term | Reweighting] = Registry("part of a loss")
"""Terms and reweightings by name, as in `softmax+center` and `normface+ohem`."""
register = LOSSES.register
register_part = PARTS.register
