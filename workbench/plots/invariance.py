"""Figures of invariance: similarity and accept rate by the difference in yaw, age, light, ..."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from workbench.arrays import Floats
from workbench.plots.theme import BLACK, Style, faded, figure, styles


def invariance(curves: Mapping[str, Any], relative: bool = False) -> go.Figure:
    """Draws the median similarity of genuine pairs against their difference in one factor.

    A circle marks the crossing, the difference at which the median falls below the run's threshold
    and half of the genuine pairs are rejected. The bands are 95 % intervals. If there is a single
    run, the range from the 10th to the 90th percentile of the pairs is drawn too.

    Args:
        curves: invariance curves by run name, all of the same factor.
        relative: subtract the threshold of each run, so that all runs cross the same line. By
            default the thresholds are drawn as dotted lines.

    Returns:
        A figure with one line for each run.

    Example:
        >>> import numpy as np
        >>> import workbench as wb
        >>> same = np.arange(400) < 200
        >>> yaw = np.tile([0.0, 15.0, 30.0, 45.0], 100)
        >>> scores = np.where(same, 0.8 - yaw / 100, np.linspace(-0.4, 0.5, 400))
        >>> curve = wb.evaluation.invariance(scores, same, yaw, factor="yaw", bootstrap=0)
        >>> fig = invariance({"arcface": curve})
        >>> fig.layout.yaxis.title.text
        'Similarity of genuine pairs (cosine)'
    """
    y = (
        "Similarity minus threshold (cosine)"
        if relative
        else "Similarity of genuine pairs (cosine)"
    )
    fig = _empty(
        curves, y, "dotted: threshold at FAR {far:g} %; circle: half of the genuine pairs refused"
    )
    for name, style in styles(curves).items():
        curve = curves[name]
        shift = curve.threshold if relative else 0.0
        if len(curves) == 1:
            _band(
                fig,
                "spread",
                curve.gap,
                curve.spread - shift,
                faded(style.colour, 0.10),
                "10 to 90 % of the pairs",
            )
        if curve.median_interval is not None:
            _band(fig, name, curve.gap, curve.median_interval - shift, faded(style.colour, 0.22))
        hover = (
            "%{customdata[0]}: median %{customdata[1]:.3f}<br>"
            "threshold %{customdata[2]:.3f}, %{customdata[3]:,} pairs"
        )
        thresholds = np.full(len(curve.gap), curve.threshold)
        _line(
            fig,
            name,
            style,
            curve,
            curve.median - shift,
            [curve.median, thresholds, curve.count],
            hover,
        )
        if not relative:
            fig.add_scatter(
                x=[curve.gap[0], curve.gap[-1]],
                y=[curve.threshold, curve.threshold],
                mode="lines",
                line={"color": style.colour, "dash": "dot", "width": 1.4},
                legendgroup=name,
                showlegend=False,
                hoverinfo="skip",
            )
        if curve.gap[0] < curve.crossing < np.inf:
            _circle(fig, name, style, curve, curve.threshold - shift)
    if relative and curves:
        fig.add_hline(y=0, line={"color": BLACK, "dash": "dot", "width": 1.4})
    return fig


def invariance_tar(curves: Mapping[str, Any]) -> go.Figure:
    """Draws the share of genuine pairs that are accepted against their difference in one factor.

    The threshold of each run is the one at the FAR of its curve. The bands are 95 % intervals.

    Args:
        curves: invariance curves by run name, all of the same factor and FAR.

    Returns:
        A figure with one line for each run.

    Example:
        >>> import numpy as np
        >>> import workbench as wb
        >>> same = np.arange(400) < 200
        >>> yaw = np.tile([0.0, 15.0, 30.0, 45.0], 100)
        >>> scores = np.where(same, 0.8 - yaw / 100, np.linspace(-0.4, 0.5, 400))
        >>> curve = wb.evaluation.invariance(scores, same, yaw, factor="yaw", bootstrap=0)
        >>> fig = invariance_tar({"arcface": curve})
        >>> fig.data[0].y.tolist()
        [1.0, 1.0, 1.0, 0.0]
    """
    fig = _empty(
        curves,
        "True accept rate at FAR {far:g} %",
        "share of genuine pairs accepted, 95 % interval",
    )
    for name, style in styles(curves).items():
        curve = curves[name]
        if curve.tar_interval is not None:
            _band(fig, name, curve.gap, curve.tar_interval, faded(style.colour, 0.15))
        hover = "%{customdata[0]}: %{y:.1%} of %{customdata[1]:,} genuine pairs accepted"
        _line(fig, name, style, curve, curve.tar, [curve.count], hover)
    fig.update_yaxes(range=[-0.02, 1.03], tickformat=".0%")
    return fig


def _empty(curves: Mapping[str, Any], y: str, key: str) -> go.Figure:
    """Returns axes with the name and unit of the factor, and a key in small print below them."""
    if not curves:
        return figure("Difference", y.partition(" at FAR")[0])
    curve = next(iter(curves.values()))
    title = curve.title if curve.unit == "share" else f"{curve.title} ({curve.unit})"
    fig = figure(
        f"{title}<br><sub>{key.format(far=100 * curve.far)}</sub>", y.format(far=100 * curve.far)
    )
    # In a narrow column the legend has one entry a row.
    fig.update_layout(height=440 + 20 * max(len(curves) - 2, 0), margin_b=80)
    widest = max(float(curve.gap[-1]) for curve in curves.values())
    fig.update_xaxes(range=[-0.03 * widest, 1.03 * widest])
    if curve.unit == "share":
        fig.update_xaxes(tickformat=".0%")
    elif curve.unit == "degrees":
        fig.update_xaxes(dtick=15)
    return fig


def _line(
    fig: go.Figure, name: str, style: Style, curve: Any, y: Floats, more: list[Floats], hover: str
) -> None:
    """Draws the line of a run with markers. `more` is shown in the hover text."""
    fig.add_scatter(
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
    fig: go.Figure, name: str, gap: Floats, edges: Floats, colour: str, shown: str = ""
) -> None:
    """Draws the area between the lower and the upper edge where both are finite."""
    finite = np.isfinite(edges).all(axis=0)
    fig.add_scatter(
        x=np.concatenate([gap[finite], gap[finite][::-1]]),
        y=np.concatenate([edges[0][finite], edges[1][finite][::-1]]),
        fill="toself",
        fillcolor=colour,
        line_width=0,
        mode="lines",
        hoverinfo="skip",
        name=shown,
        legendgroup=name,
        showlegend=bool(shown),
    )


def _circle(fig: go.Figure, name: str, style: Style, curve: Any, y: float) -> None:
    """Marks the crossing of a curve."""
    fig.add_scatter(
        x=[curve.crossing],
        y=[y],
        mode="markers",
        marker={"size": 12, "color": "white", "line": {"color": style.colour, "width": 2.4}},
        legendgroup=name,
        showlegend=False,
        hovertemplate=f"half of the pairs are refused from {curve.text(curve.crossing)}"
        f"<extra>{name}</extra>",
    )
