"""The figure of two-dimensional embeddings and their class centres, which need no projection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from workbench.plots.theme import BLACK, CLASS_COLOURS, GREY, SYMBOLS, figure

PANELS_PER_ROW = 2
Numbers = NDArray[Any]


def plane(
    panels: Mapping[str, tuple[Numbers, Numbers | None]],
    labels: NDArray[np.int64],
    names: Sequence[str],
    reach: float = 0.98,
) -> go.Figure:
    """Draws two-dimensional embeddings with their class centres.

    A line from the origin points in the direction of each class centre; its length has no meaning.
    Both axes have the same unit, so that angles appear as they are.

    Args:
        panels: (embeddings, class centres) by run name: arrays of shape (n, 2) and (C, 2). The
            class centres are None for a loss without any.
        labels: (n,) identities, 0 to C - 1.
        names: (C,) name of each identity.
        reach: share of the embeddings that lie inside each panel. A few very long embeddings would
            otherwise compress all others.

    Returns:
        A figure with one panel for each run and one colour and symbol for each identity.

    Example:
        >>> import numpy as np
        >>> embeddings = np.array([[1.0, 0.0], [0.0, 2.0]])
        >>> fig = plane({"softmax": (embeddings, np.eye(2))}, np.array([0, 1]), ["ann", "bob"])
        >>> [annotation.text for annotation in fig.layout.annotations]
        ['softmax']
    """
    count = max(len(panels), 1)
    rows, columns = -(-count // PANELS_PER_ROW), min(count, PANELS_PER_ROW)
    fig = make_subplots(
        rows,
        columns,
        subplot_titles=list(panels),
        horizontal_spacing=0.14,
        vertical_spacing=0.2 / rows,
        figure=figure("", ""),
    )
    for number, (embeddings, centres) in enumerate(panels.values()):
        cell = {"row": number // columns + 1, "col": number % columns + 1}
        lengths = np.linalg.norm(embeddings, axis=1)
        radius = 1.15 * float(np.quantile(lengths, reach)) if lengths.any() else 1.0
        for identity, name in enumerate(names):
            colour = {"color": CLASS_COLOURS[identity % len(CLASS_COLOURS)]}
            members = embeddings[labels == identity]
            fig.add_scatter(
                x=members[:, 0],
                y=members[:, 1],
                mode="markers",
                name=name,
                legendgroup=name,
                showlegend=number == 0,
                marker={
                    **colour,
                    "symbol": SYMBOLS[identity // len(CLASS_COLOURS) % len(SYMBOLS)],
                    "size": 5,
                    "opacity": 0.7,
                },
                hovertemplate=f"{name}: %{{x:.2f}}, %{{y:.2f}}<extra></extra>",
                **cell,
            )
            if centres is not None:
                length = max(float(np.linalg.norm(centres[identity])), 1e-12)
                end = radius * centres[identity] / length
                fig.add_scatter(
                    x=[0.0, end[0]],
                    y=[0.0, end[1]],
                    mode="lines",
                    legendgroup=name,
                    showlegend=False,
                    line={**colour, "width": 2},
                    hoverinfo="skip",
                    **cell,
                )
        fig.add_scatter(
            x=[0.0],
            y=[0.0],
            mode="markers",
            marker={"color": BLACK, "size": 5},
            showlegend=False,
            hoverinfo="skip",
            **cell,
        )
        edge = 1.06 * radius
        x_axis = "x" if number == 0 else f"x{number + 1}"
        fig.update_xaxes(
            title_text="First number of the embedding",
            range=[-edge, edge],
            constrain="domain",
            **cell,
        )
        fig.update_yaxes(
            title_text="Second number of the embedding",
            range=[-edge, edge],
            constrain="domain",
            scaleanchor=x_axis,
            **cell,
        )
    fig.update_xaxes(
        showline=True,
        linecolor=GREY,
        ticks="outside",
        gridcolor="#E6E6E6",
        zeroline=False,
        title_standoff=6,
    )
    fig.update_yaxes(
        showline=True,
        linecolor=GREY,
        ticks="outside",
        gridcolor="#E6E6E6",
        zeroline=False,
        title_standoff=2,
    )
    fig.update_layout(
        height=80 + 380 * rows,
        margin={"t": 80},
        legend={"y": 1 + 40 / (380 * rows), "font_size": 11, "itemsizing": "constant"},
    )
    return fig
