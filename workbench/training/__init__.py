"""Training: `train(config)` makes a run directory; `TrainConfig` holds all settings."""

from __future__ import annotations

from workbench.training.callbacks import Callback, Training
from workbench.training.config import TrainConfig
from workbench.training.loop import train

__all__ = ["Callback", "TrainConfig", "Training", "train"]
