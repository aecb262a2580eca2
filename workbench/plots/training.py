"""Figures of training metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.plots.theme import BLUE, Style, faded, figure, styles

CURVES = {
    "loss": "Training loss",
    "accuracy": "Training accuracy, without margin",
    "target_angle_mean": "Angle to the own class centre (degrees)",
    "genuine_angle_mean": "Angle between two images of one person (degrees)",
    "impostor_angle_mean": "Angle between images of two people (degrees)",
    "active_triplets": "Triplets that cost something",
    "embedding_norm": "Mean length of the embeddings of a batch",
    "embedding_cosine": "Mean cosine between two images of a batch",
    "centre_cosine": "Mean cosine between two class centres",
    "scale": "Scale of the logits",
    "margin_ramp": "Share of the margin in force",
    "lambda": "SphereFace: weight of the plain cosine",
    "t": "CurricularFace: t",
    "length_mean": "Mean length of the embeddings",
    "threshold": "Threshold on the cosine",
    "non_dominant": "Images nearest to a lesser sub-centre",
    "center": "Centre loss",
    "mhe": "Energy of the class centres",
    "clipped": "Steps whose gradient was clipped, backbone",
    "clipped_loss": "Steps whose gradient was clipped, class centres",
    "lr": "Learning rate",
    "images_per_second": "Images per second",
}
"""Columns of metrics.jsonl with their axis titles. No run has all of them: accuracy and angles to
class centres need class centres, angles of pairs and triplets are logged for the triplet loss, and
some columns belong to a single loss."""

GUESSES = {
    "loss_of_random_guess": ("random guess", "1px,4px"),
    "loss_of_uniform_guess": ("uniform guess", "8px,6px"),
}
"""Columns of metrics.jsonl that are drawn with the loss: names in the legend, and line styles."""


FEW_DECADES = 30.0
"""Largest ratio of losses for which a logarithmic axis has ticks between the powers of ten."""

TASK_CURVES = {
    "accuracy": "{}: training accuracy",
    "mae": "{}: mean absolute error in training",
    "loss": "{}: training loss",
    "gradient": "{}: gradient at the embeddings",
    "weight": "{}: learned weight",
}
"""Axis titles of the columns TASK_accuracy, TASK_mae, ... of the tasks of a run."""


def curve_title(column: str) -> str:
    """Returns the axis title of a column of metrics.jsonl.

    Example:
        >>> curve_title("lr"), curve_title("gender_accuracy")
        ('Learning rate', 'Gender: training accuracy')
    """
    task, _, what = column.rpartition("_")
    if column not in CURVES and is_of_task(column):
        name = "Recognition" if task == "fr" else task.replace("_", " ").capitalize()
        return TASK_CURVES[what].format(name)
    return CURVES.get(column, column)


def is_of_task(column: str) -> bool:
    """Returns whether a column of metrics.jsonl belongs to a task, such as gender_accuracy."""
    task, _, what = column.rpartition("_")
    return column not in CURVES and bool(task) and what in TASK_CURVES


def training_curves(
    metrics: Mapping[str, pd.DataFrame], column: str = "loss", smooth: int = 5
) -> go.Figure:
    """Draws one training metric against epochs.

    A thick line shows the running median of each run, a thin one the logged values. With the loss,
    two more lines of each run show the loss of a network that guesses: dotted for embeddings with
    random directions, as before the training, and dashed for a network that finds all similarities
    equal. Only a loss below the dashed line shows that identities are told apart.

    Args:
        metrics: metrics by run name, each a table with one row for each logged step, as
            `Run.metrics()` returns it. Tables without the column are ignored.
        column: name of the metric, such as one of `CURVES`.
        smooth: number of logged steps in the window of the median; 1 draws the values alone.

    Returns:
        A figure with one colour for each run.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"epoch": [1.0, 2.0], "loss": [9.0, 3.0]})
        >>> fig = training_curves({"arcface": table}, "loss", smooth=1)
        >>> fig.data[0].y.tolist()
        [9.0, 3.0]
    """
    fig = figure("Epoch", curve_title(column))
    for name, style in styles(metrics).items():
        table = metrics[name]
        if column not in table or "epoch" not in table or table.empty:
            continue
        if smooth > 1:
            fig.add_scatter(
                x=table["epoch"],
                y=table[column],
                mode="lines",
                opacity=0.25,
                hoverinfo="skip",
                showlegend=False,
                legendgroup=name,
                line={"color": style.colour, "width": 1},
            )
        fig.add_scatter(
            x=table["epoch"],
            y=table[column].rolling(smooth, center=True, min_periods=1).median(),
            name=name,
            mode="lines",
            legendgroup=name,
            line={"color": style.colour, "dash": style.dash, "width": 2.2},
        )
    if column in ("loss", "fr_loss") and fig.data:
        # Losses with different scales s differ much in their first values and end near 0.
        positive = [float(value) for trace in fig.data for value in trace.y if value > 0]
        lowest, highest = min(positive, default=1.0), max(positive, default=1.0)
        # Within few powers of ten, the ticks at 2 and 5 are needed too.
        ticks = 1 if highest > FEW_DECADES * lowest else "D2"
        fig.update_yaxes(type="log", exponentformat="power", dtick=ticks)
        fig.update_yaxes(range=[max(np.log10(max(lowest, 1e-4)), -4) - 0.1, None])
        # With tasks, the loss is the sum over all tasks, and the guess is that of recognition.
        of_recognition = {
            name: table
            for name, table in metrics.items()
            if column == "fr_loss" or "fr_loss" not in table
        }
        _add_guesses(fig, of_recognition, styles(metrics))
    is_accuracy = is_of_task(column) and column.endswith("_accuracy")
    if is_accuracy or column in (
        "accuracy",
        "active_triplets",
        "margin_ramp",
        "non_dominant",
        "clipped",
        "clipped_loss",
    ):
        fig.update_yaxes(tickformat=".0%", range=[0, 1.02])
    return fig


def learning_rates(
    rates: Mapping[str, Sequence[float]], steps_per_epoch: int = 1, columns: int = 4
) -> go.Figure:
    """Draws learning rates against epochs, with a panel for each schedule.

    Args:
        rates: learning rates of consecutive steps, by the name of the schedule.
        steps_per_epoch: number of steps in an epoch.
        columns: largest number of panels side by side.

    Returns:
        A figure whose panels share their axes.

    Example:
        >>> fig = learning_rates({"constant": [0.1] * 4, "step": [0.1, 0.1, 0.01, 0.01]}, 2)
        >>> fig.data[1].x.tolist()
        [0.0, 0.5, 1.0, 1.5]
    """
    rows = max(math.ceil(len(rates) / columns), 1)
    columns = max(min(columns, len(rates)), 1)
    panels = make_subplots(
        rows,
        columns,
        shared_xaxes="all",
        shared_yaxes="all",
        subplot_titles=list(rates),
        horizontal_spacing=0.03,
        vertical_spacing=0.6 / (rows * 2.5),
    )
    single = figure("Epoch", "Learning rate")
    axes = {
        axis: single.layout[axis].to_plotly_json() | {"title": None, "rangemode": "tozero"}
        for axis in ("xaxis", "yaxis")
    }
    panels.update_xaxes(axes["xaxis"])
    panels.update_yaxes(axes["yaxis"])
    for number, (name, values) in enumerate(rates.items()):
        place = {"row": number // columns + 1, "col": number % columns + 1}
        panels.add_scatter(
            x=np.arange(len(values)) / steps_per_epoch,
            y=list(values),
            name=name,
            mode="lines",
            line={"color": BLUE, "width": 2.2},
            fill="tozeroy",
            fillcolor=faded(BLUE, 0.12),
            **place,
        )
        is_lowest = number + columns >= len(rates)
        panels.update_xaxes(
            showticklabels=is_lowest,
            title=single.layout.xaxis.title if is_lowest else None,
            **place,
        )
        if place["col"] == 1:
            panels.update_yaxes(title=single.layout.yaxis.title, **place)
    panels.update_layout(
        template="plotly_white",
        font=single.layout.font,
        showlegend=False,
        height=180 + 170 * rows,
        margin={"l": 75, "r": 20, "t": 40, "b": 65},
    )
    return panels


def _add_guesses(
    fig: go.Figure, metrics: Mapping[str, pd.DataFrame], styles_by_run: Mapping[str, Style]
) -> None:
    """Adds the losses of a guess of each run, with one grey legend entry for all runs."""
    for column, (label, dash) in GUESSES.items():
        tables = {name: table for name, table in metrics.items() if column in table}
        for name, table in tables.items():
            fig.add_scatter(
                x=table["epoch"],
                y=table[column],
                name=f"{name}: {label}",
                mode="lines",
                showlegend=False,
                legendgroup=name,
                line={"color": styles_by_run[name].colour, "dash": dash, "width": 1.2},
            )
        if tables:
            fig.add_scatter(
                x=[None],
                y=[None],
                name=label,
                mode="lines",
                line={"color": "grey", "dash": dash, "width": 1.2},
            )
