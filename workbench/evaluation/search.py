"""What closed-set and open-set identification share: exact cosines in blocks, and a gallery that is searched.

A score must not depend on the block in which it is computed, as ties decide ranks: embeddings are normalised and rounded to
multiples of 2^-26, about the precision they have in float32, so that the sums in a cosine are exact in float64.
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
"""(E, D) embeddings in memory or in a file (`np.memmap`), or blocks (n, D) of them, one after the other."""
BLOCK = 2048
"""Scores are computed for this many embeddings of either side at once: 32 MiB."""
GRID = 2.0**26


class Enrolled(NamedTuple):
    """Probes and gallery on the grid; the gallery is sorted by identity."""

    probes: Floats
    wanted: Integers
    gallery: Floats
    people: Integers


class Found(NamedTuple):
    """(Q,) best score of each probe with its person, (Q,) how many others of the gallery reach it; genuine scores, sorted."""

    best: Floats
    before: Integers
    genuine: Floats


def enrol(
    probes: NDArray[np.floating],
    gallery: NDArray[np.floating],
    probe_ids: ArrayLike,
    gallery_ids: ArrayLike,
) -> Enrolled:
    """Check probes and gallery, and bring them to the grid.

    Raises:
        WorkbenchError: shapes do not fit, an embedding is not finite, or a person on a probe is not in the gallery.
    """
    for what, embeddings in (("probes", probes), ("gallery", gallery)):
        if embeddings.ndim != 2 or not len(embeddings) or embeddings.shape[1] != probes.shape[-1]:
            raise WorkbenchError(
                f"probes {probes.shape} and gallery {gallery.shape} must be (Q, D) and (G, D), each with at least one row"
            )
        for part in parts(len(embeddings), BLOCK):
            _check_finite(embeddings[part], part.start, what)
    wanted, people = np.asarray(probe_ids), np.asarray(gallery_ids)
    for what, identities, embeddings in (
        ("probe_ids", wanted, probes),
        ("gallery_ids", people, gallery),
    ):
        if identities.shape != embeddings.shape[:1] or identities.dtype.kind not in "iu":
            raise WorkbenchError(
                f"{what} are {identities.dtype} of shape {identities.shape}, expected integers of shape ({len(embeddings)},)"
            )
    if len(missing := np.setdiff1d(wanted, people)):
        raise WorkbenchError(
            f"identity {missing[0]} is on a probe, but nobody in the gallery is; {len(missing)} are missing"
        )
    order = np.argsort(people, kind="stable")
    return Enrolled(
        on_grid(probes),
        wanted.astype(np.int64),
        on_grid(gallery[order]),
        people[order].astype(np.int64),
    )


def among_enrolled(known: Enrolled, block: int) -> Found:
    """Search for each probe in the gallery, where people are ranked by the best of their images."""
    asked, wanted, gallery, people = known
    names, first = np.unique(people, return_index=True)
    own = np.searchsorted(names, wanted)
    best, before, genuine = np.empty(len(asked)), np.empty(len(asked), dtype=np.int64), []
    for part in parts(len(asked), max(1, block * block // len(people))):
        scores = asked[part] @ gallery.T
        genuine.append(scores[people == wanted[part, None]])
        by_person = np.maximum.reduceat(scores, first, axis=1)
        best[part] = by_person[np.arange(len(by_person)), own[part]]
        before[part] = (by_person >= best[part, None]).sum(axis=1) - 1  # but for the person itself
    return Found(best, before, np.sort(np.concatenate(genuine)))


def blocks(strangers: Strangers, dim: int, size: int, what: str) -> Iterator[Floats]:
    """The embeddings on the grid, at most `size` at a time, checked as they come: only these are ever held in float64.

    Raises:
        WorkbenchError: none at all, rows that are not of length `dim`, or one that is not finite.
    """
    done = 0
    for given in (strangers,) if isinstance(strangers, np.ndarray) else strangers:
        block = np.asarray(given)
        if block.ndim != 2 or block.shape[1] != dim:
            raise WorkbenchError(
                f"{what} have shape {block.shape}, they must be (E, D), rows of {dim} numbers as the probes are"
            )
        for part in parts(len(block), size):
            _check_finite(block[part], done + part.start, what)
            yield on_grid(block[part])
        done += len(block)
    if not done:
        raise WorkbenchError(f"there are no {what}; at least one row is needed")


def known_count(strangers: Strangers) -> int | None:
    """How many there are, where that can be told without going through them."""
    if isinstance(strangers, np.ndarray):
        return len(strangers)
    return sum(len(block) for block in strangers) if isinstance(strangers, Sequence) else None


def on_grid(embeddings: NDArray[np.floating]) -> Floats:
    """Unit vectors of multiples of 2^-26: a product of two has 52 binary places and no sum reaches 2, so none is rounded."""
    return np.rint(normalised(embeddings) * GRID) / GRID


def parts(count: int, size: int) -> Iterator[slice]:
    """0..count in slices of `size`."""
    return (slice(begin, min(begin + size, count)) for begin in range(0, count, size))


def _check_finite(embeddings: NDArray[np.floating], first: int, what: str) -> None:
    finite = np.isfinite(embeddings)
    if not finite.all():
        bad = first + int(np.flatnonzero(~finite.all(axis=1))[0])
        raise WorkbenchError(
            f"number {bad} of the {what} is not finite; all embeddings must be finite numbers"
        )
