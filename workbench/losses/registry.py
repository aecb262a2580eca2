"""The table of losses."""

from __future__ import annotations

from workbench.losses.base import ClassificationLoss
from workbench.registry import Registry

LOSSES: Registry[ClassificationLoss] = Registry("loss")
register = LOSSES.register
