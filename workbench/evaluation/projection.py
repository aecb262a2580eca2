"""Projects embeddings to two dimensions: PCA preserves distances, UMAP preserves neighbours."""

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
    """A selection of embeddings in two dimensions.

    Attributes:
        points: (n,) numbers of the images shown.
        labels: (n,) their identities.
        pca: (n, 2) PCA coordinates.
        explained: (2,) share of the variance along each PCA axis.
        umap: (n, 2) UMAP coordinates; None for fewer than 12 points.
    """

    points: Integers
    labels: Integers
    pca: Floats
    explained: Floats
    umap: Floats | None


def project(embeddings: NDArray[np.floating], labels: Integers, seed: int = 0) -> Projection:
    """Project the embeddings of the identities with the most images.

    At most 20 identities and 2,000 images are shown, so that colours can be distinguished. The
    embeddings are normalised first, as verification compares only directions.

    Args:
        embeddings: (N, D) embeddings.
        labels: (N,) identities; -1 (unknown) is shown only if no identity is known.
        seed: seed of the selection and of UMAP.

    Returns:
        The projection.
    """
    points = choose_points(labels, seed)
    unit = normalised(embeddings[points])
    coordinates, explained = pca(unit)
    return Projection(points, labels[points], coordinates, explained, _umap(unit, seed))


def choose_points(labels: Integers, seed: int) -> Integers:
    """Select the images to show.

    Args:
        labels: (N,) identities; -1 where unknown.
        seed: seed of the selection.

    Returns:
        Numbers of the images, ascending.
    """
    usable = np.flatnonzero(labels >= 0)
    if not len(usable):
        usable = np.arange(len(labels))
    identities, counts = np.unique(labels[usable], return_counts=True)
    shown = identities[np.argsort(-counts, kind="stable")[:MAX_IDENTITIES]]
    candidates = usable[np.isin(labels[usable], shown)]
    if len(candidates) > MAX_POINTS:
        candidates = np.sort(
            np.random.default_rng(seed).choice(candidates, MAX_POINTS, replace=False)
        )
    return candidates


def pca(vectors: Floats) -> tuple[Floats, Floats]:
    """Compute the first two principal components, with fixed signs.

    Args:
        vectors: (n, D) vectors.

    Returns:
        (n, 2) coordinates, and (2,) share of the variance along each axis.
    """
    centred = vectors - vectors.mean(axis=0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    axes = np.pad(axes[:2], ((0, max(2 - len(axes), 0)), (0, 0)))
    axes *= np.where(axes[np.arange(2), np.abs(axes).argmax(axis=1)] < 0, -1.0, 1.0)[:, None]
    variance = np.pad(singular**2, (0, 2))
    return centred @ axes.T, variance[:2] / max(variance.sum(), 1e-30)


def _umap(unit: Floats, seed: int) -> Floats | None:
    """Compute UMAP coordinates by cosine distance; None for too few points.

    McInnes et al., "UMAP: Uniform manifold approximation and projection", 2018. It must not be
    called from two threads at once, as numba's default threading layer then ends the process.
    """
    if len(unit) < MIN_UMAP_POINTS:
        return None
    with warnings.catch_warnings():
        # UMAP warns of its dependencies, and that a fixed seed restricts it to one thread.
        warnings.simplefilter("ignore")
        import torch
        from umap import UMAP

        threads = torch.get_num_threads()
        try:
            coordinates = UMAP(
                n_neighbors=min(NEIGHBOURS, len(unit) - 1), metric="cosine", random_state=seed
            ).fit_transform(unit)
        finally:
            # numba sets the number of OpenMP threads of the whole process to that of all cores.
            # PyTorch would then ignore OMP_NUM_THREADS and torch.set_num_threads.
            torch.set_num_threads(threads)
    return np.asarray(coordinates, dtype=np.float64)
