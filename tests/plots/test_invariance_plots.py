"""Figures of invariance curves, with and without intervals, of one run and of several."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from workbench import plots
from workbench.evaluation import FACTORS, InvarianceCurve, invariance
from workbench.plots.theme import colour_of

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")
LEVELS = np.array([0.0, 30.0, 60.0, 90.0])


def _curve(
    factor: str = "yaw", slope: float = 0.008, scale: float = 1.0, seed: int = 0, **options: Any
) -> InvarianceCurve:
    rng = np.random.default_rng(seed)
    gap = np.tile(LEVELS, 12)
    scores = np.concatenate([0.8 - slope * gap + rng.normal(0, 0.02, 48), rng.normal(0, 0.1, 200)])
    where = np.concatenate([gap * scale, np.zeros(200)])
    plain: dict[str, Any] = {"far": 0.01, "bootstrap": 20}
    return invariance(scores, np.arange(248) < 48, where, factor=factor, **plain | options)


CURVE = _curve()
BOTH = {"arcface-a": CURVE, "softmax-a": _curve(slope=0.02, seed=1)}


def _named(drawn: go.Figure, name: str) -> Any:
    (found,) = [trace for trace in drawn.data if trace.name == name]
    return found


def _circles(drawn: go.Figure) -> list[tuple[float, float]]:
    return [(trace.x[0], trace.y[0]) for trace in drawn.data if trace.mode == "markers"]


def _bands(drawn: go.Figure) -> list[Any]:
    return [trace for trace in drawn.data if trace.fill == "toself"]


@pytest.mark.parametrize("factor", list(FACTORS))
@pytest.mark.parametrize("function", [plots.invariance, plots.invariance_tar])
def test_the_axis_names_the_factor_and_its_unit(function: Any, factor: str) -> None:
    drawn = function({"arcface": _curve(factor, scale=1 / 90 if factor == "occlusion" else 1)})
    title = drawn.layout.xaxis.title.text
    assert title.startswith(FACTORS[factor].title)
    if factor == "occlusion":
        assert drawn.layout.xaxis.tickformat == ".0%"
    else:
        assert f"({FACTORS[factor].unit})" in title
    assert json.loads(drawn.to_json())["data"]


def test_medians_thresholds_and_crossings_are_drawn() -> None:
    drawn = plots.invariance(BOTH)
    for name, curve in BOTH.items():
        line = _named(drawn, name)
        assert line.line.color == colour_of(name)
        np.testing.assert_allclose(line.x, curve.gap)
        np.testing.assert_allclose(line.y, curve.median)
        assert [
            list(trace.x) for trace in drawn.data if list(trace.y) == [curve.threshold] * 2
        ] == [[0, 90]]
        assert (curve.crossing, curve.threshold) in _circles(drawn)
    assert "threshold at FAR 1 %" in drawn.layout.xaxis.title.text


def test_relative_to_the_threshold_all_runs_cross_zero() -> None:
    drawn = plots.invariance(BOTH, relative=True)
    for name, curve in BOTH.items():
        np.testing.assert_allclose(_named(drawn, name).y, curve.median - curve.threshold)
    assert _circles(drawn) == [(curve.crossing, 0) for curve in BOTH.values()]
    assert [shape.y0 for shape in drawn.layout.shapes] == [0]


def test_the_accept_rate_is_drawn_with_its_band() -> None:
    drawn = plots.invariance_tar(BOTH)
    assert "FAR 1 %" in drawn.layout.yaxis.title.text
    for (name, curve), band in zip(BOTH.items(), _bands(drawn), strict=True):
        np.testing.assert_allclose(_named(drawn, name).y, curve.tar)
        np.testing.assert_allclose(
            band.y, np.concatenate([curve.tar_interval[0], curve.tar_interval[1][::-1]])
        )


def test_one_run_shows_the_range_of_its_pairs_several_do_not() -> None:
    assert len(_bands(plots.invariance({"arcface": CURVE}))) == 2
    spread = _named(plots.invariance({"arcface": CURVE}), "10 to 90 % of the pairs")
    np.testing.assert_allclose(spread.y[:4], CURVE.spread[0])
    assert len(_bands(plots.invariance(BOTH))) == 2


def test_without_intervals_there_is_no_band() -> None:
    curve = _curve(bootstrap=0)
    assert _bands(plots.invariance_tar({"arcface": curve})) == []
    assert len(_bands(plots.invariance({"arcface": curve}))) == 1


def test_a_bin_without_an_interval_is_left_out_of_the_band() -> None:
    people = np.stack([np.arange(248), np.arange(248)], 1)
    people[np.arange(3, 48, 4)] = 3
    curve = _curve(people=people)
    assert curve.tar_interval is not None
    assert np.isnan(curve.tar_interval[0]).tolist() == [False, False, False, True]
    (band,) = _bands(plots.invariance_tar({"arcface": curve}))
    assert list(band.x) == [0, 30, 60, 60, 30, 0]


@pytest.mark.parametrize("slope", [0.0001, 0.02])
def test_no_circle_where_the_medians_never_meet_the_threshold(slope: float) -> None:
    """They stay above it all along, or are below it from the start."""
    rng = np.random.default_rng(0)
    scores = np.concatenate(
        [np.tile(0.5 - slope * LEVELS, 12) - (0.5 if slope > 0.01 else 0), rng.normal(0, 0.1, 200)]
    )
    gap = np.concatenate([np.tile(LEVELS, 12), np.zeros(200)])
    curve = invariance(scores, np.arange(248) < 48, gap, factor="yaw", bootstrap=20)
    for relative in (False, True):
        assert _circles(plots.invariance({"arcface": curve}, relative)) == []


def test_hovering_gives_gap_and_number_of_pairs() -> None:
    line = _named(plots.invariance(BOTH), "arcface-a")
    assert [point[0] for point in line.customdata] == ["0°", "30°", "60°", "90°"]
    assert [point[3] for point in line.customdata] == [12] * 4


def test_no_runs_give_an_empty_figure() -> None:
    for drawn in (
        plots.invariance({}),
        plots.invariance({}, relative=True),
        plots.invariance_tar({}),
    ):
        assert isinstance(drawn, go.Figure)
        assert len(drawn.data) == 0
        assert "{" not in drawn.layout.yaxis.title.text


def test_a_single_bin_can_be_drawn() -> None:
    curve = _curve(edges=[0, 100])
    for drawn in (plots.invariance({"arcface": curve}), plots.invariance_tar({"arcface": curve})):
        assert json.loads(drawn.to_json())["data"]
