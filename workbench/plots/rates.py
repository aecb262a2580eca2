"""Figures of error rates: ROC, DET, and accuracy with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any, Protocol

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from workbench.arrays import BAND_FARS, Floats
from workbench.plots.theme import BLACK, GREY, captioned, colour_of, faded, figure, styles


class Curve(Protocol):
    """The attributes of a verification result that are drawn.

    Attributes:
        roc: (FAR, TAR, thresholds), with one entry for each distinct score.
        band: (2, F) lower and upper TAR at each FAR of the band; None if there are no intervals.
        auc: area under the ROC curve, 0 to 1.
        eer: equal error rate, 0 to 1.
        impostors: number of impostor pairs.
    """

    @property
    def roc(self) -> tuple[Floats, Floats, Floats]:
        """FAR, TAR, thresholds."""

    @property
    def band(self) -> Floats | None: ...

    @property
    def auc(self) -> float: ...

    @property
    def eer(self) -> float: ...

    @property
    def impostors(self) -> int: ...


def roc(
    results: Mapping[str, Any], band_fars: Sequence[float] | NDArray[np.float64] | None = None
) -> go.Figure:
    """Draws the ROC curve of each run: TAR against FAR on a logarithmic axis.

    The bands are pointwise 95 % intervals. The grey field covers the FARs at which fewer than 10
    false accepts are expected; there the bands are a lower and an upper bound. The hover text shows
    the threshold, and a caption states the protocol of the results.

    Args:
        results: verification results by run name.
        band_fars: FARs at which the bands of the results are given; by default the 81 values of
            `workbench.arrays.BAND_FARS`, from 1e-4 to 1.

    Returns:
        A figure with one line for each run.

    Example:
        >>> import numpy as np
        >>> import workbench as wb
        >>> scores = np.r_[np.linspace(0.1, 0.9, 60), np.linspace(-0.3, 0.5, 60)]
        >>> same = np.arange(120) < 60
        >>> result = wb.evaluation.verification(scores, same, np.arange(120) % 10)
        >>> fig = roc({"arcface": result})
        >>> fig.data[-1].name
        'arcface (AUC 0.871)'
    """
    fig = figure("False accept rate (FAR)", "True accept rate (TAR)")
    grid = BAND_FARS if band_fars is None else np.asarray(band_fars)
    floor = _floor(results)
    for name, style in styles(results).items():
        result: Curve = results[name]
        far, tar, thresholds = result.roc
        if result.band is not None:
            reachable = grid >= (1 - 1e-9) / result.impostors
            fars = grid[reachable]
            low, high = result.band[0][reachable], result.band[1][reachable]
            fig.add_scatter(
                x=np.concatenate([fars, fars[::-1]]),
                y=np.concatenate([low, high[::-1]]),
                mode="lines",  # by default plotly adds markers to lines of fewer than 20 points
                fill="toself",
                fillcolor=faded(style.colour, 0.12),
                line_width=0,
                hoverinfo="skip",
                legendgroup=name,
                showlegend=False,
            )
        # The line has steps, as no threshold lies between two points. A FAR of 0 has no
        # logarithm; its best point is drawn at the left edge.
        begin = int(np.flatnonzero(far == 0)[-1])
        kept = begin + _distinguishable(np.log10(np.maximum(far[begin:], floor / 3)), tar[begin:])
        fig.add_scatter(
            x=np.maximum(far[kept], floor / 3),
            y=tar[kept],
            mode="lines",
            customdata=np.column_stack([far, thresholds])[kept],
            name=f"{name} (AUC {result.auc:.3f})",
            legendgroup=name,
            line={"color": style.colour, "dash": style.dash, "width": 2.2, "shape": "hv"},
            hovertemplate="FAR %{customdata[0]:.2e}, TAR %{y:.3f}"
            "<br>threshold %{customdata[1]:.3f}",
        )
    fig.update_xaxes(type="log", range=[np.log10(floor / 3), 0], exponentformat="power", dtick=1)
    fig.update_yaxes(range=[0, 1.01], tickformat=".0%")
    supported = min(10 * floor, 1.0)
    _grey_out(fig, (floor / 3, supported), np.log10(supported), supported)
    return captioned(fig, results)


def det(results: Mapping[str, Any]) -> go.Figure:
    """Draws the detection error trade-off of each run: FRR against FAR on normal-deviate axes.

    Martin et al., "The DET curve in assessment of detection task performance", Eurospeech 1997.
    Normally distributed scores give straight lines. On the dotted diagonal both rates are equal.

    Args:
        results: verification results by run name.

    Returns:
        A figure with one line for each run.

    Example:
        >>> import numpy as np
        >>> import workbench as wb
        >>> scores = np.r_[np.linspace(0.1, 0.9, 60), np.linspace(-0.3, 0.5, 60)]
        >>> same = np.arange(120) < 60
        >>> result = wb.evaluation.verification(scores, same, np.arange(120) % 10)
        >>> fig = det({"arcface": result})
        >>> fig.data[0].name
        'arcface (EER 25.0%)'
    """
    fig = figure("False accept rate (FAR)", "False reject rate (1 - TAR)")
    ticks = np.array([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.05, 0.1, 0.2, 0.4, 0.6])
    floor = _floor(results)
    for name, style in styles(results).items():
        result: Curve = results[name]
        far, tar, thresholds = result.roc
        inside = np.flatnonzero((far > 0) & (far < 1) & (tar > 0) & (tar < 1))
        # Log-odds are close to normal deviates, and fast to compute for millions of points.
        inside = inside[
            _distinguishable(*(np.log(rates[inside] / (1 - rates[inside])) for rates in (far, tar)))
        ]
        fig.add_scatter(
            x=_deviate(far[inside]),
            y=_deviate(1 - tar[inside]),
            mode="lines",
            customdata=np.column_stack([far[inside], 1 - tar[inside], thresholds[inside]]),
            name=f"{name} (EER {result.eer:.1%})",
            line={"color": style.colour, "dash": style.dash, "width": 2.2},
            hovertemplate="FAR %{customdata[0]:.2e}, FRR %{customdata[1]:.2e}"
            "<br>threshold %{customdata[2]:.3f}",
        )
    supported = min(10 * floor, 1.0)
    marks = ticks[(ticks >= floor)]
    ends = [
        float(_deviate(np.array([min(floor, 0.01)]))[0]) - 0.1,
        float(_deviate(np.array([0.7]))[0]),
    ]
    axis = {
        "tickvals": _deviate(marks),
        "ticktext": [f"{100 * mark:g} %" for mark in marks],
        "range": ends,
    }
    fig.update_xaxes(**axis)
    fig.update_yaxes(**axis)
    edge = float(_deviate(np.array([min(supported, 0.7)]))[0])  # the axis ends at 0.7
    _grey_out(fig, (ends[0], edge), edge, supported)
    fig.add_scatter(
        x=ends,
        y=ends,
        mode="lines",
        line={"color": GREY, "dash": "dot", "width": 1},
        hoverinfo="skip",
        showlegend=False,
    )
    return captioned(fig, results)


MOST_POINTS, CELLS = 10_000, 2000
"""Lines with more points, as for IJB-C's 15 million pairs, are drawn on a grid of CELLS x CELLS."""


