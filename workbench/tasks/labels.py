"""Reads the labels of a task from a column of a data set. Missing labels become None or NaN."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.errors import WorkbenchError

MISSING = (-1, "")
"""Values of a column that mean "not known", besides None and NaN, which always do."""


def as_texts(
    column: Iterable[Any], rename: Mapping[str, str], missing: Collection[Any] = MISSING
) -> list[str | None]:
    """Returns labels as texts.

    Args:
        column: The values of the column. Whole numbers such as 1.0 become "1".
        rename: Other names of labels, by the labels in the column.
        missing: Values that mean "not known".

    Returns:
        The name of each label; None where it is missing.

    Example:
        >>> as_texts([0, 1, -1, float("nan")], {"0": "male", "1": "female"})
        ['male', 'female', None, None]
    """
    labels: list[str | None] = []
    for value in column:
        plain = _plain(value)
        if _is_missing(plain, missing):
            labels.append(None)
            continue
        if isinstance(plain, float) and plain.is_integer():
            plain = int(plain)
        labels.append(rename.get(str(plain), str(plain)))
    return labels


def as_numbers(
    column: Iterable[Any], where: str, missing: Collection[Any] = MISSING
) -> NDArray[np.float64]:
    """Returns labels as numbers.

    Args:
        column: The values of the column: numbers, or texts that are numbers.
        where: What the column is, for messages.
        missing: Values that mean "not known".

    Returns:
        (N,) labels, NaN where they are missing.

    Raises:
        WorkbenchError: if a label is neither missing nor a finite number.

    Example:
        >>> as_numbers([31, None, "28.5", -1], "age")
        array([31. ,  nan, 28.5,  nan])
    """
    numbers: list[float] = []
    for value in column:
        plain = _plain(value)
        if _is_missing(plain, missing):
            numbers.append(math.nan)
            continue
        try:
            number = float(plain)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise WorkbenchError(f"{where}: expected numbers, found {str(plain)[:40]!r}")
        numbers.append(number)
    return np.array(numbers, dtype=np.float64)


def as_classes(
    labels: Sequence[str | None], classes: Sequence[str], where: str
) -> NDArray[np.float64]:
    """Numbers labels by their place in a list of classes.

    Args:
        labels: Labels; None where they are missing.
        classes: Names of the classes.
        where: What the labels are, for messages.

    Returns:
        (N,) numbers of the classes, NaN where the label is missing.

    Raises:
        WorkbenchError: if a label is not among the classes.

    Example:
        >>> as_classes(["male", None, "female"], ["female", "male"], "gender")
        array([ 1., nan,  0.])
    """
    place = {name: float(number) for number, name in enumerate(classes)}
    unknown = sorted({label for label in labels if label is not None and label not in place})
    if unknown:
        raise WorkbenchError(
            f"{where}: label {unknown[0][:40]!r} is not one of the classes {', '.join(classes)}"
        )
    return np.array([math.nan if label is None else place[label] for label in labels])


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _is_missing(value: Any, missing: Collection[Any]) -> bool:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    # True == 1 in Python, so that types are compared too.
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in missing)
