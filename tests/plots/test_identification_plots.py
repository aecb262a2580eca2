"""CMC and rank-1 against distractors: what is drawn is what the results hold."""

from __future__ import annotations

import json

import numpy as np
import pytest

from workbench import plots
from workbench.evaluation import IdentificationResult, identification
from workbench.plots.theme import colour_of

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


def _result(noise: float = 0.9, people: int = 20, distractors: int = 150, bootstrap: int = 20) -> IdentificationResult:
    rng = np.random.default_rng(0)
    directions, ids = rng.normal(size=(people, 8)), np.repeat(np.arange(people), 2)
    probes = directions[ids] + noise * rng.normal(size=(len(ids), 8))
    return identification(probes, directions, rng.normal(size=(distractors, 8)), ids, np.arange(people), bootstrap=bootstrap)


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
    np.testing.assert_array_equal(band.y, np.concatenate([RESULT.cmc_band[0], RESULT.cmc_band[1][::-1]]))
    assert band.legendgroup == line.legendgroup


def test_rank_one_is_drawn_against_the_number_of_distractors() -> None:
    drawn = plots.distractors({"arcface": RESULT})
    band, line = drawn.data
    assert drawn.layout.xaxis.type == "log"
    assert list(line.x) == [1, 2, 5, 10, 20, 50, 100, 150]
    np.testing.assert_array_equal(line.y, RESULT.distractor_rates)
    assert "among 150" in line.name
    assert RESULT.distractor_band is not None
    np.testing.assert_array_equal(band.y, np.concatenate([RESULT.distractor_band[0], RESULT.distractor_band[1][::-1]]))


@pytest.mark.parametrize("function", [plots.cmc, plots.distractors])
def test_runs_have_the_colours_of_their_losses(function: object) -> None:
    drawn = function({"arcface-a": RESULT, "softmax-a": ODD["no intervals"]})  # type: ignore[operator]
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


def test_axes_of_a_million_are_not_crowded() -> None:
    million = np.array([1, 10, 10**6])
    result = RESULT.__class__(
        **{**vars(RESULT), "distractor_counts": million, "distractor_rates": np.ones(3), "distractor_band": None}
    )
    assert list(plots.distractors({"arcface": result}).layout.xaxis.ticktext) == [f"{10**power:,}" for power in range(7)]


def test_accuracy_of_an_identification_is_called_rank_one() -> None:
    import pandas as pd

    rows = [
        {"run": "a", "benchmark": name, "kind": kind, "accuracy": 0.9}
        for name, kind in (("pairs", "verification"), ("million", "identification"))
    ]
    drawn = plots.accuracy(pd.DataFrame(rows))
    assert [drawn.layout[axis].title.text.split(",")[0] for axis in ("xaxis", "xaxis2")] == ["Accuracy", "Rank-1"]
