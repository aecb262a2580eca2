"""Several runs at once: train and evaluate a list of losses, reusing what is there; the demo is one such list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from workbench import data, runs
from workbench.errors import WorkbenchError
from workbench.evaluation import Difference, VerificationResult, evaluate, paired_difference
from workbench.evaluation.results import stored_figures
from workbench.evaluation.sources import TRAIN
from workbench.training import TrainConfig, train
from workbench.training.recommendations import with_head_scale

DEMO_BENCHMARKS = tuple(
    f"synthfaces-{kind}"
    for kind in ("frontal", "pose", "age", "light", "occlusion", "id", "invariance")
)
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
        if any(
            _config(other) in _wanted(config) and _state(other) == "running"
            for other in runs.list(config.runs_dir)
        ):
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
    same = [run for run in runs.list(config.runs_dir) if _config(run) in _wanted(config)]
    states = {run.name: _state(run) for run in same}
    usable = [run for run in same if states[run.name] in ("finished", "stopped", "stalled")]
    return min(usable, key=lambda run: states[run.name] != "finished", default=None)


def _config(run: runs.Run) -> dict[str, Any]:
    try:
        return _comparable(TrainConfig(**run.config))
    except (WorkbenchError, TypeError):  # TypeError: a setting whose name is no text
        return {}


def _wanted(config: TrainConfig) -> list[dict[str, Any]]:
    """The settings as they are given, and as a run records them: the loss may choose an option of the backbone."""
    return [_comparable(config), _comparable(with_head_scale(config))]


def _comparable(config: TrainConfig) -> dict[str, Any]:
    """The settings, defaults filled in, without where the runs are kept."""
    return {key: value for key, value in config.plain().items() if key != "runs_dir"}


def _state(run: runs.Run) -> str:
    try:
        return run.state
    except WorkbenchError:
        return "unreadable"


def _evaluated_on(run: runs.Run) -> set[str]:
    """Benchmarks that the run, as it is now, was evaluated on; not those from before it was resumed, nor by another protocol."""
    stored = [
        stored_figures(run, name) for name in run.evaluations() if "+" not in name
    ]  # lfw+arcface_torch
    return {
        str(figures.get("benchmark"))
        for figures in stored
        if figures.get("step") == run.status.get("step")
    }


@dataclass(frozen=True)
class AlignmentStudy:
    """What finding and aligning faces is worth to one run.

    Attributes:
        run: its name.
        benchmark: as it was named.
        results: on the pictures "raw" (as they are, fitted centrally), "cropped" (the face's box, not turned) and "aligned".
        differences: {(a, b): accuracy on a minus accuracy on b}, paired, of "cropped" and "aligned" to "raw" and of the two.
    """

    run: str
    benchmark: str
    results: dict[str, VerificationResult]
    differences: dict[tuple[str, str], Difference]

    def __str__(self) -> str:
        """A table for people."""
        lines = [
            f"{self.run} on {self.results['raw'].name}",
            f"{'pictures':<9} accuracy  95 % interval      to raw, paired",
        ]
        for key, result in self.results.items():
            low, high = result.intervals.get("accuracy", (float("nan"), float("nan")))
            difference = self.differences.get((key, "raw"), "")
            lines.append(
                f"{key:<9} {result.accuracy:8.2%}  [{low:.2%}, {high:.2%}]   {difference}".rstrip()
            )
        lines.append(f"aligned to cropped: {self.differences['aligned', 'cropped']}")
        lines += [f"{key}: {result.note}" for key, result in self.results.items() if result.note]
        return "\n".join(lines)


def alignment(
    run: str | Path | runs.Run, benchmark: str, *, progress: bool = True, **options: Any
) -> AlignmentStudy:
    """Does alignment matter? The run's accuracy on the same pairs as they are, cropped to the face, and aligned.

    The three are stored as evaluations of the run: BENCHMARK, `cropped:BENCHMARK` and `aligned:BENCHMARK`.

    Args:
        run: run directory.
        benchmark: name of a benchmark of pairs, of photos in which the face is not cut out yet.
        progress: show bars.
        options: others of `wb.evaluate`: flip, device, batch_size, with_projection, ...

    Raises:
        WorkbenchError: as `wb.evaluate`, or a benchmark of another kind.
    """
    if not isinstance(benchmark, str):
        raise WorkbenchError(
            "the benchmark must be given by name, e.g. 'pairs:pairs.txt@lfw.zip', so that the results can name it"
        )
    if benchmark == TRAIN:
        raise WorkbenchError(
            f"{TRAIN}: is a closed set; what alignment is worth is measured on pairs of photos"
        )
    if (beneath := data.unprepared(benchmark)) not in ("", benchmark):
        raise WorkbenchError(
            f"{benchmark}: give {beneath} itself; this compares it raw, cropped and aligned"
        )
    results: dict[str, VerificationResult] = {}
    for key in (
        "aligned",
        "cropped",
        "raw",
    ):  # one that is not of pairs is refused before anything is computed
        spec = benchmark if key == "raw" else f"{key}:{benchmark}"
        result = evaluate(run, spec, progress=progress, **options)
        results[key] = cast(VerificationResult, result)  # an aligned benchmark is always of pairs
    results = {key: results[key] for key in ("raw", "cropped", "aligned")}
    compared = (("cropped", "raw"), ("aligned", "raw"), ("aligned", "cropped"))
    differences = {(a, b): paired_difference(results[a], results[b]) for a, b in compared}
    return AlignmentStudy(runs.open(run).name, benchmark, results, differences)
