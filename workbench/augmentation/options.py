"""Checks of the options of augmentations."""

from __future__ import annotations

import math
from collections.abc import Sequence

from workbench.errors import WorkbenchError

Range = tuple[float, float]
"""Smallest and largest value of a number that is drawn at random."""


def number(of: str, value: float, low: float, high: float = math.inf) -> float:
    """Checks an option that is a number.

    Args:
        of: The augmentation and the option, for the message, such as "affine: rotation".
        value: The value.
        low: Smallest allowed value.
        high: Largest allowed value; by default there is none.

    Returns:
        The value as a float.

    Raises:
        WorkbenchError: if the value is out of range or NaN.
    """
    if not low <= value <= high:
        limits = f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise WorkbenchError(f"augmentation {of} must be a number {limits}, got {value!r}")
    return float(value)


def bounds(of: str, value: Sequence[float], low: float, high: float = math.inf) -> Range:
    """Checks an option that is a range, [smallest, largest].

    Args:
        of: The augmentation and the option, for the message, such as "affine: scale".
        value: The two numbers.
        low: Smallest allowed value.
        high: Largest allowed value; by default there is none.

    Returns:
        The two numbers as floats.

    Raises:
        WorkbenchError: if there are not two numbers, if one is out of range or NaN, or if the first
            is larger than the second.
    """
    if len(value) != 2 or not value[0] <= value[1]:
        raise WorkbenchError(f"augmentation {of} must be [smallest, largest], got {list(value)!r}")
    return number(of, value[0], low, high), number(of, value[1], low, high)
