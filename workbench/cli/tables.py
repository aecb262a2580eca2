"""How commands print tables."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from pandas import DataFrame


class TableFormat(StrEnum):
    """How a table is printed."""

    text = "text"
    csv = "csv"
    latex = "latex"


def print_table(table: DataFrame, table_format: TableFormat, decimals: int = 4) -> None:
    """Without an index; text stands on the left, what is missing is "-", and LaTeX's own characters are escaped."""
    if table_format is TableFormat.csv:
        typer.echo(table.to_csv(index=False), nl=False)
    elif table_format is TableFormat.latex:
        typer.echo(
            table.to_latex(index=False, float_format=f"%.{decimals}f", na_rep="-", escape=True)
        )
    else:
        texts = table.select_dtypes(exclude="number").astype(object)
        words = texts.where(texts.notna(), "-").astype(str)
        left = {str(column): f"{{:<{words[column].str.len().max()}}}".format for column in words}
        told = table.assign(**words)
        shown = told.to_string(
            index=False, float_format=f"%.{decimals}f", na_rep="-", formatters=left, justify="left"
        )
        typer.echo("\n".join(line.rstrip() for line in shown.splitlines()))
