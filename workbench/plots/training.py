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
    "loss_of_random_guess": ("random guess", "dot"),
    "loss_of_uniform_guess": ("uniform guess", "dash"),
}
"""Columns of metrics.jsonl that are drawn with the loss: names in the legend, and line styles."""


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
    fig = figure("Epoch", CURVES.get(column, column))
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
        _add_guesses(fig, metrics)
    if column in (
        "accuracy",
        "active_triplets",
        "margin_ramp",
        "non_dominant",
        "clipped",
        "clipped_loss",
    ):
        fig.update_yaxes(tickformat=".0%", range=[0, 1.02])
    return fig


def _add_guesses(fig: go.Figure, metrics: Mapping[str, pd.DataFrame]) -> None:
    """Adds the losses of a guess of each run, with one grey legend entry for all runs."""
    for column, (label, dash) in GUESSES.items():
        tables = {name: table for name, table in metrics.items() if column in table}
        for name, style in styles(metrics).items():
            if name in tables:
                fig.add_scatter(
                    x=tables[name]["epoch"],
                    y=tables[name][column],
                    name=f"{name}: {label}",
                    mode="lines",
                    showlegend=False,
                    legendgroup=name,
                    line={"color": style.colour, "dash": dash, "width": 1.4},
                )
        if tables:
            fig.add_scatter(
                x=[None],
                y=[None],
                name=label,
                mode="lines",
                line={"color": "grey", "dash": dash, "width": 1.4},
            )
