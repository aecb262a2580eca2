"""The steps by which one run of an experiment is trained and evaluated, as far as they are missing.

A step can be done in this process, or by a command of `workbench` in a process of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from workbench import runs
from workbench.errors import WorkbenchError
from workbench.evaluation import evaluate
from workbench.experiments.matching import (
    NAME_AND_PLACE,
    evaluations_of,
    find,
    runs_like,
    state_of,
)
from workbench.training import Callback, TrainConfig, train


class Step(Protocol):
    """One step of a job."""

    @property
    def words(self) -> str:
        """What the step does, for a line of progress."""

    def do(self, progress: bool, callbacks: Sequence[Callback] = ()) -> None:
        """Does the step in this process. Callbacks are those of a training."""

    def arguments(self, folder: Path) -> list[str]:
        """Returns the arguments of the command `workbench` that does the step.

        Args:
            folder: The folder for files that the command needs.
        """


@dataclass(frozen=True)
class Train:
    """Trains a new run.

    Attributes:
        config: The settings.
        stop_after: Number of epochs after which the training is interrupted; None for never.
    """

    config: TrainConfig
    stop_after: int | None

    words = "training"

    def do(self, progress: bool, callbacks: Sequence[Callback] = ()) -> None:
        """Trains the run in this process."""
        train(self.config, callbacks=callbacks, stop_after=self.stop_after, progress=progress)

    def arguments(self, folder: Path) -> list[str]:
        """Writes the settings to a file, and returns the arguments of `workbench train`."""
        path = folder / "configs" / f"{self.config.name}.yaml"
        runs.write_settings(path, self.config.plain())
        return ["train", "--config", str(path), *_as_option(self.stop_after)]


@dataclass(frozen=True)
class Resume:
    """Resumes a run that was stopped.

    Attributes:
        run: The run.
        stop_after: Number of epochs after which the training is interrupted; None for never.
    """

    run: runs.Run
    stop_after: int | None

    @property
    def words(self) -> str:
        """What the step does, for a line of progress."""
        return f"resuming {self.run.path}"

    def do(self, progress: bool, callbacks: Sequence[Callback] = ()) -> None:
        """Resumes the run in this process."""
        train(resume=self.run, callbacks=callbacks, stop_after=self.stop_after, progress=progress)

    def arguments(self, folder: Path) -> list[str]:
        """Returns the arguments of `workbench train`."""
        return ["train", "--resume", str(self.run.path), *_as_option(self.stop_after)]


@dataclass(frozen=True)
class Evaluate:
    """Evaluates a run.

    Attributes:
        run: The run.
        benchmarks: Specs of benchmarks.
        projection: Whether the map of the embeddings is computed too.
    """

    run: runs.Run
    benchmarks: tuple[str, ...]
    projection: bool

    @property
    def words(self) -> str:
        """What the step does, for a line of progress."""
        return f"evaluating on {', '.join(self.benchmarks)}"

    def do(self, progress: bool, callbacks: Sequence[Callback] = ()) -> None:
        """Evaluates the run in this process."""
        for benchmark in self.benchmarks:
            evaluate(
                self.run,
                benchmark,
                device=str(self.run.config.get("device", "auto")),
                with_projection=self.projection,
                progress=progress,
            )

    def arguments(self, folder: Path) -> list[str]:
        """Returns the arguments of `workbench evaluate`."""
        projection = [] if self.projection else ["--no-projection"]
        device = ["--device", str(self.run.config.get("device", "auto"))]
        return ["evaluate", str(self.run.path), *self.benchmarks, *device, *projection]


def _as_option(epochs: int | None) -> list[str]:
    return [] if epochs is None else ["--stop-after", str(epochs)]


@dataclass(frozen=True)
class Job:
    """A run that an experiment needs, and the benchmarks on which it is evaluated.

    Attributes:
        title: The run in words, for messages.
        config: The settings of the run.
        benchmarks: Specs of benchmarks.
        stop_after: Number of epochs after which the training is interrupted; None to train to the
            end.
        projection: Whether evaluations also compute the map of the embeddings.
        ignored: Settings that may differ in a run that is used instead of a new one.
    """

    title: str
    config: TrainConfig
    benchmarks: tuple[str, ...]
    stop_after: int | None = None
    projection: bool = False
    ignored: Collection[str] = NAME_AND_PLACE

    def find(self) -> runs.Run | None:
        """Returns the run of the job, if there is one that is finished or can be resumed."""
        return find(self.config, self.ignored)

    def is_finished(self) -> bool:
        """Returns whether a run with the settings of the job is finished."""
        run = self.find()
        return run is not None and state_of(run) == "finished"

    def is_trained(self, run: runs.Run) -> bool:
        """Returns whether a run is trained as far as the job needs it."""
        if state_of(run) == "finished":
            return True
        return self.stop_after is not None and epochs_done(run, self.config) >= self.stop_after

    def steps(self) -> Iterator[Step]:
        """Yields the steps that are still missing. Each must be done before the next is asked for.

        Raises:
            WorkbenchError: if another process is training a run with the same settings.
        """
        run = self.find()
        if any(state_of(one) == "running" for one in runs_like(self.config, self.ignored)):
            raise WorkbenchError(
                f"{self.title}: a run with these settings is being trained in "
                f"{self.config.runs_dir}; wait for it or stop it"
            )
        if run is None or not (self.is_trained(run) or (run.path / runs.CHECKPOINT).is_file()):
            yield Train(self.config, self.stop_after)
        elif not self.is_trained(run):
            yield Resume(run, self.stop_after)
        run = self.trained()
        missing = tuple(name for name in self.benchmarks if name not in evaluations_of(run))
        if missing:
            yield Evaluate(run, missing, self.projection)

    def trained(self) -> runs.Run:
        """Returns the run of the job after its training.

        Raises:
            WorkbenchError: if there is none, because its directory was removed or changed.
        """
        run = self.find()
        if run is None or not self.is_trained(run):
            raise WorkbenchError(
                f"{self.title}: no run with these settings is in {self.config.runs_dir}, although "
                "its training ended without an error; was it moved or changed?"
            )
        return run


def epochs_done(run: runs.Run, config: TrainConfig) -> float:
    """Returns the number of epochs that a run was trained for, according to its status.json.

    Args:
        run: The run.
        config: Its settings.
    """
    step, total = run.status.get("checkpoint"), run.status.get("total")
    if not isinstance(step, int) or not isinstance(total, int) or total <= 0:
        return 0.0
    return config.epochs * step / total
