"""Training: `train(config)` makes a run directory; `TrainConfig` holds all settings."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from workbench.training.config import TrainConfig

if TYPE_CHECKING:
    from workbench.training.callbacks import Callback, Training
    from workbench.training.live_plot import LivePlot
    from workbench.training.running import check, train

__all__ = ["Callback", "LivePlot", "TrainConfig", "Training", "check", "train"]

_MODULE_OF = {
    "Callback": "workbench.training.callbacks",
    "LivePlot": "workbench.training.live_plot",
    "Training": "workbench.training.callbacks",
    "check": "workbench.training.running",
    "train": "workbench.training.running",
}
"""The modules that import PyTorch, which the help of `workbench train` does without."""


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
