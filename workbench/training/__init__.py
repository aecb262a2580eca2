"""Training: `train(config)` makes a run directory; `TrainConfig` holds all settings.

`TrainConfig` is imported without PyTorch, which only `train` needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.training.config import TrainConfig
    from workbench.training.loop import train

__all__ = ["TrainConfig", "train"]

_MODULE_OF = {"TrainConfig": "workbench.training.config", "train": "workbench.training.loop"}


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'workbench.training' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
