"""The figure of the directions of three-dimensional embeddings."""

from __future__ import annotations

import numpy as np
import pytest

from workbench import plots
from workbench.plots.sphere import PANEL_HEIGHT

LABELS = np.array([0, 0, 1, 2])
POINTS = np.array([[2.0, 0, 0], [3.0, 4.0, 0], [0, 0, -5.0], [0, 0, 0]])
CENTRES = np.array([[4.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
NAMES = ["ann", "bob", "cid"]


def test_points_are_directions() -> None:
    fig = plots.sphere({"arcface": (POINTS, None)}, LABELS, NAMES)
    ann, bob, cid = (trace for trace in fig.data if trace.type == "scatter3d")
    np.testing.assert_allclose(np.stack([ann.x, ann.y, ann.z], 1), [[1, 0, 0], [0.6, 0.8, 0]])
    np.testing.assert_allclose([bob.x[0], bob.y[0], bob.z[0]], [0, 0, -1])
    np.testing.assert_allclose([cid.x[0], cid.y[0], cid.z[0]], [0, 0, 0])


def test_a_line_leads_to_each_class_centre() -> None:
    fig = plots.sphere({"arcface": (POINTS, CENTRES)}, LABELS, NAMES)
    (lines,) = [trace for trace in fig.data if trace.name == "class centre"]
    ends = np.stack([lines.x, lines.y, lines.z], 1).reshape(3, 3, 3)
    np.testing.assert_array_equal(ends[:, 0], 0)
    unit = CENTRES / np.linalg.norm(CENTRES, axis=1, keepdims=True)
    np.testing.assert_allclose(ends[:, 1] / np.linalg.norm(ends[:, 1], axis=1)[:, None], unit)
    assert np.isnan(ends[:, 2]).all()


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_panel_for_each_run(count: int) -> None:
    panels = {f"run{n}": (POINTS, CENTRES) for n in range(count)}
    fig = plots.sphere(panels, LABELS, NAMES)
    assert [note.text for note in fig.layout.annotations] == list(panels)
    assert len({trace.scene for trace in fig.data if trace.type == "scatter3d"}) == count
    assert sum(bool(trace.showlegend) for trace in fig.data) == len(NAMES)
    assert fig.layout.height > PANEL_HEIGHT * -(-count // 2)


def test_nothing_to_show() -> None:
    empty = np.zeros((0, 3))
    fig = plots.sphere({"softmax": (empty, None)}, np.zeros(0, dtype=np.int64), ["ann"])
    assert len([trace for trace in fig.data if trace.type == "scatter3d"]) == 1
