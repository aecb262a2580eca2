from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from workbench.training.schedule import learning_rate, margin_ramp, order_of_epoch, seed_of_step


def test_the_learning_rate_rises_linearly_to_its_peak() -> None:
    rates = [learning_rate(step, 100, 4, 0.2) for step in range(5)]
    assert rates == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.2])


def test_the_learning_rate_falls_as_half_a_cosine() -> None:
    rates = [learning_rate(step, 100, 20, 0.2) for step in range(20, 100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[40] == pytest.approx(0.1)
    assert rates[20] == pytest.approx(0.1 * (1 + math.sqrt(0.5)))
    assert all(before > after > 0 for before, after in pairwise(rates))
    assert rates[-1] < 0.001


def test_without_warmup_the_learning_rate_begins_at_its_peak() -> None:
    assert learning_rate(0, 10, 0, 0.1) == pytest.approx(0.1)


@pytest.mark.parametrize(("total", "warmup"), [(1, 0), (1, 1), (5, 5), (5, 50)])
def test_short_runs_have_usable_learning_rates(total: int, warmup: int) -> None:
    rates = [learning_rate(step, total, warmup, 0.1) for step in range(total)]
    assert all(0 < rate <= 0.1 for rate in rates)


def test_the_margin_grows_from_nothing_to_its_full_size() -> None:
    assert [margin_ramp(step, 4) for step in range(7)] == [0, 0.25, 0.5, 0.75, 1, 1, 1]
    assert margin_ramp(0, 0) == 1.0


def test_an_epoch_visits_every_image_once_in_an_order_of_its_own() -> None:
    orders = [order_of_epoch(50, epoch, seed) for epoch, seed in ((0, 0), (1, 0), (0, 1), (1, 1))]
    for order in orders:
        assert sorted(order) == list(range(50))
    assert len({tuple(order) for order in orders}) == 4
    np.testing.assert_array_equal(orders[1], order_of_epoch(50, 1, 0))


def test_every_step_has_a_seed_of_its_own_that_torch_takes() -> None:
    seeds = [seed_of_step(step, seed) for step in range(100) for seed in range(5)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seeds[0] == seed_of_step(0, 0)
