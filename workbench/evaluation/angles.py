"""Angles between embeddings and class centres: how tight the classes are, and how far apart."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workbench.arrays import Floats, Integers
from workbench.errors import WorkbenchError

CHUNK = 2048


class Angles(NamedTuple):
    """Angles in degrees, 0..180, one per embedding; NaN where there is nothing to compare with."""

    own: Floats
    """to the centre of its own class"""
    other: Floats
    """to the nearest centre of another class"""


def to_centres(
    embeddings: NDArray[np.floating], labels: Integers, centres: NDArray[np.floating]
) -> Angles:
    """Angles to given class centres, such as a loss has learned.

    Args:
        embeddings: (N, D).
        labels: (N,) 0..C-1.
        centres: (C, D).

    Raises:
        WorkbenchError: shapes do not fit, or a label has no centre.
    """
    if embeddings.ndim != 2 or centres.ndim != 2 or embeddings.shape[1] != centres.shape[1]:
        raise WorkbenchError(
            f"embeddings {embeddings.shape} and centres {centres.shape} must be (N, D) and (C, D)"
        )
    if labels.shape != embeddings.shape[:1] or (
        len(labels) and not 0 <= labels.min() <= labels.max() < len(centres)
    ):
        raise WorkbenchError(
            f"labels {labels.shape} must be the numbers, 0 to {len(centres) - 1}, of {len(embeddings)} embeddings' centres"
        )
    unit, unit_centres = normalised(embeddings), normalised(centres)
    own = np.einsum("nd,nd->n", unit, unit_centres[labels])
    return Angles(_degrees(own), _degrees(_nearest_other(unit, labels, unit_centres)))


def to_identity_means(embeddings: NDArray[np.floating], labels: Integers) -> Angles:
    """Angles to the mean direction of each identity, for people no centre was learned for.

    An embedding is left out of the mean it is compared with; else it would be drawn towards itself.

    Args:
        embeddings: (N, D).
        labels: (N,) 0..C-1, or -1 for images of unknown people, whose angles are NaN.
    """
    own, other = np.full(len(embeddings), np.nan), np.full(len(embeddings), np.nan)
    known = labels >= 0
    if not known.any():
        return Angles(own, other)
    unit = normalised(embeddings[known])
    _, number = np.unique(labels[known], return_inverse=True)
    sums = np.zeros((number.max() + 1, unit.shape[1]))
    np.add.at(sums, number, unit)
    counts = np.bincount(number)
    without_self = normalised(sums[number] - unit)
    own[known] = np.where(
        counts[number] > 1, _degrees(np.einsum("nd,nd->n", unit, without_self)), np.nan
    )
    other[known] = _degrees(_nearest_other(unit, number, normalised(sums)))
    return Angles(own, other)


def similarity(first: NDArray[np.floating], second: NDArray[np.floating]) -> Floats:
    """Cosine of each pair of embeddings: (P, D), (P, D) -> (P,) in [-1, 1]."""
    cosines: Floats = np.einsum("pd,pd->p", normalised(first), normalised(second))
    return cosines.clip(-1.0, 1.0)


def normalised(vectors: NDArray[np.floating]) -> Floats:
    """Rows brought to length 1 in float64; a row of zeros stays."""
    values = np.asarray(vectors, dtype=np.float64)
    lengths = np.sqrt(np.einsum("nd,nd->n", values, values))[:, None]
    unit: Floats = values / np.maximum(lengths, 1e-12)
    return unit


def _nearest_other(unit: Floats, labels: Integers, unit_centres: Floats) -> Floats:
    """Highest cosine to any centre but the own; NaN where there is no other. In chunks: (N, C) may be large."""
    if len(unit_centres) < 2:
        return np.full(len(unit), np.nan)
    nearest = np.empty(len(unit))
    for begin in range(0, len(unit), CHUNK):
        part = slice(begin, begin + CHUNK)
        cosines = unit[part] @ unit_centres.T
        cosines[np.arange(len(cosines)), labels[part]] = -np.inf
        nearest[part] = cosines.max(axis=1)
    return nearest


def _degrees(cosines: Floats) -> Floats:
    degrees: Floats = np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))
    return degrees
