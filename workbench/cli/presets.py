"""The command `workbench presets`, which lists the presets and prints one."""

from __future__ import annotations

from typing import Annotated

import typer

from workbench.cli.options import TableFormatOption, examples
from workbench.cli.tables import TableFormat, print_table

preset_commands = typer.Typer()


@preset_commands.command(
    "presets",
    epilog=examples(
        "workbench presets",
        "workbench presets homework-seresnet18-arcface",
        "workbench train --preset casia-arcface-r50 --data recordio:casia",
    ),
)
def presets_(
    name: Annotated[
        str | None,
        typer.Argument(help="Preset to print; by default a table of all presets is printed."),
    ] = None,
    table_format: TableFormatOption = TableFormat.text,
) -> None:
    """Print a table of the presets, or the settings of one with their sources.

    `workbench train --preset NAME` trains with the settings of a preset.
    """
    from workbench import presets

    if name is not None:
        typer.echo(presets.text(name).rstrip())
        return
    if table_format is TableFormat.text:
        width = max(map(len, presets.names()))
        for preset in map(presets.get, presets.names()):
            typer.echo(f"{preset.name:<{width}}  {preset.about}")
        typer.echo(
            "\nworkbench presets NAME prints the settings of a preset and their sources;\n"
            "workbench presets --format csv prints their main settings as a table"
        )
        return
    print_table(presets.table(), table_format, decimals=5)
