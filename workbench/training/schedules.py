"""Schedules of the learning rate and of the margin.

Each schedule except `auto` is a pure function of the step, so a checkpoint need not store its
state. To add one, register a subclass of `Schedule`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError
from workbench.registry import Registry
from workbench.training.plateau import (
    count_steps_without_decrease,
    count_steps_without_decrease_robust,
)

if TYPE_CHECKING:
    from torch import Tensor


class Schedule:
    """Base class of schedules: the learning rate as a function of the step.

    The learning rate first rises linearly to its peak (the warm-up). Subclasses define `rate(step)`
    for the steps after it. Their options are the parameters of `__init__`. The attributes are set
    by `create_schedule`.

    Attributes:
        total: Number of steps of the training.
        warmup: Number of steps of the warm-up; 0 means none.
        steps_per_epoch: Number of steps in an epoch.
        peak_lr: Learning rate at the end of the warm-up.

    Example:
        >>> from workbench.training.schedules import Schedule
        >>> class Halved(Schedule):
        ...     def rate(self, step):
        ...         return 0.5
        >>> schedule = Halved()
        >>> schedule.warmup, schedule.peak_lr = 2, 0.1
        >>> [schedule.lr(step) for step in range(3)]
        [0.05, 0.1, 0.05]
    """

    total: int = 1
    warmup: int = 0
    steps_per_epoch: int = 1
    peak_lr: float = 1.0

    def lr(self, step: int) -> float:
        """Returns the learning rate of a step.

        Args:
            step: Number of the step, from 0 to total - 1.
        """
        if step < self.warmup:
            return self.peak_lr * (step + 1) / self.warmup
        return self.peak_lr * self.rate(step)

    def rate(self, step: int) -> float:
        """Returns the learning rate of a step after the warm-up, divided by the peak.

        Args:
            step: Number of the step, from `warmup` to total - 1.
        """
        raise NotImplementedError

    def observe(self, loss: Tensor | float) -> None:
        """Receives the loss of a step; only `auto` uses it.

        Args:
            loss: The loss, a number or a () tensor.
        """

    @property
    def finished(self) -> bool:
        """Whether the training should end before its last step; only `auto` does so."""
        return False

    def state_dict(self) -> dict[str, Any]:
        """Returns the state for a checkpoint; it is empty for functions of the step."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the state from a `state_dict`.

        Args:
            state: The state.
        """

    @property
    def progress_steps(self) -> int:
        """Number of steps after the warm-up, at least 1."""
        return max(self.total - self.warmup, 1)


SCHEDULES: Registry[Schedule] = Registry("schedule")
"""Schedules by name."""
register = SCHEDULES.register


@register("constant")
class Constant(Schedule):
    """The learning rate stays at its peak."""

    def rate(self, step: int) -> float:
        """Returns 1."""
        return 1.0


@register("step")
class Step(Schedule):
    """The learning rate is multiplied by a factor every few epochs.

    Epochs are counted from the beginning of the training, as in `torch.optim.lr_scheduler.StepLR`.

    Args:
        every: Number of epochs from one change to the next, greater than 0; fractions are allowed
            and rounded to whole steps.
        factor: Factor of the learning rate, greater than 0.
    """

    def __init__(self, every: float, factor: float = 0.1) -> None:
        self.every = _positive("step", "every", every)
        self.factor = _positive("step", "factor", factor)

    def rate(self, step: int) -> float:
        """Returns factor^k after k intervals."""
        interval = max(round(self.every * self.steps_per_epoch), 1)
        return math.pow(self.factor, step // interval)


@register("multi-step")
class MultiStep(Schedule):
    """The learning rate is multiplied by a factor after given epochs.

    Epochs are counted from the beginning of the training, as in
    `torch.optim.lr_scheduler.MultiStepLR`.

    Args:
        epochs: Numbers of epochs after which the learning rate changes, each greater than 0;
            fractions are allowed and rounded to whole steps.
        factor: Factor of the learning rate, greater than 0.
    """

    def __init__(self, epochs: tuple[float, ...], factor: float = 0.1) -> None:
        self.epochs = tuple(_positive("multi-step", "epochs", epoch) for epoch in epochs)
        self.factor = _positive("multi-step", "factor", factor)

    def rate(self, step: int) -> float:
        """Returns factor^k after k of the epochs."""
        changes = [round(epoch * self.steps_per_epoch) for epoch in self.epochs]
        return math.pow(self.factor, sum(change <= step for change in changes))


@register("polynomial")
class Polynomial(Schedule):
    """The learning rate falls as a power of the share of the steps that are left.

    Args:
        power: Exponent, greater than 0. 1 is a straight line. 2 is the value in arcface_torch.
        final: Learning rate at the end divided by the peak, from 0 to 1.
    """

    def __init__(self, power: float = 2.0, final: float = 0.0) -> None:
        self.power = _positive("polynomial", "power", power)
        self.final = _share("polynomial", "final", final)

    def rate(self, step: int) -> float:
        """Returns final + (1 - final) * (share of the steps that are left)^power."""
        left = 1.0 - (step - self.warmup) / self.progress_steps
        return self.final + (1.0 - self.final) * math.pow(left, self.power)


@register("cosine")
class Cosine(Schedule):
    """The learning rate falls along half a period of a cosine.

    Loshchilov and Hutter, "SGDR: Stochastic gradient descent with warm restarts", ICLR 2017, eq. 5,
    without restarts.

    Args:
        final: Learning rate at the end divided by the peak, from 0 to 1.
    """

    def __init__(self, final: float = 0.0) -> None:
        self.final = _share("cosine", "final", final)

    def rate(self, step: int) -> float:
        """Returns final + (1 - final) * (1 + cos(pi * share of the steps done)) / 2."""
        done = math.pi * (step - self.warmup) / self.progress_steps
        return self.final + (1.0 - self.final) * (0.5 * (1.0 + math.cos(done)))


@register("one-cycle")
class OneCycle(Schedule):
    """The learning rate rises to its peak and falls to almost 0, both along half a cosine.

    Smith and Topin, "Super-convergence: Very fast training of neural networks using large learning
    rates", 2018, with the cosines and the defaults of `torch.optim.lr_scheduler.OneCycleLR`.

    The rise is a warm-up of its own. A warm-up before the peak (`warmup_epochs`) is a linear factor
    on top of it; set it to 0 for the schedule of the paper.

    Args:
        rise: Share of the steps in which the learning rate rises, from 0 to 1.
        start: Learning rate at the first step divided by the peak, from 0 to 1.
        final: Learning rate at the last step divided by the peak, from 0 to 1.
    """

    def __init__(self, rise: float = 0.3, start: float = 0.04, final: float = 4e-6) -> None:
        self.rise = _share("one-cycle", "rise", rise)
        self.start = _share("one-cycle", "start", start)
        self.final = _share("one-cycle", "final", final)

    def lr(self, step: int) -> float:
        """Returns the learning rate of a step; see `Schedule.lr`."""
        warmed_up = min((step + 1) / self.warmup, 1.0) if self.warmup else 1.0
        return self.peak_lr * warmed_up * self.rate(step)

    def rate(self, step: int) -> float:
        """Returns the learning rate of any step without the warm-up, divided by the peak."""
        last = self.total - 1
        peak = min(max(self.rise * self.total - 1.0, 0.0), last)
        if step < peak:
            return _between(self.start, 1.0, step / peak)
        return _between(1.0, self.final, (step - peak) / max(last - peak, 1.0))


@register("auto")
class Auto(Schedule):
    """The learning rate is multiplied by a factor when the loss has stopped falling.

    The algorithm of `dnn_trainer` in dlib. The losses of the last `patience` steps are kept. About
    200 times within `patience` steps they are tested: if neither `count_steps_without_decrease`
    nor its robust version finds a fall in all of them, the learning rate is multiplied by `factor`,
    and the oldest 30 % of the losses are forgotten, so that at least that many steps pass before
    the next change. The training ends when the learning rate is below `smallest_lr`, or after its
    last epoch. The losses of the warm-up are ignored.

    Args:
        patience: Number of steps without a fall after which the learning rate changes, at least 3.
            By default (null) it is that of two epochs, at least 100. The default of dlib is 2000.
        factor: Factor of the learning rate, between 0 and 1.
        smallest_lr: Learning rate below which the training ends, greater than 0.
    """

    TESTS = 200
    """Number of tests within `patience` steps, which limits the time that they take."""
    FORGOTTEN = 0.3
    """Share of `patience` losses that are forgotten after a change."""

    def __init__(
        self, patience: int | None = None, factor: float = 0.1, smallest_lr: float = 1e-6
    ) -> None:
        if patience is not None and patience < 3:
            raise WorkbenchError(
                f"schedule 'auto': patience must be at least 3 steps, got {patience}"
            )
        self.factor = _positive("auto", "factor", factor)
        if factor >= 1:
            raise WorkbenchError(f"schedule 'auto': factor must be below 1, got {factor:g}")
        self.smallest_lr = _positive("auto", "smallest_lr", smallest_lr)
        self.given_patience = patience
        self.observed = 0
        self.since_test = 0
        self.changes = 0
        # On a GPU the losses stay there until the next test, so that the CPU does not wait for it.
        self.losses: list[Tensor | float] = []

    @property
    def patience(self) -> int:
        """Number of steps without a fall after which the learning rate changes."""
        return self.given_patience or max(2 * self.steps_per_epoch, 100)

    def rate(self, step: int) -> float:
        """Returns factor^k after k changes."""
        return math.pow(self.factor, self.changes)

    def observe(self, loss: Tensor | float) -> None:
        """Receives the loss of a step, and lowers the learning rate if the loss does not fall.

        Args:
            loss: The loss, a number or a () tensor.
        """
        self.observed += 1
        if self.observed <= self.warmup:
            return
        self.losses.append(loss)
        del self.losses[: -self.patience]
        self.since_test += 1
        if self.since_test * self.TESTS <= self.patience:
            return
        self.since_test = 0
        losses = self._numbers()
        if (
            count_steps_without_decrease(losses) >= self.patience
            and count_steps_without_decrease_robust(losses) >= self.patience
        ):
            self.changes += 1
            self.losses = self.losses[round(self.FORGOTTEN * self.patience) :]

    @property
    def finished(self) -> bool:
        """Whether the learning rate is below `smallest_lr`."""
        return self.peak_lr * self.rate(0) < self.smallest_lr

    def state_dict(self) -> dict[str, Any]:
        """Returns the losses and the counts, for a checkpoint."""
        return {
            "observed": self.observed,
            "since_test": self.since_test,
            "changes": self.changes,
            "losses": self._numbers(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the state from a `state_dict`.

        Args:
            state: The state.
        """
        self.observed, self.since_test = int(state["observed"]), int(state["since_test"])
        self.changes, self.losses = int(state["changes"]), list(state["losses"])

    def _numbers(self) -> list[float]:
        self.losses = [float(loss) for loss in self.losses]
        return [float(loss) for loss in self.losses]


