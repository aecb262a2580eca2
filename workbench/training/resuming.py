"""Resuming a run: which settings may change, and checks that the checkpoint fits them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from workbench import runs
from workbench.errors import WorkbenchError
from workbench.training.config import TrainConfig, from_earlier_version

MAY_CHANGE = (
    "epochs",
    "device",
    "precision",
    "workers",
    "broken",
    "log_every",
    "trackers",
    "snapshots",
    "data",
)
"""Settings that may change when a run is resumed.

`data` may change only to another place of the same data.
"""
OF_THE_FOLDER = ("name", "runs_dir")
"""Settings that only determine where the run directory is created.

They are ignored when a run is resumed, because its directory may have been moved or renamed.
"""


def resumed_settings(run: runs.Run, changes: Mapping[str, Any]) -> TrainConfig:
    """Returns the settings of a run with changes applied.

    Args:
        run: The run.
        changes: The new values by name.

    Raises:
        WorkbenchError: if a setting is unknown or out of range, or is one of `OF_THE_FOLDER`.
    """
    for setting in OF_THE_FOLDER:
        if setting in changes:
            raise WorkbenchError(
                f"{setting} cannot be set when {run.path} is resumed: the folder exists already; "
                "rename or move it instead"
            )
    return TrainConfig(**_present(run.config) | dict(changes))


def _present(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a run with those of earlier versions under their present names.

    Earlier versions had no choice of the optimiser, and decayed all weights.
    """
    named = {str(key): value for key, value in settings.items()}
    if "optimizer" not in named:
        named.setdefault("decay_norm_and_bias", True)
    return from_earlier_version(named)


def changed(run: runs.Run, settings: TrainConfig, made_with: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that differ between a checkpoint and the resumed run.

    Args:
        run: The run, for messages.
        settings: The settings of the resumed run.
        made_with: The settings stored in the checkpoint. Missing ones had their default value.

    Returns:
        {name: [old value, new value]}.

    Raises:
        WorkbenchError: if a setting that differs is not one of `MAY_CHANGE`.
    """
    defaults = {name: field.default for name, field in TrainConfig.model_fields.items()}
    before, now = defaults | _present(made_with), settings.plain()
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
            f"{run.path}: cannot be resumed with {', '.join(fixed)}, because its checkpoint was "
            "made with the old value; restore that value, or start a new run (settings that may "
            f"change: {', '.join(MAY_CHANGE)})"
        )
    return different


def check_steps(run: runs.Run, settings: TrainConfig, step: int, steps_per_epoch: int) -> None:
    """Checks that the step of a checkpoint fits the settings.

    Args:
        run: The run.
        settings: The settings of the resumed run.
        step: Number of steps done, from the checkpoint.
        steps_per_epoch: Number of steps of an epoch, with these settings.

    Raises:
        WorkbenchError: if the run has already been trained for more than `settings.epochs`, or if
            its epochs had another number of steps.
    """
    if settings.epochs * steps_per_epoch < step:
        raise WorkbenchError(
            f"{run.path}: epochs is {settings.epochs}, but {step / steps_per_epoch:g} are done; "
            "set it to at least that number"
        )
    last_row = next(iter(deque(runs.read_metrics(run.path / runs.METRICS), maxlen=1)), {})
    last_step, epoch = last_row.get("step"), last_row.get("epoch")
    if (
        isinstance(last_step, int)
        and isinstance(epoch, int | float)
        and epoch > 0
        and round(last_step / epoch) != steps_per_epoch
    ):
        raise WorkbenchError(
            f"{run.path}: an epoch had {round(last_step / epoch)} steps (metrics.jsonl), but with "
            f"the settings in config.yaml it has {steps_per_epoch}; restore the former batch_size "
            "and images_per_identity"
        )
