"""The schedules of the learning rate, against those of `torch.optim.lr_scheduler`."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Complaint
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from workbench.training import config
from workbench.training.plateau import (
    count_steps_without_decrease,
    count_steps_without_decrease_robust,
)
from workbench.training.schedules import SCHEDULES, Auto, Schedule, create_schedule, margin_ramp

PEAK, TOTAL, PER_EPOCH = 0.3, 60, 6


def _schedule(name: str, warmup: int = 0, total: int = TOTAL, **options: Any) -> Schedule:
    return create_schedule(
        name, options, total=total, warmup=warmup, steps_per_epoch=PER_EPOCH, peak_lr=PEAK
    )


def _rates(schedule: Schedule) -> list[float]:
    return [schedule.lr(step) for step in range(schedule.total)]


def _rates_of_torch(make: Callable[[torch.optim.Optimizer], Any], total: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = make(optimizer)
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("constant", {}, lambda optimizer: lr_scheduler.ConstantLR(optimizer, factor=1.0)),
        (
            "step",
            {"every": 3, "factor": 0.2},
            lambda optimizer: lr_scheduler.StepLR(optimizer, 3 * PER_EPOCH, gamma=0.2),
        ),
        (
            "multi-step",
            {"epochs": [2, 5.5, 8]},
            lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [12, 33, 48], gamma=0.1),
        ),
        (
            "polynomial",
            {"power": 1.7},
            lambda optimizer: lr_scheduler.PolynomialLR(optimizer, TOTAL, power=1.7),
        ),
        ("cosine", {}, lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, TOTAL)),
        (
            "cosine",
            {"final": 0.1},
            lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, TOTAL, eta_min=0.1 * PEAK),
        ),
        ("one-cycle", {}, lambda optimizer: lr_scheduler.OneCycleLR(optimizer, PEAK, TOTAL)),
        (
            "one-cycle",
            {"rise": 0.5, "start": 0.1, "final": 0.001},
            lambda optimizer: lr_scheduler.OneCycleLR(
                optimizer, PEAK, TOTAL, pct_start=0.5, div_factor=10, final_div_factor=100
            ),
        ),
    ],
)
def test_a_schedule_is_that_of_pytorch(
    name: str, options: dict[str, Any], theirs: Callable[[torch.optim.Optimizer], Any]
) -> None:
    assert _rates(_schedule(name, **options)) == pytest.approx(
        _rates_of_torch(theirs, TOTAL), rel=1e-9, abs=1e-12
    )


@pytest.mark.parametrize("name", ["constant", "polynomial", "cosine"])
def test_the_warmup_is_linear_and_the_schedule_follows_it(name: str) -> None:
    warmup, rest = 7, TOTAL - 7
    rates = _rates(_schedule(name, warmup))
    theirs = _rates_of_torch(
        lambda optimizer: lr_scheduler.LinearLR(
            optimizer, start_factor=1 / warmup, total_iters=warmup - 1
        ),
        warmup,
    )
    assert rates[:warmup] == pytest.approx(theirs)
    assert rates[warmup:] == pytest.approx(_rates(_schedule(name, total=rest)))


def test_the_epochs_of_steps_count_from_the_beginning_of_the_training() -> None:
    rates = _rates(_schedule("multi-step", warmup=9, epochs=[1, 2]))
    assert rates[:9] == pytest.approx([PEAK * (step + 1) / 9 for step in range(9)])
    assert rates[9:12] == pytest.approx([0.1 * PEAK] * 3)
    assert rates[12:] == pytest.approx([0.01 * PEAK] * (TOTAL - 12))


def test_the_warmup_of_one_cycle_is_a_factor_on_its_rise() -> None:
    plain, warmed_up = _rates(_schedule("one-cycle")), _rates(_schedule("one-cycle", warmup=4))
    assert [b / a for a, b in zip(plain, warmed_up, strict=True)] == pytest.approx(
        [0.25, 0.5, 0.75] + [1.0] * (TOTAL - 3)
    )


@given(
    total=st.integers(1, 400), warmup=st.integers(0, 500), peak=st.floats(1e-4, 10), data=st.data()
)
def test_the_cosine_has_the_bits_of_earlier_versions(
    total: int, warmup: int, peak: float, data: st.DataObject
) -> None:
    step = data.draw(st.integers(0, total - 1))
    if step < warmup:
        expected = peak * (step + 1) / warmup
    else:
        share = math.pi * (step - warmup) / max(total - warmup, 1)
        expected = peak * 0.5 * (1.0 + math.cos(share))
    schedule = create_schedule(
        "cosine", {}, total=total, warmup=warmup, steps_per_epoch=1, peak_lr=peak
    )
    assert schedule.lr(step) == expected


def test_the_learning_rate_falls_as_half_a_cosine() -> None:
    rates = _rates(_schedule("cosine", warmup=20, total=100))[20:]
    assert rates[0] == pytest.approx(PEAK)
    assert rates[40] == pytest.approx(PEAK / 2)
    assert rates[20] == pytest.approx(PEAK / 2 * (1 + math.sqrt(0.5)))
    assert all(before > after > 0 for before, after in pairwise(rates))
    assert rates[-1] < 0.002 * PEAK


OPTIONS: dict[str, dict[str, Any]] = {"step": {"every": 1}, "multi-step": {"epochs": [1, 2]}}


@pytest.mark.parametrize("name", SCHEDULES.names())
@pytest.mark.parametrize(("total", "warmup"), [(1, 0), (1, 1), (2, 0), (5, 5), (5, 50)])
def test_short_runs_have_usable_learning_rates(name: str, total: int, warmup: int) -> None:
    schedule = _schedule(name, warmup, total, **OPTIONS.get(name, {}))
    assert all(0 < rate <= PEAK for rate in _rates(schedule))
    assert not schedule.finished


@pytest.mark.parametrize("rise", [0.0, 0.001, 1.0])
def test_one_cycle_can_only_fall_or_only_rise(rise: float) -> None:
    rates = _rates(_schedule("one-cycle", rise=rise))
    assert rates == sorted(rates, reverse=rise < 1)
    assert max(rates) == pytest.approx(PEAK)


def test_the_names_in_the_settings_are_those_of_the_registry() -> None:
    assert list(config.SCHEDULES) == SCHEDULES.names()


@pytest.mark.parametrize(
    ("name", "options", "texts"),
    [
        ("cosin", {}, ["unknown schedule", "did you mean 'cosine'"]),
        ("step", {}, ["'step' needs every"]),
        ("step", {"every": 0}, ["every must be positive"]),
        ("step", {"every": 2, "factr": 1}, ["did you mean 'factor'"]),
        ("multi-step", {"epochs": 3}, ["'epochs' is 3", "a list of a finite number"]),
        ("multi-step", {"epochs": [3, -1]}, ["epochs must be positive"]),
        ("multi-step", {"epochs": [3, "x"]}, ["'epochs' is [3, 'x']"]),
        ("polynomial", {"power": 0}, ["power must be positive"]),
        ("polynomial", {"power": math.nan}, ["power must be positive, got nan"]),
        ("cosine", {"final": 1.5}, ["final must be from 0 to 1"]),
        ("one-cycle", {"rise": -0.1}, ["rise must be from 0 to 1"]),
        ("auto", {"patience": 2}, ["at least 3"]),
        ("auto", {"patience": 4.5}, ["'patience' is 4.5"]),
        ("auto", {"factor": 1.0}, ["factor must be below 1"]),
        ("auto", {"smallest_lr": 0}, ["smallest_lr must be positive"]),
        ("constant", {"factor": 5}, ["unknown option", "'factor'"]),
    ],
)
def test_bad_options_are_one_line(
    name: str, options: dict[str, Any], texts: list[str], complaint: Complaint
) -> None:
    with complaint(*texts):
        _schedule(name, **options)


class DlibTrainer:
    """The part of dlib's `dnn_trainer` that lowers the learning rate, written from its source."""

    def __init__(self, patience: int, factor: float, lr: float) -> None:
        self.patience, self.factor, self.lr = patience, factor, lr
        self.budget = 0
        self.losses: list[float] = []

    def step(self, loss: float) -> None:
        self.budget += 200
        self.losses.append(loss)
        while len(self.losses) > self.patience:
            self.losses.pop(0)
        if self.budget <= self.patience:
            return
        self.budget = 0
        if count_steps_without_decrease(self.losses) < self.patience:
            return
        if count_steps_without_decrease_robust(self.losses) < self.patience:
            return
        self.lr *= self.factor
        dumped = 400 * self.patience // 2000 + self.patience // 10
        for _ in range(min(dumped, len(self.losses))):
            self.losses.pop(0)


