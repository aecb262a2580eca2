"""The figure of the directions of three-dimensional embeddings, which need no projection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from workbench.plots.theme import BLACK, CLASS_COLOURS, GREY, figure

PANELS_PER_ROW, PANEL_HEIGHT = 2, 430
SYMBOLS = ("circle", "diamond", "square", "cross")
"""Symbols that plotly has in three dimensions and that are told apart at a small size."""
Numbers = NDArray[Any]


def sphere(
    panels: Mapping[str, tuple[Numbers, Numbers | None]],
    labels: NDArray[np.int64],
    names: Sequence[str],
) -> go.Figure:
    """Draws the directions of three-dimensional embeddings on a sphere, with the class centres.

    Lengths are not shown: each embedding is a point on the unit sphere. A line from the centre of
    the sphere points in the direction of each class centre. The panels can be turned.

    Args:
        panels: (embeddings, class centres) by run name: arrays of shape (n, 3) and (C, 3). The
            class centres are None for a loss without any.
        labels: (n,) identities, 0 to C - 1.
        names: (C,) name of each identity.

    Returns:
        A figure with one panel for each run and one colour and symbol for each identity.

    Example:
        >>> import numpy as np
        >>> from workbench import plots
        >>> embeddings = np.array([[2.0, 0.0, 0.0], [0.0, 0.0, 3.0]])
        >>> fig = plots.sphere({"arcface": (embeddings, None)}, np.array([0, 1]), ["ann", "bob"])
        >>> [trace.name for trace in fig.data if trace.type == "scatter3d"]
        ['ann', 'bob']
    """
    count = max(len(panels), 1)
    rows, columns = -(-count // PANELS_PER_ROW), min(count, PANELS_PER_ROW)
    fig = make_subplots(
        rows,
        columns,
        specs=[[{"type": "scene"}] * columns] * rows,
        subplot_titles=list(panels),
        horizontal_spacing=0.02,
        vertical_spacing=0.12 / rows,
        figure=figure("", ""),
    )
    for number, (embeddings, centres) in enumerate(panels.values()):
        cell = {"row": number // columns + 1, "col": number % columns + 1}
        fig.add_trace(_globe(), **cell)
        points = _directions(embeddings)
        for identity, name in enumerate(names):
            x, y, z = points[labels == identity].T
            fig.add_scatter3d(
                x=x,
                y=y,
                z=z,
                mode="markers",
                name=name,
                legendgroup=name,
                showlegend=number == 0,
                marker={
                    "color": CLASS_COLOURS[identity % len(CLASS_COLOURS)],
                    "symbol": SYMBOLS[identity // len(CLASS_COLOURS) % len(SYMBOLS)],
                    "size": 3.5,
                    "opacity": 0.9,
                },
                hovertemplate=f"{name}<extra></extra>",
                **cell,
            )
        if centres is not None:
            fig.add_trace(_lines(_directions(centres)), **cell)
    hidden = {"visible": False, "showspikes": False}
    fig.update_scenes(
        xaxis=hidden,
        yaxis=hidden,
        zaxis=hidden,
        aspectmode="cube",
        camera_eye=dict.fromkeys("xyz", 0.85),
    )
    fig.update_layout(
        height=PANEL_HEIGHT * rows + 110,
        margin={"l": 10, "r": 10, "t": 90, "b": 10},
        legend={"itemsizing": "constant", "y": 1.05},
    )
    return fig


def _directions(vectors: Numbers) -> NDArray[np.float64]:
    """Returns the vectors with length 1; a vector of length 0 stays as it is."""
    values = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    unit: NDArray[np.float64] = values / np.where(lengths > 0, lengths, 1.0)
    return unit


def _globe() -> go.Surface:
    """Returns a transparent unit sphere."""
    latitude, longitude = np.meshgrid(np.linspace(0, np.pi, 25), np.linspace(0, 2 * np.pi, 49))
    return go.Surface(
        x=np.sin(latitude) * np.cos(longitude),
        y=np.sin(latitude) * np.sin(longitude),
        z=np.cos(latitude),
        opacity=0.18,
        showscale=False,
        colorscale=[[0, GREY], [1, GREY]],
        hoverinfo="skip",
        lighting={"ambient": 1, "diffuse": 0, "specular": 0},
    )


def _lines(centres: NDArray[np.float64]) -> go.Scatter3d:
    """Returns a line from the origin to each class centre, a little beyond the sphere."""
    points = np.full((len(centres), 3, 3), np.nan)  # the last point interrupts the line
    points[:, 0], points[:, 1] = 0.0, 1.12 * centres
    x, y, z = points.reshape(-1, 3).T
    return go.Scatter3d(
        x=x,
        y=y,
        z=z,
        mode="lines",
        name="class centre",
        showlegend=False,
        line={"color": BLACK, "width": 3},
        hovertemplate="class centre<extra></extra>",
    )
