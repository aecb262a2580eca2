"""The `workbench` command. Each file holds a group of commands, with their options and help texts.

A new command goes into the file of its group; a new group is added to `app` here.
"""

from __future__ import annotations

import io
import sys
import warnings
from typing import Annotated, Any, NoReturn, TextIO

import typer

from workbench import __version__
from workbench.cli.dashboard import dashboard_commands
from workbench.cli.data import data_commands
from workbench.cli.evaluating import evaluation_commands
from workbench.cli.information import information_commands
from workbench.cli.models import model_commands
from workbench.cli.options import examples
from workbench.cli.presets import preset_commands
from workbench.cli.reference import reference_commands
from workbench.cli.sweeps import sweep_commands
from workbench.cli.training import training_commands
from workbench.errors import WorkbenchError, WorkbenchWarning

USAGE_ERROR_CODE = 2
INTERRUPTED_CODE = 130

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train face recognition models under margin losses, evaluate and compare them.",
    epilog=examples(
        "workbench demo",
        "workbench train --data folder:photos --loss arcface",
        "workbench evaluate runs/NAME bin:lfw.bin",
        "workbench app",
    ),
)
app.add_typer(training_commands)
app.add_typer(sweep_commands)
app.add_typer(evaluation_commands)
app.add_typer(dashboard_commands)
app.add_typer(model_commands)
app.add_typer(data_commands, name="data")
app.add_typer(information_commands)
app.add_typer(preset_commands)
app.add_typer(reference_commands, name="reference")

# click's UsageError, of which some versions of typer have a copy of their own.
_UsageError: Any = typer.BadParameter.__base__


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Runs the command line and exits.

    Invalid input is reported as one line on standard error with exit code 2. Ctrl-C exits with 130.
    """
    warnings.showwarning = _show_warning
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # File names can hold bytes that are not UTF-8, or characters that the terminal lacks.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(prog_name="workbench", standalone_mode=False)
    except WorkbenchError as error:
        _fail(str(error))
    except _UsageError as error:
        # pydantic's messages, which typer passes on, contain the words "Value error".
        _fail(error.format_message().replace(": Value error, ", ": ", 1))
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED_CODE
    if code == INTERRUPTED_CODE:  # newer versions of typer return it on Ctrl-C
        typer.secho("stopped", err=True)
    sys.exit(code)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Prints a warning of the workbench as one line, and other warnings as Python does."""
    if issubclass(category, WorkbenchWarning):
        typer.secho(f"note: {message}", fg=typer.colors.YELLOW, err=True)
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))


def _fail(message: str) -> NoReturn:
    if message:  # the message is empty when typer has printed its help instead
        typer.secho(f"error: {message}", fg=typer.colors.RED, err=True)
    sys.exit(USAGE_ERROR_CODE)
