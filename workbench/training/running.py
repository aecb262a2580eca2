"""`train` prepares a run and trains it, or resumes one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from workbench import runs
from workbench.devices import resolve_device
from workbench.errors import WorkbenchError
from workbench.training import checkpoint
from workbench.training.callbacks import Callback, Callbacks
from workbench.training.config import TrainConfig
from workbench.training.hardware import environment
from workbench.training.loop import loop
from workbench.training.recommendations import with_head_scale
from workbench.training.records import Status
from workbench.training.resuming import changed, check_steps, resumed_settings
from workbench.training.setup import Setup, prepare
from workbench.training.snapshots import Snapshots
from workbench.training.stopping import StopAfter
from workbench.training.trackers import create_trackers


def train(
    config: TrainConfig | str | Path | Mapping[str, Any] | None = None,
    *,
    resume: str | Path | runs.Run | None = None,
    changes: Mapping[str, Any] | None = None,
    callbacks: Sequence[Callback] = (),
    stop_after: int | None = None,
    progress: bool = True,
) -> runs.Run:
    """Trains a backbone with a loss, or resumes a run that was stopped.

    Ctrl-C and SIGTERM stop the training after the current step, with a checkpoint. On a CPU, a
    resumed run gives the same weights, bit for bit, as one that was never stopped.

    Args:
        config: Settings, as a `TrainConfig`, a mapping, or the path of a YAML file. Must be None
            when a run is resumed.
        resume: Run directory to resume, with the settings in its config.yaml. A finished run is
            trained further only if `changes` give it more epochs.
        changes: New values of settings, which replace those of the resumed run and are written to
            its config.yaml. Only the settings in `workbench.training.resuming.MAY_CHANGE` may be
            changed, such as `epochs`, `device`, or `data` if the same data have a new place.
        callbacks: Objects whose hooks are called during the training; see `Callback`.
        stop_after: Number of epochs after which the training is interrupted, with a checkpoint; it
            can be resumed. By default (None) the run is trained to its end.
        progress: Whether to show a progress bar, and notes on the settings.

    Returns:
        The run, which is finished unless `stop_after` interrupted it.

    Raises:
        WorkbenchError: before training, if settings, data or checkpoint are invalid, if a setting
            must not change, if another process trains the run, if the folder cannot be written to,
            or if the disk has too little space. During training, if the loss, a gradient or an
            embedding becomes NaN or infinite, or if the disk is full; the run then has the state
            "failed" and keeps its last checkpoint.
        KeyboardInterrupt: if the user stopped the training; the run can be resumed.

    Example:
        >>> import workbench as wb
        >>> config = wb.TrainConfig(data="synthfaces-mini", image_size=64, epochs=1)
        >>> run = wb.train(config)  # doctest: +SKIP
        >>> run.metrics()["loss"].iloc[-1]  # doctest: +SKIP
        3.21
    """
    if (config is None) == (resume is None):
        raise WorkbenchError("train: give either a config or a run to resume")
    if resume is None and changes:
        raise WorkbenchError(
            "train: changes are for a run that is resumed; put them into the config"
        )
    if stop_after is None:
        return _train(config, resume, changes or {}, callbacks, progress)
    stopper = StopAfter(stop_after)
    try:
        return _train(config, resume, changes or {}, [*callbacks, stopper], progress)
    except KeyboardInterrupt:
        if stopper.run is None:
            raise
        return stopper.run


def _train(
    config: TrainConfig | str | Path | Mapping[str, Any] | None,
    resume: str | Path | runs.Run | None,
    changes: Mapping[str, Any],
    callbacks: Sequence[Callback],
    progress: bool,
) -> runs.Run:
    """Starts a new run, or resumes one whose lock it takes."""
    if resume is None:
        return _start(_as_config(config), callbacks, progress)
    run = runs.open(resume)
    with run.lock():
        return _resume(run, changes, callbacks, progress)


def check(config: TrainConfig) -> None:
    """Checks that a run with these settings can be started, without starting it.

    The data set is opened, and network, loss, optimiser and schedule are created.

    Args:
        config: The settings.

    Raises:
        WorkbenchError: if the device is not on this machine, if the data cannot be opened, or if a
            name or an option is invalid.

    Example:
        >>> import workbench as wb
        >>> wb.training.check(wb.TrainConfig(data="synthfaces", loss="arcface"))  # doctest: +SKIP
    """
    resolve_device(config.device)
    # On a GPU, the check would take memory from the runs that are trained there.
    on_cpu = with_head_scale(config).model_copy(update={"device": "cpu"})
    with _seeded(config.seed):
        prepare(on_cpu)


def _start(config: TrainConfig, callbacks: Sequence[Callback], progress: bool) -> runs.Run:
    """Creates a run directory and trains the run."""
    every_callback = Callbacks([*create_trackers(config.trackers), *callbacks])
    name = config.name
    if not name:
        loss_and_backbone = f"{config.loss}-{config.backbone}"
        name = runs.timestamped(re.sub(r"[^A-Za-z0-9._+-]+", "-", loss_and_backbone))
    runs.check_name(name)
    config = with_head_scale(config)
    with _seeded(config.seed):
        setup = prepare(config)
        checkpoint.check_space(Path(config.runs_dir), setup)
        every_callback.put_first(Snapshots(setup.snapshot_sets))
        run = runs.create(config.runs_dir, name, config.plain())
        status = Status(run, setup.total, step=0, saved=None)
        with run.lock(), _final_state(status):
            described = environment(
                setup.device, setup.precision, setup.data, setup.single_image_identities
            )
            if task_data := setup.mixture.fingerprints():
                described["task_data"] = task_data
            if setup.initialised is not None:
                described["init"] = setup.initialised.plain()
            run.write_environment(described)
            run.write_identity_names(setup.data.identity_names)
            loop(run, config, setup, status, 0, every_callback, progress)
    return run


def _resume(
    run: runs.Run, changes: Mapping[str, Any], callbacks: Sequence[Callback], progress: bool
) -> runs.Run:
    """Resumes a run whose lock this process holds."""
    config = resumed_settings(run, changes)
    every_callback = Callbacks([*create_trackers(config.trackers), *callbacks])
    is_finished = run.status.get("state") == "finished"
    if is_finished and not changes and not (run.path / runs.CHECKPOINT).exists():
        return run  # there is nothing to do, and last.ckpt may have been deleted to save space
    state = checkpoint.read(run)
    different: dict[str, Any] = {}
    if "config" in state:  # checkpoints of earlier versions do not contain their settings
        different = changed(run, config, state["config"])
        has_work = "data" in changes or {"epochs", "data"} & set(different)
        if is_finished and not has_work:
            return run
    with _seeded(config.seed):
        setup = prepare(config, run, new_data="data" in changes)
        recorded = run.environment.get("data")
        fingerprint = recorded.get("fingerprint") if isinstance(recorded, dict) else None
        if fingerprint != setup.data.fingerprint():
            raise WorkbenchError(
                f"{run.path}: {config.data!r} is not the data the run began with; start a new run"
            )
        recorded_of_tasks = run.environment.get("task_data", {})
        for spec, of_task in setup.mixture.fingerprints().items():
            if recorded_of_tasks.get(spec) != of_task:
                raise WorkbenchError(
                    f"{run.path}: {spec!r} is not the data its tasks began with; start a new run"
                )
        step = state["step"]
        check_steps(run, config, step, setup.steps_per_epoch)
        checkpoint.restore(run, state, setup)
        if is_finished and (step == setup.total or setup.schedule.finished):
            if "data" in changes or "data" in different:
                _record_resumption(run, config, setup, step, different, new_data="data" in changes)
            return run
        checkpoint.check_space(run.path, setup)
        every_callback.put_first(Snapshots(setup.snapshot_sets))
        status = Status(run, setup.total, step=step, saved=step)
        with _final_state(status):
            _record_resumption(run, config, setup, step, different, new_data="data" in changes)
            loop(run, config, setup, status, state["metrics_bytes"], every_callback, progress)
    return run


def _record_resumption(
    run: runs.Run,
    config: TrainConfig,
    setup: Setup,
    step: int,
    different: Mapping[str, Any],
    new_data: bool,
) -> None:
    """Adds the resumption to environment.json, and writes changed settings to config.yaml."""
    if new_data:
        run.environment["data"]["folder"] = str(Path.cwd())
    now = environment(setup.device, setup.precision, setup.data, setup.single_image_identities)
    resumption = {
        "step": step,
        **{key: now[key] for key in ("workbench", "torch", "device", "precision")},
        "changes": dict(different),
    }
    resumed = [*run.environment.get("resumed", []), resumption]
    run.write_environment(run.environment | {"resumed": resumed})
    if config.plain() != run.config:
        run.write_config(config.plain())


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds PyTorch's random generators, and restores the caller's random state afterwards."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


@contextmanager
def _final_state(status: Status) -> Iterator[None]:
    """Writes the state with which the training ends to status.json."""
    try:
        yield
        status.finished()
    except KeyboardInterrupt:
        status.stopped()
        raise
    except BaseException as error:
        status.failed(error)
        raise


def _as_config(config: TrainConfig | str | Path | Mapping[str, Any] | None) -> TrainConfig:
    if isinstance(config, TrainConfig):
        return config
    if isinstance(config, str | Path):
        return TrainConfig.read(config)
    return TrainConfig(**{str(key): value for key, value in (config or {}).items()})
