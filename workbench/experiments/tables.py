"""Tables of means and standard deviations over seeds, as Markdown, LaTeX and CSV."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from workbench.experiments.significance import Comparison, Key

COLUMNS = ("row", "column", "mean", "sd", "seeds")
"""Columns of a table of `summary`."""
PERCENT = 100.0
"""Factor that turns shares into percent."""


def summary(figures: Mapping[Key, Sequence[float]]) -> pd.DataFrame:
    """Computes the mean and the standard deviation over the seeds of each cell.

    Args:
        figures: {(row, column): figures of the runs with different seeds}.

    Returns:
        One line for each cell with the columns row, column, mean, sd (with ddof 1; NaN for one run)
        and seeds (the number of runs). A cell without runs has NaN as its mean.

    Example:
        >>> from workbench.experiments import summary
        >>> summary({("arcface", "r18"): [0.90, 0.94]}).round(4)
               row column  mean      sd  seeds
        0  arcface    r18  0.92  0.0283      2
    """
    lines = [
        (
            row,
            column,
            float(np.mean(values)) if len(values) else np.nan,
            float(np.std(values, ddof=1)) if len(values) > 1 else np.nan,
            len(values),
        )
        for (row, column), values in figures.items()
    ]
    return pd.DataFrame(lines, columns=list(COLUMNS))


def best_cells(
    table: pd.DataFrame, comparisons: Iterable[Comparison], *, is_error: bool = False
) -> set[Key]:
    """Finds the best cell of each column, and those that cannot be told apart from it.

    Args:
        table: From `summary`.
        comparisons: From `compare`, of the same runs.
        is_error: Whether the figure is an error, of which less is better.

    Returns:
        The cells (row, column). A column in which a cell has one seed only has no best cell,
        because no claim about its settings is possible.
    """
    best: set[Key] = set()
    apart = {
        frozenset([(one.first, one.column), (one.second, one.column)])
        for one in comparisons
        if one.told_apart
    }
    for column, lines in table[table["seeds"] > 0].groupby("column", sort=False):
        if (lines["seeds"] < 2).any() or len(lines) < 2:
            continue
        place = int(np.argmin(lines["mean"]) if is_error else np.argmax(lines["mean"]))
        top = (str(lines["row"].iloc[place]), str(column))
        best |= {
            (row, str(column))
            for row in lines["row"]
            if frozenset([(row, str(column)), top]) not in apart
        }
    return best


def to_markdown(
    table: pd.DataFrame, rows_title: str, bold: Collection[Key] = (), *, factor: float = PERCENT
) -> str:
    """Writes a table in Markdown.

    Args:
        table: From `summary`.
        rows_title: What the rows are, such as "loss".
        bold: The cells (row, column) that are printed in bold.
        factor: Number that the figures are multiplied by; by default 100, for percent.

    Returns:
        The lines of the table.

    Example:
        >>> from workbench.experiments import summary, to_markdown
        >>> print(to_markdown(summary({("arcface", "r18"): [0.90, 0.94]}), "loss"))
        | loss    | r18          |
        |---------|--------------|
        | arcface | 92.00 ± 2.83 |
    """
    rows, columns, texts = _cells(table, "±", factor)
    header = [rows_title, *columns]
    body = [
        [row, *(_bold(texts[row, column], (row, column) in bold) for column in columns)]
        for row in rows
    ]
    return markdown_table(header, body)


def markdown_table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Writes any table in Markdown, with aligned columns.

    Args:
        header: Titles of the columns.
        body: Texts of the cells, line by line.

    Returns:
        The lines of the table.
    """
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (header, *body)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(header))]
    texts = [
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |"
        for line in lines
    ]
    rule = f"|{'|'.join('-' * (width + 2) for width in widths)}|"
    return "\n".join([texts[0], rule, *texts[1:]])


def to_latex(
    table: pd.DataFrame, rows_title: str, bold: Collection[Key] = (), *, factor: float = PERCENT
) -> str:
    """Writes a table in LaTeX. It needs the package booktabs.

    Args:
        table: From `summary`.
        rows_title: What the rows are, such as "loss".
        bold: The cells (row, column) that are printed in bold.
        factor: Number that the figures are multiplied by; by default 100, for percent.

    Returns:
        The environment `tabular`.

    Example:
        >>> from workbench.experiments import summary, to_latex
        >>> print(to_latex(summary({("arcface", "r18"): [0.90, 0.94]}), "loss"))
        \\begin{tabular}{lc}
        \\toprule
        loss & r18 \\\\
        \\midrule
        arcface & $92.00 \\pm 2.83$ \\\\
        \\bottomrule
        \\end{tabular}
    """
    rows, columns, texts = _cells(table, r"\pm", factor)
    lines = [rf"\begin{{tabular}}{{l{'c' * len(columns)}}}", r"\toprule"]
    lines.append(" & ".join(map(escape_latex, [rows_title, *columns])) + r" \\")
    lines.append(r"\midrule")
    for row in rows:
        cells = [_latex_cell(texts[row, column], (row, column) in bold) for column in columns]
        lines.append(" & ".join([escape_latex(row), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def escape_latex(text: str) -> str:
    """Escapes the characters that have a meaning in LaTeX.

    Args:
        text: A plain text.

    Example:
        >>> from workbench.experiments.tables import escape_latex
        >>> print(escape_latex("mv_softmax 50 %"))
        mv\\_softmax 50 \\%
    """
    escapes = {character: f"\\{character}" for character in "&%$#_{}"}
    escapes |= {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }
    return "".join(escapes.get(character, character) for character in text)


def _cells(
    table: pd.DataFrame, plus_minus: str, factor: float
) -> tuple[list[str], list[str], dict[Key, str]]:
    """Returns the rows, the columns, and the text of each cell."""
    rows, columns = (list(dict.fromkeys(table[axis])) for axis in ("row", "column"))
    most = int(table["seeds"].max()) if len(table) else 0
    texts = {(row, column): "-" for row in rows for column in columns}
    for line in table.itertuples(index=False):
        row, column, mean, sd, seeds = line
        if not seeds:
            continue
        text = f"{factor * mean:.2f}"
        if seeds > 1:
            text += f" {plus_minus} {factor * sd:.2f}"
        if seeds < most or seeds == 1:
            text += f" ({seeds} {'seed' if seeds == 1 else 'seeds'})"
        texts[row, column] = text
    return rows, columns, texts


def _bold(text: str, is_bold: bool) -> str:
    return f"**{text}**" if is_bold else text


def _latex_cell(text: str, is_bold: bool) -> str:
    number, bracket, rest = text.partition(" (")
    if number == "-":
        return "--"
    bold = rf"\mathbf{{{number}}}" if is_bold else number
    return f"${bold}${bracket}{rest}"