@pytest.mark.parametrize("patience", [20, 250, 1000])
def test_auto_lowers_the_learning_rate_when_dlib_does(patience: int) -> None:
    rng = np.random.default_rng(patience)
    schedule, theirs = (
        _schedule("auto", patience=patience, factor=0.5),
        DlibTrainer(patience, 0.5, PEAK),
    )
    changes = 0
    for step in range(4 * patience):
        loss = float(math.exp(-3 * step / patience) + 0.1 * rng.normal())
        before = theirs.lr
        schedule.observe(torch.tensor(loss, dtype=torch.float64))
        theirs.step(loss)
        assert schedule.lr(step) == pytest.approx(theirs.lr)
        changes += theirs.lr < before
    assert changes >= 2


def test_auto_does_not_change_the_learning_rate_while_the_loss_falls() -> None:
    schedule = _schedule("auto", patience=30)
    rng = np.random.default_rng(0)
    for step in range(300):
        schedule.observe(10 - 0.02 * step + 0.1 * rng.normal())
    assert schedule.lr(299) == PEAK


def test_auto_ends_the_training_below_the_smallest_learning_rate() -> None:
    schedule = _schedule("auto", patience=10, smallest_lr=1e-3)
    lrs, steps = [], 0
    while not schedule.finished:
        lrs.append(schedule.lr(steps))
        schedule.observe(1.0 + 0.01 * (steps % 2))
        steps += 1
        assert steps < 200
    assert sorted(set(lrs), reverse=True) == pytest.approx([0.3, 0.03, 0.003])


