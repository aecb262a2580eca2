"""Figures of tasks: the calibration of a number such as the age, and the balance of tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.plots.theme import BLACK, BLUE, GREY, VERMILION, faded, figure

FEWEST = 5
"""Ranges with fewer images than this are not drawn."""
MOST_POINTS = 3000
"""Largest number of single images that are drawn."""
LINES = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#222222")
"""Colours of runs that differ in their tasks, not in their loss."""


def calibration(estimates: Any, attribute: str = "age", unit: str = "years") -> go.Figure:
    """Draws estimated against true numbers, with the mean of each range.

    Points on the diagonal are exact. Where the means lie above it, the estimates are too high.

    Args:
        estimates: the estimates of one run, an `evaluation.NumberEstimates`.
        attribute: name of the number, for the axes.
        unit: its unit; empty for none.

    Returns:
        A scatter plot of the images, with the mean of each range of 10 units and its 95 % interval.
        Ranges with fewer than five images have no mean.

    Example:
        >>> from workbench.evaluation import number_estimates
        >>> fig = calibration(number_estimates([21, 22, 23, 24, 25], [22, 22, 26, 24, 30]))
        >>> [trace.name for trace in fig.data]
        ['exact', 'one image', 'mean of a range of 10 years']
    """
    in_unit = f" ({unit})" if unit else ""
    fig = figure(f"True {attribute}{in_unit}", f"Estimated {attribute}{in_unit}")
    low = float(min(estimates.true.min(), estimates.estimated.min()))
    high = float(max(estimates.true.max(), estimates.estimated.max()))
    fig.add_scatter(
        x=[low, high],
        y=[low, high],
        mode="lines",
        name="exact",
        line={"color": GREY, "dash": "dash"},
        hoverinfo="skip",
    )
    shown = np.arange(len(estimates.true))
    if len(shown) > MOST_POINTS:
        shown = np.random.default_rng(0).choice(shown, MOST_POINTS, replace=False)
    fig.add_scatter(
        x=estimates.true[shown],
        y=estimates.estimated[shown],
        mode="markers",
        name="one image",
        marker={"color": faded(BLUE, 0.25), "size": 5},
        hovertemplate="true %{x:.0f}, estimated %{y:.0f}<extra></extra>",
    )
    ranges = [one for one in estimates.by_range() if one.images >= FEWEST]
    halves = [
        0.0 if one.bias_interval is None else one.bias_interval[1] - one.bias for one in ranges
    ]
    fig.add_scatter(
        x=[one.true for one in ranges],
        y=[one.estimated for one in ranges],
        mode="lines+markers",
        name=f"mean of a range of 10 {unit}".strip(),
        line={"color": VERMILION, "width": 2.2},
        marker={"size": 9},
        error_y={"type": "data", "array": halves, "color": VERMILION, "thickness": 1.5},
        customdata=[[one.low, one.high, one.images, one.mae, one.bias] for one in ranges],
        hovertemplate="%{customdata[0]:.0f} to %{customdata[1]:.0f}: %{customdata[2]:,} images, "
        "MAE %{customdata[3]:.1f}, bias %{customdata[4]:+.1f}<extra></extra>",
    )
    return fig


def error_by_range(
    results: Mapping[str, Any], attribute: str = "age", unit: str = "years"
) -> go.Figure:
    """Draws the bias of the estimates in each range of the true number, one line for each run.

    Args:
        results: `evaluation.NumberEstimates` by run name.
        attribute: name of the number, for the axes.
        unit: its unit; empty for none.

    Returns:
        A figure with one line for each run; bars are 95 % intervals.

    Example:
        >>> from workbench.evaluation import number_estimates
        >>> ages = number_estimates([21, 22, 23, 24, 25], [22, 22, 26, 24, 30])
        >>> error_by_range({"run": ages}).data[0].y
        (1.8,)
    """
    in_unit = f" ({unit})" if unit else ""
    fig = figure(f"True {attribute}{in_unit}", f"Mean error, estimated minus true{in_unit}")
    fig.add_hline(0, line={"color": GREY, "dash": "dash"})
    for place, (name, estimates) in enumerate(results.items()):
        ranges = [one for one in estimates.by_range() if one.images >= FEWEST]
        fig.add_scatter(
            x=[(one.low + one.high) / 2 for one in ranges],
            y=[one.bias for one in ranges],
            mode="lines+markers",
            name=name,
            line={"color": LINES[place % len(LINES)]},
            error_y={
                "type": "data",
                "array": [
                    0.0 if one.bias_interval is None else one.bias_interval[1] - one.bias
                    for one in ranges
                ],
            },
        )
    return fig


def task_balance(
    metrics: Mapping[str, pd.DataFrame],
    columns: Mapping[str, str],
    smooth: int = 9,
    shares: Sequence[str] = (),
    logarithmic: Sequence[str] = (),
) -> go.Figure:
    """Draws several training metrics side by side, to compare how runs balance their tasks.

    Args:
        metrics: metrics by run name, as `Run.metrics()` returns them. Runs without a column have no
            line in its panel.
        columns: {column: title}, one panel each, such as {"gender_accuracy": "Gender accuracy"}.
        smooth: number of logged steps in the window of the running mean.
        shares: columns that are shares, which are drawn in percent.
        logarithmic: columns with a logarithmic axis.

    Returns:
        A figure with one panel for each column and one line for each run.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"epoch": [1.0, 2.0], "gender_accuracy": [0.5, 0.75]})
        >>> fig = task_balance({"run": table}, {"gender_accuracy": "Gender accuracy"}, smooth=1)
        >>> fig.data[0].y.tolist()
        [0.5, 0.75]
    """
    panels = make_subplots(cols=len(columns), subplot_titles=list(columns.values()))
    fig = figure("", "")
    fig = go.Figure(panels, layout=None).update_layout(
        template=fig.layout.template, font=fig.layout.font, height=380
    )
    for place, (name, table) in enumerate(metrics.items()):
        colour = LINES[place % len(LINES)]
        has_legend = True
        for panel, column in enumerate(columns, start=1):
            if column not in table or "epoch" not in table:
                continue
            known = table[["epoch", column]].dropna()
            fig.add_scatter(
                x=known["epoch"],
                y=known[column].rolling(smooth, center=True, min_periods=1).mean(),
                name=name,
                legendgroup=name,
                showlegend=has_legend,
                mode="lines",
                line={"color": colour, "width": 2.2},
                row=1,
                col=panel,
            )
            has_legend = False
    for panel, column in enumerate(columns, start=1):
        fig.update_xaxes(title_text="Epoch", showline=True, linecolor=GREY, row=1, col=panel)
        axis: dict[str, Any] = {"showline": True, "linecolor": GREY}
        if column in shares:
            axis["tickformat"] = ".0%"
        if column in logarithmic:
            axis |= {"type": "log", "exponentformat": "power", "dtick": 1}
        fig.update_yaxes(**axis, row=1, col=panel)
    fig.update_layout(
        margin={"l": 50, "r": 20, "t": 70, "b": 55},
        legend={"orientation": "h", "y": 1.12, "yanchor": "bottom", "x": 0},
        font_color=BLACK,
    )
    return fig
