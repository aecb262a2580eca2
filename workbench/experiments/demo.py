"""The trainings of the demo, and the function that does them one after the other.

`live_plan` has the two losses that `workbench demo` trains beside the dashboard, and `full_plan`
all losses of the reference runs, for `workbench demo --full`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import data, runs
from workbench.activity import Entry, Tracker
from workbench.data.rendered.synthfaces import SETS
from workbench.errors import WorkbenchError
from workbench.evaluation import load_snapshot
from workbench.experiments.jobs import Evaluate, Job, Step
from workbench.experiments.matching import PLACE
from workbench.experiments.reference.plan import BENCHMARKS, MAIN_LOSSES, main_settings
from workbench.training import Callback, TrainConfig, Training

Tell = Callable[[str], None]

LIVE_LOSSES = ("arcface", "softmax")
"""Losses that `workbench demo` trains beside the dashboard."""
LIVE_BENCHMARKS = ("synthfaces-frontal", "synthfaces-pose", "synthfaces-age")
"""Benchmarks on which the runs of `workbench demo` are evaluated."""
LIVE_SEED = 10
"""Seed of the demo's runs. No reference run has it, so that they show what another seed gives."""


@dataclass(frozen=True)
class DemoPlan:
    """What the demo trains.

    Attributes:
        configs: The settings of the runs, in their order.
        benchmarks: Specs of the benchmarks on which each run is evaluated.
    """

    configs: tuple[TrainConfig, ...]
    benchmarks: tuple[str, ...]


def live_plan(runs_dir: str | Path = "runs") -> DemoPlan:
    """Returns the plan of `workbench demo`: ArcFace and then softmax on 200 synthetic people.

    The settings are those of the reference runs, with another seed. Every epoch a snapshot of
    training people and of unseen people is taken.

    Args:
        runs_dir: Folder of the run directories.

    Example:
        >>> from workbench import experiments
        >>> [config.name for config in experiments.live_plan().configs]
        ['arcface-live', 'softmax-live']
    """
    return DemoPlan(_configs(LIVE_LOSSES, runs_dir), LIVE_BENCHMARKS)


def full_plan(runs_dir: str | Path = "runs") -> DemoPlan:
    """Returns the plan of `workbench demo --full`: the losses of all main reference runs.

    The runs of `live_plan` are among them.

    Args:
        runs_dir: Folder of the run directories.
    """
    losses = (*LIVE_LOSSES, *(loss for loss in MAIN_LOSSES if loss not in LIVE_LOSSES))
    return DemoPlan(_configs(losses, runs_dir), BENCHMARKS)


def _configs(losses: Iterable[str], runs_dir: str | Path) -> tuple[TrainConfig, ...]:
    return tuple(
        TrainConfig(**main_settings(loss, LIVE_SEED), name=f"{loss}-live", runs_dir=str(runs_dir))
        for loss in losses
    )


def carry_out(plan: DemoPlan, tracker: Tracker, *, progress: bool, tell: Tell) -> list[runs.Run]:
    """Trains and evaluates the runs of a plan one after the other, in this process.

    Runs that are finished are not trained again, and stopped ones are resumed. A run that fails
    does not stop the others.

    Args:
        plan: The plan.
        tracker: Receives what is done, for the page Live of the dashboard.
        progress: Whether to show progress bars. Without them, a line is told after each epoch.
        tell: Function that is called with a line for each step.

    Returns:
        The runs that are trained and evaluated.

    Raises:
        KeyboardInterrupt: if the user stopped; the next call continues.
    """
    jobs = [
        Job(config.loss, config, plan.benchmarks, projection=True, ignored=PLACE)
        for config in plan.configs
    ]
    tracker.queue([Entry(job.title, state=_state(job), name=_name(job)) for job in jobs])
    done = []
    for number, job in enumerate(jobs):
        try:
            done.append(_do(job, number, tracker, progress, tell))
        except Exception as error:
            problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
            if isinstance(error, WorkbenchError):
                problem = str(error)
            tracker.entry(number, "failed", problem=problem)
            tell(f"{job.title}: failed: {problem}")
    return done


def _do(job: Job, number: int, tracker: Tracker, progress: bool, tell: Tell) -> runs.Run:
    """Does the missing steps of a job."""
    for step in job.steps():
        for spec in _specs(step, job.config):
            _render(spec, number, tracker, progress, tell)
        tell(f"{job.title}: {step.words}")
        if isinstance(step, Evaluate):
            tracker.entry(number, "evaluating", name=step.run.name)
            for position, benchmark in enumerate(step.benchmarks, 1):
                of_all = f"{position} of {len(step.benchmarks)}"
                tracker.doing(f"evaluating on {benchmark}, benchmark {of_all}")
                Evaluate(step.run, (benchmark,), step.projection).do(progress)
        else:
            tracker.doing("reading the images and building the network")
            step.do(progress, [_Follow(number, tracker, job.title, None if progress else tell)])
    tracker.doing("")
    run = job.trained()
    tracker.entry(number, "finished", name=run.name)
    return run


def _state(job: Job) -> str:
    """Returns whether a job is done already."""
    with suppress(WorkbenchError):  # the error is told when it is the turn of the job
        return "finished" if next(job.steps(), None) is None else "waiting"
    return "waiting"


def _name(job: Job) -> str:
    run = job.find()
    return "" if run is None else run.name


def _specs(step: Step, config: TrainConfig) -> list[str]:
    """Returns the specs of the images that a step reads."""
    if isinstance(step, Evaluate):
        return list(step.benchmarks)
    return [config.data, *(spec for spec in config.snapshots if spec != "train")]


def _render(spec: str, number: int, tracker: Tracker, progress: bool, tell: Tell) -> None:
    """Renders the images of a spec, if they are synthetic and not in the cache yet."""
    if spec.partition(":")[0] not in SETS.names():
        return
    is_told = progress  # `render` itself prints what it does, together with its progress bar

    def report(done: int, total: int) -> None:
        nonlocal is_told
        if not is_told:
            tell(f"rendering {total - done:,} images of {spec}")
            tracker.entry(number, "rendering")
        is_told = True
        tracker.doing(f"rendering {spec}", done, total)

    data.render(spec, progress=progress, report=report)


class _Follow(Callback):
    """Tells the tracker which run is trained, and tells a line after each epoch.

    Args:
        number: Number of the run in the queue.
        tracker: Receives the name of the run.
        title: Beginning of the lines.
        tell: Function that is called with a line; None for no lines.
    """

    def __init__(self, number: int, tracker: Tracker, title: str, tell: Tell | None) -> None:
        self.number, self.tracker, self.title, self.tell = number, tracker, title, tell
        self.loss = float("nan")

    def on_start(self, training: Training) -> None:
        """Names the run directory, which exists now."""
        self.tracker.entry(self.number, "training", name=training.run.name)
        self.tracker.doing("")

    def on_log(self, training: Training, row: Any) -> None:
        """Remembers the loss."""
        self.loss = row["loss"]

    def on_epoch_end(self, training: Training) -> None:
        """Tells the loss, and the accuracy on unseen people if there are snapshots of them."""
        if self.tell is None:
            return
        line = f"{self.title}: epoch {round(training.epoch)} of {training.config.epochs}, "
        line += f"loss {self.loss:.2f}"
        for path in training.run.snapshots()[-1:]:
            sets = load_snapshot(path).sets
            line += "".join(
                f", {one.verification().accuracy:.1%} of the pairs of {name} right"
                for name, one in sets.items()
                if name != "train"
            )
        self.tell(line)
