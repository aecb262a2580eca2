"""Training: `train(config)` makes a run directory; `TrainConfig` is everything that decides it."""

from __future__ import annotations

from workbench.training.config import TrainConfig
from workbench.training.loop import train

__all__ = ["TrainConfig", "train"]
