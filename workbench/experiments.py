"""Several runs at once: train and evaluate a list of losses, reusing what is there; the demo is one such list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from workbench import runs
from workbench.errors import WorkbenchError
from workbench.evaluation import evaluate
from workbench.evaluation.results import stored_figures
from workbench.training import TrainConfig, train

DEMO_BENCHMARKS = tuple(f"synthfaces-{kind}" for kind in ("frontal", "pose", "age", "light", "occlusion", "id", "invariance"))
DEMO_LOSSES: dict[str, dict[str, Any]] = {
    "softmax": {},
    "normface": {"loss_options": {"s": 32.0}},
    "sphereface": {"loss_options": {"m": 2.0, "lambda_base": 100.0, "lambda_min": 2.0}},
    "cosface": {"loss_options": {"s": 32.0, "m": 0.25}, "margin_ramp_epochs": 2.0},
    "arcface": {"loss_options": {"s": 32.0, "m": 0.35}, "margin_ramp_epochs": 2.0},
    "triplet": {"loss_options": {"mining": "all"}},
}
"""Half of the papers' scale and somewhat smaller margins, which were chosen for thousands of classes and long training; a margin
that is held back at first converges sooner. SphereFace's annealing is shortened to the length of the demo, and triplets are not
mined: batch-hard ones, the default, need longer."""


def demo_configs(runs_dir: str | Path = "runs") -> list[TrainConfig]:
    """The demo: six losses, all else equal, on 200 synthetic people."""
    return [
        TrainConfig(
            **{
                "data": "synthfaces",
                "backbone": "smallresnet",
                "loss": loss,
                "image_size": 64,
                "epochs": 4,
                "batch_size": 128,
                "log_every": 5,
                "runs_dir": str(runs_dir),
                "name": f"{loss}-synthfaces-demo",
                **settings,
            }
        )
        for loss, settings in DEMO_LOSSES.items()
    ]


def sweep(
    configs: Sequence[TrainConfig],
    benchmarks: Sequence[str],
    *,
    progress: bool = True,
    tell: Callable[[str], None] = print,
) -> list[runs.Run]:
    """Train each config and evaluate it on each benchmark; what was finished before is not done again.

    Args:
        configs: runs wanted. One counts as there when a run directory holds the same settings: if it is finished it is
            used, if it was stopped it is resumed.
        benchmarks: names, as for `wb.evaluate`.
        progress: show bars.
        tell: takes a line about what is going on.

    Returns:
        The runs, in the order of `configs`.
    """
    done = []
    for number, config in enumerate(configs, 1):
        title = f"[{number}/{len(configs)}] {config.loss} on {config.data}"
        run = find(config)
        if any(_config(other) == _comparable(config) and _state(other) == "running" for other in runs.list(config.runs_dir)):
            raise WorkbenchError(
                f"{title}: a run with these settings is being trained in {config.runs_dir}; wait for it or stop it"
            )
        if run is not None and run.state == "finished":
            tell(f"{title}: there already, {run.path}")
        elif run is not None and (run.path / runs.CHECKPOINT).is_file():
            tell(f"{title}: resuming {run.path}")
            run = train(resume=run, progress=progress)
        else:
            tell(f"{title}: training")
            run = train(config, progress=progress)
        for benchmark in benchmarks:
            if benchmark not in _evaluated_on(run):
                evaluate(run, benchmark, progress=progress)
        done.append(run)
    return done


def find(config: TrainConfig) -> runs.Run | None:
    """The best run directory with exactly these settings: a finished one, else one that can be resumed, else None."""
    same = [run for run in runs.list(config.runs_dir) if _config(run) == _comparable(config)]
    states = {run.name: _state(run) for run in same}
    usable = [run for run in same if states[run.name] in ("finished", "stopped", "stalled")]
    return min(usable, key=lambda run: states[run.name] != "finished", default=None)


def _config(run: runs.Run) -> dict[str, Any]:
    try:
        return _comparable(TrainConfig(**run.config))
    except (WorkbenchError, TypeError):  # TypeError: a setting whose name is no text
        return {}


def _comparable(config: TrainConfig) -> dict[str, Any]:
    """The settings, defaults filled in, without where the runs are kept."""
    return {key: value for key, value in config.plain().items() if key != "runs_dir"}


def _state(run: runs.Run) -> str:
    try:
        return run.state
    except WorkbenchError:
        return "unreadable"


def _evaluated_on(run: runs.Run) -> set[str]:
    """Benchmarks that the run, as it is now, was evaluated on; not those from before it was resumed."""
    stored = [stored_figures(run, name) for name in run.evaluations()]
    return {str(figures.get("benchmark")) for figures in stored if figures.get("step") == run.status.get("step")}
