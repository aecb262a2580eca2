"""The frame of the benchmark scripts: options, errors, the table and the JSON file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workbench import runs
from workbench.errors import WorkbenchError

Figures = dict[str, Any]
"""What a script has measured, as it is written to a JSON file."""
MAX_ERROR_LENGTH = 300
"""Largest number of characters of an error message that are printed."""


def new_parser(description: str | None, epilog: str | None = None) -> argparse.ArgumentParser:
    """Returns a parser without options that prints both texts with their line breaks."""
    return argparse.ArgumentParser(
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_out(parser: argparse.ArgumentParser) -> None:
    """Adds the option --out, which `report` reads."""
    parser.add_argument("--out", type=Path, help="also write the figures to this JSON file")


def between(low: int, high: int) -> Callable[[str], int]:
    """Returns a type for argparse: a whole number within these bounds."""

    def number(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(
                f"must be a whole number from {low} to {high:,}, got {text[:20]!r}"
            )
        return int(text)

    return number


def run_script(
    parser: argparse.ArgumentParser,
    action: Callable[[argparse.Namespace], None],
    arguments: list[str] | None,
    *,
    errors: tuple[type[Exception], ...] = (),
) -> int:
    """Parses the options and runs a script. An expected error is printed in one line.

    Args:
        parser: Parser of the options.
        action: What the script does with the options.
        arguments: Arguments of the command; None for those of the process.
        errors: Types of expected errors besides WorkbenchError and OSError.

    Returns:
        The exit code: 0, or 2 after an error.
    """
    options = parser.parse_args(arguments)
    expected: tuple[type[Exception], ...] = (WorkbenchError, OSError, *errors)
    try:
        action(options)
    except expected as error:
        print(f"error: {' '.join(str(error).split())[:MAX_ERROR_LENGTH]}", file=sys.stderr)
        return 2
    return 0


def report(
    options: argparse.Namespace,
    measure: Callable[[argparse.Namespace], Figures],
    table: Callable[[Figures], list[str]],
) -> None:
    """Measures, prints a table of the figures, and writes them to the file of --out if given.

    Args:
        options: The options, among them `out`.
        measure: Returns the figures.
        table: Formats the figures as lines of text.

    Raises:
        WorkbenchError: if the folder of --out does not exist. Nothing is measured then.
    """
    check_folder(options.out, "--out")
    figures = measure(options)
    print("\n".join(table(figures)))
    if options.out is not None:
        runs.write_json(options.out, figures)


def check_folder(file: Path | None, option: str) -> None:
    """Raises a WorkbenchError if an option names a file in a folder that does not exist."""
    if file is not None and not file.parent.is_dir():
        raise WorkbenchError(
            f"{file.parent}: no such folder; {option} needs a file in an existing folder"
        )
