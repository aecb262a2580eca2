"""Figures of training metrics."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.plots.theme import figure, styles

CURVES = {
    "loss": "Training loss",
    "accuracy": "Training accuracy, without margin",
    "target_angle_mean": "Angle to the own class centre (degrees)",
    "genuine_angle_mean": "Angle between two images of one person (degrees)",
    "impostor_angle_mean": "Angle between images of two people (degrees)",
    "active_triplets": "Triplets that cost something",
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

    A thick line shows the running median of each run, a thin one the logged values.

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
    if column == "loss" and fig.data:
        # Losses with different scales s differ much in their first values and end near 0.
        lowest = min(
            (float(value) for trace in fig.data for value in trace.y if value > 0), default=1.0
        )
        fig.update_yaxes(type="log", exponentformat="power", dtick=1)
        fig.update_yaxes(range=[max(np.log10(max(lowest, 1e-4)), -4) - 0.1, None])
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
