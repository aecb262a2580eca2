"""Options that several commands share, and functions that read the values of options."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli.tables import TableFormat
from workbench.errors import WorkbenchError

MAX_SHOWN_CHARACTERS = 80
"""Longer values of options are cut to this length in error messages."""


class FlipChoice(StrEnum):
    """How the embedding of the mirrored image is used."""

    add = "add"
    concatenate = "concatenate"
    none = "none"


class BrokenChoice(StrEnum):
    """How an image that cannot be read is handled."""

    stop = "stop"
    skip = "skip"


class WeightsChoice(StrEnum):
    """Which weights of a run are used."""

    auto = "auto"
    averaged = "averaged"
    last = "last"


RunArgument = Annotated[Path, typer.Argument(help="Run directory, such as runs/NAME.")]
RunsDirOption = Annotated[
    Path, typer.Option(help="Folder that holds the run directories, one per run.")
]
DeviceOption = Annotated[
    str,
    typer.Option(
        help="Device to compute on: auto, cpu, cuda, cuda:1, mps. "
        "auto uses a GPU if there is one, else the CPU."
    ),
]
WeightsOption = Annotated[
    WeightsChoice,
    typer.Option(
        help="Weights to use: averaged for their moving average over the training (setting ema), "
        "last for those of the last step. auto uses the average if the run has one."
    ),
]
BatchSizeOption = Annotated[
    int, typer.Option(min=1, help="Number of images that the network embeds at a time.")
]
ProjectionOption = Annotated[
    bool,
    typer.Option(help="Also compute the PCA and UMAP projections for the dashboard's map."),
]
BrokenOption = Annotated[
    BrokenChoice,
    typer.Option(
        help="What to do with an image that cannot be read: stop with an error, or skip the image."
    ),
]
TableFormatOption = Annotated[
    TableFormat,
    typer.Option("--format", help="Format of the table: text, csv or latex."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Number of worker processes; one per CPU core by default. "
        "0 works in the main process.",
    ),
]


def examples(*command_lines: str) -> str:
    """Returns the epilog of a help page: the command lines, each as a paragraph of its own."""
    return "\n\n".join(["Examples:", *command_lines])


def sides(text: str, option: str = "--image-size") -> int | tuple[int, int]:
    """Reads the size of an image.

    Args:
        text: one side in pixels, such as "112", or height and width, such as "112x96".
        option: name of the option, for the error message.

    Returns:
        The side of a square image, or (height, width).

    Raises:
        WorkbenchError: if the text has another form.

    Example:
        >>> sides("112"), sides("112x96")
        (112, (112, 96))
    """
    numbers = text.lower().split("x")
    if len(numbers) > 2 or not all(re.fullmatch(r"[0-9]{1,6}", number) for number in numbers):
        raise WorkbenchError(
            f"{option} {quoted(text)}: expected a side such as 112, "
            "or height and width such as 112x96"
        )
    if len(numbers) == 1:
        return int(numbers[0])
    return int(numbers[0]), int(numbers[1])


def name_value_pairs(texts: list[str] | None, option: str) -> dict[str, Any]:
    """Reads options of the form NAME=VALUE.

    Args:
        texts: the values of a repeatable option. Each VALUE is read as YAML, so that 32, 0.4, true
            and [112, 96] become numbers, a boolean and a list.
        option: name of the option, for error messages.

    Returns:
        The values by name.

    Raises:
        WorkbenchError: if a text has no name or no "=", a name is given twice, or a value is not
            valid YAML.

    Example:
        >>> name_value_pairs(["s=32", "easy_margin=true"], "--loss-option")
        {'s': 32, 'easy_margin': True}
    """
    values: dict[str, Any] = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise WorkbenchError(
                f"{option} {quoted(text)}: expected NAME=VALUE, e.g. {option} m=0.4"
            )
        name = name.strip()
        if name in values:
            raise WorkbenchError(f"{option} {quoted(name)} is given twice")
        values[name] = yaml_value(value, f"{option} {quoted(text)}")
    return values


def yaml_value(text: str, where: str) -> Any:
    """Reads the value of an option as YAML.

    Args:
        text: the value, such as "[flip, blur]".
        where: name of the option, for the error message.

    Raises:
        WorkbenchError: if the text is not valid YAML.

    Example:
        >>> yaml_value("[flip, {blur: {kind: motion}}]", "--augment")
        ['flip', {'blur': {'kind': 'motion'}}]
    """
    from workbench.runs import read_yaml

    try:
        return read_yaml(text)
    except ValueError:
        raise WorkbenchError(f"{where}: the value is not valid YAML") from None


def nested(values: dict[str, Any], option: str) -> dict[str, Any]:
    """Groups dotted names by the part of a loss that they belong to.

    Args:
        values: values by name. "ohem.keep" is the option "keep" of the part "ohem".
        option: name of the option, for the error message.

    Returns:
        Values by name, with a dictionary for each part.

    Raises:
        WorkbenchError: if a name stands for both a value and a part.

    Example:
        >>> nested({"s": 32, "ohem.keep": 0.5}, "--loss-option")
        {'s': 32, 'ohem': {'keep': 0.5}}
    """
    grouped: dict[str, Any] = {}
    for name, value in values.items():
        part, dot, inner_name = name.partition(".")
        if not dot:
            grouped[part] = value
        elif isinstance(grouped.setdefault(part, {}), dict):
            grouped[part][inner_name] = value
        else:
            raise WorkbenchError(f"{option}: {part!r} has both a value and options of its own")
    return grouped


def quoted(text: str) -> str:
    """Returns a text in quotes, cut if it is long, for an error message.

    Example:
        >>> quoted("112x96x3")
        "'112x96x3'"
    """
    if len(text) > MAX_SHOWN_CHARACTERS:
        text = f"{text[:MAX_SHOWN_CHARACTERS]}..."
    return repr(text)
