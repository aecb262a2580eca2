"""Going on with a run: which settings may be changed on the way, and which are what the run is."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from workbench import runs
from workbench.errors import WorkbenchError
from workbench.training.config import TrainConfig

MAY_CHANGE = ("epochs", "device", "precision", "workers", "broken", "log_every", "data")
"""Settings with which a run can go on all the same; `data` only in name: it must be the same data, at another place."""
OF_THE_FOLDER = ("name", "runs_dir")
"""Settings that only said where the run directory was to be made; it may have been moved since."""


def resumed_settings(run: runs.Run, changes: Mapping[str, Any]) -> TrainConfig:
    """The run's config.yaml with the changes.

    Raises:
        WorkbenchError: a setting is unknown or out of range, or says where the run directory is made.
    """
    for setting in OF_THE_FOLDER:
        if setting in changes:
            raise WorkbenchError(
                f"{setting} cannot be given when {run.path} is resumed: the folder is there; rename or move it as it is"
            )
    return TrainConfig(**{str(key): value for key, value in run.config.items()} | dict(changes))


def changed(run: runs.Run, settings: TrainConfig, made_with: Mapping[str, Any]) -> dict[str, Any]:
    """What differs between the settings of a checkpoint and those it is to go on with, as {name: [old, new]}.

    Args:
        made_with: settings that the checkpoint holds; settings of which it says nothing had their default.

    Raises:
        WorkbenchError: one of them is not among `MAY_CHANGE`.
    """
    defaults = {name: field.default for name, field in TrainConfig.model_fields.items()}
    before, now = defaults | dict(made_with), settings.plain()
    different = {
        name: [before[name], now[name]]
        for name in now
        if name not in OF_THE_FOLDER and before[name] != now[name]
    }
    fixed = [
        f"{name} from {old!r} to {new!r}"
        for name, (old, new) in different.items()
        if name not in MAY_CHANGE
    ]
    if fixed:
        raise WorkbenchError(
            f"{run.path}: cannot go on with {', '.join(fixed)}, as its checkpoint was made with the former; put it back, or start "
            f"a new run (what may change: {', '.join(MAY_CHANGE)})"
        )
    return different


def check_steps(run: runs.Run, settings: TrainConfig, step: int, steps_an_epoch: int) -> None:
    """Check that a checkpoint's steps and the settings fit together.

    Raises:
        WorkbenchError: fewer epochs are wanted than are done, or an epoch had another number of steps.
    """
    if settings.epochs * steps_an_epoch < step:
        raise WorkbenchError(
            f"{run.path}: epochs is {settings.epochs}, but {step / steps_an_epoch:g} are done; give at least as many"
        )
    last = next(iter(deque(runs.read_metrics(run.path / runs.METRICS), maxlen=1)), {})
    before, epoch = last.get("step"), last.get("epoch")
    if (
        isinstance(before, int)
        and isinstance(epoch, int | float)
        and epoch > 0
        and round(before / epoch) != steps_an_epoch
    ):
        raise WorkbenchError(
            f"{run.path}: an epoch had {round(before / epoch)} steps (metrics.jsonl), with the settings in config.yaml it has "
            f"{steps_an_epoch}; put batch_size and images_per_identity back to what they were"
        )
