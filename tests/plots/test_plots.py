"""Figures: traces and labels, one style for each loss, and unusual data that must not fail."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from workbench import plots
from workbench.evaluation import (
    VerificationResult,
    identification,
    invariance,
    leaderboard,
    number_estimates,
    open_set,
    verification,
)
from workbench.plots.theme import DASHES, colour_of, styles

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

LOSSES = ("softmax", "normface", "sphereface", "cosface", "arcface", "triplet")


def _result(
    seed: int = 0, impostors: int = 200, apart: float = 0.4, intervals: bool = True
) -> VerificationResult:
    rng = np.random.default_rng(seed)
    scores = np.concatenate([rng.normal(apart, 0.2, 150), rng.normal(0, 0.2, impostors)]).clip(
        -1, 1
    )
    return verification(
        scores, np.arange(len(scores)) < 150, np.arange(len(scores)) % 2, intervals=intervals
    )


PERFECT = verification([0.9, 0.8, 0.1, 0.0], [True, True, False, False], [0, 1, 0, 1])
RESULT = _result()
FOUND = identification(
    np.eye(4)[[0, 1, 1]], np.eye(4)[:2], np.eye(4)[1:], [0, 1, 1], [0, 1], bootstrap=5
)
ASKED = open_set(np.eye(4)[[0, 1, 1]], np.eye(4)[:2], np.eye(4)[2:], [0, 1, 1], [0, 1], bootstrap=5)
INVARIANCE = invariance(
    RESULT.scores, RESULT.same, np.arange(350) % 4 * 30, factor="yaw", bootstrap=20
)
ANGLES = (np.array([20.0, 30.0, np.nan]), np.array([80.0, 85.0, 90.0]))
METRICS = pd.DataFrame(
    dict.fromkeys(plots.CURVES, 1.0)
    | {
        "epoch": np.arange(1, 9) / 4,
        "loss": np.linspace(9, 1, 8),
        "accuracy": np.linspace(0, 1, 8),
        "target_angle_mean": np.linspace(90, 30, 8),
        "genuine_angle_mean": np.linspace(80, 30, 8),
        "impostor_angle_mean": np.linspace(80, 90, 8),
        "active_triplets": np.linspace(1, 0, 8),
        "lr": 0.1,
        "images_per_second": 100.0,
    }
)


AGES = number_estimates(np.arange(20.0, 60.0), np.arange(20.0, 60.0) + 1)


def _table(
    names: Mapping[str, Any] | list[str], benchmarks: tuple[str, ...] = ("lfw",)
) -> pd.DataFrame:
    rows = [
        {
            "run": name,
            "benchmark": benchmark,
            "accuracy": 0.9,
            "accuracy_low": 0.88,
            "accuracy_high": 0.91,
        }
        for name in names
        for benchmark in benchmarks
    ]
    return pd.DataFrame(rows)


def _lines(names: list[str]) -> dict[str, go.Figure]:
    """Every figure in which a run has a colour of its own."""
    return {
        "roc": plots.roc(dict.fromkeys(names, RESULT)),
        "det": plots.det(dict.fromkeys(names, RESULT)),
        "cmc": plots.cmc(dict.fromkeys(names, FOUND)),
        "distractors": plots.distractors(dict.fromkeys(names, FOUND)),
        "open_set_det": plots.open_set_det(dict.fromkeys(names, ASKED)),
        "invariance": plots.invariance(dict.fromkeys(names, INVARIANCE)),
        "invariance_tar": plots.invariance_tar(dict.fromkeys(names, INVARIANCE)),
        "margin_curves": plots.margin_curves(
            dict.fromkeys(names, (np.arange(181.0), np.cos(np.arange(181.0))))
        ),
        "margin_slopes": plots.margin_slopes(
            dict.fromkeys(names, (np.arange(181.0), np.cos(np.arange(181.0))))
        ),
        "training_curves": plots.training_curves(dict.fromkeys(names, METRICS)),
    }


def _study() -> SimpleNamespace:
    """As `experiments.alignment` gives it."""
    pairs = [("cropped", "raw"), ("aligned", "raw"), ("aligned", "cropped")]
    return SimpleNamespace(
        results=dict.fromkeys(("raw", "cropped", "aligned"), RESULT),
        differences={pair: SimpleNamespace(value=0.1, interval=(0.0, 0.2)) for pair in pairs},
    )


@cache
def _all() -> dict[str, go.Figure]:
    return _lines(["arcface-a"]) | {
        "accuracy": plots.accuracy(_table(["arcface-a"])),
        "pair_angles": plots.pair_angles({"arcface-a": RESULT}),
        "centre_angles": plots.centre_angles({"arcface-a": ANGLES}),
        "pair_similarity": plots.pair_similarity(RESULT, 0.5, "arcface-a"),
        "snapshot_angles": plots.snapshot_angles({"arcface-a": {0: ANGLES, 4: ANGLES}}),
        "snapshot_curves": plots.snapshot_curves({"arcface-a": METRICS}),
        "snapshot_map": plots.snapshot_map({0: np.eye(3, 2), 1: np.eye(3, 2)}, np.arange(3)),
        "seeds": plots.seeds(
            pd.DataFrame({"row": "arcface", "column": "pose, %", "seed": [0, 1], "value": [92, 93]})
        ),
        "sphere": plots.sphere({"arcface-3d": (np.eye(3), np.eye(3))}, np.arange(3), list("abc")),
        "projection": plots.projection(np.eye(3)[:, :2], np.array([0, 0, 1]), ["ann", "bob"]),
        "plane": plots.plane(
            {"arcface-a": (np.eye(3)[:, :2], np.eye(2))}, np.array([0, 0, 1]), ["ann", "bob"]
        ),
        "confusion": plots.confusion(np.array([[3, 1], [0, 4]]), ["ann", "bob"]),
        "alignment": plots.alignment({"arcface-a": _study()}),
        "images_per_identity": plots.images_per_identity([2, 2, 3, 40]),
        "augmentations": plots.augmentations({"flip": np.zeros((2, 8, 8, 3), np.uint8)}),
        "calibration": plots.calibration(AGES),
        "error_by_range": plots.error_by_range({"arcface-a": AGES}),
        "task_balance": plots.task_balance({"arcface-a": METRICS}, {"accuracy": "Accuracy"}),
        "sweep": plots.sweep(
            pd.DataFrame({"row": ["a"], "column": ["r18"], "seed": [0], "value": [0.9]}), "Accuracy"
        ),
        "learning_rates": plots.learning_rates({"constant": [0.1, 0.1]}),
    }


def _colour(drawn: go.Figure, name: str) -> str:
    """Colour of the line or marker of the run whose name a trace shows."""
    (trace,) = [trace for trace in drawn.data if (trace.name or "").split(" (")[0] == name]
    return str(trace.line.color)


def test_every_function_of_the_room_is_tried_here() -> None:
    assert set(_all()) == set(plots.__all__) - {"CURVES", "SNAPSHOT_CURVES"}


@pytest.mark.parametrize("name", sorted(set(plots.__all__) - {"CURVES", "SNAPSHOT_CURVES"}))
def test_every_figure_is_plotly_with_axis_titles_and_can_be_sent(name: str) -> None:
    drawn = _all()[name]
    assert isinstance(drawn, go.Figure)
    assert len(drawn.data) > 0
    if name != "sphere":  # whose panels show directions in space, without axes
        assert drawn.layout.xaxis.title.text
    if name not in (
        "accuracy",
        "alignment",
        "pair_angles",
        "centre_angles",
        "snapshot_angles",
        "augmentations",
        "seeds",
        "sphere",
        "sweep",
        "task_balance",
    ):  # there the rows or panels have names
        assert drawn.layout.yaxis.title.text
    assert json.loads(drawn.to_json())["data"]


def test_a_loss_has_one_colour_in_every_figure_and_no_other_loss_has_it() -> None:
    names = [f"{loss}-smallresnet-20261121" for loss in LOSSES]
    for drawn in _lines(names).values():
        assert [_colour(drawn, name) for name in names] == [colour_of(loss) for loss in LOSSES]
    assert [trace.marker.color for trace in plots.accuracy(_table(names)).data] == [
        colour_of(loss) for loss in LOSSES
    ]
    for name in names:
        assert colour_of(name) in {
            shape.line.color for shape in plots.pair_similarity(RESULT, 0.1, name).layout.shapes
        }
    assert len({colour_of(loss) for loss in LOSSES}) == len(LOSSES)


@pytest.mark.parametrize(
    "name",
    ["arcface", "ArcFace", "arcface-seresnet18-20261121-1405", "my_arcface_2", "orl.arcface"],
)
def test_the_loss_is_read_from_the_runs_name(name: str) -> None:
    assert colour_of(name) == colour_of("arcface")


def test_runs_of_one_loss_differ_in_their_dashes() -> None:
    names = [f"arcface-{number}" for number in range(len(DASHES))]
    for drawn in _lines(names).values():
        dashes = [
            trace.line.dash for trace in drawn.data if (trace.name or "").startswith("arcface")
        ]
        assert len(set(dashes)) == len(names)
    assert [style.dash for style in styles(["arcface-1", "cosface-1", "arcface-2"]).values()] == [
        DASHES[0],
        DASHES[0],
        DASHES[1],
    ]


def test_a_run_whose_name_holds_no_loss_has_a_colour_too_and_keeps_it() -> None:
    for drawn in _lines(["mystery"]).values():
        assert _colour(drawn, "mystery") == colour_of("mystery")
    assert styles(["a", "mystery"])["mystery"].colour == colour_of("mystery")


# ROC and DET


def test_the_roc_has_a_logarithmic_far_axis_and_shows_thresholds() -> None:
    drawn = plots.roc({"arcface": RESULT})
    assert drawn.layout.xaxis.type == "log"
    (line,) = [trace for trace in drawn.data if trace.name]
    last_without_false_accepts = np.flatnonzero(RESULT.roc.far == 0)[-1]
    np.testing.assert_allclose(line.y, RESULT.roc.tar[last_without_false_accepts:])
    points = np.column_stack([RESULT.roc.far, RESULT.roc.thresholds])[last_without_false_accepts:]
    np.testing.assert_allclose(line.customdata, points)
    assert "threshold %{customdata[1]" in line.hovertemplate
    assert line.x.min() > 0
    assert f"{RESULT.auc:.3f}" in line.name


@pytest.mark.parametrize("impostors", [[200], [50, 1000]])
def test_the_grey_field_covers_what_no_run_supports(impostors: list[int]) -> None:
    drawn = plots.roc(
        {f"run{count}": _result(impostors=count, intervals=False) for count in impostors}
    )
    (field,) = [shape for shape in drawn.layout.shapes if shape.type == "rect"]
    assert field.x1 == pytest.approx(10 / max(impostors))
    assert np.log10(field.x0) <= drawn.layout.xaxis.range[0] + 1e-9
    assert any(
        f"below 10 expected false accepts (FAR {10 / max(impostors):g})" in note.text
        for note in drawn.layout.annotations
    )


def test_the_band_is_drawn_only_where_the_run_supports_it() -> None:
    band, line = plots.roc({"arcface": RESULT}).data
    assert not band.name
    assert min(band.x) >= 1 / RESULT.impostors
    assert line.legendgroup == band.legendgroup
    assert len(plots.roc({"arcface": _result(intervals=False)}).data) == 1


def test_the_det_has_normal_deviate_axes() -> None:
    line, diagonal = plots.det({"arcface": RESULT}).data
    from scipy.stats import norm

    far, tar, _ = RESULT.roc
    inside = (far > 0) & (far < 1) & (tar > 0) & (tar < 1)
    np.testing.assert_allclose(line.x, norm.ppf(far[inside]), atol=1e-9)
    np.testing.assert_allclose(line.y, norm.ppf(1 - tar[inside]), atol=1e-9)
    assert list(diagonal.x) == list(diagonal.y)


@pytest.mark.parametrize("result", [PERFECT, _result(impostors=1)])
def test_perfect_and_tiny_results_can_be_drawn(result: VerificationResult) -> None:
    for function in (plots.roc, plots.det, plots.pair_angles):
        assert json.loads(function({"arcface": result}).to_json())
    plots.pair_similarity(result, 1.0)


@pytest.mark.parametrize(
    "name",
    [
        "roc",
        "det",
        "pair_angles",
        "centre_angles",
        "margin_curves",
        "margin_slopes",
        "training_curves",
    ],
)
def test_no_runs_give_an_empty_figure(name: str) -> None:
    assert isinstance(getattr(plots, name)({}), go.Figure)


# Accuracy


def test_accuracy_has_a_column_per_benchmark_and_a_dot_with_interval_per_run() -> None:
    drawn = plots.accuracy(_table(["arcface-a", "softmax-a"], ("lfw", "train")))
    assert [note.text for note in drawn.layout.annotations] == ["lfw", "train"]
    assert len(drawn.data) == 4
    assert {trace.xaxis for trace in drawn.data} == {"x", "x2"}
    for trace in drawn.data:
        np.testing.assert_allclose(
            [trace.error_x.array[0], trace.error_x.arrayminus[0]], [0.01, 0.02]
        )


def test_accuracy_without_intervals_or_rows_can_be_drawn() -> None:
    table = _table(["arcface-a"])
    for changed in (
        table.drop(columns=["accuracy_low", "accuracy_high"]),
        table.assign(accuracy_low=np.nan),
    ):
        assert plots.accuracy(changed).data[0].error_x.arrayminus[0] == 0
    assert len(plots.accuracy(leaderboard([])).data) == 0
    both = _table(["arcface-a"], ("lfw", "ijb-c"))
    drawn = plots.accuracy(both.assign(accuracy=both["accuracy"].where(both["benchmark"] == "lfw")))
    assert [note.text for note in drawn.layout.annotations] == ["lfw"]  # of templates there is none


# Angles and similarity


def test_angles_of_pairs_are_those_of_their_cosines() -> None:
    drawn = plots.pair_angles({"arcface": PERFECT})
    peaks = {trace.name: trace.x[int(np.argmax(trace.y))] for trace in drawn.data if trace.fill}
    assert peaks["genuine pairs"] == pytest.approx(np.degrees(np.arccos(0.9)), abs=1.5)
    assert peaks["impostor pairs"] == pytest.approx(np.degrees(np.arccos(0.1)), abs=1.5)


def test_each_run_has_a_row_of_its_own_and_each_kind_one_legend_entry() -> None:
    nothing = (np.full(2, np.nan), np.full(2, np.nan))
    for first in (ANGLES, nothing):
        drawn = plots.centre_angles({"arcface-1": first, "arcface-2": ANGLES, "softmax": ANGLES})
        assert drawn.layout.yaxis.ticktext == ("arcface-1", "arcface-2", "softmax")
        shown = [trace.name for trace in drawn.data if trace.showlegend]
        assert sorted(shown) == ["nearest other class centre", "own class centre"]


def test_the_similarity_of_a_pair_is_marked_among_the_pairs() -> None:
    drawn = plots.pair_similarity(RESULT, 0.123, "arcface")
    assert any("0.123" in note.text for note in drawn.layout.annotations)
    assert [shape.x0 for shape in drawn.layout.shapes] == [RESULT.threshold, 0.123]
    assert [sum(trace.y) for trace in drawn.data] == [pytest.approx(1), pytest.approx(1)]


def test_what_the_logits_were_divided_by_can_be_said_on_the_axis() -> None:
    assert plots.margin_curves({}).layout.yaxis.title.text == "Target logit"
    assert (
        plots.margin_curves({}, y="Target logit / s").layout.yaxis.title.text == "Target logit / s"
    )


def test_a_slope_without_bound_leaves_room_for_the_others() -> None:
    drawn = plots.margin_slopes(
        {"arcface": (np.array([1.0, 90.0]), np.array([300.0, 0.9]))}, highest=4.0
    )
    assert drawn.layout.yaxis.range == (-0.1, 4.0)
    assert list(drawn.data[0].y) == [300.0, 0.9]


# Training


@pytest.mark.parametrize("column", list(plots.CURVES))
def test_each_curve_of_training_has_its_title(column: str) -> None:
    drawn = plots.training_curves({"arcface": METRICS}, column)
    assert drawn.layout.yaxis.title.text == plots.CURVES[column]
    (line,) = [trace for trace in drawn.data if trace.name]
    np.testing.assert_allclose(
        line.y, METRICS[column].rolling(5, center=True, min_periods=1).median()
    )


@pytest.mark.parametrize("column", ["loss", "accuracy"])
def test_metrics_with_gaps_do_not_stop_the_others(column: str) -> None:
    gaps = {
        "arcface-nan": METRICS.assign(**{column: np.nan}),
        "arcface-some": METRICS.assign(**{column: [np.nan, 0.0, 3.0, np.nan, 2.0, 1.0, 1.0, 1.0]}),
        "arcface-empty": METRICS[:0],
        "arcface-nothing": pd.DataFrame(),
        "arcface-no-column": METRICS.drop(columns=[column]),
        "arcface-no-epoch": METRICS.drop(columns=["epoch"]),
    }
    drawn = plots.training_curves(gaps | {"softmax": METRICS}, column)
    assert "softmax" in {trace.name for trace in drawn.data}
    for name, table in gaps.items():
        low = plots.training_curves({name: table}, column).layout.yaxis.range
        assert low is None or np.isfinite(low[0])


# Maps


@pytest.mark.parametrize("count", [2, 12, 25, 26, 60])
def test_a_large_confusion_shows_the_classes_with_the_most_mistakes(count: int) -> None:
    matrix = np.diag(np.full(count, 100))
    matrix[count - 1, 0] = 7
    (heat,) = plots.confusion(matrix, [f"class {i}" for i in range(count)]).data
    assert len(heat.x) == len(heat.y) == min(count, 25)
    assert {"class 0", f"class {count - 1}"} <= set(heat.x)
    assert heat.z[-1][0] == pytest.approx(7 / 107)
    assert heat.customdata[-1][0] == 7


def test_a_class_without_images_is_drawn_empty() -> None:
    (heat,) = plots.confusion(np.array([[0, 0], [1, 1]]), ["a", "b"]).data
    assert np.asarray(heat.z).tolist() == [[0, 0], [0.5, 0.5]]


@pytest.mark.parametrize("people", [1, 20, 21, 45])
def test_identities_differ_in_colour_or_symbol_and_many_have_no_legend(people: int) -> None:
    labels = np.repeat(np.arange(people), 2)
    drawn = plots.projection(
        np.random.default_rng(0).normal(size=(len(labels), 2)),
        labels,
        [f"p{i}" for i in range(people)],
    )
    looks = {(trace.marker.color, trace.marker.symbol) for trace in drawn.data}
    assert len(drawn.data) == people
    assert len(looks) == min(people, 40)
    assert drawn.layout.showlegend == (people <= 20)


def test_points_carry_the_numbers_of_their_images_and_unknown_people_are_grey() -> None:
    drawn = plots.projection(
        np.eye(4)[:, :2], np.array([0, -1, 0, -1]), ["Ann_Lee"], points=np.array([5, 6, 7, 8])
    )
    unknown, ann = drawn.data
    assert (unknown.name, ann.name) == ("identity not given", "Ann Lee")
    assert (list(unknown.customdata), list(ann.customdata)) == ([6, 8], [5, 7])
    assert unknown.marker.color != ann.marker.color


def test_learning_rates_have_a_panel_each_and_labels_on_the_lowest_axis_of_a_column() -> None:
    rates = {name: [0.1, 0.05, 0.01] for name in ("a", "b", "c")}
    fig = plots.learning_rates(rates, steps_per_epoch=2, columns=2)
    assert [title.text for title in fig.layout.annotations][:3] == ["a", "b", "c"]
    assert fig.data[2].x.tolist() == [0.0, 0.5, 1.0]
    assert list(fig.data[2].y) == [0.1, 0.05, 0.01]
    axes = (fig.layout.xaxis, fig.layout.xaxis2, fig.layout.xaxis3)
    assert [axis.showticklabels for axis in axes] == [False, True, True]


@pytest.mark.parametrize("rates", [{}, {"a": []}, {"a": [0.1]}])
def test_few_learning_rates_can_be_drawn(rates: dict[str, list[float]]) -> None:
    fig = plots.learning_rates(rates)
    assert len(fig.data) == len(rates)
    json.loads(fig.to_json())


def test_the_loss_has_the_lines_of_a_guess_and_other_curves_do_not() -> None:
    table = pd.DataFrame(
        {
            "epoch": [1.0, 2.0],
            "loss": [40.0, 5.0],
            "accuracy": [0.1, 0.9],
            "loss_of_random_guess": [45.0, 45.0],
            "loss_of_uniform_guess": [12.4, 12.4],
        }
    )
    with_task = table.assign(fr_loss=[38.0, 4.0])
    fig = plots.training_curves({"arcface": table, "multi": with_task, "old": table[["epoch"]]})
    named = {trace.name: trace for trace in fig.data if trace.name}
    assert named["arcface: random guess"].y.tolist() == [45.0, 45.0]
    assert named["arcface: uniform guess"].y.tolist() == [12.4, 12.4]
    assert named["arcface: uniform guess"].line.color == named["arcface"].line.color
    assert "multi: uniform guess" not in named  # its loss is the sum over all tasks
    legend = [trace.name for trace in fig.data if trace.showlegend is not False]
    assert legend == ["arcface", "multi", "random guess", "uniform guess"]
    assert len(plots.training_curves({"arcface": table}, "accuracy", smooth=1).data) == 1
    of_recognition = plots.training_curves({"multi": with_task}, "fr_loss")
    assert "multi: uniform guess" in {trace.name for trace in of_recognition.data}
