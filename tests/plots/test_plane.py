"""Embeddings in the plane: what is drawn where, with equal axes."""

from __future__ import annotations

import json

import numpy as np
import plotly.graph_objects as go
import pytest

from workbench import plots

LABELS = np.array([0, 0, 1])
POINTS = np.array([[3.0, 4.0], [1.0, 0.0], [0.0, -2.0]])
CENTRES = np.array([[0.3, 0.4], [0.0, -7.0]])


def _lines(drawn: go.Figure) -> list[go.Scatter]:
    return [trace for trace in drawn.data if trace.mode == "lines"]


def test_each_identity_has_its_embeddings_and_the_direction_of_its_centre_in_one_colour() -> None:
    drawn = plots.plane({"arcface": (POINTS, CENTRES)}, LABELS, ["ann", "bob"])
    ann, to_ann, bob, to_bob, origin = drawn.data
    np.testing.assert_array_equal(np.column_stack([ann.x, ann.y]), POINTS[:2])
    np.testing.assert_array_equal(np.column_stack([bob.x, bob.y]), POINTS[2:])
    assert (ann.name, bob.name) == ("ann", "bob")
    assert ann.marker.color == to_ann.line.color != bob.marker.color == to_bob.line.color
    assert (origin.x, origin.y) == ((0,), (0,))
    for line, direction in ((to_ann, (0.6, 0.8)), (to_bob, (0.0, -1.0))):
        end = np.array([line.x[1], line.y[1]])
        assert (line.x[0], line.y[0]) == (0, 0)
        np.testing.assert_allclose(end / np.linalg.norm(end), direction, atol=1e-12)
    lengths = [np.hypot(line.x[1], line.y[1]) for line in _lines(drawn)]
    assert lengths[0] == pytest.approx(lengths[1])  # however long the centres are


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_panel_has_equal_axes_and_titles_and_the_legend_each_identity_once(
    count: int,
) -> None:
    drawn = plots.plane(
        {f"arcface-{i}": (POINTS, CENTRES if i % 2 else None) for i in range(count)},
        LABELS,
        ["ann", "bob"],
    )
    assert [note.text for note in drawn.layout.annotations] == [
        f"arcface-{i}" for i in range(count)
    ]
    assert len([trace for trace in drawn.data if trace.name == "ann"]) == count
    assert [trace.name for trace in drawn.data if trace.showlegend] == ["ann", "bob"]
    assert len(_lines(drawn)) == 2 * (count // 2)
    for number in range(count):
        suffix = "" if number == 0 else str(number + 1)
        x, y = drawn.layout[f"xaxis{suffix}"], drawn.layout[f"yaxis{suffix}"]
        assert x.range == y.range == (-x.range[1], x.range[1])
        assert y.scaleanchor == f"x{suffix}"
        assert x.title.text
        assert y.title.text


def test_one_far_point_does_not_crowd_the_others() -> None:
    points = np.concatenate([np.tile([1.0, 0.0], (99, 1)), [[0.0, 1000.0]]])
    drawn = plots.plane({"softmax": (points, None)}, np.zeros(100, dtype=np.int64), ["ann"])
    assert 1 < drawn.layout.xaxis.range[1] < 2


@pytest.mark.parametrize(
    "points", [np.zeros((3, 2)), np.full((3, 2), 1e-30), np.full((3, 2), 1e20)]
)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_points_without_length_centres_without_direction_and_nothing_can_be_drawn(
    points: np.ndarray,
) -> None:
    assert json.loads(
        plots.plane({"softmax": (points, np.zeros((2, 2)))}, LABELS, ["ann", "bob"]).to_json()
    )
    assert isinstance(plots.plane({}, LABELS, ["ann", "bob"]), go.Figure)


def test_many_identities_differ_in_colour_or_symbol() -> None:
    labels = np.arange(30)
    drawn = plots.plane(
        {"softmax": (np.random.default_rng(0).normal(size=(30, 2)), None)},
        labels,
        [f"p{i}" for i in labels],
    )
    assert (
        len({(trace.marker.color, trace.marker.symbol) for trace in drawn.data if trace.name}) == 30
    )
