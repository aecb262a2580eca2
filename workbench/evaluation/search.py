"""Exact cosines in blocks and the gallery search, for closed-set and open-set identification.

A score must not depend on the block in which it is computed, as ties decide ranks. Embeddings are
therefore normalised and rounded to multiples of 2^-26, which is about their precision in float32,
so that the sums in a cosine are exact in float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.arrays import Floats, Integers
from workbench.errors import WorkbenchError
from workbench.evaluation.angles import normalised

Strangers = NDArray[np.floating] | Iterable[NDArray[np.floating]]
"""(E, D) embeddings in memory or in a file (`np.memmap`), or blocks (n, D) of them."""
BLOCK = 2048
"""Scores are computed for this many embeddings of either side at once, which takes 32 MiB."""
GRID = 2.0**26


class Enrolled(NamedTuple):
    """Probes and gallery, rounded to the grid; the gallery is sorted by identity."""

    probes: Floats
    """(Q, D)"""
    probe_ids: Integers
    """(Q,) identity of each probe"""
    gallery: Floats
    """(G, D)"""
    gallery_ids: Integers
    """(G,) identity of each gallery image, ascending"""


class GallerySearch(NamedTuple):
    """The result of searching the gallery for each probe."""

    best: Floats
    """(Q,) highest score of each probe with its own identity"""
    before: Integers
    """(Q,) number of other enrolled people who score at least as high"""
    genuine: Floats
    """scores of all genuine pairs, ascending"""


def enrol(
    probes: NDArray[np.floating],
    gallery: NDArray[np.floating],
    probe_ids: ArrayLike,
    gallery_ids: ArrayLike,
) -> Enrolled:
    """Check probes and gallery, and round their embeddings to the grid.

    Args:
        probes: (Q, D) embeddings of the probes.
        gallery: (G, D) embeddings of the gallery.
        probe_ids: (Q,) identity of each probe, an integer.
        gallery_ids: (G,) identity of each gallery image, an integer.

    Returns:
        Probes and gallery.

    Raises:
        WorkbenchError: if the shapes do not match, an embedding is not finite, or the identity of a
            probe is not in the gallery.
    """
    for what, embeddings in (("probes", probes), ("gallery", gallery)):
        if embeddings.ndim != 2 or not len(embeddings) or embeddings.shape[1] != probes.shape[-1]:
            raise WorkbenchError(
                f"probes {probes.shape} and gallery {gallery.shape} must be (Q, D) and (G, D), "
                "each with at least one row"
            )
        for part in parts(len(embeddings), BLOCK):
            _check_finite(embeddings[part], part.start, what)
    of_probes, of_gallery = np.asarray(probe_ids), np.asarray(gallery_ids)
    for what, identities, embeddings in (
        ("probe_ids", of_probes, probes),
        ("gallery_ids", of_gallery, gallery),
    ):
        if identities.shape != embeddings.shape[:1] or identities.dtype.kind not in "iu":
            raise WorkbenchError(
                f"{what} are {identities.dtype} of shape {identities.shape}, expected integers of "
                f"shape ({len(embeddings)},)"
            )
    if len(missing := np.setdiff1d(of_probes, of_gallery)):
        raise WorkbenchError(
            f"identity {missing[0]} is on a probe, but not in the gallery; {len(missing)} "
            "identities are missing"
        )
    order = np.argsort(of_gallery, kind="stable")
    return Enrolled(
        on_grid(probes),
        of_probes.astype(np.int64),
        on_grid(gallery[order]),
        of_gallery[order].astype(np.int64),
    )


def among_enrolled(enrolled: Enrolled, block: int) -> GallerySearch:
    """Search the gallery for each probe; people are ranked by the best of their gallery images.

    Args:
        enrolled: probes and gallery.
        block: at most block x block scores are held at once.

    Returns:
        Scores and ranks.
    """
    probes, probe_ids, gallery, gallery_ids = enrolled
    people, first = np.unique(gallery_ids, return_index=True)
    own = np.searchsorted(people, probe_ids)
    best, before, genuine = np.empty(len(probes)), np.empty(len(probes), dtype=np.int64), []
    for part in parts(len(probes), max(1, block * block // len(gallery_ids))):
        scores = probes[part] @ gallery.T
        genuine.append(scores[gallery_ids == probe_ids[part, None]])
        by_person = np.maximum.reduceat(scores, first, axis=1)
        best[part] = by_person[np.arange(len(by_person)), own[part]]
        before[part] = (by_person >= best[part, None]).sum(axis=1) - 1  # without the probe's person
    return GallerySearch(best, before, np.sort(np.concatenate(genuine)))


def blocks(strangers: Strangers, dim: int, size: int, what: str) -> Iterator[Floats]:
    """Yield embeddings, rounded to the grid and checked, in blocks.

    Only one block at a time is held in float64.

    Args:
        strangers: (E, D) embeddings, or blocks of them.
        dim: length D of an embedding.
        size: most embeddings in a block.
        what: what the embeddings are, for errors.

    Yields:
        (n, D) embeddings.

    Raises:
        WorkbenchError: if there are no embeddings, an embedding does not have length D, or one is
            not finite.
    """
    done = 0
    for rows in (strangers,) if isinstance(strangers, np.ndarray) else strangers:
        block = np.asarray(rows)
        if block.ndim != 2 or block.shape[1] != dim:
            raise WorkbenchError(
                f"{what} have shape {block.shape}; they must be (E, D), with {dim} numbers in a "
                "row, as the probes have"
            )
        for part in parts(len(block), size):
            _check_finite(block[part], done + part.start, what)
            yield on_grid(block[part])
        done += len(block)
    if not done:
        raise WorkbenchError(f"there are no {what}; at least one row is needed")


def count_if_known(strangers: Strangers) -> int | None:
    """Return the number of embeddings; None for a generator, which would have to be consumed."""
    if isinstance(strangers, np.ndarray):
        return len(strangers)
    return sum(len(block) for block in strangers) if isinstance(strangers, Sequence) else None


def on_grid(embeddings: NDArray[np.floating]) -> Floats:
    """Normalise embeddings and round them to multiples of 2^-26.

    A product of two such numbers has 52 binary places, and no sum of products reaches 2, so that
    every cosine is exact in float64.

    Args:
        embeddings: (N, D) embeddings of any length.

    Returns:
        (N, D) embeddings of length 1.
    """
    return np.rint(normalised(embeddings) * GRID) / GRID


def parts(count: int, size: int) -> Iterator[slice]:
    """Return slices of at most `size` that cover 0..count."""
    return (slice(begin, min(begin + size, count)) for begin in range(0, count, size))


def _check_finite(embeddings: NDArray[np.floating], first: int, what: str) -> None:
    finite = np.isfinite(embeddings)
    if not finite.all():
        bad = first + int(np.flatnonzero(~finite.all(axis=1))[0])
        raise WorkbenchError(
            f"number {bad} of the {what} is not finite; all embeddings must be finite numbers"
        )
