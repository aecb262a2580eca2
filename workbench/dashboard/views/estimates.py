"""The attributes of photos that the tasks of a run estimate, such as gender and age."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from workbench import runs
from workbench.dashboard import loading
from workbench.errors import WorkbenchError
from workbench.evaluation import AttributesResult
from workbench.evaluation.results import stored_figures

if TYPE_CHECKING:
    from workbench.evaluation.model import Estimate, Model


def show(run: runs.Run, model: Model, embeddings: NDArray[np.float32]) -> None:
    """Draws a table of the estimates for the photos; nothing if the run has no tasks.

    Args:
        run: the run.
        model: its network.
        embeddings: (N, D) embeddings of the photos.
    """
    if not model.heads:
        return
    result = measured(run)
    rows = [
        {"Task": task, **_cells(task, estimate, len(embeddings), result)}
        for task, estimate in model.estimate(embeddings).items()
    ]
    st.table(rows)
    if result is None:
        st.caption(
            "How often these estimates are wrong is not known: evaluate the run on a benchmark of "
            f"attributes, e.g. `workbench evaluate {run.path} synthfaces-attributes`."
        )
    else:
        st.caption(
            f"Errors of such estimates on {result.name}, with 95 % intervals. They hold for images "
            "like those of this benchmark. An estimate is what the training set's labels call it, "
            "not a fact about the person."
        )


def measured(run: runs.Run) -> AttributesResult | None:
    """Returns a stored result of the run's tasks; None if there is none.

    Of several, it is the one whose name comes first in the alphabet.
    """
    for name in sorted(run.evaluations()):
        if stored_figures(run, name).get("kind") != AttributesResult.kind:
            continue
        try:
            result = loading.result(run, name)
        except WorkbenchError:  # the other pages show the reason
            continue
        if isinstance(result, AttributesResult):
            return result
    return None


def _cells(
    task: str, estimate: Estimate, photos: int, result: AttributesResult | None
) -> dict[str, str]:
    """Returns the estimate and its error for each photo."""
    cells = {}
    for photo in range(photos):
        label = ("first", "second")[photo] if photos == 2 else f"photo {photo + 1}"
        value, error = _described(task, estimate, photo, result)
        cells[f"Estimate, {label}"] = value
        cells[f"Error, {label}"] = error
    return cells


def _described(
    task: str, estimate: Estimate, photo: int, result: AttributesResult | None
) -> tuple[str, str]:
    """Returns the estimate for one photo and its error in words."""
    values, errors = [], []
    if estimate.classes is not None and estimate.probabilities is not None:
        chosen = int(estimate.classes[photo])
        name = estimate.class_names[chosen]
        values.append(f"{name} (probability {estimate.probabilities[photo, chosen]:.0%})")
        if result is not None and task in result.classes:
            errors.append(class_error(result, task, name))
    if estimate.numbers is not None:
        number = float(estimate.numbers[photo])
        unit = result.unit(task) if result is not None else ""
        values.append(f"{number:.0f} {unit}".strip())
        if result is not None and task in result.numbers:
            errors.append(number_error(result, task, number))
    return "; ".join(values), "; ".join(errors) or "not known"


def class_error(result: AttributesResult, task: str, name: str) -> str:
    """Returns how often a predicted class is wrong, in words.

    Args:
        result: the result of the run on a benchmark of attributes.
        task: name of the task.
        name: name of the predicted class.
    """
    classes = result.classes[task]
    if name not in classes.class_names:
        return "not known"
    wrong, interval = classes.errors_of(classes.class_names.index(name))
    if math.isnan(wrong):
        return f"{name} was never estimated there"
    text = f"wrong in {wrong:.0%} of the images estimated as {name}"
    if interval is not None:
        text += f" [{interval[0]:.0%}, {interval[1]:.0%}]"
    return text


def number_error(result: AttributesResult, task: str, number: float) -> str:
    """Returns how far estimates in the range of a number are off, in words.

    Args:
        result: the result of the run on a benchmark of attributes.
        task: name of the task.
        number: the estimated number.
    """
    numbers, unit = result.numbers[task], result.unit(task)
    for one in numbers.by_range(by="estimated"):
        if one.low <= number < one.high:
            off = f"{one.mae:.1f} {unit}".strip()
            direction = "high" if one.bias > 0 else "low"
            return (
                f"off by {off} on average where {one.low:.0f} to {one.high:.0f} is estimated "
                f"({one.images} images; on average {abs(one.bias):.1f} too {direction})"
            )
    off = f"{numbers.mae:.1f} {unit}".strip()
    return f"off by {off} on average; no estimate there was in this range"
