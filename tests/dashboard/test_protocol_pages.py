"""Results of one benchmark under several protocols.

Each has a name of its own, and no page mistakes distances for cosines.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from workbench import runs
from workbench.evaluation import PRESETS, load_result
from workbench.evaluation.results import save_result
from workbench.evaluation.verification import IJB_PROTOCOL

PICKED = "Pick a pair from the benchmark"
"""The choice of the page of two photos that shows the pairs of the benchmark."""

Opened = Callable[..., AppTest]


@pytest.fixture
def folder(tiny_runs: Path, tmp_path: Path) -> Path:
    """The tiny runs with further results: distances, and scores with the mean subtracted."""
    copied = shutil.copytree(tiny_runs, tmp_path / "runs")
    for run in runs.list(copied):
        if "people" not in run.evaluations():
            continue
        usual = load_result(run, "people")
        far = replace(
            usual, scores=2 * usual.scores - 2, fold_threshold=2 * usual.fold_threshold - 2
        )
        for preset, result in (("arcface_torch", far), ("sphereface", usual)):
            words = {**result.protocol, **PRESETS[preset].words()}
            benchmark = run.evaluation("people")[0]["benchmark"]
            save_result(
                run, f"people+{preset}", benchmark, replace(result, protocol=words), None, None, []
            )
    return copied


def _shown(app: AppTest) -> str:
    assert [error.message for error in app.exception] == []
    groups = (app.markdown, app.info, app.caption, app.warning)
    return "\n".join(str(element.value) for group in groups for element in group)


def test_figures_and_pages_say_which_protocol(open_page: Opened, folder: Path) -> None:
    app = open_page("roc", folder, benchmark="people+arcface_torch")
    assert "**protocol**: arcface_torch" in _shown(app)
    drawn = [chart.proto.spec for chart in app.get("plotly_chart")]
    assert len(drawn) == 2
    for spec in drawn:
        assert "protocol: arcface_torch" in json.dumps(json.loads(spec)["layout"]["annotations"])


def test_each_protocol_has_its_row_of_panels(open_page: Opened, folder: Path) -> None:
    app = open_page("", folder)
    _shown(app)
    notes = json.loads(app.get("plotly_chart")[0].proto.spec)["layout"]["annotations"]
    titles = [note["text"].replace("<br>", "") for note in notes]
    assert {"people", "people+arcface_torch", "people+sphereface"} <= set(titles)


def test_templates_have_rates_but_no_accuracy(open_page: Opened, folder: Path) -> None:
    for run in runs.list(folder):
        if "people" in run.evaluations():
            usual = load_result(run, "people")
            words = {**usual.protocol, "protocol": IJB_PROTOCOL, "score": "cosine of the templates"}
            save_result(run, "ijb-c", "ijb:x", replace(usual, protocol=words), None, None, [])
    app = open_page("", folder, benchmark="ijb-c")
    assert "mean ± standard deviation" not in _shown(app)
    titles = [
        note["text"]
        for note in json.loads(app.get("plotly_chart")[0].proto.spec)["layout"]["annotations"]
    ]
    assert "people" in titles
    assert "ijb-c" not in titles
    columns = list(app.dataframe[0].value.columns)
    assert columns[:3] == ["Run", "AUC", "EER"]
    assert "Not shown here" in _shown(
        open_page("photos", folder, benchmark="ijb-c", photos=PICKED)
    )  # two photos are no templates


def test_angles_of_distances_are_those_of_their_cosines(open_page: Opened, folder: Path) -> None:
    said = []
    for name in ("people", "people+arcface_torch"):
        traces = json.loads(
            open_page("angles", folder, benchmark=name).get("plotly_chart")[-1].proto.spec
        )["data"]
        said.append(
            [trace["hovertemplate"] for trace in traces if trace.get("name") == "threshold"]
        )
    assert len(said[0]) == 2
    assert said[0] == said[1]


def test_two_photos_are_not_judged_by_results_of_other_comparisons(
    open_page: Opened, folder: Path
) -> None:
    said = _shown(open_page("photos", folder, benchmark="people+sphereface", photos=PICKED))
    assert "Not shown here" in said
    assert "sphereface" in said
    assert "Not shown here" not in _shown(
        open_page("photos", folder, benchmark="people+arcface_torch", photos=PICKED)
    )


def test_what_differs_between_runs_is_listed(open_page: Opened, folder: Path) -> None:
    run = runs.open(folder / "tiny-softmax")
    path = run.path / runs.EVALUATION / "people.json"
    figures = json.loads(path.read_text())
    figures["protocol"]["image scaling"] = "(x - 0) / 1, BGR, 9 x 9"
    path.write_text(json.dumps(figures))
    said = _shown(open_page("roc", folder, benchmark="people"))
    assert "**image scaling of tiny-" in said
