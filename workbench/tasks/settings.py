"""The settings of tasks, as they stand in the setting `tasks` of a training run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workbench.errors import WorkbenchError, unknown_name
from workbench.tasks.labels import MISSING

RECOGNITION = "fr"
"""Name of face recognition among the tasks. It has no head here: its loss is the setting `loss`."""
IDENTITY = "identity"
"""Attribute that stands for the names of the identities of a data set."""
_RESERVED = ("clipped",)
"""Names whose columns in metrics.jsonl would be those of another quantity."""

Weight = Annotated[float, Field(ge=0)] | Literal["learned"]
Share = Annotated[float, Field(gt=0, lt=1)]


class AnyTask(BaseModel):
    """The settings that all tasks have, recognition included."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    weight: Weight = 1.0
    """Factor of the task's loss in the total loss, at least 0; or "learned" for the uncertainty
    weighting of Kendall, Gal and Cipolla (2018)."""


class RecognitionSettings(AnyTask):
    """The settings of recognition among the tasks: only its weight."""

    kind: Literal["recognition"] = "recognition"
    """Kind of the task."""


class TaskSettings(AnyTask):
    """The settings of a task with a head of its own. Each kind of task adds to them."""

    kind: str
    """Kind of the task: classes, ordinal or regression."""

    attribute: str
    """Column of the data set that holds the labels, by default the name of the task; or `identity`
    for the names of the identities."""

    data: str | None = None
    """Data set of the task, such as utkface:DIR. Its images have no identity. By default (null)
    the labels are an attribute of the training set `data`."""

    share: Share | None = None
    """Share of each batch that comes from the task's own `data`, between 0 and 1. By default (null)
    all data sets of a batch have the same share. Tasks with the same `data` share its images."""

    hidden: Annotated[int, Field(ge=1)] | None = None
    """Number of units of a hidden layer of the head, at least 1. By default (null) the head is
    linear."""

    frozen_trunk: bool = False
    """Whether only the head is trained: the gradient of this task does not reach the backbone."""

    missing: list[int | float | str] = list(MISSING)
    """Labels that mean "not known", besides null and NaN. Images without a label are not used for
    the task."""


def parse(tasks: Any) -> dict[str, AnyTask]:
    """Checks the setting `tasks`.

    Args:
        tasks: {name of the task: its settings}.

    Returns:
        The checked settings by the names of the tasks.

    Raises:
        WorkbenchError: if a name, a kind or a setting is unknown or out of range; the message
            suggests the nearest one.

    Example:
        >>> tasks = parse({"gender": {"kind": "classes"}})
        >>> tasks["gender"].attribute, tasks["gender"].weight
        ('gender', 1.0)
    """
    if not isinstance(tasks, Mapping):
        raise WorkbenchError(
            f"setting 'tasks' is {tasks!r}: expected a mapping from the name of a task to its "
            "settings, such as {gender: {kind: classes}}"
        )
    return {str(name): _parse_task(str(name), one) for name, one in tasks.items()}


def _parse_task(name: str, settings: Any) -> AnyTask:
    """Checks the settings of one task."""
    from workbench.tasks.registry import TASKS

    if isinstance(settings, AnyTask):
        return settings
    where = f"task {name!r}"
    if not re.fullmatch("[a-z][a-z0-9_]{0,30}", name) or name in _RESERVED:
        raise WorkbenchError(
            f"{where}: the name must be lower-case letters, digits and _, begin with a letter, "
            f"and not be {' or '.join(_RESERVED)}"
        )
    if not isinstance(settings, Mapping):
        raise WorkbenchError(f"{where} is {settings!r}: expected settings, as {{kind: classes}}")
    values = {str(key): value for key, value in settings.items()}
    if name == RECOGNITION:
        return _checked(RecognitionSettings, values, where)
    if "kind" not in values:
        raise WorkbenchError(f"{where}: kind is missing; it is one of {', '.join(TASKS.names())}")
    head: Any = TASKS.get(values["kind"])
    return _checked(head.Settings, {"attribute": name} | values, where)


def _checked(model: type[AnyTask], values: Mapping[str, Any], where: str) -> AnyTask:
    for name, value in values.items():
        # pydantic would accept true as the number 1.
        field = model.model_fields.get(name)
        if isinstance(value, bool) and field is not None and field.annotation is not bool:
            raise WorkbenchError(
                f"{where}: {name} is {str(value).lower()}, but it does not take true or false"
            )
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        setting = str(first["loc"][0]) if first["loc"] else "settings"
        if first["type"] == "extra_forbidden":
            kind = values.get("kind", "recognition")
            raise unknown_name(
                f"setting of a task of kind {kind}", setting, model.model_fields
            ) from None
        raise WorkbenchError(
            f"{where}: {setting} is {first['input']!r}: {first['msg'].lower()}"
        ) from None
