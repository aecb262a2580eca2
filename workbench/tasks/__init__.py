"""Tasks: attributes of a face, such as gender and age, that are estimated beside the identity.

Each kind of task is a head on the embedding with its loss. They are independent of data, files and
runs: a `Head` is an `nn.Module` that can be used in another project. The settings of tasks are
read without PyTorch, which is imported when a head is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from workbench.tasks.settings import (
    IDENTITY,
    KINDS,
    RECOGNITION,
    AnyTask,
    ClassesSettings,
    OrdinalSettings,
    RecognitionSettings,
    RegressionSettings,
    TaskSettings,
    parse,
)

if TYPE_CHECKING:
    from workbench.tasks.base import Head
    from workbench.tasks.classes import ClassesHead
    from workbench.tasks.heads import Heads, from_description, head_of
    from workbench.tasks.ordinal import OrdinalHead
    from workbench.tasks.regression import RegressionHead

__all__ = [
    "IDENTITY",
    "KINDS",
    "RECOGNITION",
    "AnyTask",
    "ClassesHead",
    "ClassesSettings",
    "Head",
    "Heads",
    "OrdinalHead",
    "OrdinalSettings",
    "RecognitionSettings",
    "RegressionHead",
    "RegressionSettings",
    "TaskSettings",
    "from_description",
    "head_of",
    "names",
    "parse",
]

_MODULE_OF = {
    "Head": "base",
    "ClassesHead": "classes",
    "OrdinalHead": "ordinal",
    "RegressionHead": "regression",
    "Heads": "heads",
    "from_description": "heads",
    "head_of": "heads",
}
"""The modules that import PyTorch."""


def names() -> list[str]:
    """Returns the names of the kinds of tasks, sorted.

    Example:
        >>> names()
        ['classes', 'ordinal', 'regression']
    """
    return KINDS.names()


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
