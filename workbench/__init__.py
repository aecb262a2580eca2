"""The margin workbench: training and comparing margin losses for face recognition.

`import workbench as wb` is fast: each subpackage (`wb.losses`, `wb.data`, ...) is imported when it
is first used. Reading results therefore does not import torch, and training does not import
Streamlit.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench import (
        augmentation,
        backbones,
        catalogue,
        data,
        evaluation,
        exchange,
        experiments,
        faces,
        images,
        losses,
        plots,
        presets,
        reference,
        runs,
        training,
    )
    from workbench.errors import WorkbenchError
    from workbench.evaluation.evaluate import evaluate
    from workbench.exchange import export_onnx, import_model
    from workbench.training import TrainConfig, train

__version__ = "0.1.0"

__all__ = [
    "TrainConfig",
    "WorkbenchError",
    "augmentation",
    "backbones",
    "catalogue",
    "data",
    "evaluate",
    "evaluation",
    "exchange",
    "experiments",
    "export_onnx",
    "faces",
    "images",
    "import_model",
    "losses",
    "plots",
    "presets",
    "reference",
    "runs",
    "train",
    "training",
]

_MODULE_OF = {
    "TrainConfig": "workbench.training",
    "WorkbenchError": "workbench.errors",
    "evaluate": "workbench.evaluation",
    "export_onnx": "workbench.exchange",
    "import_model": "workbench.exchange",
    "train": "workbench.training",
}


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(_MODULE_OF[name]), name)
    if name in __all__:
        return import_module(f"workbench.{name}")
    raise AttributeError(f"module 'workbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
