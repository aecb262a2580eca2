"""The hooks of callbacks: their order, and what happens if one fails."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from workbench import losses, runs
from workbench.errors import WorkbenchError, WorkbenchWarning
from workbench.training.callbacks import Callback, Callbacks, Training


class Recorder(Callback):
    """Appends each call of a hook to a list."""

    def __init__(self, calls: list[Any]) -> None:
        self.calls = calls

    def on_start(self, training: Training) -> None:
        self.calls.append(("start", training.step))

    def on_step(self, training: Training) -> None:
        self.calls.append(("step", training.step))

    def on_log(self, training: Training, row: Any) -> None:
        self.calls.append(("log", dict(row)))

    def on_epoch_end(self, training: Training) -> None:
        self.calls.append(("epoch", training.epoch))

    def on_end(self, training: Training, state: str) -> None:
        self.calls.append(("end", state))


class Failing(Callback):
    """Raises an error in one hook."""

    def __init__(self, hook: str, error: BaseException) -> None:
        self.hook, self.error = hook, error

    def on_start(self, training: Training) -> None:
        self._raise("on_start")

    def on_step(self, training: Training) -> None:
        self._raise("on_step")

    def on_end(self, training: Training, state: str) -> None:
        self._raise("on_end")

    def _raise(self, hook: str) -> None:
        if hook == self.hook:
            raise self.error


@pytest.fixture
def training(tmp_path: Path) -> Training:
    net: Any = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).train()
    net[1].eval()  # as with frozen batch normalisation
    return Training(
        run=runs.create(tmp_path, "run", {}),
        config=SimpleNamespace(),  # type: ignore[arg-type]
        net=net,
        loss=losses.create("normface", embedding_dim=2, num_classes=3),
        device=torch.device("cpu"),
        total=4,
        steps_per_epoch=2,
    )


def train(callbacks: Callbacks, training: Training) -> None:
    """Does what the loop does: four steps, with a row and an end of an epoch every two."""
    with callbacks.around(training):
        while training.step < training.total:
            training.step += 1
            callbacks.on_step(training)
            if training.step % 2 == 0:
                callbacks.on_log(training, {"step": training.step})
                callbacks.on_epoch_end(training)
            callbacks.check()


def test_the_hooks_are_called_in_order(training: Training) -> None:
    calls: list[Any] = []
    train(Callbacks([Recorder(calls)]), training)
    assert calls == [
        ("start", 0),
        ("step", 1),
        ("step", 2),
        ("log", {"step": 2}),
        ("epoch", 1.0),
        ("step", 3),
        ("step", 4),
        ("log", {"step": 4}),
        ("epoch", 2.0),
        ("end", "finished"),
    ]


def test_without_callbacks_nothing_happens(training: Training) -> None:
    train(Callbacks(), training)
    assert training.step == 4


def test_an_error_in_a_hook_names_the_callback_and_stops_the_training(training: Training) -> None:
    calls: list[Any] = []
    callbacks = Callbacks([Failing("on_step", ValueError("no\nconnection")), Recorder(calls)])
    message = (
        f"callback Failing.on_step failed at step 1 (ValueError: no connection); fix or remove it "
        f"and resume the run with workbench train --resume {training.run.path}"
    )
    with pytest.raises(WorkbenchError, match=re.escape(message)) as raised:
        train(callbacks, training)
    assert isinstance(raised.value.__cause__, ValueError)
    assert calls == [("start", 0), ("end", "failed")]  # on_step of the second one is not called


def test_an_error_in_a_hook_is_raised_only_by_check(training: Training) -> None:
    callbacks = Callbacks([Failing("on_step", ValueError("full"))])
    callbacks.on_step(training)  # the loop saves a checkpoint here
    assert isinstance(callbacks.failure, WorkbenchError)
    with pytest.raises(WorkbenchError, match="full"):
        callbacks.check()


def test_an_error_in_on_start_ends_only_the_callbacks_that_were_started(training: Training) -> None:
    first: list[Any] = []
    last: list[Any] = []
    callbacks = Callbacks(
        [Recorder(first), Failing("on_start", KeyError("project")), Recorder(last)]
    )
    with pytest.raises(WorkbenchError, match=r"on_start failed at step 0 .*; fix or remove it$"):
        train(callbacks, training)
    assert first == [("start", 0), ("end", "failed")]
    assert last == []


def test_an_error_in_on_end_is_raised(training: Training) -> None:
    calls: list[Any] = []
    callbacks = Callbacks([Failing("on_end", OSError("offline")), Recorder(calls)])
    with pytest.raises(WorkbenchError, match=r"Failing\.on_end failed at step 4 .*offline"):
        train(callbacks, training)
    assert calls[-1] == ("end", "finished")


def test_an_error_of_the_training_is_not_replaced_by_that_of_on_end(training: Training) -> None:
    callbacks = Callbacks([Failing("on_end", OSError("offline"))])
    with (
        pytest.warns(WorkbenchWarning, match="offline"),
        pytest.raises(WorkbenchError, match="the loss became nan"),
        callbacks.around(training),
    ):
        raise WorkbenchError("the loss became nan")


@pytest.mark.parametrize("hook", ["on_start", "on_step"])
def test_keyboard_interrupt_in_a_hook_stops_the_training(training: Training, hook: str) -> None:
    calls: list[Any] = []
    callbacks = Callbacks([Recorder(calls), Failing(hook, KeyboardInterrupt())])
    with pytest.raises(KeyboardInterrupt):
        train(callbacks, training)
    assert calls[-1] == ("end", "stopped")


def test_ctrl_c_in_the_loop_ends_with_the_state_stopped(training: Training) -> None:
    calls: list[Any] = []
    with pytest.raises(KeyboardInterrupt), Callbacks([Recorder(calls)]).around(training):
        raise KeyboardInterrupt
    assert calls == [("start", 0), ("end", "stopped")]


def test_a_hook_changes_neither_the_random_state_nor_the_mode(training: Training) -> None:
    class Evaluate(Callback):
        def on_step(self, training: Training) -> None:
            training.net.eval()
            training.loss.eval()
            torch.manual_seed(99)
            torch.rand(7)

    state = torch.get_rng_state()
    Callbacks([Evaluate()]).on_step(training)
    assert torch.equal(torch.get_rng_state(), state)
    modes = [module.training for module in training.net.modules()]
    assert modes == [True, True, False]
    assert training.loss.training


def test_a_row_cannot_be_changed(training: Training) -> None:
    class Change(Callback):
        def on_log(self, training: Training, row: Any) -> None:
            row["loss"] = 0.0

    row = {"loss": 1.0}
    callbacks = Callbacks([Change()])
    callbacks.on_log(training, row)
    with pytest.raises(WorkbenchError, match="does not support item assignment"):
        callbacks.check()
    assert row == {"loss": 1.0}


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (Callback, "callbacks: .* is not a workbench.training.Callback; give an object, not the"),
        (print, "callbacks: <built-in function print> is not a workbench.training.Callback"),
    ],
)
def test_something_else_is_refused(callback: Any, message: str) -> None:
    with pytest.raises(WorkbenchError, match=message):
        Callbacks([callback])
