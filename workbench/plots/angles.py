"""Figures of angles and similarities: distributions, margin curves, one pair in a benchmark."""

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
"""Vertical distance between two rows of distributions, each of which has the height 1."""


def pair_angles(results: Mapping[str, Any], bin_degrees: float = 3.0) -> go.Figure:
    """Draws the angles between the embeddings of genuine and of impostor pairs.

    A dotted line marks the angle at the threshold. Where the two distributions overlap, every
    threshold makes mistakes.

    Args:
        results: verification results by run name. Their scores are cosines.
        bin_degrees: width of a histogram bin in degrees.

    Returns:
        A figure with one row for each run.

    Example:
        >>> import numpy as np
        >>> import workbench as wb
        >>> scores = np.r_[np.linspace(0.1, 0.9, 60), np.linspace(-0.3, 0.5, 60)]
        >>> same = np.arange(120) < 60
        >>> result = wb.evaluation.verification(scores, same, np.arange(120) % 10)
        >>> fig = pair_angles({"arcface": result})
        >>> [trace.name for trace in fig.data]
        ['genuine pairs', 'impostor pairs', 'threshold']
    """
    fig = _ridges(list(results), "Angle between the two embeddings (degrees)", bin_degrees)
    for row, (name, result) in enumerate(results.items()):
        degrees = np.degrees(np.arccos(np.clip(result.scores, -1, 1)))
        _ridge(fig, row, degrees[result.same], "genuine pairs", GENUINE, bin_degrees)
        _ridge(fig, row, degrees[~result.same], "impostor pairs", IMPOSTOR, bin_degrees)
        threshold = float(np.degrees(np.arccos(np.clip(result.threshold, -1, 1))))
        fig.add_scatter(
            x=[threshold, threshold],
            y=[-PITCH * row, -PITCH * row + 1],
            mode="lines",
            line={"color": BLACK, "dash": "dot", "width": 1.5},
            name="threshold",
            legendgroup="threshold",
            showlegend=row == 0,
            hovertemplate=f"threshold {threshold:.1f}°<extra>{name}</extra>",
        )
    return captioned(fig, results)


def centre_angles(angles: Mapping[str, Any], bin_degrees: float = 3.0) -> go.Figure:
    """Draws the angles of embeddings to their own and to the nearest other class centre.

    The larger the gap between the two distributions, the better the classes are separated. A
    margin moves the angles to the own class centre towards 0.

    Args:
        angles: (own, other) by run name: two arrays of angles in degrees, one for each image. NaN
            stands for an unknown angle.
        bin_degrees: width of a histogram bin in degrees.

    Returns:
        A figure with one row for each run.

    Example:
        >>> import numpy as np
        >>> angles = np.linspace(20.0, 40.0, 50), np.linspace(70.0, 90.0, 50)
        >>> fig = centre_angles({"arcface": angles})
        >>> [trace.name for trace in fig.data]
        ['own class centre', 'nearest other class centre']
    """
    fig = _ridges(list(angles), "Angle to a class centre (degrees)", bin_degrees)
    for row, (own, other) in enumerate(angles.values()):
        _ridge(fig, row, own[np.isfinite(own)], "own class centre", GENUINE, bin_degrees)
        _ridge(
            fig,
            row,
            other[np.isfinite(other)],
            "nearest other class centre",
            IMPOSTOR,
            bin_degrees,
        )
    return fig


