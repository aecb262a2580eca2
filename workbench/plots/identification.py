"""Figures of identification: CMC, rank-1 by number of distractors, and the open-set DET curve."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from workbench.arrays import BAND_FPIRS, Floats
from workbench.plots.theme import BLACK, GREY, Style, captioned, faded, figure, styles


def cmc(results: Mapping[str, Any]) -> go.Figure:
    """Draws the cumulative match characteristic (CMC) of each run.

    The curve gives, for each rank k, the share of probes whose person is among the k candidates
    with the highest scores. Grother and Phillips, "Models of large population recognition
    performance", CVPR 2004. The bands are pointwise 95 % intervals from a bootstrap over people.

    Args:
        results: identification results by run name.

    Returns:
        A figure with one line for each run. The axis of ranks is logarithmic.

    Example:
        >>> import numpy as np
        >>> import workbench as wb
        >>> rng = np.random.default_rng(0)
        >>> gallery, distractors = rng.normal(size=(5, 16)), rng.normal(size=(20, 16))
        >>> probes = gallery + 0.1 * rng.normal(size=(5, 16))
        >>> result = wb.evaluation.identification(
        ...     probes, gallery, distractors, np.arange(5), np.arange(5), bootstrap=0
        ... )
        >>> fig = cmc({"arcface": result})
        >>> fig.data[0].name
        'arcface (rank-1 100.0%)'
    """
    fig = figure("Rank k (logarithmic)", "Right person among the first k")
    for name, style in styles(results).items():
        result = results[name]
        label = f"{name} (rank-1 {result.accuracy:.1%})"
        _line(
            fig,
            label,
            style,
            np.arange(1, len(result.cmc) + 1),
            result.cmc,
            result.cmc_band,
            "rank %{x}: %{y:.2%}",
        )
    _axes(
        fig,
        [len(result.cmc) for result in results.values()],
        [_lowest(r.cmc, r.cmc_band) for r in results.values()],
    )
    return captioned(fig, results)


def distractors(results: Mapping[str, Any]) -> go.Figure:
    """Draws the rank-1 rate of each run against the number of distractors in the gallery.

    Kemelmacher-Shlizerman et al., "The MegaFace benchmark", CVPR 2016. The bands are pointwise
    95 % intervals from a bootstrap over people.

    Args:
        results: identification results by run name.

    Returns:
        A figure with one line for each run. The axis of distractors is logarithmic.

    Example:
        >>> import numpy as np
        >>> import workbench as wb
        >>> rng = np.random.default_rng(0)
        >>> gallery, strangers = rng.normal(size=(5, 16)), rng.normal(size=(20, 16))
        >>> probes = gallery + 0.1 * rng.normal(size=(5, 16))
        >>> result = wb.evaluation.identification(
        ...     probes, gallery, strangers, np.arange(5), np.arange(5), bootstrap=0
        ... )
        >>> fig = distractors({"arcface": result})
        >>> fig.data[0].name
        'arcface (100.0% among 20)'
    """
    fig = figure("Number of distractors (logarithmic)", "Rank-1: right person found first")
    for name, style in styles(results).items():
        result = results[name]
        label = f"{name} ({result.distractor_rates[-1]:.1%} among {result.distractor_counts[-1]:,})"
        hover = "%{x:,} distractors: %{y:.2%}"
        _line(
            fig,
            label,
            style,
            result.distractor_counts,
            result.distractor_rates,
            result.distractor_band,
            hover,
        )
    lows = [_lowest(result.distractor_rates, result.distractor_band) for result in results.values()]
    _axes(fig, [int(result.distractor_counts[-1]) for result in results.values()], lows)
    return captioned(fig, results)


def open_set_det(
    results: Mapping[str, Any], band_fpirs: Sequence[float] | Floats | None = None
) -> go.Figure:
    """Draws FNIR against FPIR for open-set identification, both on logarithmic axes.

    The FPIR is the share of non-mated probes for which a candidate is returned, the FNIR the share
    of mated probes whose person is not returned. Grother, Ngan and Hanaoka, "Face recognition
    vendor test part 2: identification", NIST IR 8271, 2019. The grey field covers the FPIRs at
    which fewer than 10 false positives are expected. The bands are pointwise 95 % intervals from a
    bootstrap over people. The hover text shows the threshold.

    Args:
        results: open-set results by run name, or identification results. Identification results
            without an open-set result are ignored.
        band_fpirs: FPIRs at which the bands of the results are given; by default the 121 values of
            `workbench.arrays.BAND_FPIRS`, from 1e-6 to 1.

    Returns:
        A figure with one line for each run.

    Example:
        >>> import numpy as np
        >>> import workbench as wb
        >>> rng = np.random.default_rng(0)
        >>> gallery, strangers = rng.normal(size=(5, 16)), rng.normal(size=(200, 16))
        >>> probes = gallery + 0.1 * rng.normal(size=(5, 16))
        >>> result = wb.evaluation.open_set(
        ...     probes, gallery, strangers, np.arange(5), np.arange(5), bootstrap=0
        ... )
        >>> fig = open_set_det({"arcface": result})
        >>> fig.data[0].name
        'arcface (FNIR 0.0% at FPIR 10%)'
    """
    fig = figure(
        "FPIR: strangers taken for somebody (logarithmic)",
        "FNIR: enrolled people not found (logarithmic)",
    )
    open_sets = {name: getattr(result, "open_set", result) for name, result in results.items()}
    open_sets = {name: result for name, result in open_sets.items() if result is not None}
    grid = BAND_FPIRS if band_fpirs is None else np.asarray(band_fpirs)
    floor = min((1 / len(result.nonmated) for result in open_sets.values()), default=1e-3)
    corners = {name: _corners(*result.curve) for name, result in open_sets.items()}
    missed = np.concatenate([fnir[:, None] for _, fnir, _ in corners.values()] or [np.ones((1, 1))])
    # An FNIR of 0 has no logarithm; it is drawn at half of the lowest FNIR above 0.
    least = 0.5 / max((len(result.mated) for result in open_sets.values()), default=50)
    bottom = least if missed.min() == 0 else _step_below(min(float(missed.min()), 0.5))
    for name, style in styles(open_sets).items():
        result = open_sets[name]
        fpir, fnir, thresholds = corners[name]
        label = f"{name} ({_miss_rate(result)})"
        if result.band is not None:
            reachable = grid >= (1 - 1e-9) / len(result.nonmated)
            edges = np.maximum(result.band[:, reachable], bottom)
            _band(fig, label, style, grid[reachable], *edges)
        # The line has steps, as no threshold lies between two points. An FPIR of 0 has no
        # logarithm; its point is drawn at the left edge.
        shown = np.maximum(fnir, bottom)
        fig.add_scatter(
            x=np.append(np.maximum(fpir, floor / 2), 1.0),
            y=np.append(shown, shown[-1]),
            customdata=np.column_stack([fpir, fnir, thresholds])[[*range(len(fpir)), -1]],
            name=label,
            legendgroup=label,
            mode="lines",
            line={"color": style.colour, "dash": style.dash, "width": 2.2, "shape": "hv"},
            hovertemplate="FPIR %{customdata[0]:.2%}, FNIR %{customdata[1]:.2%}"
            "<br>threshold %{customdata[2]:.3f}",
        )
    _percent(fig.update_xaxes, floor / 2, floor)
    _percent(fig.update_yaxes, bottom / 1.05, bottom, {least: "0%"} if missed.min() == 0 else {})
    supported = min(10 * floor, 1.0)
    fig.add_vrect(
        x0=floor / 2, x1=supported, fillcolor=GREY, opacity=0.18, line_width=0, layer="below"
    )
    fig.add_annotation(
        x=np.log10(supported),
        y=0.02,
        yref="paper",
        xanchor="right" if supported > 0.05 else "left",
        yanchor="bottom",
        showarrow=False,
        text=f"◂ below 10 expected false positives (FPIR {supported:.2g})",
        font={"size": 11, "color": BLACK},
    )
    return captioned(fig, open_sets)


MAX_CORNERS = 2000
"""Longer open-set curves are drawn with this many of their corners."""


def _corners(fpir: Floats, fnir: Floats, thresholds: Floats) -> tuple[Floats, Floats, Floats]:
    """Returns the corners of an open-set curve; if there are many, only some of them."""
    last = np.append(np.diff(fpir) > 0, True)  # the lowest threshold of each FPIR
    fpir, fnir, thresholds = fpir[last], fnir[last], thresholds[last]
    turns = np.flatnonzero(np.append(True, np.diff(fnir) < 0))
    if len(turns) > MAX_CORNERS:
        turns = turns[np.unique(np.geomspace(1, len(turns), MAX_CORNERS).astype(int) - 1)]
    return fpir[turns], fnir[turns], thresholds[turns]


def _miss_rate(result: Any) -> str:
    """Returns the FNIR for the legend: at the lowest supported FPIR that is at least 1 %.

    If all supported FPIRs are lower, it is the FNIR at the highest of them.
    """
    usable = [fpir for fpir in result.fnir_at_fpir if result.supported(fpir)]
    best = min((fpir for fpir in usable if fpir >= 0.01), default=max(usable, default=None))
    return (
        "too few strangers"
        if best is None
        else f"FNIR {result.fnir_at_fpir[best]:.1%} at FPIR {100 * best:g}%"
    )


def _step_below(rate: float) -> float:
    """Returns the highest of ..., 0.01, 0.02, 0.05, 0.1, ... that is not above the rate."""
    return max(step for step in _steps((1, 2, 5)) if step <= rate * (1 + 1e-9))


def _steps(digits: Sequence[int]) -> list[float]:
    """Returns the products of the digits and powers of ten, up to 1."""
    return [
        digit * 10.0**power
        for power in range(-8, 1)
        for digit in digits
        if digit * 10.0**power <= 1
    ]


def _percent(
    update: Callable[..., Any], begin: float, first: float, named: Mapping[float, str] | None = None
) -> None:
    """Sets up a logarithmic axis of percentages.

    Args:
        update: `update_xaxes` or `update_yaxes` of a figure.
        begin: lower end of the axis; the upper end is 100 %.
        first: lowest rate that may get a round percentage as its tick.
        named: additional ticks with their texts.
    """
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
    fig: go.Figure,
    label: str,
    style: Style,
    x: NDArray[np.int64],
    y: Floats,
    band: Floats | None,
    hover: str,
) -> None:
    """Draws the line of a run with its band, and markers at round numbers."""
    if band is not None:
        _band(fig, label, style, x, band[0], band[1])
    marked = np.isin(x, [*_round(int(x[-1])), x[-1]])  # markers at every rank would merge
    fig.add_scatter(
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
    fig: go.Figure, label: str, style: Style, x: NDArray[Any], low: Floats, high: Floats
) -> None:
    """Draws the area between two lines."""
    fig.add_scatter(
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
    """Returns the lowest rate, or the lowest value of the band if there is one."""
    return float(rates.min() if band is None else band[0].min())


def _axes(fig: go.Figure, ends: Sequence[int], lows: Sequence[float]) -> None:
    """Sets up a logarithmic axis from 1 to the highest end, and an axis of rates.

    The axis of rates begins at the highest multiple of 10 % below all rates.
    """
    end = max(ends, default=10)
    ticks = _round(end, (1, 2, 5) if end <= 1000 else (1,))
    width = np.log10(max(end, 2))
    fig.update_xaxes(
        type="log",
        range=[-0.02 * width, 1.02 * width],
        tickvals=ticks,
        ticktext=[f"{tick:,}" for tick in ticks],
    )
    bottom = np.floor(10 * min(lows, default=0.0)) / 10
    fig.update_yaxes(
        range=[bottom - 0.01 * (1.1 - bottom), 1 + 0.01 * (1.1 - bottom)], tickformat=".0%"
    )


def _round(end: int, digits: Sequence[int] = (1, 2, 5)) -> list[int]:
    """Returns 1, 2, 5, 10, 20, ... up to `end`."""
    return [
        step
        for power in range(len(str(end)))
        for digit in digits
        if (step := digit * 10**power) <= end
    ]
