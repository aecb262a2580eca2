"""CMC and rank-1 against distractors: what is drawn is what the results hold."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from workbench import plots
from workbench.arrays import BAND_FPIRS
from workbench.evaluation import IdentificationResult, OpenSetResult, identification, open_set
from workbench.plots.theme import colour_of

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


def _result(
    noise: float = 0.9, people: int = 20, distractors: int = 150, bootstrap: int = 20
) -> IdentificationResult:
    rng = np.random.default_rng(0)
    directions, ids = rng.normal(size=(people, 8)), np.repeat(np.arange(people), 2)
    probes = directions[ids] + noise * rng.normal(size=(len(ids), 8))
    return identification(
        probes,
        directions,
        rng.normal(size=(distractors, 8)),
        ids,
        np.arange(people),
        bootstrap=bootstrap,
    )


RESULT = _result()
ODD = {
    "perfect": _result(noise=0.0),
    "no intervals": _result(bootstrap=0),
    "one distractor": _result(distractors=1),
    "one person": _result(people=1, distractors=1),
    "hopeless": _result(noise=50.0),
}


def test_the_cmc_is_drawn_by_rank_on_a_logarithmic_axis() -> None:
    drawn = plots.cmc({"arcface": RESULT})
    band, line = drawn.data
    assert drawn.layout.xaxis.type == "log"
    assert list(line.x) == list(range(1, 101))
    np.testing.assert_array_equal(line.y, RESULT.cmc)
    assert line.name == f"arcface (rank-1 {RESULT.accuracy:.1%})"
    assert RESULT.cmc_band is not None
    np.testing.assert_array_equal(
        band.y, np.concatenate([RESULT.cmc_band[0], RESULT.cmc_band[1][::-1]])
    )
    assert band.legendgroup == line.legendgroup


def test_rank_one_is_drawn_against_the_number_of_distractors() -> None:
    drawn = plots.distractors({"arcface": RESULT})
    band, line = drawn.data
    assert drawn.layout.xaxis.type == "log"
    assert list(line.x) == [1, 2, 5, 10, 20, 50, 100, 150]
    np.testing.assert_array_equal(line.y, RESULT.distractor_rates)
    assert "among 150" in line.name
    assert RESULT.distractor_band is not None
    np.testing.assert_array_equal(
        band.y, np.concatenate([RESULT.distractor_band[0], RESULT.distractor_band[1][::-1]])
    )


def test_a_line_below_says_whom_a_probe_is_compared_with_and_when_somebody_is_found() -> None:
    for function in (plots.cmc, plots.distractors):
        said = " ".join(note.text for note in function({"arcface": RESULT}).layout.annotations)
        assert said.startswith("candidates: everybody in the gallery")
    said = " ".join(
        note.text for note in plots.open_set_det({"arcface": OPEN["good"]}).layout.annotations
    )
    assert "found: score reaches the threshold and the person comes first" in said


@pytest.mark.parametrize("function", [plots.cmc, plots.distractors])
def test_runs_have_the_colours_of_their_losses(function: object) -> None:
    results = {"arcface-a": RESULT, "softmax-a": ODD["no intervals"]}
    drawn = function(results)  # type: ignore[operator]
    lines = [trace for trace in drawn.data if trace.name]
    assert [trace.line.color for trace in lines] == [colour_of("arcface"), colour_of("softmax")]
    assert len(drawn.data) == 3  # only one of them has a band


@pytest.mark.parametrize("function", [plots.cmc, plots.distractors])
@pytest.mark.parametrize("result", ODD.values(), ids=list(ODD))
def test_all_of_a_line_lies_within_the_axes(function: object, result: IdentificationResult) -> None:
    drawn = function({"arcface": result})  # type: ignore[operator]
    assert json.loads(drawn.to_json())
    (left, right), (bottom, top) = drawn.layout.xaxis.range, drawn.layout.yaxis.range
    for trace in drawn.data:
        assert left <= np.log10(min(trace.x)) <= np.log10(max(trace.x)) <= right
        assert bottom <= min(trace.y) <= max(trace.y) <= top


@pytest.mark.parametrize("function", [plots.cmc, plots.distractors])
def test_no_runs_give_an_empty_figure(function: object) -> None:
    assert len(function({}).data) == 0  # type: ignore[operator]


def _open(
    noise: float = 0.9, people: int = 20, strangers: int = 150, bootstrap: int = 20, dim: int = 8
) -> OpenSetResult:
    rng = np.random.default_rng(0)
    directions, ids = rng.normal(size=(people, dim)), np.repeat(np.arange(people), 2)
    probes = directions[ids] + noise * rng.normal(size=(len(ids), dim))
    return open_set(
        probes,
        directions,
        rng.normal(size=(strangers, dim)),
        ids,
        np.arange(people),
        bootstrap=bootstrap,
    )


OPEN = {
    "usual": _open(),
    "perfect": _open(noise=0.0),
    "good": _open(noise=0.4, dim=16),
    "no intervals": _open(bootstrap=0),
    "one stranger": _open(strangers=1),
    "one person": _open(people=1, strangers=5),
    "hopeless": _open(noise=50.0),
}


def _at(line: Any, fpir: float) -> float:
    """What a line of steps says at an FPIR."""
    return float(line.y[np.searchsorted(line.x, fpir * (1 + 1e-9), side="right") - 1])


@pytest.mark.parametrize("result", OPEN.values(), ids=list(OPEN))
def test_open_set_det_shows_the_lowest_fnir_of_each_fpir(result: OpenSetResult) -> None:
    drawn = plots.open_set_det({"arcface": result})
    assert json.loads(drawn.to_json())
    line = drawn.data[-1]
    assert line.line.shape == "hv"
    curve = result.curve
    for fpir in (1 / len(result.nonmated), 0.1, 0.3, 1.0):
        if fpir * len(result.nonmated) < 1:
            continue
        expected = curve.fnir[curve.fpir <= fpir * (1 + 1e-9)].min()
        assert _at(line, fpir) == pytest.approx(expected) or (
            expected == 0 and "0%" in drawn.layout.yaxis.ticktext
        )
    (left, right), (bottom, top) = drawn.layout.xaxis.range, drawn.layout.yaxis.range
    for trace in drawn.data:
        assert left - 1e-9 <= np.log10(min(trace.x)) <= np.log10(max(trace.x)) <= right
        assert bottom <= np.log10(min(trace.y)) <= np.log10(max(trace.y)) <= top
    assert len(drawn.data) == 1 + (result.band is not None)
    assert {"100%"} <= set(drawn.layout.xaxis.ticktext) & set(drawn.layout.yaxis.ticktext)


def test_open_set_det_has_a_line_a_run_in_the_colour_of_its_loss_with_its_band() -> None:
    results = {"arcface-a": RESULT, "softmax-a": OPEN["usual"]}  # of the first none is known
    drawn = plots.open_set_det(results | {"cosface-a": _with_open_set(OPEN["good"])})
    lines = [trace for trace in drawn.data if trace.name]
    assert [trace.line.color for trace in lines] == [colour_of("softmax"), colour_of("cosface")]
    assert lines[0].name == f"softmax-a (FNIR {OPEN['usual'].fnir_at_fpir[0.1]:.1%} at FPIR 10%)"
    band = drawn.data[0]
    low, high = np.split(band.y, 2)
    grid = BAND_FPIRS
    seen = grid >= 1 / 150
    np.testing.assert_allclose(band.x, [*grid[seen], *grid[seen][::-1]])
    assert OPEN["usual"].band is not None
    np.testing.assert_allclose(high[::-1], OPEN["usual"].band[1][seen])
    assert (low >= OPEN["usual"].band[0][seen] - 1e-12).all()


def _with_open_set(result: OpenSetResult) -> IdentificationResult:
    return RESULT.__class__(**{**vars(RESULT), "open_set": result})


def test_many_corners_are_thinned_and_keep_both_ends() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=10_000)
    result = OpenSetResult(
        {}, {}, None, 1 + rng.normal(size=10_000), np.ones(10_000, dtype=int), scores, 1, 5
    )
    line = plots.open_set_det({"arcface": result}).data[-1]
    assert 500 < len(line.x) <= 2001
    assert line.y[0] == result.curve.fnir[result.curve.fpir == 0].min()
    assert (np.diff(line.y) <= 0).all()
    assert line.x[-1] == 1


def test_open_set_det_without_runs_is_an_empty_figure() -> None:
    assert (
        len(plots.open_set_det({}).data) == len(plots.open_set_det({"arcface": RESULT}).data) == 0
    )


def test_axes_of_a_million_are_not_crowded() -> None:
    million = np.array([1, 10, 10**6])
    result = RESULT.__class__(
        **{
            **vars(RESULT),
            "distractor_counts": million,
            "distractor_rates": np.ones(3),
            "distractor_band": None,
        }
    )
    assert list(plots.distractors({"arcface": result}).layout.xaxis.ticktext) == [
        f"{10**power:,}" for power in range(7)
    ]


def test_accuracy_of_an_identification_is_called_rank_one() -> None:
    import pandas as pd

    rows = [
        {"run": "a", "benchmark": name, "kind": kind, "accuracy": 0.9}
        for name, kind in (("pairs", "verification"), ("million", "identification"))
    ]
    drawn = plots.accuracy(pd.DataFrame(rows))
    assert [drawn.layout[axis].title.text.split(",")[0] for axis in ("xaxis", "xaxis2")] == [
        "Accuracy",
        "Rank-1",
    ]
