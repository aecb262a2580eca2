"""Distributions of angles and of similarities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from workbench.arrays import Floats
from workbench.plots.theme import (
    BLACK,
    GENUINE,
    GREY,
    IMPOSTOR,
    captioned,
    colour_of,
    faded,
    figure,
    styles,
)

PITCH = 1.3
"""Distance between two rows of distributions, each of height 1."""


def pair_angles(results: Mapping[str, Any], bin_degrees: float = 3.0) -> go.Figure:
    """Angles between the embeddings of genuine and of impostor pairs, a row per run; dotted, the threshold.

    Args:
        results: {run name: verification result whose scores are cosines}.
    """
    drawn = _ridges(list(results), "Angle between the two embeddings (degrees)", bin_degrees)
    for row, (name, result) in enumerate(results.items()):
        degrees = np.degrees(np.arccos(np.clip(result.scores, -1, 1)))
        _ridge(drawn, row, degrees[result.same], "genuine pairs", GENUINE, bin_degrees)
        _ridge(drawn, row, degrees[~result.same], "impostor pairs", IMPOSTOR, bin_degrees)
        threshold = float(np.degrees(np.arccos(np.clip(result.threshold, -1, 1))))
        drawn.add_scatter(
            x=[threshold, threshold],
            y=[-PITCH * row, -PITCH * row + 1],
            mode="lines",
            line={"color": BLACK, "dash": "dot", "width": 1.5},
            name="threshold",
            legendgroup="threshold",
            showlegend=row == 0,
            hovertemplate=f"threshold {threshold:.1f}°<extra>{name}</extra>",
        )
    return captioned(drawn, results)


def centre_angles(angles: Mapping[str, Any], bin_degrees: float = 3.0) -> go.Figure:
    """Angles of embeddings to their own and to the nearest other class centre, a row per run.

    The further apart the two, the better the classes are separated; a margin pushes the left one left.

    Args:
        angles: {run name: (own, other)}, degrees, NaN where unknown.
    """
    drawn = _ridges(list(angles), "Angle to a class centre (degrees)", bin_degrees)
    for row, (own, other) in enumerate(angles.values()):
        _ridge(drawn, row, own[np.isfinite(own)], "own class centre", GENUINE, bin_degrees)
        _ridge(
            drawn,
            row,
            other[np.isfinite(other)],
            "nearest other class centre",
            IMPOSTOR,
            bin_degrees,
        )
    return drawn


def margin_curves(
    curves: Mapping[str, tuple[Floats, Floats]], y: str = "Target logit"
) -> go.Figure:
    """Target logit against the angle to the own class centre: what each margin asks for.

    Args:
        curves: {loss: (angles in degrees, target logits)}, as of `wb.losses.curves`.
        y: title of the axis; "Target logit / s" where they are divided by the scale.
    """
    return _over_angles(curves, y)


def margin_slopes(slopes: Mapping[str, tuple[Floats, Floats]], highest: float = 4.0) -> go.Figure:
    """Slope of the margin curves against the angle to the own class centre: how hard each pulls there, next to no margin's 1.

    Args:
        slopes: {loss: (angles in degrees, slopes)}, as of `wb.losses.slopes`.
        highest: end of the axis; an additive angular margin's slope grows without bound towards 0 degrees.
    """
    drawn = _over_angles(slopes, "Slope d psi / d cos theta")
    drawn.update_yaxes(range=[-0.1, highest])
    return drawn


def _over_angles(curves: Mapping[str, tuple[Floats, Floats]], y: str) -> go.Figure:
    drawn = figure("Angle to the own class centre (degrees)", y)
    for name, style in styles(curves).items():
        degrees, values = curves[name]
        drawn.add_scatter(
            x=degrees,
            y=values,
            name=name,
            line={"color": style.colour, "dash": style.dash, "width": 2.4},
        )
    drawn.update_xaxes(range=[0, 180], dtick=30)
    return drawn


def pair_similarity(result: Any, similarity: float, name: str = "") -> go.Figure:
    """Where one pair's similarity lies among a benchmark's genuine and impostor pairs.

    Args:
        result: verification result whose scores are cosines.
        similarity: cosine of the pair, -1..1.
        name: run, for its colour.
    """
    drawn = figure("Similarity (cosine)", "Share of pairs")
    edges = np.linspace(-1, 1, 61)
    for kind, chosen, colour in (
        ("impostor pairs", ~result.same, IMPOSTOR),
        ("genuine pairs", result.same, GENUINE),
    ):
        counts, _ = np.histogram(result.scores[chosen], edges)
        drawn.add_bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=counts / counts.sum(),
            width=np.diff(edges),
            name=kind,
            marker={"color": faded(colour, 0.55), "line_width": 0},
            hovertemplate="cosine %{x:.2f}: %{y:.1%}",
        )
    drawn.add_vline(x=result.threshold, line={"color": GREY, "dash": "dot", "width": 2})
    drawn.add_annotation(
        x=result.threshold,
        y=1,
        yref="paper",
        yanchor="bottom",
        showarrow=False,
        text="threshold",
        font_color=GREY,
    )
    drawn.add_vline(x=similarity, line={"color": colour_of(name) if name else BLACK, "width": 4})
    drawn.add_annotation(
        x=similarity,
        y=0.86,
        yref="paper",
        xanchor="right" if similarity > 0 else "left",
        showarrow=False,
        text=f"<b> this pair {similarity:.3f} </b>",
        bgcolor="white",
        opacity=0.9,
    )
    drawn.update_layout(barmode="overlay", height=300, legend={"y": 1.08})
    low = min(float(result.scores.min()), similarity, result.threshold)
    drawn.update_xaxes(range=[max(-1.02, low - 0.1), 1.02])
    drawn.update_yaxes(tickformat=".0%")
    return drawn


def _ridges(names: list[str], x: str, bin_degrees: float) -> go.Figure:
    drawn = figure(f"{x}; share per {bin_degrees:g}° bin", "")
    drawn.update_xaxes(range=[0, 130], dtick=15)
    drawn.update_yaxes(
        tickvals=[-PITCH * row + 0.35 for row in range(len(names))],
        ticktext=names,
        range=[-PITCH * (len(names) - 1) - 0.04, 1.3],
        showgrid=False,
        automargin=True,
        ticks="",
    )
    drawn.update_layout(height=130 + 150 * max(len(names), 1))
    return drawn


def _ridge(
    drawn: go.Figure, row: int, degrees: Floats, kind: str, colour: str, bin_degrees: float
) -> None:
    if not len(degrees):
        return
    counts, edges = np.histogram(degrees, np.arange(0, 180 + bin_degrees, bin_degrees))
    share = counts / len(degrees)
    middle = (edges[:-1] + edges[1:]) / 2
    drawn.add_scatter(
        x=np.concatenate([middle, middle[::-1]]),
        y=np.concatenate([share / share.max(), np.zeros(len(middle))]) - PITCH * row,
        fill="toself",
        fillcolor=faded(colour, 0.35),
        line={"color": colour, "width": 1.6},
        name=kind,
        legendgroup=kind,
        showlegend=kind
        not in {trace.name for trace in drawn.data},  # the first run may have none of a kind
        hoverinfo="name+text",
        hoveron="fills",
        text=f"{kind}: mean {degrees.mean():.1f}°, standard deviation {degrees.std():.1f}°, {len(degrees):,}",
    )
    drawn.add_annotation(
        x=degrees.mean(), y=-PITCH * row + 1.1, text=f"{degrees.mean():.0f}° ± {degrees.std():.0f}°", showarrow=False,
        font={"size": 11, "color": colour},
    )  # fmt: skip
