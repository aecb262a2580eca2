"""Callbacks: objects whose methods the training loop calls at five points, the hooks.

| hook | when it is called |
|---|---|
| `on_start(training)` | before the first step, also when a run is resumed |
| `on_step(training)` | after each step |
| `on_log(training, row)` | after a row was written to metrics.jsonl |
| `on_epoch_end(training)` | after the last step of each epoch, after its row was written |
| `on_end(training, state)` | once at the end, also if the training was stopped or failed |
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from workbench import runs
from workbench.errors import WorkbenchError, WorkbenchWarning

if TYPE_CHECKING:
    from workbench.backbones import Backbone
    from workbench.losses import Loss
    from workbench.training.config import TrainConfig


@dataclass
class Training:
    """What a callback can see of a running training. The loop updates `step` and `lr`.

    Callbacks read it. Changing the settings or the weights of a running training makes it
    impossible to repeat or to resume the run.

    Args:
        run: The run directory.
        config: The settings.
        net: The backbone, in training mode.
        loss: The loss, with its class centres if it has any.
        device: The device of the training.
        total: Number of steps of the whole training.
        steps_per_epoch: Number of steps in an epoch.
        step: Number of steps done.
        lr: Learning rate of the last step.

    Example:
        >>> from workbench.training import Training
        >>> fields = {name: None for name in ("run", "config", "net", "loss", "device")}
        >>> Training(**fields, total=100, steps_per_epoch=10, step=25).epoch
        2.5
    """

    run: runs.Run
    config: TrainConfig
    net: Backbone
    loss: Loss
    device: torch.device
    total: int
    steps_per_epoch: int
    step: int = 0
    lr: float = 0.0

    @property
    def epoch(self) -> float:
        """Number of epochs done, with a fraction, as in the column `epoch` of metrics.jsonl."""
        return self.step / self.steps_per_epoch


class Callback:
    """Base class of callbacks. Its five hooks do nothing; a subclass overrides those it needs.

    If a hook raises an error, the training stops after the current step. It saves a checkpoint, and
    the run gets the state "failed", so that it can be resumed without the callback. If a hook
    raises `KeyboardInterrupt`, the training stops in the same way as after Ctrl-C, and the run gets
    the state "stopped".

    A hook may draw random numbers and may set the network to evaluation mode: the random state of
    PyTorch and the mode of each module are restored afterwards. The training waits for a hook, so
    slow work belongs in `on_epoch_end`.

    Example:
        >>> import workbench as wb
        >>> class PrintLoss(wb.training.Callback):
        ...     def on_log(self, training, row):
        ...         print(f"{training.step} of {training.total}: {row['loss']:.2f}")
        >>> config = wb.TrainConfig(data="synthfaces-mini", image_size=64, epochs=1)
        >>> run = wb.train(config, callbacks=[PrintLoss()])  # doctest: +SKIP
        10 of 12: 21.70
        12 of 12: 21.31
    """

    def on_start(self, training: Training) -> None:
        """Called before the first step. In a resumed run, `training.step` is greater than 0.

        Args:
            training: The state of the training.
        """

    def on_step(self, training: Training) -> None:
        """Called after each step.

        Args:
            training: The state of the training.
        """

    def on_log(self, training: Training, row: Mapping[str, Any]) -> None:
        """Called after a row was written to metrics.jsonl: every `log_every` steps.

        Args:
            training: The state of the training.
            row: The row: plain values by column name, such as `step`, `epoch`, `loss` and `lr`.
        """

    def on_epoch_end(self, training: Training) -> None:
        """Called after the last step of each epoch.

        Args:
            training: The state of the training.
        """

    def on_end(self, training: Training, state: str) -> None:
        """Called once after the last step, also if the training was stopped or failed.

        It is called for each callback whose `on_start` was called.

        Args:
            training: The state of the training.
            state: "finished", "stopped" or "failed"; see `workbench.runs.STATES`.
        """


class Callbacks:
    """Calls the hooks of several callbacks, in their order.

    An error in a hook is kept in `failure` instead of being raised, so that the loop can complete
    the step and save a checkpoint before it raises the error. After an error only `on_end` is
    called.

    Args:
        callbacks: The callbacks.

    Attributes:
        failure: The error of the first hook that failed, or the `KeyboardInterrupt` that a hook
            raised; None if all hooks succeeded.

    Raises:
        WorkbenchError: if an element is not a `Callback`.
    """

    def __init__(self, callbacks: Iterable[Callback] = ()) -> None:
        self.callbacks = list(callbacks)
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                hint = "; give an object, not the class" if isinstance(callback, type) else ""
                raise WorkbenchError(
                    f"callbacks: {callback!r} is not a workbench.training.Callback{hint}"
                )
        self.failure: BaseException | None = None
        self._started: list[Callback] = []

    def put_first(self, callback: Callback) -> None:
        """Adds a callback whose hooks are called before those of all others.

        Args:
            callback: The callback.
        """
        self.callbacks.insert(0, callback)

    @contextmanager
    def around(self, training: Training) -> Iterator[None]:
        """Calls `on_start` before the body of a `with` statement, and `on_end` after it.

        Args:
            training: The state of the training.

        Raises:
            WorkbenchError: if a hook failed. An error of the body comes first; an `on_end` that
                fails after it is reported as a warning.
            KeyboardInterrupt: if a hook raised it.
        """
        state = "failed"
        try:
            for callback in self.callbacks:
                self._started.append(callback)
                self._call(callback, "on_start", training)
                self.check()
            yield
            self.check()
            state = "finished"
        except KeyboardInterrupt:
            state = "stopped"
            raise
        finally:
            self.failure = None
            for callback in self._started:
                self._call(callback, "on_end", training, state)
            if self.failure is not None and state != "finished":
                warnings.warn(WorkbenchWarning(str(self.failure)), stacklevel=2)
        self.check()

    def on_step(self, training: Training) -> None:
        """Calls `Callback.on_step` of each callback."""
        self._call_all("on_step", training)

    def on_log(self, training: Training, row: Mapping[str, Any]) -> None:
        """Calls `Callback.on_log` of each callback."""
        self._call_all("on_log", training, MappingProxyType(dict(row)))

    def on_epoch_end(self, training: Training) -> None:
        """Calls `Callback.on_epoch_end` of each callback."""
        self._call_all("on_epoch_end", training)

    def check(self) -> None:
        """Raises the error of the hook that failed, if there is one.

        Raises:
            WorkbenchError: in one line, with the callback, the hook and the error.
            KeyboardInterrupt: if the hook raised it.
        """
        if self.failure is not None:
            raise self.failure

    def _call_all(self, hook: str, training: Training, *values: Any) -> None:
        for callback in self.callbacks:
            if self.failure is None:
                self._call(callback, hook, training, *values)

    def _call(self, callback: Callback, hook: str, training: Training, *values: Any) -> None:
        """Calls one hook, restores what it may have changed, and keeps its error."""
        if getattr(type(callback), hook) is getattr(Callback, hook):
            return  # the hook is not overridden
        try:
            with _restored(training):
                getattr(callback, hook)(training, *values)
        except KeyboardInterrupt as interrupt:
            self.failure = self.failure or interrupt
        except Exception as error:
            if self.failure is None:
                self.failure = WorkbenchError(_description(callback, hook, training, error))
                self.failure.__cause__ = error


@contextmanager
def _restored(training: Training) -> Iterator[None]:
    """Restores PyTorch's random state and the mode of each module of network and loss."""
    modes = [
        (module, module.training)
        for owner in (training.net, training.loss)
        for module in owner.modules()
    ]
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode


def _description(callback: Callback, hook: str, training: Training, error: Exception) -> str:
    """Returns one line that names the callback and its error, and says what to do."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    remedy = "fix or remove it"
    if training.step:
        remedy += f" and resume the run with workbench train --resume {training.run.path}"
    name = f"{type(callback).__name__}.{hook}"
    return f"callback {name} failed at step {training.step} ({reason}); {remedy}"
