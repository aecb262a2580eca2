"""The figure of several settings on several benchmarks, with the seeds of each."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.plots.theme import BLACK, GREY, colour_of, faded, figure

PANELS_PER_ROW = 3
ROW_HEIGHT, PANEL_MARGIN = 26, 80
"""Height of a row in pixels, and what a panel needs besides its rows."""
LEVEL = 0.95


def seeds(runs: pd.DataFrame, baseline: str | None = None) -> go.Figure:
    """Draws the runs of several settings on several benchmarks, one panel for each benchmark.

    Dots are the runs. A vertical line is the mean over the seeds, and the horizontal bar is the
    95 % interval of this mean by Student's t, with the runs as units. Whether two settings differ
    cannot be seen from whether their bars overlap; see `workbench.experiments.against_baseline`.

    Args:
        runs: One line for each run with the columns row (the setting, such as a loss), column (the
            benchmark, with the unit of its values), seed and value.
        baseline: Row whose mean is drawn as a line through each panel; by default none.

    Returns:
        A figure with one panel for each column.

    Example:
        >>> import pandas as pd
        >>> from workbench import plots
        >>> runs = pd.DataFrame(
        ...     {"row": "arcface", "column": "pose, %", "seed": [0, 1, 2], "value": [92, 93, 94]}
        ... )
        >>> fig = plots.seeds(runs)
        >>> fig.data[0].x[0], round(fig.data[0].error_x.array[0], 2)
        (93.0, 2.48)
    """
    rows, columns = (list(dict.fromkeys(runs[axis])) for axis in ("row", "column"))
    width = max(min(PANELS_PER_ROW, len(columns)), 1)
    lines = max(-(-len(columns) // width), 1)
    height = lines * (ROW_HEIGHT * len(rows) + PANEL_MARGIN)
    fig = make_subplots(
        lines,
        width,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=min(PANEL_MARGIN / max(height - 100, 1), 0.9 / max(lines - 1, 1)),
        figure=figure("", ""),
    )
    for number, column in enumerate(columns):
        place = {"row": number // width + 1, "col": number % width + 1}
        for row in rows:
            group = runs[(runs["column"] == column) & (runs["row"] == row)]
            if len(group):
                _add(fig, str(row), group, place)
        of_baseline = runs[(runs["column"] == column) & (runs["row"] == baseline)]["value"]
        if len(of_baseline):
            fig.add_vline(
                x=of_baseline.mean(), line={"color": GREY, "width": 1.2, "dash": "dot"}, **place
            )
        fig.update_xaxes(title_text=str(column), **place)
    for number in range(len(columns), lines * width):
        place = {"row": number // width + 1, "col": number % width + 1}
        fig.update_xaxes(visible=False, **place)
        fig.update_yaxes(visible=False, **place)
    fig.update_xaxes(
        ticks="outside", showline=True, linecolor=GREY, nticks=6, tickangle=0, title_standoff=6
    )
    fig.update_yaxes(
        categoryorder="array",
        categoryarray=rows,
        range=[len(rows) - 0.5, -0.5],
        automargin=True,
        ticks="",
        showline=True,
        linecolor=GREY,
    )
    _explain(fig, runs, baseline)
    fig.update_layout(height=height + 50, margin={"t": 20, "b": 110})
    return fig


def _add(fig: go.Figure, row: str, group: pd.DataFrame, place: dict[str, int]) -> None:
    """Draws the runs of one setting on one benchmark, and their mean."""
    colour, values = colour_of(row), group["value"].to_numpy(dtype=float)
    reach = _reach(values)
    bar = {"type": "data", "array": [reach], "width": 4, "thickness": 1.5, "color": colour}
    words = f" ± {reach:.2f}, {len(values)} seeds" if len(values) > 1 else ", 1 seed"
    fig.add_scatter(
        x=[float(values.mean())],
        y=[row],
        mode="markers",
        marker={"symbol": "line-ns", "size": 16, "line": {"color": colour, "width": 3}},
        error_x=bar if len(values) > 1 else None,
        hovertemplate=f"{row}: %{{x:.2f}}{words}<extra></extra>",
        showlegend=False,
        **place,
    )
    fig.add_scatter(
        x=values,
        y=[row] * len(values),
        mode="markers",
        marker={"color": faded(colour, 0.55), "size": 7, "line": {"color": "white", "width": 1}},
        customdata=group["seed"],
        hovertemplate=f"{row}, seed %{{customdata}}: %{{x:.2f}}<extra></extra>",
        showlegend=False,
        **place,
    )


def _reach(values: np.ndarray) -> float:
    """Returns half the width of the interval of the mean; 0 for one run."""
    if len(values) < 2:
        return 0.0
    from scipy.special import stdtrit

    quantile = float(stdtrit(len(values) - 1, (1 + LEVEL) / 2))
    return quantile * float(values.std(ddof=1)) / float(np.sqrt(len(values)))


def _explain(fig: go.Figure, runs: pd.DataFrame, baseline: str | None) -> None:
    """Adds a line below the figure that says what the markers are."""
    counts = runs.groupby(["row", "column"])["value"].count()
    text = "Dots: runs with different seeds. Lines: their mean, with its 95 % interval (t)."
    if not len(counts) or counts.max() < 2:
        text = "One run for each setting: differences may be due to the seed alone."
    if baseline is not None:
        text += f" Dotted: mean of {baseline}."
    fig.add_annotation(
        x=0,
        y=0,
        xref="paper",
        yref="paper",
        xanchor="left",
        yanchor="top",
        yshift=-70,
        showarrow=False,
        text=text,
        font={"size": 11, "color": BLACK},
        opacity=0.75,
    )
