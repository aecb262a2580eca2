"""Every page of the dashboard, opened in-process, with and without something to show."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from workbench import runs
from workbench.evaluation import VerificationResult, clearly_best, load_result

PICKED = "Pick a pair from the benchmark"
"""The choice of the page of two photos that shows the pairs of the benchmark."""

PAGES = {
    "": "Leaderboard",
    "roc": "ROC and DET",
    "identification": "Identification",
    "invariance": "Invariance",
    "angles": "Angles",
    "map": "Map of the embeddings",
    "training": "Training",
    "photos": "Two photos",
}
CHARTS = {  # page: charts for a benchmark of pairs, charts for the closed set "train"; two runs
    "": (1, 3),
    "roc": (2, 0),
    "identification": (0, 0),
    "invariance": (0, 0),
    "angles": (2, 1),
    "map": (4, 4),
    "training": (1, 1),
    "photos": (0, 0),
}
NAMES = ("tiny-arcface", "tiny-softmax")
Opened = Callable[..., AppTest]
every_page = pytest.mark.parametrize("page", PAGES)


def titles(app: AppTest) -> list[str]:
    """The page's h1; fails where the page broke."""
    assert [error.message for error in app.exception] == []
    return [title.value for title in app.title]


def specs(app: AppTest) -> list[dict]:
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def texts(*elements: object) -> str:
    values = (element.value for group in elements for element in group)  # type: ignore
    return "\n".join(map(str, values))


@every_page
def test_page_of_a_benchmark_of_pairs(open_page: Opened, page: str) -> None:
    app = open_page(page)
    assert titles(app) == [PAGES[page]]
    assert app.selectbox(key="benchmark").value == "people"
    assert len(specs(app)) == CHARTS[page][0]
    assert texts(app.warning, app.error) == ""


@every_page
def test_page_of_the_closed_set(open_page: Opened, page: str) -> None:
    app = open_page(page, benchmark="train", photos=PICKED)
    assert titles(app) == [PAGES[page]]
    assert app.selectbox(key="benchmark").value == "train"
    assert len(specs(app)) == CHARTS[page][1]
    assert texts(app.warning, app.error) == ""
    assert ("Choose a benchmark of pairs" in texts(app.info)) == (
        page in ("roc", "angles", "photos")
    )


@pytest.mark.parametrize("page", ["", "roc", "angles", "training"])
def test_charts_name_the_runs(open_page: Opened, page: str) -> None:
    for spec in specs(open_page(page)):
        for name in NAMES:
            assert name in json.dumps(spec)


def test_map_names_runs_and_people_and_hands_out_image_numbers(open_page: Opened) -> None:
    app = open_page("map")
    assert [heading.value for heading in app.main.subheader] == list(NAMES)
    for spec in specs(app):
        assert {trace["name"] for trace in spec["data"]} == {
            f"person{number}" for number in range(6)
        }
        numbers = [number for trace in spec["data"] for number in _plain(trace["customdata"])]
        assert sorted(numbers) == list(range(48))


def _plain(values: object) -> list[int]:
    """Numbers of a plotly JSON array, which may be packed."""
    if isinstance(values, dict):
        import base64

        import numpy as np

        return np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"]).tolist()
    assert isinstance(values, list)
    return values


def test_closed_set_shows_a_confusion_matrix_a_run(open_page: Opened) -> None:
    drawn = [spec["data"][0] for spec in specs(open_page("", benchmark="train"))]
    heatmaps = [trace for trace in drawn if trace["type"] == "heatmap"]
    assert len(heatmaps) == 2
    assert heatmaps[0]["x"] == heatmaps[0]["y"] == [f"person{number}" for number in range(6)]


def test_leaderboard_greys_out_rates_that_too_few_impostors_support(open_page: Opened) -> None:
    table = open_page("").dataframe[0]
    columns = list(table.value.columns)
    impostors = 168
    grey = [
        column
        for column in columns
        if column.startswith("TAR") and impostors * float(column.split()[-1]) < 10
    ]
    assert grey == ["TAR at FAR 0.01", "TAR at FAR 0.001", "TAR at FAR 0.0001"]
    style = table.proto.arrow_data.styler.styles
    for number, column in enumerate(columns):
        for row in range(2):
            assert (f"_row{row}_col{number}" in style) == (column in grey)