def test_auto_ignores_the_losses_of_the_warmup() -> None:
    losses = [1.0 + 0.01 * (step % 2) for step in range(30)]
    schedule, later = _schedule("auto", patience=20), _schedule("auto", warmup=15, patience=20)
    for loss in losses:
        schedule.observe(loss)
        later.observe(loss)
    assert schedule.rate(0) < 1
    assert later.rate(0) == 1
    assert later.lr(0) == pytest.approx(PEAK / 15)


def test_the_patience_of_auto_is_two_epochs_by_default() -> None:
    schedule = _schedule("auto")
    assert isinstance(schedule, Auto)
    assert schedule.patience == 100
    schedule.steps_per_epoch = 400
    assert schedule.patience == 800


def test_auto_continues_from_its_state_as_if_it_had_not_been_interrupted() -> None:
    rng = np.random.default_rng(5)
    losses = [float(1 + 0.1 * rng.normal()) for _ in range(120)]
    whole, first = _schedule("auto", patience=25), _schedule("auto", patience=25)
    for loss in losses:
        whole.observe(torch.tensor(loss, dtype=torch.float32))
    for loss in losses[:37]:
        first.observe(torch.tensor(loss, dtype=torch.float32))
    second = _schedule("auto", patience=25)
    second.load_state_dict(first.state_dict())
    for loss in losses[37:]:
        second.observe(torch.tensor(loss, dtype=torch.float32))
    assert second.state_dict() == whole.state_dict()
    assert second.lr(0) == whole.lr(0) < PEAK


def test_other_schedules_have_no_state() -> None:
    schedule = _schedule("cosine")
    schedule.observe(torch.tensor(1.0))
    assert schedule.state_dict() == {}
    schedule.load_state_dict({})
    assert schedule.lr(0) == PEAK


def test_the_margin_grows_from_nothing_to_its_full_size() -> None:
    assert [margin_ramp(step, 4) for step in range(7)] == [0, 0.25, 0.5, 0.75, 1, 1, 1]
    assert margin_ramp(0, 0) == 1.0
