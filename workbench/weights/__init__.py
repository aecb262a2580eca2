"""Files of weights: reading them without running code, and finding the backbone that they fit."""

from __future__ import annotations

from workbench.weights.fitting import Fit, fitting_backbone
from workbench.weights.state_dict import Checkpoint, StateDict, read_checkpoint

__all__ = ["Checkpoint", "Fit", "StateDict", "fitting_backbone", "read_checkpoint"]