def test_leaderboard_gives_the_stored_figures(open_page: Opened, tiny_runs: Path) -> None:
    table = open_page("").dataframe[0].value.set_index("Run")
    for name in NAMES:
        figures = runs.open(tiny_runs / name).evaluation("people")[0]
        low, high = figures["intervals"]["accuracy"]
        assert table.loc[name, "Accuracy"] == f"{figures['accuracy']:.1%}  [{low:.1%}, {high:.1%}]"
        assert table.loc[name, "EER"].startswith(f"{figures['eer']:.1%}")


def test_leaderboard_names_a_best_run_only_where_it_is_clear(
    open_page: Opened, tiny_runs: Path
) -> None:
    results = {name: load_result(runs.open(tiny_runs / name), "people") for name in NAMES}
    best = clearly_best(
        {name: result for name, result in results.items() if isinstance(result, VerificationResult)}
    )
    (said,) = [text.value for text in open_page("").markdown if "Holm" in text.value]
    assert (f"**{best}** is more accurate" if best else "No run is clearly the best") in said
    assert "1 comparison" in said


def test_leaderboard_lists_the_settings_of_each_run(open_page: Opened) -> None:
    table = open_page("").dataframe[1].value.set_index("Run")
    assert table.loc["tiny-arcface", "Loss"] == "arcface m = 0.2, s = 16"
    assert set(table["State"]) == {"finished"}
    assert set(table["Steps"]) == {"6 of 6"}


def test_training_page_draws_the_quantity_asked_for(open_page: Opened) -> None:
    app = open_page("training", curve="Learning rate")
    titles(app)
    assert specs(app)[0]["layout"]["yaxis"]["title"]["text"] == "Learning rate"


