"""Figures of snapshots: what they show first, their frames, and their sliders."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from workbench import plots
from workbench.plots.angles import distributions


def _pairs(genuine: float, impostor: float) -> tuple[np.ndarray, np.ndarray]:
    return np.linspace(genuine - 9, genuine + 9, 40), np.linspace(impostor - 9, impostor + 9, 60)


def _shows(fig: go.Figure, angles: tuple[np.ndarray, np.ndarray], row: int) -> bool:
    """Whether the texts of a row have the means of these angles."""
    texts = [one.text for one in fig.layout.annotations][2 * row : 2 * row + 2]
    return [text.split("°")[0] for text in texts] == [f"{one.mean():.0f}" for one in angles]


@pytest.fixture
def angles() -> dict[str, dict[int, tuple[np.ndarray, np.ndarray]]]:
    arcface = {0: _pairs(60, 65), 1: _pairs(50, 75), 2: _pairs(40, 85)}
    return {"arcface": arcface, "softmax": {0: _pairs(61, 66), 1: _pairs(55, 70)}}


def test_the_last_epoch_is_shown_first(
    angles: dict[str, dict[int, tuple[np.ndarray, np.ndarray]]],
) -> None:
    fig = plots.snapshot_angles(angles)
    (slider,) = fig.layout.sliders
    assert slider.active == 2
    assert [step.label for step in slider.steps] == ["0", "1", "2"]
    assert _shows(fig, angles["arcface"][2], 0)
    assert _shows(fig, angles["softmax"][1], 1)  # its last epoch


def test_each_frame_has_the_traces_of_the_figure(
    angles: dict[str, dict[int, tuple[np.ndarray, np.ndarray]]],
) -> None:
    fig = plots.snapshot_angles(angles)
    assert [frame.name for frame in fig.frames] == ["0", "1", "2"]
    names = [trace.name for trace in fig.data]
    for frame in fig.frames:
        assert [trace.name for trace in frame.data] == names
    first = go.Figure(fig.frames[0].data, layout=fig.frames[0].layout)
    assert _shows(first, angles["arcface"][0], 0)
    assert _shows(first, angles["softmax"][0], 1)


def test_the_steps_of_the_slider_name_the_frames(
    angles: dict[str, dict[int, tuple[np.ndarray, np.ndarray]]],
) -> None:
    fig = plots.snapshot_angles(angles)
    assert [step.args[0] for step in fig.layout.sliders[0].steps] == [
        (frame.name,) for frame in fig.frames
    ]


def test_a_run_that_begins_later_has_an_empty_row_at_first(
    angles: dict[str, dict[int, tuple[np.ndarray, np.ndarray]]],
) -> None:
    del angles["softmax"][0]
    fig = plots.snapshot_angles(angles)
    assert len({len(frame.data) for frame in fig.frames}) == 1
    assert [len(trace.x) > 0 for trace in fig.frames[0].data] == [True, True, False, False]


def test_one_epoch_needs_no_slider_and_none_is_an_empty_figure() -> None:
    fig = plots.snapshot_angles({"arcface": {0: _pairs(60, 65)}})
    assert not fig.layout.sliders
    assert not plots.snapshot_angles({}).data


def test_texts_of_two_means_point_away_from_each_other() -> None:
    colours = {"genuine": "#44AA99", "impostor": "#882255"}
    for genuine, impostor in ((60, 62), (62, 60)):
        pairs = dict(zip(colours, _pairs(genuine, impostor), strict=True))
        fig = distributions({"arcface": pairs}, colours, "Angle (degrees)")
        texts = {round(one.x): one.xanchor for one in fig.layout.annotations}
        assert texts == {60: "right", 62: "left"}


def test_the_axes_of_a_map_are_those_of_all_epochs() -> None:
    maps = {0: np.zeros((4, 2)), 3: np.array([[2.0, 0], [0, -3], [1, 1], [np.nan, np.nan]])}
    fig = plots.snapshot_map(maps, np.array([7, 7, 2, 2]))
    for axis in (fig.layout.xaxis, fig.layout.yaxis):
        assert axis.range == pytest.approx((-3.15, 3.15))
    assert [trace.name for trace in fig.data] == ["person 1", "person 2"]
    assert fig.data[1].x.tolist() == [2.0, 0.0]
    assert fig.frames[0].data[1].x.tolist() == [0.0, 0.0]


def test_names_of_a_map_are_those_of_the_identities() -> None:
    names = ["ann", "bob", "cid"]
    fig = plots.snapshot_map({0: np.eye(2)}, np.array([2, 0]), names)
    assert [trace.name for trace in fig.data] == ["ann", "cid"]


@pytest.mark.parametrize("column", plots.SNAPSHOT_CURVES)
def test_curves_over_epochs(column: str) -> None:
    table = pd.DataFrame({"epoch": [0, 1, 2], column: [0.5, 0.7, 0.9]})
    fig = plots.snapshot_curves({"arcface": table, "softmax": table}, column)
    assert [trace.name for trace in fig.data] == ["arcface", "softmax"]
    assert fig.layout.yaxis.title.text == plots.SNAPSHOT_CURVES[column]
    is_share = column in ("accuracy", "auc")
    assert (fig.layout.yaxis.tickformat == ".0%") == is_share
    assert any(one.text == "guessing" for one in fig.layout.annotations) == is_share
