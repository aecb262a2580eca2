"""The table of losses."""

from __future__ import annotations

from workbench.losses.base import Loss
from workbench.registry import Registry

LOSSES: Registry[Loss] = Registry("loss")
register = LOSSES.register
