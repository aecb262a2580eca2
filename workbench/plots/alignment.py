"""The figure of the alignment study: accuracy on photos as they are, cropped and aligned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from workbench.plots.theme import BLACK, GREY, captioned, colour_of, figure

ROWS = {
    "raw": "pictures as they are",
    "cropped": "face found, cropped",
    "aligned": "face found, aligned",
}
STEP = 0.2
"""Vertical distance between the dots of two runs in the same row."""


def alignment(studies: Mapping[str, Any]) -> go.Figure:
    """Draws the accuracy of runs on unprocessed, cropped and aligned photos, with 95 % intervals.

    If there is a single run, the paired differences to the unprocessed photos are printed next to
    the axes.

    Args:
        studies: `AlignmentStudy` of each run by name, as `wb.experiments.alignment` returns it.
            All of them are of the same benchmark.

    Returns:
        A figure with one row for each preparation and one dot in it for each run.
    """
    fig = figure("Accuracy (95 % interval)", "")
    middle = (len(studies) - 1) / 2
    for number, (name, study) in enumerate(studies.items()):
        colour = colour_of(name)
        results = [study.results[key] for key in ROWS]
        accuracies = [result.accuracy for result in results]
        intervals = [
            result.intervals.get("accuracy", (result.accuracy, result.accuracy))
            for result in results
        ]
        fig.add_scatter(
            x=accuracies,
            y=[row + STEP * (number - middle) for row in range(len(ROWS))],
            mode="lines+markers",
            line={"color": colour, "width": 1, "dash": "dot"},
            marker={"color": colour, "size": 11},
            error_x={
                "type": "data",
                "array": [
                    high - value for value, (_, high) in zip(accuracies, intervals, strict=True)
                ],
                "arrayminus": [
                    value - low for value, (low, _) in zip(accuracies, intervals, strict=True)
                ],
                "width": 5,
                "thickness": 2,
            },
            name=name,
            hovertemplate="%{x:.2%}",
        )
    if len(studies) == 1:
        (study,) = studies.values()
        _differences(fig, study)
    rows = list(ROWS.values())
    fig.update_yaxes(
        tickvals=list(range(len(rows))),
        ticktext=rows,
        range=[len(rows) - 0.4, -0.6],
        showgrid=False,
        automargin=True,
        ticks="",
    )
    fig.update_xaxes(tickformat=".0%", title_standoff=8)
    fig.update_layout(height=250 + 60 * max(len(studies) - 1, 0), showlegend=True)
    return captioned(fig, {name: study.results["raw"] for name, study in studies.items()})


def _differences(fig: go.Figure, study: Any) -> None:
    """Prints right of the axes how the accuracy differs from that on unprocessed photos."""
    fig.add_annotation(
        x=1.02,
        y=-0.52,
        xref="paper",
        yref="y",
        xanchor="left",
        showarrow=False,
        font={"size": 12, "color": GREY},
        text="difference to as they are, paired",
    )
    for row, key in enumerate(ROWS):
        if (difference := study.differences.get((key, "raw"))) is None:
            continue
        fig.add_annotation(
            x=1.02,
            y=row,
            xref="paper",
            yref="y",
            xanchor="left",
            showarrow=False,
            align="left",
            text=f"<b>{100 * difference.value:+.1f}</b> points<br>"
            f"[{100 * difference.interval[0]:+.1f}, {100 * difference.interval[1]:+.1f}]",
            font={"color": BLACK},
        )
    fig.update_layout(margin_r=230)
