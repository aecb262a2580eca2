"""The input of a network: its largest size, and the scaling of its pixel values."""

from __future__ import annotations

import math
from typing import Any

from workbench.errors import WorkbenchError

LARGEST_SIDE = 4096
"""Largest side of the input in pixels. A larger value is taken for a mistake, as such images would
not fit into memory."""
PerChannel = float | tuple[float, float, float]
"""One number for all channels, or one for each channel in the order of the network's input.

The order is R, G, B, or B, G, R if the setting `channels` is "bgr".
"""


def per_channel(value: object, name: str, *, positive: bool = False) -> PerChannel:
    """Checks a mean or a standard deviation, in units of pixel values 0..255.

    Args:
        value: A number, or a list or tuple of three.
        name: Name of the value, for error messages.
        positive: Whether each number must be greater than 0.

    Returns:
        The number as a float, or a tuple of three floats.

    Raises:
        WorkbenchError: if the value is something else, or not finite.

    Example:
        >>> from workbench.scaling import per_channel
        >>> per_channel([123.675, 116.28, 103.53], "pixel_mean")
        (123.675, 116.28, 103.53)
    """
    is_sequence = isinstance(value, list | tuple)
    numbers: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
    expected = 3 if is_sequence else 1
    if len(numbers) != expected or not all(_is_number(one, positive) for one in numbers):
        kind = "a positive number" if positive else "a number"
        raise WorkbenchError(
            f"{name} must be {kind}, or a list of three with one for each channel, got {value!r}"
        )
    if not is_sequence:
        return float(numbers[0])
    first, second, third = (float(one) for one in numbers)
    return (first, second, third)


def read_per_channel(text: str, name: str, *, positive: bool = False) -> PerChannel:
    """Reads the text that `as_text` or a user wrote: `127.5`, or `123.675,116.28,103.53`.

    Args:
        text: One number, or three separated by commas.
        name: Name of the value, for error messages.
        positive: Whether each number must be greater than 0.

    Returns:
        The number, or a tuple of three.

    Raises:
        WorkbenchError: if the text is neither, or a number is out of range.

    Example:
        >>> from workbench.scaling import read_per_channel
        >>> read_per_channel("127.5", "pixel_std", positive=True)
        127.5
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3):
        raise WorkbenchError(
            f"{name} {text[:80]!r}: expected a number such as 127.5, or three such as "
            "123.675,116.28,103.53"
        )
    return per_channel(numbers if len(numbers) == 3 else numbers[0], name, positive=positive)


def as_text(value: PerChannel) -> str:
    """Returns the text that `read_per_channel` reads, with all digits.

    Args:
        value: One number, or three.

    Example:
        >>> from workbench.scaling import as_text
        >>> as_text((123.675, 116.28, 103.53))
        '123.675,116.28,103.53'
    """
    return ",".join(map(repr, value)) if isinstance(value, tuple) else repr(value)


def formula(mean: PerChannel, std: PerChannel) -> str:
    """Returns the formula that is applied to a pixel value x, for display.

    Args:
        mean: One number, or three.
        std: One number, or three.

    Example:
        >>> from workbench.scaling import formula
        >>> formula(127.5, 128)
        '(x - 127.5) / 128'
    """
    return f"(x - {_shown(mean)}) / {_shown(std)}"


def _shown(value: PerChannel) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(f'{one:g}' for one in value)}]"
    return f"{value:g}"


def _is_number(value: object, positive: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        number = float(value)
    except OverflowError:  # an integer of hundreds of digits
        return False
    return math.isfinite(number) and (number > 0 or not positive)
