"""Figures of projected embeddings, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from workbench.plots.theme import CLASS_COLOURS, GREY, SYMBOLS, figure

LEGEND_LIMIT = 20
"""With more identities than this, no legend is drawn."""


def projection(
    coordinates: NDArray[np.float64],
    labels: NDArray[np.int64],
    names: Sequence[str],
    points: NDArray[np.int64] | None = None,
    axes: tuple[str, str] = ("first axis", "second axis"),
    equal_axes: bool = False,
) -> go.Figure:
    """Draws embeddings that were projected to two dimensions.

    Args:
        coordinates: (n, 2) projected embeddings.
        labels: (n,) identities; -1 if the identity is not given.
        names: name of each identity.
        points: (n,) number of each image, which a selection returns as customdata; 0 to n - 1 by
            default.
        axes: titles of the two axes.
        equal_axes: use the same unit on both axes, for projections that preserve distances.

    Returns:
        A scatter plot with one colour and symbol for each identity.

    Example:
        >>> import numpy as np
        >>> fig = projection(np.zeros((3, 2)), np.array([0, 0, 1]), ["ann", "bob"])
        >>> [(trace.name, len(trace.x)) for trace in fig.data]
        [('ann', 2), ('bob', 1)]
    """
    fig = figure(*axes)
    numbers = np.arange(len(labels)) if points is None else points
    identities = np.unique(labels)
    for position, identity in enumerate(identities):
        members = labels == identity
        name, colour = "identity not given", GREY
        if 0 <= identity < len(names):
            name = str(names[identity]).replace("_", " ")
            colour = CLASS_COLOURS[position % len(CLASS_COLOURS)]
        fig.add_scatter(
            x=coordinates[members, 0],
            y=coordinates[members, 1],
            mode="markers",
            name=name,
            customdata=numbers[members],
            marker={
                "color": colour,
                "symbol": SYMBOLS[position // len(CLASS_COLOURS) % len(SYMBOLS)],
                "size": 7,
                "opacity": 0.8,
            },
            unselected={"marker": {"color": GREY, "opacity": 0.25}},
            hovertemplate=f"{name}<br>image %{{customdata}}<extra></extra>",
        )
    if equal_axes:
        fig.update_xaxes(constrain="domain")
        fig.update_yaxes(scaleanchor="x", scaleratio=1, constrain="domain", constraintoward="top")
    fig.update_layout(
        height=560,
        dragmode="lasso",
        showlegend=len(identities) <= LEGEND_LIMIT,
        legend={"font_size": 11, "itemsizing": "constant"},
    )
    return fig


def confusion(matrix: NDArray[np.int64], names: Sequence[str], most: int = 25) -> go.Figure:
    """Draws a confusion matrix as shares of the true class.

    Args:
        matrix: (C, C) number of images, with one row for each true class.
        names: (C,) name of each class.
        most: largest number of classes to draw. If there are more, those with the most mistakes are
            drawn.

    Returns:
        A heat map with one row for each true class.

    Example:
        >>> import numpy as np
        >>> fig = confusion(np.array([[9, 1], [2, 8]]), ["ann", "bob"])
        >>> fig.data[0].z.tolist()
        [[0.9, 0.1], [0.2, 0.8]]
    """
    counts = np.asarray(matrix)
    shown = np.arange(len(counts))
    if len(counts) > most:
        mistakes = counts.sum(axis=1) + counts.sum(axis=0) - 2 * counts.diagonal()
        shown = np.sort(np.argsort(-mistakes, kind="stable")[:most])
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    labels = [str(names[int(i)]) for i in shown]
    shown_counts = counts[np.ix_(shown, shown)]
    has_text = len(shown) <= 12
    fig = figure("Predicted class", "True class")
    fig.add_heatmap(
        z=share[np.ix_(shown, shown)],
        x=labels,
        y=labels,
        customdata=shown_counts,
        zmin=0,
        zmax=1,
        colorscale="Blues",
        colorbar={"title": "share", "tickformat": ".0%"},
        hovertemplate="true %{y}, predicted %{x}: %{customdata} (%{z:.1%})<extra></extra>",
        text=np.where(shown_counts > 0, shown_counts.astype(str), "") if has_text else None,
        texttemplate="%{text}" if has_text else None,
    )
    fig.update_xaxes(type="category", side="bottom", automargin=True)
    fig.update_yaxes(type="category", autorange="reversed", automargin=True)
    fig.update_layout(height=560)
    return fig
