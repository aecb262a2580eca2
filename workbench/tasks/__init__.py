"""Tasks: attributes of a face, such as gender and age, that are estimated beside the identity.

Each kind of task is a head on the embedding with its loss. They are independent of data, files and
runs: a `Head` is an `nn.Module` that can be used in another project.
"""

from __future__ import annotations

from workbench.tasks.base import Head
from workbench.tasks.classes import ClassesHead, ClassesSettings
from workbench.tasks.heads import Heads, from_description
from workbench.tasks.ordinal import OrdinalHead, OrdinalSettings
from workbench.tasks.registry import TASKS
from workbench.tasks.regression import RegressionHead, RegressionSettings
from workbench.tasks.settings import (
    IDENTITY,
    RECOGNITION,
    AnyTask,
    RecognitionSettings,
    TaskSettings,
    parse,
)

__all__ = [
    "IDENTITY",
    "RECOGNITION",
    "TASKS",
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
    "names",
    "parse",
]


def names() -> list[str]:
    """Returns the names of the kinds of tasks, sorted.

    Example:
        >>> names()
        ['classes', 'ordinal', 'regression']
    """
    return TASKS.names()