@pytest.mark.parametrize(
    "folder",
    ["", "/no/such/folder", "~nobody-of-that-name/runs", "x" * 5000, "zero\0byte", "/proc/1/mem"],
)
def test_folder_without_runs_shows_what_to_do(
    open_page: Opened, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app = open_page("", runs=folder)
    assert titles(app) == ["No runs yet"]
    assert "workbench demo" in texts(app.code)


@pytest.mark.parametrize("page", ["roc", "photos"])
def test_pages_welcome_where_there_are_no_runs(
    open_page: Opened, tmp_path: Path, page: str
) -> None:
    app = open_page(page, folder=tmp_path)
    assert titles(app) == ["No runs yet"]
    assert "workbench train" in texts(app.code)


def test_missing_folder_is_said_to_be_missing(open_page: Opened, tmp_path: Path) -> None:
    assert "there is no such folder" in texts(open_page("", folder=tmp_path / "nope").markdown)
    assert "there is no such folder" not in texts(open_page("", folder=tmp_path).markdown)


def test_runs_none_of_which_is_chosen(open_page: Opened) -> None:
    app = open_page("")
    app.multiselect(key="run").set_value([]).run()
    assert titles(app) == ["Choose runs"]
    assert "There are 2 runs" in texts(app.markdown)


def test_another_folder_can_be_typed(open_page: Opened, tmp_path: Path, some_runs: Path) -> None:
    (some_runs / "tiny-softmax").rename(some_runs / "renamed-softmax")
    app = open_page("", folder=tmp_path / "nope")
    app.text_input(key="runs").set_value(str(some_runs)).run()
    assert titles(app) == ["Leaderboard"]
    assert set(app.multiselect(key="run").value) == {"tiny-arcface", "renamed-softmax"}


def test_address_selects_folder_run_and_benchmark(
    open_page: Opened, tmp_path: Path, some_runs: Path
) -> None:
    app = open_page(
        "", folder=tmp_path / "nope", runs=str(some_runs), run=["tiny-softmax"], benchmark="train"
    )
    assert titles(app) == ["Leaderboard"]
    assert app.multiselect(key="run").value == ["tiny-softmax"]
    assert app.selectbox(key="benchmark").value == "train"
    assert "tiny-arcface" not in json.dumps(specs(app))


@every_page
def test_unknown_values_in_the_address_fall_back(open_page: Opened, page: str) -> None:
    app = open_page(
        page,
        run=["nope", "../.."],
        benchmark="nope",
        curve="nope",
        photos="nope",
        kind="x",
        order="x",
        pair="x",
    )
    assert titles(app) == [PAGES[page]]
    assert set(app.multiselect(key="run").value) == set(NAMES)
    assert app.selectbox(key="benchmark").value == "people"


@pytest.mark.parametrize("state", ["queued", "running", "failed", "stopped"])
def test_state_and_message_of_a_run_are_shown(
    open_page: Opened, some_runs: Path, state: str
) -> None:
    run = runs.open(some_runs / "tiny-arcface")
    run.set_status(state, step=3, total=6, message="the reason")
    with (
        run.lock() if state == "running" else nullcontext()
    ):  # which the process that trains it holds
        app = open_page("", folder=some_runs)
    assert titles(app) == ["Leaderboard"]
    row = app.dataframe[1].value.set_index("Run").loc["tiny-arcface"]
    assert (row["State"], row["Steps"], row["Message"]) == (state, "3 of 6", "the reason")


def test_run_without_sign_of_life_is_stalled(open_page: Opened, some_runs: Path) -> None:
    runs.write_json(
        some_runs / "tiny-arcface" / runs.STATUS,
        {"state": "running", "heartbeat": time.time() - 1000},
    )
    app = open_page("", folder=some_runs)
    titles(app)
    assert app.dataframe[1].value.set_index("Run").loc["tiny-arcface", "State"] == "stalled"


def test_training_page_follows_a_run_that_is_running(open_page: Opened, some_runs: Path) -> None:
    run = runs.open(some_runs / "tiny-arcface")
    run.set_status("running", step=3, total=6)
    app = open_page("training", folder=some_runs)
    assert titles(app) == ["Training"]
    before = [metric.value for metric in app.metric]
    row = list(runs.read_metrics(run.path / runs.METRICS))[-1] | {
        "target_angle_mean": 12.34,
        "step": 7,
    }
    with (run.path / runs.METRICS).open("a") as file:
        file.write(json.dumps(row) + '\n{"step": 8, "lo')  # the trainer is in the middle of a line
    app.run()
    assert titles(app) == ["Training"]
    assert "12.3°" not in before
    assert "12.3°" in [metric.value for metric in app.metric]


@every_page
def test_run_that_has_only_begun(open_page: Opened, some_runs: Path, page: str) -> None:
    for name in NAMES:
        shutil.rmtree(some_runs / name / runs.EVALUATION)
        for file in (runs.METRICS, runs.MODEL, runs.CHECKPOINT):
            (some_runs / name / file).unlink()
        runs.open(some_runs / name).set_status("queued")
    app = open_page(page, folder=some_runs)
    assert titles(app) == [PAGES[page]]
    assert specs(app) == []
    if page == "training":
        assert "logged a step" in texts(app.info)
    elif page == "photos":
        assert "have no pairs to compare" in texts(app.info)
        assert "workbench calibrate" in texts(app.code)
    else:
        assert "None of the selected runs has been evaluated yet" in texts(app.info)
        assert "workbench evaluate" in texts(app.code)


@pytest.mark.parametrize("page", ["", "roc", "map"])
def test_run_without_evaluation_is_left_out_beside_one_that_has_some(
    open_page: Opened, some_runs: Path, page: str
) -> None:
    shutil.rmtree(some_runs / "tiny-arcface" / runs.EVALUATION)
    app = open_page(page, folder=some_runs, run=list(NAMES))
    assert titles(app) == [PAGES[page]]
    if page in ("", "roc"):
        assert "tiny-softmax" in json.dumps(specs(app))
        assert "tiny-arcface" not in json.dumps(specs(app))


@pytest.mark.parametrize(
    ("page", "file", "damage"),
    [
        *(
            (page, "people.npz", b"PK\3\4 and then nothing")
            for page in ("", "roc", "angles", "map", "photos")
        ),
        *((page, "people.json", b"[1, 2]") for page in ("", "roc", "angles", "map", "photos")),
        *(
            ("", file, damage)
            for file in ("people.npz", "people.json")
            for damage in (b"", b"{}", b"\xff\xfe")
        ),
    ],
)
def test_damaged_evaluation_is_a_warning(
    open_page: Opened, some_runs: Path, page: str, file: str, damage: bytes
) -> None:
    (some_runs / "tiny-arcface" / runs.EVALUATION / file).write_bytes(damage)
    app = open_page(page, folder=some_runs)
    assert titles(app) == [PAGES[page]]
    assert "tiny-arcface" in texts(app.warning)
    assert "\n" not in app.warning[0].value


def test_evaluations_all_damaged_are_not_said_to_be_missing(
    open_page: Opened, some_runs: Path
) -> None:
    for file in some_runs.glob(f"*/{runs.EVALUATION}/*.npz"):
        file.write_bytes(b"")
    app = open_page("", folder=some_runs)
    assert titles(app) == ["Leaderboard"]
    assert len(app.warning) == 2
    assert texts(app.info) == ""


@pytest.mark.parametrize(
    ("page", "damage"),
    [*((page, b"") for page in PAGES), ("", b"{"), ("", b"[]"), ("", b"\xff\xfe")],
)
def test_damaged_status_is_no_crash(
    open_page: Opened, some_runs: Path, page: str, damage: bytes
) -> None:
    (some_runs / "tiny-arcface" / runs.STATUS).write_bytes(damage)
    app = open_page(page, folder=some_runs)
    assert titles(app) == [PAGES[page]]
    if page == "":
        assert app.dataframe[1].value.set_index("Run").loc["tiny-arcface", "State"] == "unreadable"
    if page == "training":
        assert "status.json" in texts(app.warning)


@pytest.mark.parametrize(
    ("page", "damage"),
    [*((page, b"- 1") for page in PAGES), ("", b""), ("", b"a: ["), ("", b"\xff\xfe")],
)
def test_damaged_config_is_no_crash(
    open_page: Opened, some_runs: Path, page: str, damage: bytes
) -> None:
    (some_runs / "tiny-arcface" / runs.CONFIG).write_bytes(damage)
    app = open_page(page, folder=some_runs)
    assert titles(app) == [PAGES[page]]
    if page == "":
        assert app.dataframe[1].value.set_index("Run").loc["tiny-arcface", "State"] == "unreadable"
        assert "config.yaml" in texts(app.warning)
        assert "tiny-softmax" in json.dumps(specs(app))


def test_damaged_config_of_the_only_run(open_page: Opened, some_runs: Path) -> None:
    (some_runs / "tiny-arcface" / runs.CONFIG).write_bytes(b"- 1")
    app = open_page("", folder=some_runs, run=["tiny-arcface"])
    assert titles(app) == ["Leaderboard"]
    assert "config.yaml" in texts(app.warning)


def test_metrics_without_the_columns_of_today(open_page: Opened, some_runs: Path) -> None:
    (some_runs / "tiny-arcface" / runs.METRICS).write_text(
        '{"step": 1, "epoch": 0.5, "loss": 2.0}\n'
    )
    app = open_page("training", folder=some_runs)
    assert titles(app) == ["Training"]


def test_new_evaluation_shows_at_the_next_click(open_page: Opened, some_runs: Path) -> None:
    app = open_page("", folder=some_runs)
    run = runs.open(some_runs / "tiny-arcface")
    figures, arrays = run.evaluation("people")
    run.save_evaluation("people", figures | {"accuracy": 0.1234}, arrays)
    app.run()
    assert (
        app.dataframe[0].value.set_index("Run").loc["tiny-arcface", "Accuracy"].startswith("12.3%")
    )


def test_training_page_shows_warnings_and_explains_notes(
    open_page: Opened, some_runs: Path
) -> None:
    notes = [
        {"step": 5, "kind": "guess", "level": "note", "text": "a guess has a loss of 12.4"},
        {"step": 300, "kind": "stuck", "level": "warning", "text": "the loss has stayed at 40"},
    ]
    lines = "".join(json.dumps(note) + "\n" for note in notes)
    (some_runs / "tiny-arcface" / runs.NOTES).write_text(lines + '{"step": 310, "te')
    app = open_page("training", folder=some_runs)
    assert titles(app) == ["Training"]
    assert [warning.value for warning in app.warning] == [
        "tiny-arcface, step 300: the loss has stayed at 40"
    ]
    assert any("a guess has a loss of 12.4" in element.value for element in app.markdown)
