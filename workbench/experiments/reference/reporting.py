"""The table of the reference runs: means over seeds, and which losses differ from softmax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench import plots
from workbench.errors import WorkbenchError, missing_extra
from workbench.experiments.reference.measuring import ANGLE_OTHER, ANGLE_OWN, D_PRIME
from workbench.experiments.significance import DifferenceTest, Key, against_baseline
from workbench.experiments.tables import markdown_table
from workbench.files import atomic_path
from workbench.runs import write_text

BASELINE = "softmax"
BEGIN, END = "<!-- reference table: written by `workbench reference package` -->", "<!-- end -->"
"""Lines of a Markdown file between which the table is written."""
DRAWN, WIDTH = (".html", ".png", ".svg", ".pdf"), 1000
"""Endings of files that `draw` writes, and the width of an image in pixels."""
LONG = 3
"""Longer embeddings are in the table; embeddings of length 2 or 3 are for pictures."""


class Column(NamedTuple):
    """A column of the table.

    Attributes:
        title: Its title, with the unit.
        factor: Number by which figures are multiplied.
        decimals: Number of decimals.
        is_better: Sign of a difference that is an improvement: 1 if more is better, else -1.
    """

    title: str
    factor: float
    decimals: int
    is_better: int

    def text(self, values: Sequence[float]) -> str:
        """Returns the mean and the standard deviation over seeds (with ddof 1)."""
        shown = self.factor * np.asarray(values)
        mean = f"{shown.mean():.{self.decimals}f}"
        if len(shown) == 1:
            return f"{mean} (1 seed)"
        return f"{mean} ± {shown.std(ddof=1):.{self.decimals}f}"


TABLE = {
    "synthfaces-frontal": Column("frontal, %", 100, 1, 1),
    "synthfaces-pose": Column("pose, %", 100, 1, 1),
    "synthfaces-age": Column("age, %", 100, 1, 1),
    "synthfaces-light": Column("light, %", 100, 1, 1),
    "synthfaces-occlusion": Column("occlusion, %", 100, 1, 1),
    "synthfaces-id": Column("rank-1, %", 100, 1, 1),
    ANGLE_OWN: Column("angle to own centre, °", 1, 1, -1),
    ANGLE_OTHER: Column("angle to nearest other, °", 1, 1, 1),
    D_PRIME: Column("d'", 1, 2, 1),
}
"""{figure: column of the table}."""

TITLES = {"center": "center (softmax + centre loss)"}
"""Titles of rows that are not the name of the run."""


def seeds_of(figures: pd.DataFrame) -> dict[Key, list[float]]:
    """Sorts the figures of main runs into the cells of the table.

    Args:
        figures: From `wb.reference.figures`.

    Returns:
        {(run, figure): values of the seeds}.
    """
    main = figures[(figures["dimension"] > LONG) & figures["figure"].isin(list(TABLE))]
    return {
        (str(run), str(figure)): group["value"].tolist()
        for (run, figure), group in main.groupby(["run", "figure"], sort=False)
    }


def tests_of(cells: Mapping[Key, Sequence[float]]) -> dict[Key, DifferenceTest]:
    """Tests which runs differ from softmax; see `against_baseline`.

    Args:
        cells: From `seeds_of`.

    Returns:
        {(run, figure): test}; empty if softmax is not among the runs.
    """
    if BASELINE not in {run for run, _ in cells}:
        return {}
    return against_baseline(cells, BASELINE)


def table(figures: pd.DataFrame) -> str:
    """Writes the table of the reference runs in Markdown, with a text on what differs.

    Args:
        figures: From `wb.reference.figures`.

    Returns:
        The table and a paragraph. A cell that is significantly better than softmax is bold, and one
        that is significantly worse is in italics.

    Raises:
        WorkbenchError: if there are no figures of main runs.
    """
    cells = seeds_of(figures)
    if not cells:
        raise WorkbenchError("there are no figures of reference runs; package them first")
    tests = tests_of(cells)
    runs = list(dict.fromkeys(run for run, _ in cells))
    columns = [figure for figure in TABLE if any((run, figure) in cells for run in runs)]
    header = ["loss", *(TABLE[figure].title for figure in columns)]
    body = [
        [TITLES.get(run, run), *(_cell(run, figure, cells, tests) for figure in columns)]
        for run in runs
    ]
    return f"{markdown_table(header, body)}\n\n{_words(cells, tests, columns)}\n"


def _cell(
    run: str,
    figure: str,
    cells: Mapping[Key, Sequence[float]],
    tests: Mapping[Key, DifferenceTest],
) -> str:
    if (run, figure) not in cells:
        return "-"
    text = TABLE[figure].text(cells[run, figure])
    test = tests.get((run, figure))
    if test is None or not test.significant:
        return text
    return f"**{text}**" if _difference(test) * TABLE[figure].is_better > 0 else f"*{text}*"


def _difference(test: DifferenceTest) -> float:
    return sum(test.interval) / 2


def _words(
    cells: Mapping[Key, Sequence[float]],
    tests: Mapping[Key, DifferenceTest],
    columns: Sequence[str],
) -> str:
    """Says how the table is read, and in which columns no loss differs from softmax."""
    counts = sorted({len(values) for values in cells.values()})
    if counts[-1] == 1:
        return "One training of each loss: all differences may be due to the seed alone."
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    sentences = [f"Mean ± standard deviation over {seeds} seeds of training."]
    if tests:
        sentences.append(
            "**Bold**: significantly better than softmax; *italic*: significantly worse (t test of "
            "Welch over the seeds, p < 0.05 after Holm's method for the "
            f"{_most_comparisons(tests)} comparisons of a column). All other cells cannot be told "
            "apart from softmax with these seeds."
        )
        same = [
            TABLE[figure].title.partition(",")[0]
            for figure in columns
            if not any(test.significant for key, test in tests.items() if key[1] == figure)
        ]
        if same:
            sentences.append(f"No loss differs significantly from softmax in: {', '.join(same)}.")
    return " ".join(sentences)


def _most_comparisons(tests: Mapping[Key, DifferenceTest]) -> int:
    columns = [figure for _, figure in tests]
    return max(columns.count(figure) for figure in columns)


def plot(figures: pd.DataFrame, columns: Sequence[str] | None = None) -> go.Figure:
    """Draws the table: the seeds of each loss, their mean and its interval; see `plots.seeds`.

    Args:
        figures: From `wb.reference.figures`.
        columns: Figures to draw, such as ["synthfaces-pose", "angle_own"]; by default all.

    Raises:
        WorkbenchError: if there are no figures of main runs.
    """
    cells = seeds_of(figures)
    chosen = [figure for figure in columns or TABLE if any(key[1] == figure for key in cells)]
    if not chosen:
        raise WorkbenchError("there are no such figures of reference runs; package them first")
    lines = [
        {
            "row": TITLES.get(run, run),
            "column": TABLE[figure].title,
            "seed": seed,
            "value": TABLE[figure].factor * value,
        }
        for figure in chosen
        for run, of_cell in cells
        if of_cell == figure
        for seed, value in enumerate(cells[run, figure])
    ]
    return plots.seeds(pd.DataFrame(lines), baseline=BASELINE)


def draw(figures: pd.DataFrame, path: Path) -> None:
    """Writes the figure of `plot` to a file.

    Args:
        figures: From `wb.reference.figures`.
        path: A file whose name ends in .html, .png, .svg or .pdf.

    Raises:
        WorkbenchError: if the ending is another one, if the package kaleido is missing for an
            image, or if the file cannot be written.
    """
    if path.suffix not in DRAWN:
        raise WorkbenchError(f"{path}: expected a name that ends in {', '.join(DRAWN)}")
    fig = plot(figures)
    if path.suffix == ".html":
        write_text(path, fig.to_html(include_plotlyjs=True))
        return
    try:
        import kaleido  # noqa: F401  (plotly's own error is several lines long)
    except ImportError:
        raise missing_extra("kaleido", "dev", "drawing an image") from None
    with atomic_path(path) as temporary:
        fig.write_image(temporary, format=path.suffix[1:], width=WIDTH, scale=2)


def write_table(path: Path, text: str) -> bool:
    """Writes the table into a Markdown file, between the two lines that mark its place.

    Args:
        path: The file.
        text: The table, from `table`.

    Returns:
        Whether the file exists and has such a place.

    Raises:
        WorkbenchError: if the file has a beginning of such a place but no end, or cannot be
            written.
    """
    if not path.is_file():
        return False
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    if not begin:
        return False
    _, end, after = rest.partition(END)
    if not end:
        raise WorkbenchError(f"{path}: has the line {BEGIN} but no line {END} after it")
    write_text(path, f"{before}{BEGIN}\n\n{text}\n{END}{after}")
    return True
