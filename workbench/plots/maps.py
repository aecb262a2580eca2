"""Embeddings on a plane, and which class is taken for which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from workbench.plots.theme import CLASS_COLOURS, GREY, SYMBOLS, figure

LEGEND_LIMIT = 20


def projection(
    coordinates: NDArray[np.float64],
    labels: NDArray[np.int64],
    names: Sequence[str],
    points: NDArray[np.int64] | None = None,
    axes: tuple[str, str] = ("first axis", "second axis"),
    equal_axes: bool = False,
) -> go.Figure:
    """Scatter of embeddings in two dimensions, a colour and a symbol per identity.

    Args:
        coordinates: (n, 2). labels: (n,) identities, -1 for unknown. names: of the identities.
        points: (n,) numbers of the images, given back by a selection as customdata.
        axes: titles.
        equal_axes: a unit is as long in both directions, for maps on which distances mean something.
    """
    drawn = figure(*axes)
    numbers = np.arange(len(labels)) if points is None else points
    identities = np.unique(labels)
    for position, identity in enumerate(identities):
        mine = labels == identity
        known = 0 <= identity < len(names)
        name = str(names[identity]).replace("_", " ") if known else "identity not given"
        drawn.add_scatter(
            x=coordinates[mine, 0],
            y=coordinates[mine, 1],
            mode="markers",
            name=name,
            customdata=numbers[mine],
            marker={
                "color": CLASS_COLOURS[position % len(CLASS_COLOURS)] if known else GREY,
                "symbol": SYMBOLS[position // len(CLASS_COLOURS) % len(SYMBOLS)],
                "size": 7,
                "opacity": 0.8,
            },
            unselected={"marker": {"color": GREY, "opacity": 0.25}},
            hovertemplate=f"{name}<br>image %{{customdata}}<extra></extra>",
        )
    if equal_axes:
        drawn.update_xaxes(constrain="domain")
        drawn.update_yaxes(scaleanchor="x", scaleratio=1, constrain="domain", constraintoward="top")
    drawn.update_layout(
        height=560,
        dragmode="lasso",
        showlegend=len(identities) <= LEGEND_LIMIT,
        legend={"font_size": 11, "itemsizing": "constant"},
    )
    return drawn


def confusion(matrix: NDArray[np.int64], names: Sequence[str], most: int = 25) -> go.Figure:
    """Confusion matrix in shares of the true class.

    Args:
        matrix: (C, C) counts, a row per true class.
        names: C names.
        most: with more classes, only those with the most mistakes are drawn.
    """
    counts = np.asarray(matrix)
    shown = np.arange(len(counts))
    if len(counts) > most:
        mistakes = counts.sum(axis=1) + counts.sum(axis=0) - 2 * counts.diagonal()
        shown = np.sort(np.argsort(-mistakes, kind="stable")[:most])
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    labels = [str(names[int(i)]) for i in shown]
    part = counts[np.ix_(shown, shown)]
    drawn = figure("Predicted class", "True class")
    drawn.add_heatmap(
        z=share[np.ix_(shown, shown)],
        x=labels,
        y=labels,
        customdata=part,
        zmin=0,
        zmax=1,
        colorscale="Blues",
        colorbar={"title": "share", "tickformat": ".0%"},
        hovertemplate="true %{y}, predicted %{x}: %{customdata} (%{z:.1%})<extra></extra>",
        text=np.where(part > 0, part.astype(str), "") if len(shown) <= 12 else None,
        texttemplate="%{text}" if len(shown) <= 12 else None,
    )
    drawn.update_xaxes(type="category", side="bottom", automargin=True)
    drawn.update_yaxes(type="category", autorange="reversed", automargin=True)
    drawn.update_layout(height=560)
    return drawn
