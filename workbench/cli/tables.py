"""Prints tables as text, CSV or LaTeX."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from pandas import DataFrame


class TableFormat(StrEnum):
    """Format in which a table is printed."""

    text = "text"
    csv = "csv"
    latex = "latex"


def print_table(table: DataFrame, table_format: TableFormat, decimals: int = 4) -> None:
    """Prints a table without its index.

    Args:
        table: table to print.
        table_format: `text` aligns text columns to the left and shows missing values as "-",
            `latex` escapes LaTeX's special characters, and `csv` prints every digit of a number.
        decimals: digits after the decimal point in text and LaTeX.
    """
    if table_format is TableFormat.csv:
        typer.echo(table.to_csv(index=False), nl=False)
        return
    float_format = f"%.{decimals}f"
    if table_format is TableFormat.latex:
        typer.echo(table.to_latex(index=False, float_format=float_format, na_rep="-", escape=True))
        return
    text_columns = table.select_dtypes(exclude="number").astype(object)
    text_columns = text_columns.where(text_columns.notna(), "-").astype(str)
    left_aligned = {
        str(column): f"{{:<{text_columns[column].str.len().max()}}}".format
        for column in text_columns
    }
    lines = (
        table.assign(**text_columns)
        .to_string(
            index=False,
            float_format=float_format,
            na_rep="-",
            formatters=left_aligned,
            justify="left",
        )
        .splitlines()
    )
    typer.echo("\n".join(line.rstrip() for line in lines))
