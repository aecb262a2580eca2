"""Angles between embeddings and class centres: how compact the classes are, and how far apart."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workbench.arrays import Floats, Integers
from workbench.errors import WorkbenchError

CHUNK = 2048
"""Embeddings that are compared with all class centres at once."""


class Angles(NamedTuple):
    """Angles in degrees, in [0, 180], one per embedding; NaN without a class centre."""

    own: Floats
    """to the centre of the embedding's own class"""
    other: Floats
    """to the nearest centre of another class"""


def to_centres(
    embeddings: NDArray[np.floating], labels: Integers, centres: NDArray[np.floating]
) -> Angles:
    """Compute the angles to given class centres, such as those that a loss has learned.

    Args:
        embeddings: (N, D) embeddings of any length.
        labels: (N,) class of each embedding, 0..C-1.
        centres: (C, D) class centres of any length.

    Returns:
        N angles to the own and to the nearest other class centre.

    Raises:
        WorkbenchError: if the shapes do not match, or a label has no class centre.

    Example:
        >>> import numpy as np
        >>> angles = to_centres(np.array([[1.0, 0.0]]), np.array([0]), np.eye(2))
        >>> angles.own.round(), angles.other.round()
        (array([0.]), array([90.]))
    """
    if embeddings.ndim != 2 or centres.ndim != 2 or embeddings.shape[1] != centres.shape[1]:
        raise WorkbenchError(
            f"embeddings {embeddings.shape} and centres {centres.shape} must be (N, D) and (C, D)"
        )
    if labels.shape != embeddings.shape[:1] or (
        len(labels) and not 0 <= labels.min() <= labels.max() < len(centres)
    ):
        raise WorkbenchError(
            f"labels {labels.shape} must be numbers of class centres, 0 to {len(centres) - 1}, one "
            f"for each of {len(embeddings)} embeddings"
        )
    unit, unit_centres = normalised(embeddings), normalised(centres)
    own = np.einsum("nd,nd->n", unit, unit_centres[labels])
    return Angles(_degrees(own), _degrees(_nearest_other(unit, labels, unit_centres)))


def to_identity_means(embeddings: NDArray[np.floating], labels: Integers) -> Angles:
    """Compute the angles to the mean direction of each identity, which need no class centres.

    An embedding is left out of the mean of its own identity, which would otherwise be biased
    towards it.

    Args:
        embeddings: (N, D) embeddings of any length.
        labels: (N,) identity of each embedding, 0..C-1; -1 for unknown people, whose angles are
            NaN.

    Returns:
        N angles to the own and to the nearest other mean.
    """
    own, other = np.full(len(embeddings), np.nan), np.full(len(embeddings), np.nan)
    has_label = labels >= 0
    if not has_label.any():
        return Angles(own, other)
    unit = normalised(embeddings[has_label])
    _, identity = np.unique(labels[has_label], return_inverse=True)
    sums = np.zeros((identity.max() + 1, unit.shape[1]))
    np.add.at(sums, identity, unit)
    counts = np.bincount(identity)
    without_self = normalised(sums[identity] - unit)
    to_own = _degrees(np.einsum("nd,nd->n", unit, without_self))
    own[has_label] = np.where(counts[identity] > 1, to_own, np.nan)
    other[has_label] = _degrees(_nearest_other(unit, identity, normalised(sums)))
    return Angles(own, other)


def similarity(first: NDArray[np.floating], second: NDArray[np.floating]) -> Floats:
    """Compute the cosine of each pair of embeddings.

    Args:
        first: (P, D) embeddings of any length.
        second: (P, D) embeddings of any length.

    Returns:
        (P,) cosines in [-1, 1].

    Example:
        >>> import numpy as np
        >>> similarity(np.array([[2.0, 0.0]]), np.array([[3.0, 0.0]]))
        array([1.])
    """
    cosines: Floats = np.einsum("pd,pd->p", normalised(first), normalised(second))
    return cosines.clip(-1.0, 1.0)


def normalised(vectors: NDArray[np.floating]) -> Floats:
    """Scale each row to length 1, in float64; a row of zeros stays as it is.

    Args:
        vectors: (N, D) vectors.

    Returns:
        (N, D) vectors of length 1.
    """
    values = np.asarray(vectors, dtype=np.float64)
    lengths = np.sqrt(np.einsum("nd,nd->n", values, values))[:, None]
    unit: Floats = values / np.maximum(lengths, 1e-12)
    return unit


def _nearest_other(unit: Floats, labels: Integers, unit_centres: Floats) -> Floats:
    """Return the highest cosine to another class's centre; NaN where there is only one class.

    The (N, C) cosines may not fit into memory, so they are computed in chunks.
    """
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
