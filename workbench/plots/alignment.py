"""What finding and aligning faces is worth: accuracy on the same pairs, as they are, cropped and aligned."""

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
"""Between the dots of two runs in a row."""


def alignment(studies: Mapping[str, Any]) -> go.Figure:
    """Accuracy with its 95 % interval for each preparation of the pictures, a dot a run.

    Of a single run the paired differences to the pictures as they are stand beside the dots.

    Args:
        studies: {run name: study}, as `wb.experiments.alignment` makes them, all of one benchmark.
    """
    drawn = figure("Accuracy (95 % interval)", "")
    middle = (len(studies) - 1) / 2
    for number, (name, study) in enumerate(studies.items()):
        colour = colour_of(name)
        results = [study.results[key] for key in ROWS]
        accuracies = [result.accuracy for result in results]
        edges = [
            result.intervals.get("accuracy", (result.accuracy, result.accuracy))
            for result in results
        ]
        drawn.add_scatter(
            x=accuracies,
            y=[row + STEP * (number - middle) for row in range(len(ROWS))],
            mode="lines+markers",
            line={"color": colour, "width": 1, "dash": "dot"},
            marker={"color": colour, "size": 11},
            error_x={
                "type": "data",
                "array": [high - value for value, (_, high) in zip(accuracies, edges, strict=True)],
                "arrayminus": [
                    value - low for value, (low, _) in zip(accuracies, edges, strict=True)
                ],
                "width": 5,
                "thickness": 2,
            },
            name=name,
            hovertemplate="%{x:.2%}",
        )
    if len(studies) == 1:
        (study,) = studies.values()
        _differences(drawn, study)
    rows = list(ROWS.values())
    drawn.update_yaxes(
        tickvals=list(range(len(rows))),
        ticktext=rows,
        range=[len(rows) - 0.4, -0.6],
        showgrid=False,
        automargin=True,
        ticks="",
    )
    drawn.update_xaxes(tickformat=".0%", title_standoff=8)
    drawn.update_layout(height=250 + 60 * max(len(studies) - 1, 0), showlegend=True)
    return captioned(drawn, {name: study.results["raw"] for name, study in studies.items()})


def _differences(drawn: go.Figure, study: Any) -> None:
    """Right of the axes: how much better than the pictures as they are."""
    drawn.add_annotation(
        x=1.02, y=-0.52, xref="paper", yref="y", xanchor="left", showarrow=False, font={"size": 12, "color": GREY},
        text="difference to as they are, paired",
    )  # fmt: skip
    for row, key in enumerate(ROWS):
        if (difference := study.differences.get((key, "raw"))) is None:
            continue
        drawn.add_annotation(
            x=1.02, y=row, xref="paper", yref="y", xanchor="left", showarrow=False, align="left",
            text=f"<b>{100 * difference.value:+.1f}</b> points<br>"
            f"[{100 * difference.interval[0]:+.1f}, {100 * difference.interval[1]:+.1f}]",
            font={"color": BLACK},
        )  # fmt: skip
    drawn.update_layout(margin_r=230)