def distributions(
    rows: Mapping[str, Mapping[str, Floats]],
    colours: Mapping[str, str],
    x: str,
    bin_degrees: float = 3.0,
) -> go.Figure:
    """Draws distributions of angles, one row below the other.

    Args:
        rows: angles in degrees by the name of the row and by kind. A kind without angles is drawn
            without a curve.
        colours: colour of each kind.
        x: title of the horizontal axis.
        bin_degrees: width of a histogram bin in degrees.

    Returns:
        A figure with one row for each name. Each row has one trace for each of `colours`, so that
        figures of the same rows can be frames of one figure.

    Example:
        >>> import numpy as np
        >>> rows = {"early": {"own": np.linspace(50.0, 80.0, 9)}, "late": {"own": np.empty(0)}}
        >>> fig = distributions(rows, {"own": "#44AA99"}, "Angle (degrees)")
        >>> [len(trace.x) > 0 for trace in fig.data]
        [True, False]
    """
    fig = _ridges(list(rows), x, bin_degrees)
    for row, by_kind in enumerate(rows.values()):
        # The texts of the lowest and of the highest mean point away from each other.
        means = {kind: by_kind[kind].mean() for kind in colours if len(by_kind.get(kind, ()))}
        anchors = {min(means, key=means.__getitem__, default=""): "right"}
        anchors |= {kind: "left" for kind in means if kind not in anchors}
        for kind, colour in colours.items():
            if kind in means:
                _ridge(fig, row, by_kind[kind], kind, colour, bin_degrees, anchors[kind])
            else:
                fig.add_scatter(x=[], y=[], name=kind, legendgroup=kind, showlegend=False)
    return fig


def margin_curves(
    curves: Mapping[str, tuple[Floats, Floats]], y: str = "Target logit"
) -> go.Figure:
    """Draws the target logit against the angle to the own class centre.

    Args:
        curves: (angles in degrees, target logits) by name of the loss, as `wb.losses.curves`
            returns them.
        y: title of the vertical axis; "Target logit / s" if the logits are divided by the scale s.

    Returns:
        A figure with one line for each loss.

    Example:
        >>> import numpy as np
        >>> degrees = np.arange(181.0)
        >>> fig = margin_curves({"softmax": (degrees, np.cos(np.radians(degrees)))})
        >>> fig.layout.xaxis.range
        (0, 180)
    """
    return _over_angles(curves, y)


def margin_slopes(slopes: Mapping[str, tuple[Floats, Floats]], highest: float = 4.0) -> go.Figure:
    """Draws the slope of the margin curves against the angle to the own class centre.

    The slope is the derivative of the target logit (without the scale s) by the cosine. A loss
    without a margin has the slope 1 everywhere.

    Args:
        slopes: (angles in degrees, slopes) by name of the loss, as `wb.losses.slopes` returns them.
        highest: upper end of the vertical axis. The slope of an additive angular margin grows
            without bound towards 0 degrees.

    Returns:
        A figure with one line for each loss.

    Example:
        >>> import numpy as np
        >>> degrees = np.arange(1.0, 180.0)
        >>> fig = margin_slopes({"softmax": (degrees, np.ones(179))})
        >>> fig.layout.yaxis.range
        (-0.1, 4.0)
    """
    fig = _over_angles(slopes, "Slope d psi / d cos theta")
    fig.update_yaxes(range=[-0.1, highest])
    return fig


def _over_angles(curves: Mapping[str, tuple[Floats, Floats]], y: str) -> go.Figure:
    """Draws curves over the angle to the own class centre."""
    fig = figure("Angle to the own class centre (degrees)", y)
    for name, style in styles(curves).items():
        degrees, values = curves[name]
        fig.add_scatter(
            x=degrees,
            y=values,
            name=name,
            line={"color": style.colour, "dash": style.dash, "width": 2.4},
        )
    fig.update_xaxes(range=[0, 180], dtick=30)
    return fig


