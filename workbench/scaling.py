"""The numbers that pixels are scaled by: one for all three colours, or one for each channel of the input."""

from __future__ import annotations

import math
from typing import Any

from workbench.errors import WorkbenchError

PerChannel = float | tuple[float, float, float]
"""One number, or one for each channel in the order in which the network takes them: B, G, R where `channels` is "bgr"."""


def per_channel(value: object, name: str, *, positive: bool = False) -> PerChannel:
    """Check a mean or a standard deviation of pixels, in units of pixel values 0..255.

    Args:
        value: a number, or a list or tuple of three.
        name: what to call it in an error.
        positive: whether each number must be larger than 0.

    Returns:
        The number, or a tuple of three.

    Raises:
        WorkbenchError: it is something else, or not finite.
    """
    numbers: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
    if len(numbers) != (3 if isinstance(value, list | tuple) else 1) or not all(
        _is_number(one, positive) for one in numbers
    ):
        kind = "a positive number" if positive else "a number"
        raise WorkbenchError(
            f"{name} must be {kind}, or a list of three with one for each channel, got {value!r}"
        )
    first, *others = (float(one) for one in numbers)
    return (first, others[0], others[1]) if others else first


def read_per_channel(text: str, name: str, *, positive: bool = False) -> PerChannel:
    """Read what `as_text` wrote, or a user: `127.5`, or `123.675,116.28,103.53`.

    Raises:
        WorkbenchError: it is neither one number nor three with commas between them, or one is out of range.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3):
        raise WorkbenchError(
            f"{name} {text[:80]!r}: expected a number such as 127.5, or three such as 123.675,116.28,103.53"
        )
    return per_channel(numbers if len(numbers) == 3 else numbers[0], name, positive=positive)


def as_text(value: PerChannel) -> str:
    """`127.5` or `123.675,116.28,103.53`, every digit kept."""
    return ",".join(map(repr, value)) if isinstance(value, tuple) else repr(value)


def formula(mean: PerChannel, std: PerChannel) -> str:
    """What is done with a pixel value x, to be read: `(x - 127.5) / 127.5`, or with three numbers in brackets."""
    return f"(x - {_shown(mean)}) / {_shown(std)}"


def _shown(value: PerChannel) -> str:
    return (
        f"[{', '.join(f'{one:g}' for one in value)}]" if isinstance(value, tuple) else f"{value:g}"
    )


def _is_number(value: object, positive: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False
    return math.isfinite(number) and (number > 0 or not positive)
