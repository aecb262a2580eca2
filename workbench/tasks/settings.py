"""The settings of tasks, as they stand in the setting `tasks` of a training run.

They are read without PyTorch, so that the command line checks them at once.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from workbench.errors import WorkbenchError, unknown_name
from workbench.registry import Registry
from workbench.tasks.labels import MISSING

RECOGNITION = "fr"
"""Name of face recognition among the tasks. It has no head here: its loss is the setting `loss`."""
IDENTITY = "identity"
"""Attribute that stands for the names of the identities of a data set."""
_RESERVED = ("clipped",)
"""Names whose columns in metrics.jsonl would be those of another quantity."""

KINDS: Registry[TaskSettings] = Registry("kind of task")
"""The settings of each kind of task."""
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


def increasing(numbers: list[float] | None) -> list[float] | None:
    """Returns numbers if each is greater than the one before.

    Raises:
        ValueError: if they are not.
    """
    if numbers is not None and any(a >= b for a, b in itertools.pairwise(numbers)):
        raise ValueError("each number must be greater than the one before")
    return numbers


Increasing = Annotated[list[float], Field(min_length=1), AfterValidator(increasing)]


@KINDS.register("classes")
class ClassesSettings(TaskSettings):
    """The settings of a task with classes."""

    kind: Literal["classes"] = "classes"
    """Kind of the task."""

    classes: Annotated[list[str], Field(min_length=2)] | None = None
    """Names of the classes, at least two. By default (null) the labels that occur in the training
    set, in sorted order."""

    edges: Increasing | None = None
    """Numbers at which one class ends and the next begins, in ascending order: [10, 20, 30, 40, 50,
    60] makes the seven classes 0-9, 10-19, ..., 60 and older of the age. By default (null) the
    labels are names."""

    rename: dict[str, str] = Field(default_factory=dict)
    """Other names of labels: {0: male, 1: female}."""

    loss: Literal["cross_entropy", "balanced_cross_entropy", "focal"] = "cross_entropy"
    """Loss: cross_entropy; balanced_cross_entropy, in which rare classes weigh more, so that all
    classes have the same total weight; or focal, in which images that are classified well weigh
    less."""

    @model_validator(mode="after")
    def _names_or_edges(self) -> Self:
        if self.edges is not None and (self.classes is not None or self.rename):
            raise ValueError("edges are for numbers; classes and rename are for names")
        if self.classes is not None and len(set(self.classes)) < len(self.classes):
            raise ValueError("a class is named twice")
        return self


@KINDS.register("ordinal")
class OrdinalSettings(TaskSettings):
    """The settings of an ordinal task."""

    kind: Literal["ordinal"] = "ordinal"
    """Kind of the task."""

    thresholds: Increasing | None = None
    """Thresholds in the unit of the label, in ascending order. By default (null) they lie `step`
    apart, over the range of the training labels."""

    step: Annotated[float, Field(gt=0)] = 1.0
    """Distance between two thresholds, greater than 0. 1 is a threshold a year for an age."""

    loss: Literal["coral", "extended_binary"] = "coral"
    """Loss: coral, in which all thresholds share one weight vector, so that their probabilities
    fall from each threshold to the next (Cao et al. 2020); or extended_binary, in which each
    threshold has its own (Niu et al. 2016)."""


@KINDS.register("regression")
class RegressionSettings(TaskSettings):
    """The settings of a regression task."""

    kind: Literal["regression"] = "regression"
    """Kind of the task."""

    loss: Literal["l1", "smooth_l1", "mse"] = "l1"
    """Loss: l1, the absolute error; mse, its square; or smooth_l1, half the square up to one unit
    and absolute beyond."""

    standardise: bool = True
    """Whether the loss counts in standard deviations of the training labels. If not, it counts in
    the unit of the label: years for an age. A loss in years is tens to hundreds of times larger
    than that of a task with two classes."""


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
        raise WorkbenchError(f"{where}: kind is missing; it is one of {', '.join(KINDS.names())}")
    model: Any = KINDS.get(values["kind"])
    return _checked(model, {"attribute": name} | values, where)


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