def _distinguishable(x: Floats, y: Floats) -> NDArray[np.int64]:
    """Returns the points of a long monotonic line that can be distinguished in a figure.

    Args:
        x: (n,) horizontal positions.
        y: (n,) vertical positions.

    Returns:
        Numbers of the points that lie in another cell of the grid than their predecessor, and of
        the first and the last point.
    """
    if len(x) <= MOST_POINTS:
        return np.arange(len(x))
    cells = [
        np.floor((values - values.min()) * (CELLS / max(np.ptp(values), 1e-12)))
        for values in (x, y)
    ]
    differs = np.any([np.diff(cell) != 0 for cell in cells], axis=0)
    return np.flatnonzero(np.concatenate([[True], differs[:-1], [True]]))


PANELS_PER_ROW = 4


def accuracy(table: pd.DataFrame) -> go.Figure:
    """Draws the accuracy of runs on benchmarks as dots with 95 % intervals.

    Args:
        table: leaderboard as `wb.evaluation.leaderboard` returns it, with the columns run,
            benchmark, accuracy, accuracy_low and accuracy_high. If it has the column kind, the axis
            of identification benchmarks is called Rank-1. Rows without accuracy are left out.

    Returns:
        A figure with one panel for each benchmark and one row in it for each run.

    Example:
        >>> import pandas as pd
        >>> row = {"run": "arcface", "benchmark": "lfw", "accuracy": 0.9}
        >>> fig = accuracy(pd.DataFrame([row | {"accuracy_low": 0.88, "accuracy_high": 0.92}]))
        >>> [annotation.text for annotation in fig.layout.annotations]
        ['lfw']
    """
    table = table.dropna(subset="accuracy")
    benchmarks = list(dict.fromkeys(table["benchmark"]))
    rows_of_panels = -(-max(len(benchmarks), 1) // PANELS_PER_ROW)
    columns = -(-max(len(benchmarks), 1) // rows_of_panels)
    runs = max(table["run"].nunique() if len(table) else 1, 1)
    has_protocol = any("+" in name for name in benchmarks)
    second_line = 20 if has_protocol else 0  # height of the second line of titles, the protocol
    row_height = 110 + 34 * runs + second_line
    fig = make_subplots(
        rows_of_panels,
        columns,
        shared_yaxes=True,
        subplot_titles=[name.replace("+", "<br>+", 1) for name in benchmarks],
        horizontal_spacing=0.04,
        vertical_spacing=(95 + second_line) / (rows_of_panels * row_height),
        figure=figure("", ""),
    )
    for (run, benchmark), rows in table.groupby(["run", "benchmark"], sort=False):
        low = rows.get("accuracy_low", rows["accuracy"]).fillna(rows["accuracy"])
        high = rows.get("accuracy_high", rows["accuracy"]).fillna(rows["accuracy"])
        fig.add_scatter(
            x=rows["accuracy"],
            y=rows["run"],
            mode="markers",
            marker={"color": colour_of(str(run)), "size": 11},
            error_x={
                "type": "data",
                "array": high - rows["accuracy"],
                "arrayminus": rows["accuracy"] - low,
                "width": 5,
            },
            hovertemplate=f"{run}: %{{x:.2%}}<extra></extra>",
            showlegend=False,
            **_panel(benchmarks.index(benchmark), columns),
        )
    fig.update_xaxes(
        tickformat="~%",
        title_standoff=8,
        ticks="outside",
        showline=True,
        linecolor=GREY,
        nticks=5,
        tickangle=0,
    )
    rank_one = set()
    if "kind" in table:
        rank_one = set(table.loc[table["kind"] == "identification", "benchmark"])
    for number, benchmark in enumerate(benchmarks):
        title = "Rank-1" if benchmark in rank_one else "Accuracy"
        fig.update_xaxes(title_text=title, **_panel(number, columns))
    for number in range(len(benchmarks), rows_of_panels * columns):
        fig.update_xaxes(visible=False, **_panel(number, columns))
        fig.update_yaxes(visible=False, **_panel(number, columns))
    fig.update_yaxes(autorange="reversed", automargin=True, ticks="", showline=True, linecolor=GREY)
    fig.update_layout(height=rows_of_panels * row_height + 40, margin={"t": 40 + second_line})
    return fig


def _panel(number: int, columns: int) -> dict[str, int]:
    """Returns the place of a panel, as plotly takes it."""
    return {"row": number // columns + 1, "col": number % columns + 1}


def _deviate(rates: Floats) -> Floats:
    """Returns the quantiles of the standard normal distribution at the rates."""
    return np.array([NormalDist().inv_cdf(float(rate)) for rate in rates])


def _floor(results: Mapping[str, Any]) -> float:
    """Returns the lowest FAR above 0 that a result can have, which is that of one false accept."""
    return min((1 / result.impostors for result in results.values()), default=1e-4)


def _grey_out(fig: go.Figure, field: tuple[float, float], edge: float, supported: float) -> None:
    """Draws a grey field over the FARs at which too few false accepts are expected.

    Args:
        fig: figure to draw into.
        field: left and right end of the field; rates if the axis is logarithmic, else units of the
            axis.
        edge: right end in units of the axis, where the label is put.
        supported: FAR at the right end, for the label.
    """
    fig.add_vrect(
        x0=field[0], x1=field[1], fillcolor=GREY, opacity=0.18, line_width=0, layer="below"
    )
    fig.add_annotation(
        x=edge,
        y=0.02,
        yref="paper",
        xanchor="right" if supported > 0.05 else "left",
        yanchor="bottom",
        showarrow=False,
        text=f"◂ below 10 expected false accepts (FAR {supported:.2g})",
        font={"size": 11, "color": BLACK},
    )
