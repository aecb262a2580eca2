"""Turns the trained reference runs into those that ship with the package."""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from workbench import runs
from workbench.errors import WorkbenchError
from workbench.experiments.executing import Tell
from workbench.experiments.reference.measuring import measure
from workbench.experiments.reference.plan import PlannedRun
from workbench.experiments.reference.thinning import thin
from workbench.experiments.reference.training import FOLDER, evaluated_run, is_evaluated
from workbench.files import atomic_path, check_writable, writing
from workbench.reference import FIGURES, SHIPPED

MOST_BYTES = 15_000_000
"""Largest size of all reference runs together."""
COLUMNS = ("run", "loss", "dimension", "seed", "ships", "figure", "value")
"""Columns of figures.csv."""


class Packaged(NamedTuple):
    """What was packaged.

    Attributes:
        names: Names of the reference runs.
        missing: Trainings of the plan that are missing, in words.
        size: Size of all files in bytes.
    """

    names: list[str]
    missing: list[str]
    size: int


def package_reference(
    planned: Sequence[PlannedRun],
    folder: str | Path = FOLDER,
    package: str | Path = SHIPPED.parent,
    *,
    partial: bool = False,
    tell: Tell = print,
) -> Packaged:
    """Writes the trained reference runs, and the figures of all seeds, into the package.

    The earlier reference runs in the package are replaced as a whole, after all new ones are
    written.

    Args:
        planned: All trainings of the plan, from `planned_runs`.
        folder: Folder in which the runs were trained.
        package: Folder of the package `workbench.reference`, in which `runs/` and `figures.csv` are
            written.
        partial: Whether trainings may be missing. A reference run is left out if its shipped seed
            is missing.
        tell: Function that is called with a line for each run.

    Returns:
        What was packaged.

    Raises:
        WorkbenchError: if a training is missing and `partial` is false, if the runs together are
            larger than 15 MB, or if the package cannot be written to.
    """
    missing = [one for one in planned if not is_evaluated(one, folder)]
    if missing and not partial:
        evaluated_run(missing[0], folder)  # raises an error that says what is missing
    ready = [one for one in planned if one not in missing]
    shipped = [one for one in ready if one.ships]
    if not shipped:
        raise WorkbenchError(
            f"{folder}: no reference run is trained and evaluated; run `workbench reference train`"
        )
    destination = Path(package)
    check_writable(destination)
    with writing(destination):
        destination.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".runs.", dir=destination))
    try:
        new = temporary / "runs"
        for one in shipped:
            thin(evaluated_run(one, folder), new / one.name, one.name, _command(one))
            tell(f"{one.name}: {_size(new / one.name) / 1e6:.2f} MB")
        size = _size(new)
        if size > MOST_BYTES:
            raise WorkbenchError(
                f"the reference runs have {size / 1e6:.1f} MB, at most {MOST_BYTES / 1e6:.0f} MB "
                "may ship; keep fewer images in snapshots, or leave out a run"
            )
        names = [one.name for one in shipped]
        _write_figures(
            destination / FIGURES.name, [one for one in ready if one.name in names], folder
        )
        with writing(destination):
            shutil.rmtree(destination / SHIPPED.name, ignore_errors=True)
            new.rename(destination / SHIPPED.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Packaged(names, [one.title for one in missing], size)


def _write_figures(path: Path, planned: Iterable[PlannedRun], folder: str | Path) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for one in planned:
            run = evaluated_run(one, folder)
            columns = [one.name, one.settings["loss"], _dimension(run), one.seed, one.ships]
            for figure, value in measure(run, one).items():
                writer.writerow([*columns, figure, f"{value:.6g}"])


def _dimension(run: runs.Run) -> int:
    return int(run.config["embedding_dim"])


def _command(planned: PlannedRun) -> str:
    return f"workbench reference train --only {planned.name} --seed {planned.seed}"


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
