"""The page of identification, and what pages show without identification results."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from workbench import runs
from workbench.evaluation import IdentificationResult, identification, load_result, open_set
from workbench.evaluation.results import save_result

PICKED = "Pick a pair from the benchmark"
"""The choice of the page of two photos that shows the pairs of the benchmark."""

Opened = Callable[..., AppTest]
NAMES = ("tiny-arcface", "tiny-softmax")
SEARCH = "search"


def evaluate_search(
    run: runs.Run, noise: float, candidates: Any = "gallery", with_open_set: bool = True
) -> None:
    """Stores how 12 people with three probes each are found among 40 distractors."""
    rng = np.random.default_rng(0)
    people, ids = rng.normal(size=(12, 8)), np.repeat(np.arange(12), 3)
    probes = people[ids] + noise * rng.normal(size=(36, 8))
    searched = probes, people, rng.normal(size=(40, 8)), ids, np.arange(12)
    result = identification(*searched, candidates=candidates, bootstrap=50)
    asked = open_set(*searched, bootstrap=50) if with_open_set else None
    save_result(run, SEARCH, "search:x", replace(result, open_set=asked), None, None, [])


@pytest.fixture
def searched(some_runs: Path) -> Path:
    for name, noise in zip(NAMES, (0.6, 1.2), strict=True):
        evaluate_search(runs.open(some_runs / name), noise)
    return some_runs


def stored(folder: Path, name: str) -> IdentificationResult:
    result = load_result(runs.open(folder / name), SEARCH)
    assert isinstance(result, IdentificationResult)
    return result


def main_text(app: AppTest, title: str = "Identification") -> str:
    assert [error.message for error in app.exception] == []
    assert [heading.value for heading in app.title] == [title]
    return "\n".join(
        element.value
        for group in (app.main.markdown, app.info, app.warning, app.code)
        for element in group
    )


def specs(app: AppTest) -> list[dict]:
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def test_rank_one_against_distractors_and_the_cmc_of_all_runs(
    open_page: Opened, searched: Path
) -> None:
    app = open_page("identification", folder=searched, benchmark=SEARCH)
    text = main_text(app)
    assert "36 probes of **search**" in text
    assert "12 people of the gallery and 40 distractors" in text
    assert "1,440 impostor" in text
    titles = [spec["layout"]["xaxis"]["title"]["text"] for spec in specs(app)]
    assert [title.split(" (")[0] for title in titles] == [
        "Number of distractors",
        "Rank k",
        "FPIR: strangers taken for somebody",
    ]
    assert "the gallery contains only its 12 people" in text
    assert "open set, found" in text
    for spec in specs(app):
        drawn = [trace["name"] for trace in spec["data"] if "name" in trace]
        assert sorted(name.split(" (")[0] for name in drawn) == sorted(NAMES)


def test_by_megafaces_rule_a_probe_is_compared_with_one_mate_at_a_time(
    open_page: Opened, some_runs: Path
) -> None:
    evaluate_search(runs.open(some_runs / NAMES[0]), 0.5, candidates="megaface")
    text = main_text(open_page("identification", folder=some_runs, benchmark=SEARCH))
    assert "Each of 48 probes" in text  # 12 people with 4 images, enrolled or not
    assert (
        "one other image of its person at a time (144 searches, MegaFace's rule) and 40 distractors"
        in text
    )


def test_where_the_open_set_was_not_measured_it_says_how_to_get_it(
    open_page: Opened, some_runs: Path
) -> None:
    evaluate_search(runs.open(some_runs / NAMES[0]), 0.5, with_open_set=False)
    app = open_page("identification", folder=some_runs, benchmark=SEARCH)
    assert "evaluate` again" in main_text(app)
    assert len(specs(app)) == 2


def test_the_leaderboard_calls_it_rank_one(open_page: Opened, searched: Path) -> None:
    app = open_page("", folder=searched, benchmark=SEARCH)
    assert "(rank-1 for identification)" in main_text(app, "Leaderboard")
    table = app.dataframe[0].value.set_index("Run")
    assert list(table.columns)[:2] == ["Rank-1", "TAR at FAR 0.01"]
    for name in NAMES:
        result = stored(searched, name)
        assert result.interval is not None
        low, high = result.interval
        assert table.loc[name, "Rank-1"] == f"{result.accuracy:.1%}  [{low:.1%}, {high:.1%}]"
        assert table.loc[name, "TAR at FAR 0.01"] == f"{result.tar_at_far[0.01]:.1%}"
    axes = specs(app)[0]["layout"]
    found = {axes[axis]["title"]["text"].split(",")[0] for axis in ("xaxis", "xaxis2", "xaxis3")}
    assert found == {"Accuracy", "Rank-1"}
    assert "nan" not in json.dumps(table.to_dict())


def test_the_leaderboard_of_pairs_beside_it_shows_no_empty_columns(
    open_page: Opened, searched: Path
) -> None:
    app = open_page("", folder=searched, benchmark="people")
    main_text(app, "Leaderboard")
    table = app.dataframe[0].value
    assert [column for column in table if column.startswith("TAR")] == [
        f"TAR at FAR {far:g}" for far in (0.1, 0.01, 1e-3, 1e-4)
    ]
    assert "nan" not in json.dumps(table.to_dict())


@pytest.mark.parametrize(
    ("page", "title"), [("roc", "ROC and DET"), ("angles", "Angles"), ("photos", "Two photos")]
)
def test_pages_of_pairs_point_to_the_page_of_identification(
    open_page: Opened, searched: Path, page: str, title: str
) -> None:
    app = open_page(page, folder=searched, benchmark=SEARCH, photos=PICKED)
    assert "see the page Identification" in main_text(app, title)
    assert specs(app) == []


@pytest.mark.parametrize("page", ["map", "invariance", "training"])
def test_other_pages_bear_it(open_page: Opened, searched: Path, page: str) -> None:
    app = open_page(page, folder=searched, benchmark=SEARCH)
    assert [error.message for error in app.exception] == []
    assert len(app.warning) == 0


@pytest.mark.parametrize("benchmark", ["people", "train"])
def test_where_the_benchmark_has_no_distractors_one_that_has_them_is_shown(
    open_page: Opened, searched: Path, benchmark: str
) -> None:
    app = open_page("identification", folder=searched, benchmark=benchmark)
    assert f"probes of **{SEARCH}**" in main_text(app)
    assert len(specs(app)) == 3


def test_without_any_such_benchmark_it_says_what_to_run(open_page: Opened) -> None:
    app = open_page("identification")
    main_text(app)
    assert app.code[0].value.startswith("workbench evaluate ")
    assert specs(app) == []


def test_a_run_without_it_is_left_out(open_page: Opened, some_runs: Path) -> None:
    evaluate_search(runs.open(some_runs / NAMES[0]), 0.5)
    app = open_page("identification", folder=some_runs, benchmark=SEARCH, run=list(NAMES))
    main_text(app)
    assert NAMES[1] not in json.dumps(specs(app))


def test_a_damaged_evaluation_is_a_warning(open_page: Opened, searched: Path) -> None:
    (searched / NAMES[0] / runs.EVALUATION / f"{SEARCH}.npz").write_bytes(
        b"PK\3\4 and then nothing"
    )
    app = open_page("identification", folder=searched, benchmark=SEARCH)
    main_text(app)
    assert NAMES[0] in app.warning[0].value
    assert len(specs(app)) == 3
