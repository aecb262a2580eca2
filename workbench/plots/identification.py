"""Identification: how often the right person is found, by rank and by the number of strangers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from workbench.plots.theme import Style, faded, figure, styles

Floats = NDArray[np.float64]


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
        _line(drawn, label, style, np.arange(1, len(result.cmc) + 1), result.cmc, result.cmc_band, "rank %{x}: %{y:.2%}")
    _axes(drawn, [len(result.cmc) for result in results.values()], [_lowest(r.cmc, r.cmc_band) for r in results.values()])
    return drawn


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
        _line(drawn, label, style, result.distractor_counts, result.distractor_rates, result.distractor_band, hover)
    lows = [_lowest(result.distractor_rates, result.distractor_band) for result in results.values()]
    _axes(drawn, [int(result.distractor_counts[-1]) for result in results.values()], lows)
    return drawn


def _line(drawn: go.Figure, label: str, style: Style, x: NDArray[np.int64], y: Floats, band: Floats | None, hover: str) -> None:
    if band is not None:
        drawn.add_scatter(
            x=np.concatenate([x, x[::-1]]),
            y=np.concatenate([band[0], band[1][::-1]]),
            fill="toself",
            fillcolor=faded(style.colour, 0.12),
            line_width=0,
            mode="lines",
            hoverinfo="skip",
            legendgroup=label,
            showlegend=False,
        )
    marked = np.isin(x, [*_round(int(x[-1])), x[-1]])  # a marker a rank would be a bar of them
    drawn.add_scatter(
        x=x,
        y=y,
        name=label,
        legendgroup=label,
        mode="lines+markers",
        line={"color": style.colour, "dash": style.dash, "width": 2.2},
        marker={"color": style.colour, "size": np.where(marked, 6, 0), "line_width": 0, "opacity": 1},
        hovertemplate=hover,
    )


def _lowest(rates: Floats, band: Floats | None) -> float:
    return float(rates.min() if band is None else band[0].min())


def _axes(drawn: go.Figure, ends: Sequence[int], lows: Sequence[float]) -> None:
    """A logarithmic axis of round numbers from 1 to the highest end, and rates from the tenth below the lowest."""
    end = max(ends, default=10)
    ticks = _round(end, (1, 2, 5) if end <= 1000 else (1,))
    width = np.log10(max(end, 2))
    drawn.update_xaxes(type="log", range=[-0.02 * width, 1.02 * width], tickvals=ticks, ticktext=[f"{tick:,}" for tick in ticks])
    bottom = np.floor(10 * min(lows, default=0.0)) / 10
    drawn.update_yaxes(range=[bottom - 0.01 * (1.1 - bottom), 1 + 0.01 * (1.1 - bottom)], tickformat=".0%")


def _round(end: int, digits: Sequence[int] = (1, 2, 5)) -> list[int]:
    """1, 2, 5, 10, 20, ... up to `end`."""
    return [step for power in range(len(str(end))) for digit in digits if (step := digit * 10**power) <= end]
