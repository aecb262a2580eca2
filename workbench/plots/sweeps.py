"""The figure of a sweep: means over seeds, with the runs that they come from."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.plots.theme import BLACK, GREY, colour_of, faded, figure

PANELS_PER_ROW = 3


def sweep(runs: pd.DataFrame, title: str = "Accuracy", unit: str | None = None) -> go.Figure:
    """Draws the figures of the runs of a sweep, with the mean and standard deviation over seeds.

    Each panel is a column of the sweep's table, such as a backbone. Large markers are means over
    seeds, bars are one standard deviation (with ddof 1) to each side, and small markers are the
    runs.

    Args:
        runs: One line for each run with the columns row, column, seed and value.
        title: Title of the horizontal axis.
        unit: Unit of the values; by default (None) they are shares from 0 to 1, shown in percent.

    Returns:
        A figure with one panel for each column.

    Example:
        >>> import pandas as pd
        >>> from workbench import plots
        >>> runs = pd.DataFrame(
        ...     {"row": "arcface", "column": "r18", "seed": [0, 1], "value": [0.90, 0.94]}
        ... )
        >>> round(plots.sweep(runs).data[1].error_x.array[0], 4)
        0.0283
    """
    rows, columns = (list(dict.fromkeys(runs[axis])) for axis in ("row", "column"))
    number_format, factor = (".2%", 100) if unit is None else (".2f", 1)
    lines_of_panels = max(-(-len(columns) // PANELS_PER_ROW), 1)
    width = max(-(-len(columns) // lines_of_panels), 1)
    panel_height = 34 * max(len(rows), 1) + 40
    fig = make_subplots(
        lines_of_panels,
        width,
        shared_yaxes=True,
        shared_xaxes="all",
        subplot_titles=columns,
        horizontal_spacing=0.04,
        vertical_spacing=80 / (lines_of_panels * (panel_height + 80)),
        figure=figure("", ""),
    )
    for (column, row), group in runs.groupby(["column", "row"], sort=False):
        number = columns.index(column)
        place = {"row": number // width + 1, "col": number % width + 1}
        colour = colour_of(str(row))
        fig.add_scatter(
            x=group["value"],
            y=group["row"],
            mode="markers",
            marker={"color": faded(colour, 0.45), "size": 7},
            customdata=group["seed"],
            hovertemplate=f"{row}, seed %{{customdata}}: %{{x:{number_format}}}<extra></extra>",
            showlegend=False,
            **place,
        )
        sd = group["value"].std(ddof=1)
        spread = {"type": "data", "array": [sd], "width": 6, "thickness": 1.8, "color": colour}
        words = f" ± {factor * sd:.2f}, {len(group)} seeds" if len(group) > 1 else ", 1 seed"
        fig.add_scatter(
            x=[group["value"].mean()],
            y=[row],
            mode="markers",
            marker={"color": colour, "size": 12, "line": {"color": "white", "width": 1}},
            error_x=spread if len(group) > 1 else None,
            hovertemplate=f"{row}: %{{x:{number_format}}}{words}<extra></extra>",
            showlegend=False,
            **place,
        )
    fig.update_xaxes(
        tickformat="~%" if unit is None else None,
        ticks="outside",
        showline=True,
        linecolor=GREY,
        nticks=6,
        tickangle=0,
        title_standoff=8,
        showticklabels=True,
    )
    first_of_last_line = (lines_of_panels - 1) * width
    for number in range(lines_of_panels * width):
        place = {"row": number // width + 1, "col": number % width + 1}
        is_lowest = number + width >= len(columns)
        if number < len(columns) and (is_lowest or number >= first_of_last_line):
            fig.update_xaxes(title_text=title if unit is None else f"{title}, {unit}", **place)
        if number >= len(columns):
            fig.update_xaxes(visible=False, **place)
            fig.update_yaxes(visible=False, **place)
    fig.update_yaxes(
        categoryorder="array",
        categoryarray=rows,
        range=[len(rows) - 0.5, -0.5],
        automargin=True,
        ticks="",
        showline=True,
        linecolor=GREY,
    )
    _explain(fig, runs)
    fig.update_layout(height=lines_of_panels * (panel_height + 80) + 70, margin={"t": 40, "b": 95})
    return fig


def _explain(fig: go.Figure, runs: pd.DataFrame) -> None:
    """Adds a line below the figure that says what the markers are."""
    seeds = runs.groupby(["row", "column"])["value"].count()
    text = (
        "Large: mean over seeds, ± one standard deviation. Small: single runs."
        if len(seeds) and seeds.max() > 1
        else "One run for each setting: differences may be due to the seed alone."
    )
    fig.add_annotation(
        x=0,
        y=0,
        xref="paper",
        yref="paper",
        xanchor="left",
        yanchor="top",
        yshift=-62,
        align="left",
        showarrow=False,
        text=text,
        font={"size": 11, "color": BLACK},
        opacity=0.75,
    )
