"""The tables of losses, and of what can be added to one."""

from __future__ import annotations

from workbench.losses.base import Loss, Reweighting, Term
from workbench.registry import Registry

LOSSES: Registry[Loss] = Registry("loss")
PARTS: Registry[Term | Reweighting] = Registry("part of a loss")
register = LOSSES.register
register_part = PARTS.register