def pair_similarity(
    result: Any, similarity: float, name: str = "", threshold: float | None = None
) -> go.Figure:
    """Draws the similarity of one pair among those of a benchmark's genuine and impostor pairs.

    Args:
        result: verification result whose scores are cosines.
        similarity: cosine of the pair, -1 to 1.
        name: name of the run, which decides the colour of the pair; black by default.
        threshold: cosine from which pairs are accepted; by default the result's own.

    Returns:
        A figure with two histograms and one line each for the pair and for the threshold.

    Example:
        >>> import numpy as np
        >>> import workbench as wb
        >>> scores = np.r_[np.linspace(0.1, 0.9, 60), np.linspace(-0.3, 0.5, 60)]
        >>> same = np.arange(120) < 60
        >>> result = wb.evaluation.verification(scores, same, np.arange(120) % 10)
        >>> fig = pair_similarity(result, similarity=0.7, name="arcface")
        >>> [trace.name for trace in fig.data]
        ['impostor pairs', 'genuine pairs']
    """
    limit = result.threshold if threshold is None else threshold
    fig = figure("Similarity (cosine)", "Share of pairs")
    edges = np.linspace(-1, 1, 61)
    for kind, chosen, colour in (
        ("impostor pairs", ~result.same, IMPOSTOR),
        ("genuine pairs", result.same, GENUINE),
    ):
        counts, _ = np.histogram(result.scores[chosen], edges)
        fig.add_bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=counts / counts.sum(),
            width=np.diff(edges),
            name=kind,
            marker={"color": faded(colour, 0.55), "line_width": 0},
            hovertemplate="cosine %{x:.2f}: %{y:.1%}",
        )
    fig.add_vline(x=limit, line={"color": GREY, "dash": "dot", "width": 2})
    fig.add_annotation(
        x=limit,
        y=1,
        yref="paper",
        yanchor="bottom",
        showarrow=False,
        text="threshold",
        font_color=GREY,
    )
    fig.add_vline(x=similarity, line={"color": colour_of(name) if name else BLACK, "width": 4})
    fig.add_annotation(
        x=similarity,
        y=0.86,
        yref="paper",
        xanchor="right" if similarity > 0 else "left",
        showarrow=False,
        text=f"<b> this pair {similarity:.3f} </b>",
        bgcolor="white",
        opacity=0.9,
    )
    fig.update_layout(barmode="overlay", height=300, legend={"y": 1.08})
    low = min(float(result.scores.min()), similarity, limit)
    fig.update_xaxes(range=[max(-1.02, low - 0.1), 1.02])
    fig.update_yaxes(tickformat=".0%")
    return fig


def _ridges(names: list[str], x: str, bin_degrees: float) -> go.Figure:
    """Returns axes with one row for the distributions of each run."""
    fig = figure(f"{x}; share per {bin_degrees:g}° bin", "")
    fig.update_xaxes(range=[0, 130], dtick=15)
    fig.update_yaxes(
        tickvals=[-PITCH * row + 0.35 for row in range(len(names))],
        ticktext=names,
        range=[-PITCH * (len(names) - 1) - 0.04, 1.3],
        showgrid=False,
        automargin=True,
        ticks="",
    )
    fig.update_layout(height=130 + 150 * max(len(names), 1))
    return fig


def _ridge(
    fig: go.Figure,
    row: int,
    degrees: Floats,
    kind: str,
    colour: str,
    bin_degrees: float,
    anchor: str = "center",
) -> None:
    """Draws a distribution into a row, with its mean above it at `anchor` of the text."""
    if not len(degrees):
        return
    counts, edges = np.histogram(degrees, np.arange(0, 180 + bin_degrees, bin_degrees))
    share = counts / len(degrees)
    middle = (edges[:-1] + edges[1:]) / 2
    mean, deviation = degrees.mean(), degrees.std()
    fig.add_scatter(
        x=np.concatenate([middle, middle[::-1]]),
        y=np.concatenate([share / share.max(), np.zeros(len(middle))]) - PITCH * row,
        fill="toself",
        fillcolor=faded(colour, 0.35),
        line={"color": colour, "width": 1.6},
        name=kind,
        legendgroup=kind,
        # The first run may have no pairs of this kind, so the first trace has the legend entry.
        showlegend=kind not in {trace.name for trace in fig.data},
        hoverinfo="name+text",
        hoveron="fills",
        text=f"{kind}: mean {mean:.1f}°, standard deviation {deviation:.1f}°, {len(degrees):,}",
    )
    fig.add_annotation(
        x=mean,
        y=-PITCH * row + 1.1,
        text=f"{mean:.0f}° ± {deviation:.0f}°",
        showarrow=False,
        xanchor=anchor,
        font={"size": 11, "color": colour},
    )
