"""The figure of settings on benchmarks: each run, their mean, and its interval."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from workbench import plots
from workbench.plots.theme import colour_of


def runs_of(values: dict[tuple[str, str], list[float]]) -> pd.DataFrame:
    """Returns one line for each run."""
    return pd.DataFrame(
        [
            {"row": row, "column": column, "seed": seed, "value": value}
            for (row, column), group in values.items()
            for seed, value in enumerate(group)
        ]
    )


VALUES = {
    ("softmax", "pose, %"): [88.0, 89.0, 90.0],
    ("arcface", "pose, %"): [92.0, 93.0, 95.0],
    ("softmax", "d'"): [2.0, 2.1, 2.4],
    ("arcface", "d'"): [2.9],
}


def test_runs_mean_and_interval() -> None:
    fig = plots.seeds(runs_of(VALUES))
    mean, dots = (trace for trace in fig.data if trace.y[0] == "arcface" and trace.xaxis == "x")
    group = VALUES["arcface", "pose, %"]
    assert list(dots.x) == group
    assert list(dots.customdata) == [0, 1, 2]
    low, high = stats.ttest_1samp(group, 0).confidence_interval(0.95)
    assert mean.x[0] == pytest.approx(np.mean(group))
    assert 2 * mean.error_x.array[0] == pytest.approx(high - low)
    assert mean.marker.line.color == colour_of("arcface")


def test_one_run_has_no_interval() -> None:
    fig = plots.seeds(runs_of(VALUES))
    mean, _ = [trace for trace in fig.data if trace.xaxis == "x2" and trace.y[0] == "arcface"]
    assert mean.error_x.array is None
    alone = plots.seeds(runs_of({("softmax", "pose, %"): [88.0]}))
    assert "due to the seed alone" in alone.layout.annotations[-1].text


def test_the_baseline_is_a_line_in_each_panel() -> None:
    fig = plots.seeds(runs_of(VALUES), baseline="softmax")
    assert [round(line.x0, 3) for line in fig.layout.shapes] == [89.0, 2.167]
    assert "Dotted: mean of softmax" in fig.layout.annotations[-1].text
    assert len(plots.seeds(runs_of(VALUES), baseline="none").layout.shapes) == 0


@pytest.mark.parametrize("count", [1, 2, 4, 9])
def test_a_panel_for_each_column(count: int) -> None:
    values = {(row, f"set {n}"): [1.0, 2.0] for row in ("a", "b") for n in range(count)}
    fig = plots.seeds(runs_of(values))
    axes = [fig.layout[f"xaxis{n or ''}"] for n in (0, *range(2, count + 1))]
    assert [axis.title.text for axis in axes] == [f"set {n}" for n in range(count)]
    assert fig.layout.height > 100 * -(-count // 3)


def test_no_runs() -> None:
    empty = pd.DataFrame(columns=["row", "column", "seed", "value"])
    assert len(plots.seeds(empty).data) == 0
