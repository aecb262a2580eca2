"""The page of invariance: its figures, its table, and its message without attributes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from workbench import runs
from workbench.evaluation import Gaps, invariance_curves, verification
from workbench.evaluation.results import save_result

Opened = Callable[..., AppTest]
NAMES = ("tiny-arcface", "tiny-softmax")
SWEEP = "sweep"


def evaluate_sweep(
    run: runs.Run, slope: float, impostors: int = 300, controlled: bool = True
) -> None:
    """Stores made-up scores of ten people, which fall with yaw and do not with age."""
    rng = np.random.default_rng(0)
    levels, people = np.array([0.0, 30.0, 60.0, 90.0]), np.repeat(np.arange(10), 8)
    level, of_yaw = np.tile(levels, 20), np.tile(np.repeat([True, False], 4), 10)
    genuine = 0.8 - slope * np.where(of_yaw, level, 0) + rng.normal(0, 0.03, 80)
    scores, none = (
        np.concatenate([genuine, rng.normal(0, 0.1, impostors)]),
        np.full(impostors, np.nan),
    )
    gaps = {
        name: np.concatenate([np.where(mine, level, np.nan), none])
        for name, mine in (("yaw", of_yaw), ("age", ~of_yaw))
    }
    one = rng.integers(10, size=impostors)
    pairs = np.concatenate([np.stack([people, people], 1), np.stack([one, (one + 1) % 10], 1)])
    result = verification(scores, np.arange(len(scores)) < 80, np.arange(len(scores)) % 2)
    save_result(run, SWEEP, "sweep:x", result, None, None, [], gaps=Gaps(gaps, pairs, controlled))


@pytest.fixture
def swept(some_runs: Path) -> Path:
    for name, slope in zip(NAMES, (0.008, 0.012), strict=True):
        evaluate_sweep(runs.open(some_runs / name), slope)
    return some_runs


def main_text(app: AppTest) -> str:
    assert [error.message for error in app.exception] == []
    assert [title.value for title in app.title] == ["Invariance"]
    return "\n".join(
        element.value
        for group in (app.main.markdown, app.info, app.warning, app.code)
        for element in group
    )


def specs(app: AppTest) -> list[dict]:
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def test_two_figures_and_the_crossings_of_all_runs(open_page: Opened, swept: Path) -> None:
    app = open_page("invariance", folder=swept, benchmark=SWEEP)
    assert "10 % of the impostor pairs" in main_text(app)
    drawn = specs(app)
    assert len(drawn) == 2
    for spec in drawn:
        assert spec["layout"]["xaxis"]["title"]["text"].startswith("Difference in yaw (degrees)")
        assert set(NAMES) <= {trace.get("name") for trace in spec["data"]}
    assert "FAR 10 %" in drawn[1]["layout"]["yaxis"]["title"]["text"]
    table = app.dataframe[0].value.set_index("Run")
    for name in NAMES:
        curve = invariance_curves(swept / name, SWEEP, far=0.1, factors=["yaw"])["yaw"]
        assert table.loc[name, "Half refused from"] == curve.crossing_text
        assert table.loc[name, "TAR at 90°"] == f"{curve.tar[-1]:.1%}"


def test_another_factor_and_rate_can_be_chosen_and_sent(open_page: Opened, swept: Path) -> None:
    app = open_page("invariance", folder=swept, benchmark=SWEEP, factor="Age", far="10 %")
    assert "10 % of the impostor pairs" in main_text(app)
    assert specs(app)[0]["layout"]["xaxis"]["title"]["text"].startswith("Difference in age (years)")
    assert set(app.dataframe[0].value["Half refused from"]) == {"> 90 years"}


def test_similarity_is_drawn_as_it_is_or_minus_the_threshold(
    open_page: Opened, swept: Path
) -> None:
    app = open_page("invariance", folder=swept, benchmark=SWEEP)
    assert "minus threshold" in specs(app)[0]["layout"]["yaxis"]["title"]["text"]
    app.toggle(key="relative").set_value(False).run()
    main_text(app)
    assert "minus threshold" not in specs(app)[0]["layout"]["yaxis"]["title"]["text"]


def test_only_rates_that_the_impostors_support_are_offered(
    open_page: Opened, some_runs: Path
) -> None:
    for impostors, offered in ((1000, ["10 %", "1 %"]), (300, ["10 %"])):
        for name in NAMES:
            evaluate_sweep(runs.open(some_runs / name), 0.01, impostors)
        app = open_page("invariance", folder=some_runs, benchmark=SWEEP)
        main_text(app)
        assert [
            option.content for option in app.main.get("button_group")[1].proto.options
        ] == offered
        assert len(specs(app)) == 2
    for name in NAMES:
        evaluate_sweep(runs.open(some_runs / name), 0.01, impostors=9)
    app = open_page("invariance", folder=some_runs, benchmark=SWEEP)
    assert "fewer than 100 impostor pairs" in main_text(app)


def test_a_benchmark_in_which_more_differs_says_so(open_page: Opened, swept: Path) -> None:
    told = "differ in other things too"
    assert told not in main_text(open_page("invariance", folder=swept, benchmark=SWEEP))
    evaluate_sweep(runs.open(swept / NAMES[0]), 0.01, controlled=False)
    assert told in main_text(open_page("invariance", folder=swept, benchmark=SWEEP))


def test_a_run_without_the_sweep_is_left_out(open_page: Opened, some_runs: Path) -> None:
    evaluate_sweep(runs.open(some_runs / NAMES[0]), 0.01)
    app = open_page("invariance", folder=some_runs, benchmark=SWEEP, run=list(NAMES))
    main_text(app)
    assert list(app.dataframe[0].value["Run"]) == [NAMES[0]]
    assert NAMES[1] not in json.dumps(specs(app))


def test_where_the_benchmark_has_no_known_factors_one_that_has_them_is_shown(
    open_page: Opened, swept: Path
) -> None:
    app = open_page("invariance", folder=swept, benchmark="people")
    assert f"Protocol on {SWEEP}" in [expander.label for expander in app.expander]
    assert len(specs(app)) == 2


def test_without_any_such_benchmark_it_says_what_to_run(open_page: Opened) -> None:
    app = open_page("invariance", benchmark="train")
    assert "synthfaces-invariance" in main_text(app)
    assert "workbench evaluate" in app.code[0].value
    assert specs(app) == []


def test_a_damaged_sweep_is_a_warning(open_page: Opened, swept: Path) -> None:
    (swept / NAMES[0] / runs.EVALUATION / f"{SWEEP}.npz").write_bytes(b"PK\3\4 and then nothing")
    app = open_page("invariance", folder=swept, benchmark=SWEEP)
    main_text(app)
    assert NAMES[0] in app.warning[0].value
    assert list(app.dataframe[0].value["Run"]) == [NAMES[1]]