def create_schedule(
    name: str,
    options: Mapping[str, Any],
    *,
    total: int,
    warmup: int,
    steps_per_epoch: int,
    peak_lr: float,
) -> Schedule:
    """Creates a schedule by name.

    Args:
        name: Name of a schedule in `SCHEDULES`.
        options: Options of the schedule.
        total: Number of steps of the training.
        warmup: Number of steps of the warm-up; 0 means none.
        steps_per_epoch: Number of steps in an epoch.
        peak_lr: Learning rate at the end of the warm-up.

    Returns:
        The schedule.

    Raises:
        WorkbenchError: if the name or an option is unknown (the message suggests the nearest one),
            an option is missing, or a value is out of range.

    Example:
        >>> from workbench.training.schedules import create_schedule
        >>> options = {"epochs": [1, 3], "factor": 0.5}
        >>> schedule = create_schedule(
        ...     "multi-step", options, total=8, warmup=0, steps_per_epoch=2, peak_lr=0.1
        ... )
        >>> [schedule.lr(step) for step in range(8)]
        [0.1, 0.1, 0.05, 0.05, 0.05, 0.05, 0.025, 0.025]
    """
    schedule = SCHEDULES.create(name, **{str(key): value for key, value in options.items()})
    schedule.total, schedule.warmup = total, warmup
    schedule.steps_per_epoch, schedule.peak_lr = steps_per_epoch, peak_lr
    return schedule


def margin_ramp(step: int, ramp: int) -> float:
    """Returns the share of the margin that is used in a step.

    Args:
        step: Number of the step, from 0.
        ramp: Number of steps over which the share grows linearly from 0 to 1; 0 means that the
            whole margin is used from the beginning.

    Example:
        >>> from workbench.training.schedules import margin_ramp
        >>> margin_ramp(50, ramp=200)
        0.25
    """
    return 1.0 if step >= ramp else step / ramp


def _between(begin: float, end: float, share: float) -> float:
    """Returns the value on half a cosine from `begin` (share 0) to `end` (share 1)."""
    return end + (begin - end) * 0.5 * (1.0 + math.cos(math.pi * share))


def _positive(schedule: str, option: str, value: float) -> float:
    if not value > 0:
        raise WorkbenchError(f"schedule {schedule!r}: {option} must be positive, got {value:g}")
    return float(value)


def _share(schedule: str, option: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise WorkbenchError(f"schedule {schedule!r}: {option} must be from 0 to 1, got {value:g}")
    return float(value)
