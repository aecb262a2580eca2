"""Embeddings of two numbers as they are, beside their class centres: the one case in which nothing has to be projected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from workbench.plots.theme import BLACK, CLASS_COLOURS, GREY, SYMBOLS, figure

PANELS_A_ROW = 2
Numbers = NDArray[Any]


def plane(
    panels: Mapping[str, tuple[Numbers, Numbers | None]],
    labels: NDArray[np.int64],
    names: Sequence[str],
    reach: float = 0.98,
) -> go.Figure:
    """Two-dimensional embeddings, a panel a run, a colour and a symbol per identity; lines point to the class centres.

    Of a class centre only the direction is drawn. The axes are equal, so that angles are seen as they are.

    Args:
        panels: {run name: ((n, 2) embeddings, (C, 2) class centres or None)}.
        labels: (n,) identities, 0..C-1.
        names: of the identities.
        reach: share of the embeddings that each panel has room for; few very long ones would crowd the others.
    """
    rows, columns = -(-max(len(panels), 1) // PANELS_A_ROW), min(max(len(panels), 1), PANELS_A_ROW)
    drawn = make_subplots(
        rows,
        columns,
        subplot_titles=list(panels),
        horizontal_spacing=0.14,
        vertical_spacing=0.2 / rows,
        figure=figure("", ""),
    )
    for number, (embeddings, centres) in enumerate(panels.values()):
        place = {"row": number // columns + 1, "col": number % columns + 1}
        lengths = np.linalg.norm(embeddings, axis=1)
        radius = 1.15 * float(np.quantile(lengths, reach)) if lengths.any() else 1.0
        for identity, name in enumerate(names):
            look = {"color": CLASS_COLOURS[identity % len(CLASS_COLOURS)]}
            mine = embeddings[labels == identity]
            drawn.add_scatter(
                x=mine[:, 0],
                y=mine[:, 1],
                mode="markers",
                name=name,
                legendgroup=name,
                showlegend=number == 0,
                marker={
                    **look,
                    "symbol": SYMBOLS[identity // len(CLASS_COLOURS) % len(SYMBOLS)],
                    "size": 5,
                    "opacity": 0.7,
                },
                hovertemplate=f"{name}: %{{x:.2f}}, %{{y:.2f}}<extra></extra>",
                **place,
            )
            if centres is not None:
                end = (
                    radius
                    * centres[identity]
                    / max(float(np.linalg.norm(centres[identity])), 1e-12)
                )
                drawn.add_scatter(
                    x=[0.0, end[0]],
                    y=[0.0, end[1]],
                    mode="lines",
                    legendgroup=name,
                    showlegend=False,
                    line={**look, "width": 2},
                    hoverinfo="skip",
                    **place,
                )
        drawn.add_scatter(
            x=[0.0],
            y=[0.0],
            mode="markers",
            marker={"color": BLACK, "size": 5},
            showlegend=False,
            hoverinfo="skip",
            **place,
        )
        edge = 1.06 * radius
        along = "x" if number == 0 else f"x{number + 1}"
        drawn.update_xaxes(
            title_text="First number of the embedding",
            range=[-edge, edge],
            constrain="domain",
            **place,
        )
        drawn.update_yaxes(
            title_text="Second number of the embedding",
            range=[-edge, edge],
            constrain="domain",
            scaleanchor=along,
            **place,
        )
    drawn.update_xaxes(
        showline=True,
        linecolor=GREY,
        ticks="outside",
        gridcolor="#E6E6E6",
        zeroline=False,
        title_standoff=6,
    )
    drawn.update_yaxes(
        showline=True,
        linecolor=GREY,
        ticks="outside",
        gridcolor="#E6E6E6",
        zeroline=False,
        title_standoff=2,
    )
    drawn.update_layout(
        height=80 + 380 * rows,
        margin={"t": 80},
        legend={"y": 1 + 40 / (380 * rows), "font_size": 11, "itemsizing": "constant"},
    )
    return drawn
