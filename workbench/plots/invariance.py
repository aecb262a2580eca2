"""How embeddings bear yaw, age, light and occlusion: similarity and accept rate against the gap of genuine pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from workbench.arrays import Floats
from workbench.plots.theme import BLACK, Style, faded, figure, styles


def invariance(curves: Mapping[str, Any], relative: bool = False) -> go.Figure:
    """Median similarity of genuine pairs against their gap in one factor, a line per run with its 95 % band.

    A circle marks the crossing, where the median falls below the run's threshold and every second genuine pair is refused.
    Of a single run the 10 to 90 % range of the pairs is drawn too.

    Args:
        curves: {run name: invariance curve}, all of one factor.
        relative: subtract each run's threshold, so that all runs cross the same line; else thresholds are drawn, dotted.
    """
    y = (
        "Similarity minus threshold (cosine)"
        if relative
        else "Similarity of genuine pairs (cosine)"
    )
    drawn = _empty(
        curves, y, "dotted: threshold at FAR {far:g} %; circle: half of the genuine pairs refused"
    )
    for name, style in styles(curves).items():
        curve = curves[name]
        shift = curve.threshold if relative else 0.0
        if len(curves) == 1:
            _band(
                drawn,
                "spread",
                curve.gap,
                curve.spread - shift,
                faded(style.colour, 0.10),
                "10 to 90 % of the pairs",
            )
        if curve.median_interval is not None:
            _band(drawn, name, curve.gap, curve.median_interval - shift, faded(style.colour, 0.22))
        hover = "%{customdata[0]}: median %{customdata[1]:.3f}<br>threshold %{customdata[2]:.3f}, %{customdata[3]:,} pairs"
        fixed = np.full(len(curve.gap), curve.threshold)
        _line(
            drawn,
            name,
            style,
            curve,
            curve.median - shift,
            [curve.median, fixed, curve.count],
            hover,
        )
        if not relative:
            drawn.add_scatter(
                x=[curve.gap[0], curve.gap[-1]],
                y=[curve.threshold, curve.threshold],
                mode="lines",
                line={"color": style.colour, "dash": "dot", "width": 1.4},
                legendgroup=name,
                showlegend=False,
                hoverinfo="skip",
            )
        if curve.gap[0] < curve.crossing < np.inf:
            _circle(drawn, name, style, curve, curve.threshold - shift)
    if relative and curves:
        drawn.add_hline(y=0, line={"color": BLACK, "dash": "dot", "width": 1.4})
    return drawn


def invariance_tar(curves: Mapping[str, Any]) -> go.Figure:
    """Share of genuine pairs accepted at the curves' FAR against their gap in one factor, a line per run with its 95 % band.

    Args:
        curves: {run name: invariance curve}, all of one factor and FAR.
    """
    drawn = _empty(
        curves,
        "True accept rate at FAR {far:g} %",
        "share of genuine pairs accepted, 95 % interval",
    )
    for name, style in styles(curves).items():
        curve = curves[name]
        if curve.tar_interval is not None:
            _band(drawn, name, curve.gap, curve.tar_interval, faded(style.colour, 0.15))
        hover = "%{customdata[0]}: %{y:.1%} of %{customdata[1]:,} genuine pairs accepted"
        _line(drawn, name, style, curve, curve.tar, [curve.count], hover)
    drawn.update_yaxes(range=[-0.02, 1.03], tickformat=".0%")
    return drawn


def _empty(curves: Mapping[str, Any], y: str, key: str) -> go.Figure:
    """Axes of the factor: its title and unit, below it a key in small print, and ticks where people look for them."""
    if not curves:
        return figure("Difference", y.partition(" at FAR")[0])
    curve = next(iter(curves.values()))
    title = curve.title if curve.unit == "share" else f"{curve.title} ({curve.unit})"
    drawn = figure(
        f"{title}<br><sub>{key.format(far=100 * curve.far)}</sub>", y.format(far=100 * curve.far)
    )
    drawn.update_layout(
        height=440 + 20 * max(len(curves) - 2, 0), margin_b=80
    )  # in a narrow place a legend entry a row
    widest = max(float(curve.gap[-1]) for curve in curves.values())
    drawn.update_xaxes(range=[-0.03 * widest, 1.03 * widest])
    if curve.unit == "share":
        drawn.update_xaxes(tickformat=".0%")
    elif curve.unit == "degrees":
        drawn.update_xaxes(dtick=15)
    return drawn


def _line(
    drawn: go.Figure, name: str, style: Style, curve: Any, y: Floats, more: list[Floats], hover: str
) -> None:
    drawn.add_scatter(
        x=curve.gap,
        y=y,
        mode="lines+markers",
        name=name,
        legendgroup=name,
        line={"color": style.colour, "dash": style.dash, "width": 2.4},
        marker={"color": style.colour, "size": 6},
        customdata=list(
            zip(
                [curve.text(gap) for gap in curve.gap],
                *(values.tolist() for values in more),
                strict=True,
            )
        ),
        hovertemplate=hover,
    )


def _band(
    drawn: go.Figure, name: str, gap: Floats, edges: Floats, colour: str, shown: str = ""
) -> None:
    """Between the lower and the upper edge; where they are not known there is none."""
    known = np.isfinite(edges).all(axis=0)
    drawn.add_scatter(
        x=np.concatenate([gap[known], gap[known][::-1]]),
        y=np.concatenate([edges[0][known], edges[1][known][::-1]]),
        fill="toself",
        fillcolor=colour,
        line_width=0,
        mode="lines",
        hoverinfo="skip",
        name=shown,
        legendgroup=name,
        showlegend=bool(shown),
    )


def _circle(drawn: go.Figure, name: str, style: Style, curve: Any, y: float) -> None:
    drawn.add_scatter(
        x=[curve.crossing],
        y=[y],
        mode="markers",
        marker={"size": 12, "color": "white", "line": {"color": style.colour, "width": 2.4}},
        legendgroup=name,
        showlegend=False,
        hovertemplate=f"half of the pairs are refused from {curve.text(curve.crossing)}<extra>{name}</extra>",
    )
