"""Experiments with several runs: sweeps over configs, the demo, and the study of alignment."""

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
"""Benchmarks on which the demo evaluates its runs."""
DEMO_LOSSES: dict[str, dict[str, Any]] = {
    "softmax": {},
    "normface": {"loss_options": {"s": 32.0}},
    "sphereface": {"loss_options": {"m": 2.0, "lambda_base": 100.0, "lambda_min": 2.0}},
    "cosface": {"loss_options": {"s": 32.0, "m": 0.25}, "margin_ramp_epochs": 2.0},
    "arcface": {"loss_options": {"s": 32.0, "m": 0.35}, "margin_ramp_epochs": 2.0},
    "triplet": {"loss_options": {"mining": "all"}},
}
"""Losses of the demo, and the settings of each.

The papers chose their scales and margins for thousands of classes and long training. The demo
uses half of these scales and somewhat smaller margins, which grow from 0 in the first two epochs
so that training converges sooner. The annealing of SphereFace is shortened to the length of the
demo. The triplet loss uses all triplets, because batch-hard mining needs longer training.
"""


def demo_configs(runs_dir: str | Path = "runs") -> list[TrainConfig]:
    """Returns the configs of the demo, which trains six losses on 200 synthetic people.

    Args:
        runs_dir: Folder of the run directories.

    Example:
        >>> from workbench import experiments
        >>> [config.loss for config in experiments.demo_configs()]
        ['softmax', 'normface', 'sphereface', 'cosface', 'arcface', 'triplet']
    """
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
    """Trains each config and evaluates its run on each benchmark, reusing earlier results.

    A finished run with the same settings is not trained again, and a stopped one is resumed from
    its checkpoint. Evaluations that exist for the current model of a run are not repeated.

    Args:
        configs: Settings of the runs.
        benchmarks: Names of benchmarks, as for `wb.evaluate`.
        progress: Whether to show progress bars.
        tell: Function that is called with one line for each run, such as `print`.

    Returns:
        The runs, in the order of `configs`.

    Raises:
        WorkbenchError: if another process is training a run with the same settings; also the
            errors of `wb.train` and `wb.evaluate`.

    Example:
        >>> from workbench import TrainConfig, experiments
        >>> configs = [
        ...     TrainConfig(data="synthfaces-mini", image_size=64, epochs=1, loss=loss)
        ...     for loss in ("cosface", "arcface")
        ... ]
        >>> trained = experiments.sweep(configs, ["synthfaces-frontal"])  # doctest: +SKIP
    """
    done = []
    for number, config in enumerate(configs, 1):
        title = f"[{number}/{len(configs)}] {config.loss} on {config.data}"
        run = find(config)
        same = [one for one in runs.list(config.runs_dir) if _config(one) in _equivalent(config)]
        if any(_state(one) == "running" for one in same):
            raise WorkbenchError(
                f"{title}: a run with these settings is being trained in {config.runs_dir}; wait "
                "for it or stop it"
            )
        if run is not None and run.state == "finished":
            tell(f"{title}: trained already, {run.path}")
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
    """Finds a run with exactly these settings in `config.runs_dir`.

    Args:
        config: The settings.

    Returns:
        A finished run, else one that can be resumed, else None.
    """
    same = [run for run in runs.list(config.runs_dir) if _config(run) in _equivalent(config)]
    states = {run.name: _state(run) for run in same}
    usable = [run for run in same if states[run.name] in ("finished", "stopped", "stalled")]
    return min(usable, key=lambda run: states[run.name] != "finished", default=None)


def _config(run: runs.Run) -> dict[str, Any]:
    """Returns the settings of a run, for comparison; none if its config.yaml is invalid."""
    try:
        return _comparable(TrainConfig(**run.config))
    except (WorkbenchError, TypeError):  # TypeError: the name of a setting is not a text
        return {}


def _equivalent(config: TrainConfig) -> list[dict[str, Any]]:
    """Returns the settings unchanged, and as a run records them.

    These differ if the loss sets an option of the backbone.
    """
    return [_comparable(config), _comparable(with_head_scale(config))]


