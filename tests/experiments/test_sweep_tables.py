"""Tables of means and standard deviations, in three formats, and the figure of a sweep."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from workbench import plots
from workbench.experiments import best_cells, summary, to_latex, to_markdown
from workbench.experiments.significance import Comparison, DifferenceTest

FIGURES = {
    ("softmax", "r18"): [0.90, 0.92, 0.91],
    ("arcface", "r18"): [0.95, 0.96],
    ("softmax", "r50"): [0.93],
    ("arcface", "r50"): [],
}


def _comparison(first: str, second: str, p_value: float) -> Comparison:
    test = DifferenceTest((0.0, 0.1), p_value)
    return Comparison(first, second, "r18", 0.05, (3, 3), test, None, None, None, None)


def test_means_and_standard_deviations() -> None:
    table = summary(FIGURES).set_index(["row", "column"])
    assert table["seeds"].tolist() == [3, 2, 1, 0]
    for key, values in FIGURES.items():
        mean, sd = table.loc[key, ["mean", "sd"]]
        assert mean == pytest.approx(np.mean(values) if values else np.nan, nan_ok=True)
        expected = pd.Series(values, dtype=float).std() if len(values) > 1 else np.nan
        assert sd == pytest.approx(expected, nan_ok=True)
    assert summary({}).empty


def test_markdown() -> None:
    assert to_markdown(summary(FIGURES), "loss", {("arcface", "r18")}).splitlines() == [
        "| loss    | r18                        | r50            |",
        "|---------|----------------------------|----------------|",
        "| softmax | 91.00 ± 1.00               | 93.00 (1 seed) |",
        "| arcface | **95.50 ± 0.71 (2 seeds)** | -              |",
    ]


def test_latex() -> None:
    lines = to_latex(summary(FIGURES), "loss_name", {("arcface", "r18")}).splitlines()
    assert lines[0] == r"\begin{tabular}{lcc}"
    assert lines[2] == r"loss\_name & r18 & r50 \\"
    assert lines[4] == r"softmax & $91.00 \pm 1.00$ & $93.00$ (1 seed) \\"
    assert lines[5] == r"arcface & $\mathbf{95.50 \pm 0.71}$ (2 seeds) & -- \\"


def test_errors_in_their_own_unit() -> None:
    table = summary({("a", "r18"): [4.25, 4.75]})
    assert "4.50 ± 0.35" in to_markdown(table, "loss", factor=1)


def test_a_pipe_in_a_label_does_not_break_the_table() -> None:
    lines = to_markdown(summary({("a|b", "r18"): [0.5]}), "loss").splitlines()
    assert r"a\|b" in lines[2]


def test_the_best_cells_are_those_that_cannot_be_told_apart_from_the_best() -> None:
    figures = {
        (name, "r18"): [mean, mean + 0.01] for name, mean in (("a", 0.9), ("b", 0.89), ("c", 0.5))
    }
    comparisons = [
        _comparison("a", "b", 0.4),
        _comparison("a", "c", 0.001),
        _comparison("b", "c", 0.001),
    ]
    assert best_cells(summary(figures), comparisons) == {("a", "r18"), ("b", "r18")}
    assert best_cells(summary(figures), comparisons, is_error=True) == {("c", "r18")}
    with_one_seed = figures | {("d", "r18"): [0.99]}
    assert best_cells(summary(with_one_seed), comparisons) == set()
    assert best_cells(summary({("a", "r18"): [0.9, 0.8]}), []) == set()


def test_the_figure_has_a_mark_for_each_mean_and_each_run() -> None:
    lines = [
        {"row": row, "column": column, "seed": seed, "value": value}
        for (row, column), values in FIGURES.items()
        for seed, value in enumerate(values)
    ]
    fig = plots.sweep(pd.DataFrame(lines), "Accuracy on lfw")
    assert len(fig.data) == 6
    means = [trace for trace in fig.data if trace.error_x.array]
    assert [trace.x[0] for trace in means] == pytest.approx([0.91, 0.955])
    assert [trace.error_x.array[0] for trace in means] == pytest.approx([0.01, 0.00707], abs=1e-5)
    assert [annotation.text for annotation in fig.layout.annotations][:2] == ["r18", "r50"]
    assert fig.layout.xaxis.title.text == "Accuracy on lfw"
    single = plots.sweep(pd.DataFrame(lines[-1:]), "Age MAE", "years")
    assert "seed alone" in single.layout.annotations[-1].text
    assert single.layout.xaxis.title.text == "Age MAE, years"
