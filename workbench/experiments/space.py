"""The space of settings that a search draws from, read from a plan."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError, unknown_name

if TYPE_CHECKING:
    import optuna

OPTIONS = ("low", "high", "log", "step")


@dataclass(frozen=True)
class Choice:
    """One of several values of a setting.

    Attributes:
        values: The values.
    """

    values: tuple[Any, ...]

    def draw(self, trial: optuna.Trial, name: str) -> None:
        """Lets a trial of Optuna choose a value.

        Args:
            trial: The trial.
            name: Name of the setting.
        """
        # Optuna stores plain values only; a list or mapping is chosen by its number.
        trial.suggest_categorical(name, range(len(self.values)))

    def value(self, parameter: Any) -> Any:
        """Returns the value for a parameter that Optuna stores.

        Args:
            parameter: The number of the value.
        """
        return self.values[parameter]

    def examples(self) -> list[Any]:
        """Returns all values."""
        return list(self.values)


@dataclass(frozen=True)
class Range:
    """A number between two limits.

    Attributes:
        low: Lower limit, included.
        high: Upper limit, included.
        log: Whether the logarithm of the number is drawn evenly.
        step: Distance between two neighbouring values; None for any number.
        whole: Whether the number is an integer, because both limits are.
    """

    low: float
    high: float
    log: bool
    step: float | None
    whole: bool

    def draw(self, trial: optuna.Trial, name: str) -> None:
        """Lets a trial of Optuna choose a number.

        Args:
            trial: The trial.
            name: Name of the setting.
        """
        if self.whole:
            step = 1 if self.step is None else int(self.step)
            trial.suggest_int(name, int(self.low), int(self.high), step=step, log=self.log)
        else:
            trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def value(self, parameter: Any) -> Any:
        """Returns the value for a parameter that Optuna stores, which is the same.

        Args:
            parameter: The number.
        """
        return parameter

    def examples(self) -> list[Any]:
        """Returns the lower limit."""
        return [int(self.low) if self.whole else self.low]


@dataclass(frozen=True)
class Search:
    """A search for the best settings.

    Attributes:
        space: {setting: values to draw from}. `loss_options.m` is one option of the loss.
        objective: Spec of the benchmark whose headline figure is maximised.
        trials: Number of runs.
    """

    space: dict[str, Choice | Range]
    objective: str
    trials: int

    TRIALS = 20
    """Number of runs, if the plan does not say otherwise."""

    @classmethod
    def read(cls, space: Mapping[str, Any], objective: str, trials: Any) -> Search:
        """Reads the search of a plan.

        Args:
            space: A list of values, or {low, high, log, step}, for each setting.
            objective: Spec of the benchmark of validation people.
            trials: Number of runs.

        Raises:
            WorkbenchError: if a value has another form or is out of range.

        Example:
            >>> from workbench.experiments.space import Search
            >>> search = Search.read({"lr": {"low": 0.01, "high": 1, "log": True}}, "orl", 10)
            >>> search.space["lr"].log
            True
        """
        if not space:
            raise WorkbenchError(
                "search: is empty; name a setting, such as lr: {low: 0.01, high: 1}"
            )
        if type(trials) is not int or trials < 1:
            raise WorkbenchError(f"trials: is {trials!r}, expected a number of runs, at least 1")
        return cls({name: _axis(name, value) for name, value in space.items()}, objective, trials)

    def draw(self, trial: optuna.Trial) -> dict[str, Any]:
        """Lets a trial of Optuna choose all settings.

        Args:
            trial: The trial.

        Returns:
            {setting: value}, with a value for each name of the space.
        """
        for name, axis in self.space.items():
            axis.draw(trial, name)
        return self.settings(trial.params)

    def settings(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the settings of a trial.

        Args:
            params: The parameters that Optuna stores for the trial.

        Raises:
            WorkbenchError: if a parameter is missing, because the trial was interrupted.
        """
        missing = [name for name in self.space if name not in params]
        if missing:
            raise WorkbenchError(f"the trial has no value for {missing[0]!r}")
        return {name: axis.value(params[name]) for name, axis in self.space.items()}

    def examples(self) -> Iterator[dict[str, Any]]:
        """Yields settings of the space that together have each choice at least once."""
        first = {name: axis.examples()[0] for name, axis in self.space.items()}
        yield first
        for name, axis in self.space.items():
            for value in axis.examples()[1:]:
                yield first | {name: value}


def _axis(name: str, value: Any) -> Choice | Range:
    if isinstance(value, list) and value:
        return Choice(tuple(value))
    if not isinstance(value, dict):
        raise WorkbenchError(
            f"search, {name}: is {value!r}, expected a list of values or limits such as "
            "{low: 0.01, high: 1, log: true}"
        )
    for option in value:
        if option not in OPTIONS:
            raise unknown_name(f"option of search, {name}", option, OPTIONS)
    low: Any = value.get("low")
    high: Any = value.get("high")
    step, log = value.get("step"), value.get("log", False)
    if not (_is_number(low) and _is_number(high) and low < high):
        raise WorkbenchError(
            f"search, {name}: low is {low!r} and high is {high!r}, expected two numbers, low < high"
        )
    if not isinstance(log, bool) or (log and (low <= 0 or step is not None)):
        raise WorkbenchError(f"search, {name}: log is {log!r}; true needs low above 0 and no step")
    if step is not None and not (_is_number(step) and 0 < step <= high - low):
        raise WorkbenchError(
            f"search, {name}: step is {step!r}, expected a number from 0 to high - low"
        )
    whole = all(isinstance(one, int) for one in (low, high, 1 if step is None else step))
    return Range(low, high, log, step, whole)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
