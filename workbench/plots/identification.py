"""Identification: how often the right person is found, by rank, by the number of strangers, and when strangers search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from workbench.arrays import BAND_FPIRS, Floats
from workbench.plots.theme import BLACK, GREY, Style, captioned, faded, figure, styles


def cmc(results: Mapping[str, Any]) -> go.Figure:
    """Cumulative match characteristic: share of probes whose person is among the first k candidates, a line per run.

    Grother and Phillips, "Models of large population recognition performance", CVPR 2004. Bands: 95 %, people redrawn.

    Args:
        results: {run name: identification result}.
    """
    drawn = figure("Rank k (logarithmic)", "Right person among the first k")
    for name, style in styles(results).items():
        result = results[name]
        label = f"{name} (rank-1 {result.accuracy:.1%})"
        _line(
            drawn,
            label,
            style,
            np.arange(1, len(result.cmc) + 1),
            result.cmc,
            result.cmc_band,
            "rank %{x}: %{y:.2%}",
        )
    _axes(
        drawn,
        [len(result.cmc) for result in results.values()],
        [_lowest(r.cmc, r.cmc_band) for r in results.values()],
    )
    return captioned(drawn, results)


def distractors(results: Mapping[str, Any]) -> go.Figure:
    """Rank-1 against the number of distractors, a line per run.

    Kemelmacher-Shlizerman et al., "The MegaFace benchmark", CVPR 2016. Bands: 95 %, people redrawn.

    Args:
        results: {run name: identification result}.
    """
    drawn = figure("Number of distractors (logarithmic)", "Rank-1: right person found first")
    for name, style in styles(results).items():
        result = results[name]
        label = f"{name} ({result.distractor_rates[-1]:.1%} among {result.distractor_counts[-1]:,})"
        hover = "%{x:,} distractors: %{y:.2%}"
        _line(
            drawn,
            label,
            style,
            result.distractor_counts,
            result.distractor_rates,
            result.distractor_band,
            hover,
        )
    lows = [_lowest(result.distractor_rates, result.distractor_band) for result in results.values()]
    _axes(drawn, [int(result.distractor_counts[-1]) for result in results.values()], lows)
    return captioned(drawn, results)


def open_set_det(
    results: Mapping[str, Any], band_fpirs: Sequence[float] | Floats | None = None
) -> go.Figure:
    """Misses against false alarms when strangers search too: FNIR against FPIR, both logarithmic, a line per run.

    Grother, Ngan and Hanaoka, "Face recognition vendor test part 2: identification", NIST IR 8271, 2019. FPIRs
    at which fewer than 10 false positives are expected lie in the grey field. Bands: pointwise 95 %, people redrawn. Hovering
    shows the threshold.

    Args:
        results: {run name: open-set result}, or identification results that hold one.
        band_fpirs: FPIRs at which the results' bands are given; by default 121 from 1e-6 to 1.
    """
    drawn = figure(
        "FPIR: strangers taken for somebody (logarithmic)",
        "FNIR: enrolled people not found (logarithmic)",
    )
    found = {name: getattr(result, "open_set", result) for name, result in results.items()}
    found = {name: result for name, result in found.items() if result is not None}
    grid = BAND_FPIRS if band_fpirs is None else np.asarray(band_fpirs)
    floor = min((1 / len(result.nonmated) for result in found.values()), default=1e-3)
    corners = {name: _corners(*result.curve) for name, result in found.items()}
    missed = np.concatenate([fnir[:, None] for _, fnir, _ in corners.values()] or [np.ones((1, 1))])
    least = 0.5 / max(
        (len(result.mated) for result in found.values()), default=50
    )  # where an FNIR of 0 is drawn
    bottom = least if missed.min() == 0 else _step_below(min(float(missed.min()), 0.5))
    for name, style in styles(found).items():
        result = found[name]
        fpir, fnir, thresholds = corners[name]
        label = f"{name} ({_miss_rate(result)})"
        if result.band is not None:
            seen = grid >= (1 - 1e-9) / len(result.nonmated)
            _band(drawn, label, style, grid[seen], *np.maximum(result.band[:, seen], bottom))
        # Steps, as between two points no threshold lies. FPIR 0 has no logarithm: its best point is drawn at the left edge.
        shown = np.maximum(fnir, bottom)
        drawn.add_scatter(
            x=np.append(np.maximum(fpir, floor / 2), 1.0),
            y=np.append(shown, shown[-1]),
            customdata=np.column_stack([fpir, fnir, thresholds])[[*range(len(fpir)), -1]],
            name=label,
            legendgroup=label,
            mode="lines",
            line={"color": style.colour, "dash": style.dash, "width": 2.2, "shape": "hv"},
            hovertemplate="FPIR %{customdata[0]:.2%}, FNIR %{customdata[1]:.2%}<br>threshold %{customdata[2]:.3f}",
        )
    _percent(drawn.update_xaxes, floor / 2, floor)
    _percent(drawn.update_yaxes, bottom / 1.05, bottom, {least: "0%"} if missed.min() == 0 else {})
    supported = min(10 * floor, 1.0)
    drawn.add_vrect(
        x0=floor / 2, x1=supported, fillcolor=GREY, opacity=0.18, line_width=0, layer="below"
    )
    drawn.add_annotation(
        x=np.log10(supported),
        y=0.02,
        yref="paper",
        xanchor="right" if supported > 0.05 else "left",
        yanchor="bottom",
        showarrow=False,
        text=f"◂ below 10 expected false positives (FPIR {supported:.2g})",
        font={"size": 11, "color": BLACK},
    )
    return captioned(drawn, found)


MOST_CORNERS = 2000


def _corners(fpir: Floats, fnir: Floats, thresholds: Floats) -> tuple[Floats, Floats, Floats]:
    """The points in which the staircase of lowest FNIRs turns; where there are very many, evenly drawn from them."""
    last = np.append(np.diff(fpir) > 0, True)  # of one FPIR the lowest threshold
    fpir, fnir, thresholds = fpir[last], fnir[last], thresholds[last]
    turns = np.flatnonzero(np.append(True, np.diff(fnir) < 0))
    if len(turns) > MOST_CORNERS:
        turns = turns[np.unique(np.geomspace(1, len(turns), MOST_CORNERS).astype(int) - 1)]
    return fpir[turns], fnir[turns], thresholds[turns]


def _miss_rate(result: Any) -> str:
    """The FNIR at the lowest FPIR of those told of that is not below 1 % and supported, for the legend."""
    usable = [fpir for fpir in result.fnir_at_fpir if result.supported(fpir)]
    best = min((fpir for fpir in usable if fpir >= 0.01), default=max(usable, default=None))
    return (
        "too few strangers"
        if best is None
        else f"FNIR {result.fnir_at_fpir[best]:.1%} at FPIR {100 * best:g}%"
    )


def _step_below(rate: float) -> float:
    """The highest of ..., 0.01, 0.02, 0.05, 0.1, ... that is not above the rate."""
    return max(step for step in _steps((1, 2, 5)) if step <= rate * (1 + 1e-9))


def _steps(digits: Sequence[int]) -> list[float]:
    return [
        digit * 10.0**power
        for power in range(-8, 1)
        for digit in digits
        if digit * 10.0**power <= 1
    ]


def _percent(
    update: Callable[..., Any], begin: float, first: float, named: Mapping[float, str] | None = None
) -> None:
    """A logarithmic axis from `begin` to 100 %, with round percentages from `first` on and others as they are named."""
    decades = -np.log10(first)
    near = [
        step for step in _steps((1, 2, 5) if decades < 2.6 else (1,)) if step >= first * (1 - 1e-9)
    ]
    ticks = {
        step: f"{100 * step:g}%"
        for step in near
        if all(step > 1.7 * other for other in named or {})
    } | dict(named or {})
    ends = [np.log10(begin), -0.02 * np.log10(begin)]
    update(type="log", range=ends, tickvals=list(ticks), ticktext=list(ticks.values()))


def _line(
    drawn: go.Figure,
    label: str,
    style: Style,
    x: NDArray[np.int64],
    y: Floats,
    band: Floats | None,
    hover: str,
) -> None:
    if band is not None:
        _band(drawn, label, style, x, band[0], band[1])
    marked = np.isin(x, [*_round(int(x[-1])), x[-1]])  # a marker a rank would be a bar of them
    drawn.add_scatter(
        x=x,
        y=y,
        name=label,
        legendgroup=label,
        mode="lines+markers",
        line={"color": style.colour, "dash": style.dash, "width": 2.2},
        marker={
            "color": style.colour,
            "size": np.where(marked, 6, 0),
            "line_width": 0,
            "opacity": 1,
        },
        hovertemplate=hover,
    )


def _band(
    drawn: go.Figure, label: str, style: Style, x: NDArray[Any], low: Floats, high: Floats
) -> None:
    drawn.add_scatter(
        x=np.concatenate([x, x[::-1]]),
        y=np.concatenate([low, high[::-1]]),
        fill="toself",
        fillcolor=faded(style.colour, 0.12),
        line_width=0,
        mode="lines",
        hoverinfo="skip",
        legendgroup=label,
        showlegend=False,
    )


def _lowest(rates: Floats, band: Floats | None) -> float:
    return float(rates.min() if band is None else band[0].min())


def _axes(drawn: go.Figure, ends: Sequence[int], lows: Sequence[float]) -> None:
    """A logarithmic axis of round numbers from 1 to the highest end, and rates from the tenth below the lowest."""
    end = max(ends, default=10)
    ticks = _round(end, (1, 2, 5) if end <= 1000 else (1,))
    width = np.log10(max(end, 2))
    drawn.update_xaxes(
        type="log",
        range=[-0.02 * width, 1.02 * width],
        tickvals=ticks,
        ticktext=[f"{tick:,}" for tick in ticks],
    )
    bottom = np.floor(10 * min(lows, default=0.0)) / 10
    drawn.update_yaxes(
        range=[bottom - 0.01 * (1.1 - bottom), 1 + 0.01 * (1.1 - bottom)], tickformat=".0%"
    )


def _round(end: int, digits: Sequence[int] = (1, 2, 5)) -> list[int]:
    """1, 2, 5, 10, 20, ... up to `end`."""
    return [
        step
        for power in range(len(str(end)))
        for digit in digits
        if (step := digit * 10**power) <= end
    ]
