"""Embeddings on a plane: PCA, which keeps distances as far as two axes can, and UMAP, which keeps neighbours."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.arrays import Floats, Integers
from workbench.evaluation.angles import normalised

MAX_POINTS, MAX_IDENTITIES, MIN_UMAP_POINTS = 2000, 20, 12
NEIGHBOURS = 15


@dataclass(frozen=True)
class Projection:
    """Some of the embeddings, in two dimensions.

    Attributes:
        points: (n,) numbers of the images shown.
        labels: (n,) their identities.
        pca: (n, 2).
        explained: (2,) share of the variance that each PCA axis carries.
        umap: (n, 2), or None for fewer than 12 points.
    """

    points: Integers
    labels: Integers
    pca: Floats
    explained: Floats
    umap: Floats | None


def project(embeddings: NDArray[np.floating], labels: Integers, seed: int = 0) -> Projection:
    """Project the identities with the most images, at most 20 of them and 2,000 images, so that colours can be told apart.

    The embeddings are normalised first: verification sees only directions.

    Args:
        embeddings: (N, D). labels: (N,) identities; -1 (unknown) is shown only where nothing else is.
        seed: of the draw and of UMAP.
    """
    points = choose_points(labels, seed)
    unit = normalised(embeddings[points])
    coordinates, explained = pca(unit)
    return Projection(points, labels[points], coordinates, explained, _umap(unit, seed))


def choose_points(labels: Integers, seed: int) -> Integers:
    """Numbers of the images to show, in order."""
    known = np.flatnonzero(labels >= 0)
    if not len(known):
        known = np.arange(len(labels))
    identities, counts = np.unique(labels[known], return_counts=True)
    shown = identities[np.argsort(-counts, kind="stable")[:MAX_IDENTITIES]]
    candidates = known[np.isin(labels[known], shown)]
    if len(candidates) > MAX_POINTS:
        candidates = np.sort(
            np.random.default_rng(seed).choice(candidates, MAX_POINTS, replace=False)
        )
    return candidates


def pca(vectors: Floats) -> tuple[Floats, Floats]:
    """First two principal components, (n, 2), and the share of the variance of each, (2,). Signs are fixed."""
    centred = vectors - vectors.mean(axis=0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    axes = np.pad(axes[:2], ((0, max(2 - len(axes), 0)), (0, 0)))
    axes *= np.where(axes[np.arange(2), np.abs(axes).argmax(axis=1)] < 0, -1.0, 1.0)[:, None]
    variance = np.pad(singular**2, (0, 2))
    return centred @ axes.T, variance[:2] / max(variance.sum(), 1e-30)


def _umap(unit: Floats, seed: int) -> Floats | None:
    """McInnes et al., "UMAP: Uniform manifold approximation and projection", 2018; cosine distance.

    Never call it from two threads at once: numba's default threading layer then ends the process.
    """
    if len(unit) < MIN_UMAP_POINTS:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of its dependencies, and that a fixed seed means one thread
        from umap import UMAP

        coordinates = UMAP(
            n_neighbors=min(NEIGHBOURS, len(unit) - 1), metric="cosine", random_state=seed
        ).fit_transform(unit)
    return np.asarray(coordinates, dtype=np.float64)
