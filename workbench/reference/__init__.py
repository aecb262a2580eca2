"""The reference runs: trained runs that ship with the package, and copies of them to work with.

Reference runs are ordinary run directories, so everything that takes a run takes them. They are
made by `workbench.experiments.reference`.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.cache import cache_folder
from workbench.errors import WorkbenchError, unknown_name
from workbench.reference.copying import copy_into
from workbench.runs import Run

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["figures", "names", "overview", "runs"]

SHIPPED = Path(__file__).with_name("runs")
"""Folder of the reference runs inside the package. It must not be written to."""
FIGURES = Path(__file__).with_name("figures.csv")
"""Figures of all trainings, also of those seeds whose weights do not ship."""
LISTED = "synthfaces-frontal"
"""The benchmark whose accuracy is listed."""


def names() -> list[str]:
    """Returns the names of the reference runs, in the order of the table.

    Example:
        >>> import workbench as wb
        >>> "arcface" in wb.reference.names()
        True
    """
    if not FIGURES.is_file():
        return []
    with FIGURES.open(encoding="utf-8", newline="") as file:
        return list(dict.fromkeys(row["run"] for row in csv.DictReader(file)))


def runs(folder: str | Path | None = None, only: Sequence[str] | None = None) -> list[Run]:
    """Copies the reference runs into a folder and opens the copies.

    Each run is copied once. If a newer version of the package has other files for a run, its copy
    is brought up to date. Everything that was added to a copy stays, such as further evaluations.
    If the newer version has other weights and the copy has evaluations or calibrations of its own,
    the earlier copy is kept as NAME-earlier, because they belong to the earlier weights.

    A copy is found again by a file in it, also if its directory was renamed. If the folder has
    another run of the same name, the copy is called NAME-reference.

    Args:
        folder: The folder of the copies, such as "runs"; by default `reference` in the cache
            folder.
        only: Names of the runs; by default all.

    Returns:
        The copies, in the order of `names` or `only`.

    Raises:
        WorkbenchError: if a name is unknown, or the folder cannot be written to.

    Example:
        >>> import workbench as wb
        >>> run = wb.reference.runs("runs", only=["arcface"])[0]
        >>> run.config["loss"]
        'arcface'
    """
    available = names()
    wanted = available if only is None else list(only)
    for name in wanted:
        if name not in available:
            raise unknown_name("reference run", name, available)
    destination = cache_folder() / "reference" if folder is None else Path(folder)
    return [Run(path) for path in copy_into(destination, [SHIPPED / name for name in wanted])]


def figures() -> pd.DataFrame:
    """Returns the figures of all trainings of the reference runs, also of seeds that do not ship.

    Returns:
        One line for each training and figure, with the columns run, loss, dimension (length of an
        embedding), seed, ships (whether the weights of the seed ship), figure (such as
        "synthfaces-pose" or "angle_own") and value.

    Raises:
        WorkbenchError: if the package contains no reference runs.

    Example:
        >>> import workbench as wb
        >>> table = wb.reference.figures()
        >>> frontal = table[table["figure"] == "synthfaces-frontal"]
        >>> bool((frontal["value"] > 0.5).all())
        True
    """
    return read_figures(SHIPPED.parent)


def overview() -> pd.DataFrame:
    """Returns one line for each reference run: what `workbench reference list` prints.

    Returns:
        Columns run, loss, dimension (length of an embedding), benchmark and accuracy.

    Raises:
        WorkbenchError: if the package contains no reference runs.
    """
    table = figures()
    shown = table[table["ships"] & (table["figure"] == LISTED)]
    columns = {"figure": "benchmark", "value": "accuracy"}
    return shown.rename(columns=columns)[["run", "loss", "dimension", "benchmark", "accuracy"]]


def read_figures(folder: Path) -> pd.DataFrame:
    """Reads the file of figures in a folder; see `figures`.

    Args:
        folder: The folder, such as that of this package.

    Raises:
        WorkbenchError: if the file is missing or damaged.
    """
    import pandas as pd

    path = folder / FIGURES.name
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise WorkbenchError(
            f"{path}: cannot be read ({' '.join(str(error).split())}); "
            "`workbench reference package` writes it"
        ) from None