def _comparable(config: TrainConfig) -> dict[str, Any]:
    """Returns all settings except the folder of the run directories."""
    return {key: value for key, value in config.plain().items() if key != "runs_dir"}


def _state(run: runs.Run) -> str:
    """Returns the state of a run, or "unreadable" if status.json is damaged."""
    try:
        return run.state
    except WorkbenchError:
        return "unreadable"


def _evaluated_on(run: runs.Run) -> set[str]:
    """Returns the benchmarks on which the current model of a run was evaluated.

    Evaluations from before the run was resumed, and those with another protocol (whose names
    contain a "+", as in lfw+arcface_torch), do not count.
    """
    stored = [stored_figures(run, name) for name in run.evaluations() if "+" not in name]
    return {
        str(figures.get("benchmark"))
        for figures in stored
        if figures.get("step") == run.status.get("step")
    }


@dataclass(frozen=True)
class AlignmentStudy:
    """The effect of cropping and aligning faces on the accuracy of one run.

    Attributes:
        run: Name of the run.
        benchmark: Name of the benchmark.
        results: Results on the images "raw" (unchanged, except for a central crop to the input
            size), "cropped" (to the box of the face, without rotation) and "aligned".
        differences: {(a, b): accuracy on a minus accuracy on b}, paired, for ("cropped", "raw"),
            ("aligned", "raw") and ("aligned", "cropped").
    """

    run: str
    benchmark: str
    results: dict[str, VerificationResult]
    differences: dict[tuple[str, str], Difference]

    def __str__(self) -> str:
        """Returns a table of accuracies and differences."""
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
    """Measures how much cropping and aligning the faces changes the accuracy of a run.

    The run is evaluated on the same pairs three times: with unchanged, cropped and aligned images.
    The results are stored as the evaluations BENCHMARK, `cropped:BENCHMARK` and
    `aligned:BENCHMARK` of the run.

    Args:
        run: Run directory.
        benchmark: Name of a benchmark of pairs of photos that are not yet cropped to the face.
        progress: Whether to show progress bars.
        options: Other arguments of `wb.evaluate`: flip, device, batch_size, with_projection, ...

    Returns:
        The three results and their paired differences.

    Raises:
        WorkbenchError: if the benchmark is not one of pairs; also the errors of `wb.evaluate`.

    Example:
        >>> from workbench import experiments
        >>> study = experiments.alignment(
        ...     "runs/arcface-casia", "pairs:pairs.txt@lfw.zip"
        ... )  # doctest: +SKIP
        >>> print(study)  # doctest: +SKIP
    """
    if not isinstance(benchmark, str):
        raise WorkbenchError(
            "the benchmark must be given by name, e.g. 'pairs:pairs.txt@lfw.zip', so that the "
            "results can name it"
        )
    if benchmark == TRAIN:
        raise WorkbenchError(
            f"{TRAIN}: is a closed set; the effect of alignment is measured on pairs of photos"
        )
    without_preparation = data.unprepared(benchmark)
    if without_preparation not in ("", benchmark):
        raise WorkbenchError(
            f"{benchmark}: give {without_preparation} itself; it is compared raw, cropped and "
            "aligned"
        )
    results: dict[str, VerificationResult] = {}
    # "aligned" is first, because it raises an error at once if the benchmark is not one of pairs.
    for key in ("aligned", "cropped", "raw"):
        spec = benchmark if key == "raw" else f"{key}:{benchmark}"
        result = evaluate(run, spec, progress=progress, **options)
        results[key] = cast(VerificationResult, result)  # an aligned benchmark is always of pairs
    results = {key: results[key] for key in ("raw", "cropped", "aligned")}
    compared = (("cropped", "raw"), ("aligned", "raw"), ("aligned", "cropped"))
    differences = {(a, b): paired_difference(results[a], results[b]) for a, b in compared}
    return AlignmentStudy(runs.open(run).name, benchmark, results, differences)
