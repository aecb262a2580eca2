"""The figure of what alignment is worth."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from workbench import plots
from workbench.plots.theme import colour_of

ACCURACY = {"raw": 0.6, "cropped": 0.75, "aligned": 0.9}


def study(shift: float = 0.0, intervals: bool = True) -> SimpleNamespace:
    results = {
        key: SimpleNamespace(
            accuracy=value + shift,
            intervals={"accuracy": (value - 0.05, value + 0.06)} if intervals else {},
        )
        for key, value in ACCURACY.items()
    }
    differences = {
        ("cropped", "raw"): SimpleNamespace(value=0.15, interval=(0.1, 0.2)),
        ("aligned", "raw"): SimpleNamespace(value=0.3, interval=(0.25, 0.35)),
        ("aligned", "cropped"): SimpleNamespace(value=0.15, interval=(0.1, 0.2)),
    }
    return SimpleNamespace(results=results, differences=differences)


def test_dots_and_intervals_are_those_of_the_results() -> None:
    drawn = plots.alignment({"my-arcface": study()})
    (dots,) = drawn.data
    assert list(dots.x) == [0.6, 0.75, 0.9]
    assert list(dots.y) == [0, 1, 2]
    assert list(dots.error_x.array) == pytest.approx([0.06] * 3)
    assert list(dots.error_x.arrayminus) == pytest.approx([0.05] * 3)
    assert dots.marker.color == colour_of("my-arcface")
    assert list(drawn.layout.yaxis.ticktext) == [
        "pictures as they are",
        "face found, cropped",
        "face found, aligned",
    ]


def test_the_differences_of_one_run_are_written_beside_it() -> None:
    words = [note.text for note in plots.alignment({"run": study()}).layout.annotations]
    assert any("+30.0" in text and "[+25.0, +35.0]" in text for text in words)
    assert any("+15.0" in text for text in words)
    assert len(words) == 3


def test_runs_beside_each_other_do_not_cover_each_other() -> None:
    drawn = plots.alignment({"softmax": study(), "arcface": study(0.02), "cosface": study()})
    heights = np.array([trace.y for trace in drawn.data])
    assert np.unique(heights[:, 0]).size == 3
    assert np.allclose(heights.mean(axis=0), [0, 1, 2])
    assert not drawn.layout.annotations


def test_without_intervals_there_are_dots() -> None:
    (dots,) = plots.alignment({"run": study(intervals=False)}).data
    assert list(dots.error_x.array) == [0, 0, 0]


def test_nothing_to_draw() -> None:
    assert len(plots.alignment({}).data) == 0
