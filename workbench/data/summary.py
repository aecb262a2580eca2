"""What the attributes of pictures range over, in a line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_VALUES = 12


def ranges(attributes: Mapping[str, Sequence[Any] | NDArray[Any]]) -> dict[str, str]:
    """Attributes in words: numbers from least to greatest, share of what is true, how often each of a few texts is there.

    Args:
        attributes: columns of a value an image. Columns of arrays (landmarks) and of many texts (file names) are left out.
    """
    columns = {name: np.asarray(values) for name, values in attributes.items()}
    return {name: words for name, column in columns.items() if column.ndim == 1 and (words := _range(column))}


def _range(column: NDArray[Any]) -> str:
    if column.dtype.kind == "b":
        return f"{column.mean():.0%}"
    if column.dtype.kind in "iuf":
        column = column[~np.isnan(column)]
        if not len(column):
            return "not known"
        return f"{column.min():.4g} to {column.max():.4g}, median {np.median(column):.4g}"
    values, counts = np.unique(column.astype(str), return_counts=True)
    if len(values) > MOST_VALUES:
        return ""
    return ", ".join(f"{value} {count:,}" for value, count in zip(values, counts, strict=True) if value)
