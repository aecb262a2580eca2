"""Finding runs that have the same settings as a config, so that nothing is trained twice."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Any

from workbench import runs
from workbench.errors import WorkbenchError
from workbench.evaluation.results import stored_figures
from workbench.training import TrainConfig
from workbench.training.recommendations import with_head_scale

PLACE = frozenset({"runs_dir"})
"""Settings that may differ between runs of the same settings."""
NAME_AND_PLACE = PLACE | {"name"}
"""The same, where the name of the run directory does not matter either."""


def find(config: TrainConfig, ignored: Collection[str] = PLACE) -> runs.Run | None:
    """Finds a run with exactly these settings in `config.runs_dir`.

    Args:
        config: The settings.
        ignored: Settings that may differ; by default only the folder of the run directories.

    Returns:
        A finished run, else one that can be resumed, else None.
    """
    states = {run: state_of(run) for run in runs_like(config, ignored)}
    usable = [run for run in states if states[run] in ("finished", "stopped", "stalled")]
    return min(usable, key=lambda run: states[run] != "finished", default=None)


def runs_like(config: TrainConfig, ignored: Collection[str] = PLACE) -> list[runs.Run]:
    """Returns all runs in `config.runs_dir` with these settings, whatever their state is.

    Args:
        config: The settings.
        ignored: Settings that may differ.
    """
    wanted = [without(plain, ignored) for plain in _equivalent(config)]
    return [run for run in runs.list(config.runs_dir) if without(_settings(run), ignored) in wanted]


def without(settings: dict[str, Any], ignored: Collection[str]) -> dict[str, Any]:
    """Returns the settings that count in a comparison of runs.

    Args:
        settings: All settings.
        ignored: Names of those that do not count.
    """
    return {key: value for key, value in settings.items() if key not in ignored}


def state_of(run: runs.Run) -> str:
    """Returns the state of a run, or "unreadable" if status.json is damaged."""
    try:
        return run.state
    except WorkbenchError:
        return "unreadable"


def evaluations_of(run: runs.Run) -> dict[str, str]:
    """Returns the evaluations of the current model of a run.

    Evaluations from before the run was resumed, and those with another protocol (whose names
    contain a "+", as in lfw+arcface_torch), are left out.

    Returns:
        {spec of the benchmark: name of the evaluation}.
    """
    stored = {name: stored_figures(run, name) for name in run.evaluations() if "+" not in name}
    step = run.status.get("step")
    return {
        str(figures.get("benchmark")): name
        for name, figures in stored.items()
        if figures.get("step") == step
    }


def _equivalent(config: TrainConfig) -> list[dict[str, Any]]:
    """Returns the settings unchanged, and as a run records them.

    These differ if the loss sets an option of the backbone.
    """
    return [config.plain(), with_head_scale(config).plain()]


def _settings(run: runs.Run) -> dict[str, Any]:
    """Returns the settings of a run; none if its config.yaml is invalid."""
    path = run.path / runs.CONFIG
    try:
        return _settings_in(path, path.stat().st_mtime_ns)
    except OSError:
        return {}


@lru_cache(maxsize=4096)
def _settings_in(path: Path, changed: int) -> dict[str, Any]:
    """Reads a config.yaml again only if its time of change is another."""
    try:
        return TrainConfig(**runs.Run(path.parent).config).plain()
    except (WorkbenchError, TypeError):  # TypeError: the name of a setting is not a text
        return {}
