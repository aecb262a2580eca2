"""Trains and evaluates the reference runs in a work folder, as far as they are missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from workbench import runs
from workbench.errors import WorkbenchError
from workbench.experiments.executing import Tell, do
from workbench.experiments.jobs import Job
from workbench.experiments.reference.plan import PlannedRun
from workbench.experiments.reference.rounding import round_weights
from workbench.files import check_writable

FOLDER = Path("build/reference")
"""Folder in which the reference runs are trained before they are packaged."""


def train_reference(
    planned: Sequence[PlannedRun],
    folder: str | Path = FOLDER,
    *,
    progress: bool = True,
    tell: Tell = print,
) -> list[runs.Run]:
    """Trains and evaluates reference runs, one after the other, as far as they are missing.

    A finished run is not trained again, a stopped one is resumed, and evaluations that exist are
    not repeated. Several processes can call this function for different runs at the same time, also
    with the same folder. The weights of a finished run are rounded to float16 before it is
    evaluated, so that its figures are those of the weights that ship.

    Args:
        planned: The trainings, from `planned_runs`.
        folder: Folder of the run directories.
        progress: Whether to show progress bars.
        tell: Function that is called with a line for each step.

    Returns:
        The runs, in the order of `planned`.

    Raises:
        WorkbenchError: if a run is being trained by another process, or if a training or an
            evaluation fails.
        KeyboardInterrupt: if the user stopped; a second call continues.
    """
    check_writable(Path(folder))
    finished = [one for one in planned if is_evaluated(one, folder)]
    tell(f"{len(finished)} of {len(planned)} reference runs are trained and evaluated in {folder}")
    trained = []
    for number, one in enumerate(planned, 1):
        title = f"[{number}/{len(planned)}] {one.title}"
        run = do(_job(one, folder), title, progress, tell)
        round_weights(run)
        trained.append(do(_job(one, folder, *one.benchmarks), title, progress, tell))
    return trained


def is_evaluated(planned: PlannedRun, folder: str | Path) -> bool:
    """Returns whether a reference run is trained, and evaluated on all its benchmarks.

    Args:
        planned: The run.
        folder: Folder of the run directories.
    """
    try:
        evaluated_run(planned, folder)
    except WorkbenchError:
        return False
    return True


def evaluated_run(planned: PlannedRun, folder: str | Path) -> runs.Run:
    """Returns a reference run that is trained and evaluated.

    Args:
        planned: The run.
        folder: Folder of the run directories.

    Raises:
        WorkbenchError: if it is not trained, or not evaluated on all its benchmarks.
    """
    job = _job(planned, folder, *planned.benchmarks)
    if not job.is_finished():
        raise WorkbenchError(
            f"{planned.title}: not trained in {folder}; run `workbench reference train "
            f"--only {planned.name} --seed {planned.seed} --folder {folder}`"
        )
    if step := next(job.steps(), None):
        raise WorkbenchError(
            f"{planned.title}: is missing a step, {step.words}; run `workbench reference train "
            f"--only {planned.name} --seed {planned.seed} --folder {folder}`"
        )
    return job.trained()


def _job(planned: PlannedRun, folder: str | Path, *benchmarks: str) -> Job:
    return Job(planned.title, planned.config(folder), benchmarks, projection=planned.ships)
