"""Figures of tasks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from workbench import plots
from workbench.evaluation import number_estimates
from workbench.plots.training import curve_title, is_of_task


def test_calibration_draws_means_with_their_intervals() -> None:
    rng = np.random.default_rng(0)
    true = rng.uniform(20, 60, 200)
    ages = number_estimates(true, true + 3 + rng.normal(0, 2, 200))
    fig = plots.calibration(ages)
    means = fig.data[2]
    ranges = ages.by_range()
    np.testing.assert_allclose(means.y, [one.estimated for one in ranges])
    np.testing.assert_allclose(np.subtract(means.y, means.x), [one.bias for one in ranges])
    low, high = ranges[0].bias_interval
    assert means.error_y.array[0] == pytest.approx((high - low) / 2)
    assert len(fig.data[1].x) == 200
    bias = plots.error_by_range({"a": ages, "b": ages})
    assert [trace.name for trace in bias.data] == ["a", "b"]
    np.testing.assert_allclose(bias.data[0].y, [one.bias for one in ranges])


def test_a_range_with_few_images_has_no_mean() -> None:
    ages = number_estimates([21, 22, 23, 24, 25, 90], [22, 22, 26, 24, 30, 70], [1, 1, 1, 1, 1, 1])
    means = plots.calibration(ages, "height", "").data[2]
    assert len(means.x) == 1
    assert means.error_y.array == (0.0,)
    assert plots.calibration(ages, "height", "").layout.xaxis.title.text == "True height"


def test_balance_has_a_panel_for_each_column() -> None:
    first = pd.DataFrame(
        {"epoch": [1, 2, 3], "gender_accuracy": [0.5, np.nan, 0.9], "age_gradient": [9.0, 1, 0.1]}
    )
    fig = plots.task_balance(
        {"a": first, "b": first[["epoch", "age_gradient"]]},
        {"gender_accuracy": "Gender", "age_gradient": "Gradient"},
        smooth=1,
        shares=["gender_accuracy"],
        logarithmic=["age_gradient"],
    )
    assert [trace.name for trace in fig.data] == ["a", "a", "b"]
    assert [trace.showlegend for trace in fig.data] == [True, False, True]
    assert fig.data[0].x.tolist() == [1, 3]
    assert fig.layout.yaxis2.type == "log"


def test_titles_of_the_columns_of_tasks() -> None:
    assert curve_title("fr_loss") == "Recognition: training loss"
    assert is_of_task("age_mae")
    assert not is_of_task("clipped_loss")
    assert not is_of_task("images_per_second")
    table = pd.DataFrame({"epoch": [1.0, 2.0], "gender_accuracy": [0.5, 0.75]})
    fig = plots.training_curves({"run": table}, "gender_accuracy")
    assert fig.layout.yaxis.tickformat == ".0%"
