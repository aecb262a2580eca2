"""Error rates: ROC, DET, and accuracy with its interval."""

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
    """What a verification result offers to be drawn."""

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
    """True accept rate against false accept rate (logarithmic), one line per run, with its pointwise 95 % band.

    FARs at which fewer than 10 false accepts are expected lie in the grey field, where the bands are lower and upper bounds.
    Hovering shows the threshold. A line below the figure says by which protocol the results were made.

    Args:
        results: {run name: verification result}.
        band_fars: FARs at which the results' bands are given; by default 81 from 1e-4 to 1.
    """
    drawn = figure("False accept rate (FAR)", "True accept rate (TAR)")
    grid = BAND_FARS if band_fars is None else np.asarray(band_fars)
    floor = _floor(results)
    for name, style in styles(results).items():
        result: Curve = results[name]
        far, tar, thresholds = result.roc
        if result.band is not None:
            seen = grid >= (1 - 1e-9) / result.impostors
            outline = np.concatenate([grid[seen], grid[seen][::-1]])
            edge = np.concatenate([result.band[0][seen], result.band[1][seen][::-1]])
            drawn.add_scatter(
                x=outline,
                y=edge,
                mode="lines",  # plotly adds dots to lines of fewer than 20 points
                fill="toself",
                fillcolor=faded(style.colour, 0.12),
                line_width=0,
                hoverinfo="skip",
                legendgroup=name,
                showlegend=False,
            )
        # Steps, as between two points no threshold lies. FAR 0 has no logarithm: its best point is drawn at the left edge.
        begin = int(np.flatnonzero(far == 0)[-1])
        kept = begin + _told_apart(np.log10(np.maximum(far[begin:], floor / 3)), tar[begin:])
        drawn.add_scatter(
            x=np.maximum(far[kept], floor / 3),
            y=tar[kept],
            mode="lines",
            customdata=np.column_stack([far, thresholds])[kept],
            name=f"{name} (AUC {result.auc:.3f})",
            legendgroup=name,
            line={"color": style.colour, "dash": style.dash, "width": 2.2, "shape": "hv"},
            hovertemplate="FAR %{customdata[0]:.2e}, TAR %{y:.3f}<br>threshold %{customdata[1]:.3f}",
        )
    drawn.update_xaxes(type="log", range=[np.log10(floor / 3), 0], exponentformat="power", dtick=1)
    drawn.update_yaxes(range=[0, 1.01], tickformat=".0%")
    supported = min(10 * floor, 1.0)
    _grey_out(drawn, (floor / 3, supported), np.log10(supported), supported)
    return captioned(drawn, results)


