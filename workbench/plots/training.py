"""How training went."""

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
"""Columns of metrics.jsonl that are drawn, with their axis titles. A run without class centres has no accuracy and no angle to
them; one with them has no angles of pairs and no triplets; some show what only one loss keeps count of."""


def training_curves(
    metrics: Mapping[str, pd.DataFrame], column: str = "loss", smooth: int = 5
) -> go.Figure:
    """One quantity against epochs, a line per run: the running median in front of the values themselves.

    Args:
        metrics: {run name: metrics.jsonl as a table}.
        column: one of `CURVES`.
        smooth: logged steps in the median's window.
    """
    drawn = figure("Epoch", CURVES.get(column, column))
    for name, style in styles(metrics).items():
        table = metrics[name]
        if column not in table or "epoch" not in table or table.empty:
            continue
        if smooth > 1:
            drawn.add_scatter(
                x=table["epoch"], y=table[column], mode="lines", opacity=0.25, hoverinfo="skip", showlegend=False,
                legendgroup=name, line={"color": style.colour, "width": 1},
            )  # fmt: skip
        drawn.add_scatter(
            x=table["epoch"],
            y=table[column].rolling(smooth, center=True, min_periods=1).median(),
            name=name,
            mode="lines",
            legendgroup=name,
            line={"color": style.colour, "dash": style.dash, "width": 2.2},
        )
    if column == "loss" and drawn.data:
        # Losses of different scale s start at very different heights and end near 0.
        lowest = min(
            (float(value) for trace in drawn.data for value in trace.y if value > 0), default=1.0
        )
        drawn.update_yaxes(type="log", exponentformat="power", dtick=1)
        drawn.update_yaxes(range=[max(np.log10(max(lowest, 1e-4)), -4) - 0.1, None])
    if column in (
        "accuracy",
        "active_triplets",
        "margin_ramp",
        "non_dominant",
        "clipped",
        "clipped_loss",
    ):
        drawn.update_yaxes(tickformat=".0%", range=[0, 1.02])
    return drawn