def det(results: Mapping[str, Any]) -> go.Figure:
    """Detection error trade-off: false reject rate against false accept rate on normal-deviate axes.

    Martin et al., "The DET curve in assessment of detection task performance", Eurospeech 1997. Scores that are normally
    distributed give straight lines; the dotted diagonal is where both rates are equal.
    """
    drawn = figure("False accept rate (FAR)", "False reject rate (1 - TAR)")
    ticks = np.array([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.05, 0.1, 0.2, 0.4, 0.6])
    floor = _floor(results)
    for name, style in styles(results).items():
        result: Curve = results[name]
        far, tar, thresholds = result.roc
        inside = np.flatnonzero((far > 0) & (far < 1) & (tar > 0) & (tar < 1))
        # Log-odds are nearly what is drawn, and quickly made of millions.
        inside = inside[
            _told_apart(*(np.log(rates[inside] / (1 - rates[inside])) for rates in (far, tar)))
        ]
        drawn.add_scatter(
            x=_deviate(far[inside]),
            y=_deviate(1 - tar[inside]),
            mode="lines",
            customdata=np.column_stack([far[inside], 1 - tar[inside], thresholds[inside]]),
            name=f"{name} (EER {result.eer:.1%})",
            line={"color": style.colour, "dash": style.dash, "width": 2.2},
            hovertemplate="FAR %{customdata[0]:.2e}, FRR %{customdata[1]:.2e}<br>threshold %{customdata[2]:.3f}",
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
    drawn.update_xaxes(**axis)
    drawn.update_yaxes(**axis)
    edge = float(_deviate(np.array([min(supported, 0.7)]))[0])  # 0.7 is where the axis ends
    _grey_out(drawn, (ends[0], edge), edge, supported)
    drawn.add_scatter(
        x=ends,
        y=ends,
        mode="lines",
        line={"color": GREY, "dash": "dot", "width": 1},
        hoverinfo="skip",
        showlegend=False,
    )
    return captioned(drawn, results)


MOST_POINTS, CELLS = 10_000, 2000
"""Longer lines, as of IJB-C's fifteen million pairs, are drawn with a point each 2000th of an axis."""


def _told_apart(x: Floats, y: Floats) -> NDArray[np.int64]:
    """Numbers of those points of a line that rises or falls all along which can be told from the one before, and of the last."""
    if len(x) <= MOST_POINTS:
        return np.arange(len(x))
    cells = [
        np.floor((values - values.min()) * (CELLS / max(np.ptp(values), 1e-12)))
        for values in (x, y)
    ]
    fresh = np.any([np.diff(cell) != 0 for cell in cells], axis=0)
    return np.flatnonzero(np.concatenate([[True], fresh[:-1], [True]]))


PANELS_A_ROW = 4


def accuracy(table: pd.DataFrame) -> go.Figure:
    """Accuracy of runs by benchmark, a dot with its 95 % interval.

    Args:
        table: columns run, benchmark, accuracy, accuracy_low, accuracy_high, as `wb.evaluation.leaderboard` makes it; where
            there is a column kind, the axis of an identification says that it is rank-1. Rows without accuracy are left out.
    """
    table = table.dropna(subset="accuracy")
    benchmarks = list(dict.fromkeys(table["benchmark"]))
    rows_of_panels = -(-max(len(benchmarks), 1) // PANELS_A_ROW)
    columns = -(-max(len(benchmarks), 1) // rows_of_panels)
    runs = max(table["run"].nunique() if len(table) else 1, 1)
    second_line = (
        20 if any("+" in name for name in benchmarks) else 0
    )  # of a title, which says by which protocol
    row_height = 110 + 34 * runs + second_line
    drawn = make_subplots(
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
        drawn.add_scatter(
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
    drawn.update_xaxes(
        tickformat="~%",
        title_standoff=8,
        ticks="outside",
        showline=True,
        linecolor=GREY,
        nticks=5,
        tickangle=0,
    )
    identified = (
        set(table.loc[table["kind"] == "identification", "benchmark"]) if "kind" in table else set()
    )
    for number, benchmark in enumerate(benchmarks):
        title = "Rank-1" if benchmark in identified else "Accuracy"
        drawn.update_xaxes(title_text=title, **_panel(number, columns))
    for number in range(len(benchmarks), rows_of_panels * columns):
        drawn.update_xaxes(visible=False, **_panel(number, columns))
        drawn.update_yaxes(visible=False, **_panel(number, columns))
    drawn.update_yaxes(
        autorange="reversed", automargin=True, ticks="", showline=True, linecolor=GREY
    )
    drawn.update_layout(height=rows_of_panels * row_height + 40, margin={"t": 40 + second_line})
    return drawn


def _panel(number: int, columns: int) -> dict[str, int]:
    return {"row": number // columns + 1, "col": number % columns + 1}


def _deviate(rates: Floats) -> Floats:
    return np.array([NormalDist().inv_cdf(float(rate)) for rate in rates])


def _floor(results: Mapping[str, Any]) -> float:
    """The lowest FAR above 0 that any of the results can have: that of one false accept."""
    return min((1 / result.impostors for result in results.values()), default=1e-4)


def _grey_out(drawn: go.Figure, field: tuple[float, float], edge: float, supported: float) -> None:
    """A grey field where too few false accepts are expected, labelled where it ends.

    Args:
        field: left and right end, as rates on a logarithmic axis or in the axis' own units.
        edge: the right end in the axis' own units.
        supported: the FAR there.
    """
    drawn.add_vrect(
        x0=field[0], x1=field[1], fillcolor=GREY, opacity=0.18, line_width=0, layer="below"
    )
    drawn.add_annotation(
        x=edge,
        y=0.02,
        yref="paper",
        xanchor="right" if supported > 0.05 else "left",
        yanchor="bottom",
        showarrow=False,
        text=f"◂ below 10 expected false accepts (FAR {supported:.2g})",
        font={"size": 11, "color": BLACK},
    )
