"""Identification among distractors: who of the gallery is on a probe, with strangers among the candidates.

Kemelmacher-Shlizerman et al., "The MegaFace benchmark: 1 million faces for recognition at scale", CVPR 2016. There, the
candidates for a probe are one other image of its person and the distractors; here they are the distractors and everybody in
the gallery, as people who are enrolled can be taken for each other too. People of the gallery are ranked by the best of
their images, distractors image by image. Ties count against the model: whoever scores as high as the right person ranks
before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.errors import WorkbenchError
from workbench.evaluation.angles import normalised
from workbench.evaluation.verification import LEVEL

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
FARS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
MAX_RANK = 100
BLOCK = 2048
"""Scores are computed for this many probes and distractors at once: 32 MiB."""
GRID = 2.0**26


@dataclass(frozen=True)
class IdentificationResult:
    """How often the right person is found, and how far that depends on the number of strangers.

    Attributes:
        accuracy: rank-1, the share of probes whose person comes before everybody else in the gallery and all distractors.
        interval: bootstrap interval (low, high) of it, people redrawn; None if not asked for, or of fewer than two people.
            Where no probe is missed it shrinks to a point, which says no more than that.
        cmc: (K,) share of probes whose person is among the first 1, 2, ..., K candidates.
        cmc_band: (2, K) low and high of it, or None.
        distractor_counts: (S,) numbers of distractors, ascending, the last is all of them.
        distractor_rates: (S,) rank-1 with so many of them, the mean over all subsets of that size.
        distractor_band: (2, S) low and high of it, or None.
        tar_at_far: {FAR: highest TAR whose false accepts do not exceed FAR}; genuine pairs are those of a probe with each
            gallery image of its person, impostor pairs those of a probe with a distractor.
        ranks: (Q,) place of the right person among the candidates of each probe, 1 is best.
        identities: (Q,) who is on each probe.
        enrolled: number of people in the gallery.
        genuine: number of genuine pairs.
        protocol: how the figures were made, to be printed beside them.
    """

    accuracy: float
    interval: tuple[float, float] | None
    cmc: Floats
    cmc_band: Floats | None
    distractor_counts: Integers
    distractor_rates: Floats
    distractor_band: Floats | None
    tar_at_far: dict[float, float]
    ranks: Integers
    identities: Integers
    enrolled: int
    genuine: int
    name: str = ""
    note: str = ""
    protocol: dict[str, Any] = field(default_factory=dict)

    @property
    def distractors(self) -> int:
        return int(self.distractor_counts[-1])

    @property
    def impostors(self) -> int:
        """Number of impostor pairs."""
        return len(self.ranks) * self.distractors

    def supported(self, far: float) -> bool:
        """Can this FAR be told from 0 at all? It takes 1 / FAR impostor pairs."""
        return self.impostors * far >= 1.0 - 1e-9


def identification(
    probes: NDArray[np.floating],
    gallery: NDArray[np.floating],
    distractors: NDArray[np.floating],
    probe_ids: ArrayLike,
    gallery_ids: ArrayLike,
    *,
    max_rank: int = MAX_RANK,
    fars: Sequence[float] = FARS,
    bootstrap: int = 1000,
    seed: int = 0,
    block: int = BLOCK,
) -> IdentificationResult:
    """Find the people of the probes in the gallery, by the cosine of embeddings.

    The figures do not depend on `block`, nor on the order of images: embeddings are normalised and rounded to multiples
    of 2^-26, about the precision they have in float32, so that the sums in a cosine are exact in float64.

    Args:
        probes: (Q, D). gallery: (G, D). distractors: (E, D), of people who are neither.
        probe_ids: (Q,) integers, each of which is in the gallery. gallery_ids: (G,) integers.
        max_rank: length of the CMC, or as many candidates as there are.
        fars: false accept rates to give the TAR at, in (0, 1].
        bootstrap: resamples of the people on the probes, for the 95 % intervals; 0 for none. They say nothing of other
            distractors or of another training run.
        seed: of the resampling.
        block: probes and distractors to compare at once, at most block x block scores are held.

    Raises:
        WorkbenchError: shapes do not fit, an embedding is not finite, or a person on a probe is not in the gallery.
    """
    asked, wanted, enrolled, people = _check(probes, gallery, distractors, probe_ids, gallery_ids)
    if any(not 0 < far <= 1 for far in fars):
        raise WorkbenchError(f"false accept rates must be in (0, 1], got {list(fars)}")
    if bootstrap < 0 or max_rank < 1 or block < 1:
        raise WorkbenchError(f"max_rank and block must be at least 1 and bootstrap 0, got {max_rank}, {block} and {bootstrap}")
    best, before, genuine = _among_enrolled(asked, wanted, enrolled, people, block)
    total = len(distractors)
    # A hair more, so that 3 of 30 is a rate of 0.1.
    allowed = {far: int(far * (1 + 1e-9) * len(asked) * total) for far in fars}
    beaten, reached = _among_distractors(asked, distractors, best, genuine, max(allowed.values(), default=0), block)
    ranks = 1 + before + beaten
    places = np.arange(1, min(max_rank, len(np.unique(people)) + total) + 1)
    counts = _one_two_five(total)
    # Of each probe: is it found by rank k, and how often is it found first among so many distractors?
    found = np.hstack([ranks[:, None] <= places, (before == 0)[:, None] * _spared(beaten, total, counts)])
    rates = found.mean(axis=0)
    band = _band(found, wanted, bootstrap, seed)
    cut = len(places)
    return IdentificationResult(
        accuracy=float(rates[0]),
        interval=None if band is None else (float(band[0, 0]), float(band[1, 0])),
        cmc=rates[:cut],
        cmc_band=None if band is None else band[:, :cut],
        distractor_counts=counts,
        distractor_rates=rates[cut:],
        distractor_band=None if band is None else band[:, cut:],
        tar_at_far={far: _tar_at(most, genuine, reached) for far, most in allowed.items()},
        ranks=ranks,
        identities=wanted,
        enrolled=len(np.unique(people)),
        genuine=len(genuine),
        protocol={
            "candidates": "everybody in the gallery, by the best of their images, and each distractor; ties count as misses",
            "fewer distractors": "mean over all subsets of that size",
            "pairs": "genuine: a probe and a gallery image of its person; impostor: a probe and a distractor",
            "interval": "none" if band is None else f"{LEVEL:.0%} percentile bootstrap over people, {bootstrap} resamples",
        },
    )


def _among_enrolled(
    asked: Floats, wanted: Integers, enrolled: Floats, people: Integers, block: int
) -> tuple[Floats, Integers, Floats]:
    """Of each probe the best score with its person and how many others of the gallery reach it; genuine scores, sorted."""
    names, first = np.unique(people, return_index=True)  # people are sorted
    own = np.searchsorted(names, wanted)
    best, before, genuine = np.empty(len(asked)), np.empty(len(asked), dtype=np.int64), []
    for part in _parts(len(asked), max(1, block * block // len(people))):
        scores = asked[part] @ enrolled.T
        genuine.append(scores[people == wanted[part, None]])
        by_person = np.maximum.reduceat(scores, first, axis=1)
        best[part] = by_person[np.arange(len(by_person)), own[part]]
        before[part] = (by_person >= best[part, None]).sum(axis=1) - 1  # but for the person itself
    return best, before, np.sort(np.concatenate(genuine))


def _among_distractors(
    asked: Floats, distractors: NDArray[np.floating], best: Floats, genuine: Floats, most: int, block: int
) -> tuple[Integers, Integers]:
    """How many distractors reach each probe's best score, and how many impostor scores reach each genuine score.

    The latter are counted only until there are more than `most`: after a while few scores have to be sorted.
    """
    beaten, reached = np.zeros(len(asked), dtype=np.int64), np.zeros(len(genuine), dtype=np.int64)
    for strangers in _parts(len(distractors), block):
        others = _on_grid(distractors[strangers])
        for part in _parts(len(asked), block):
            scores = asked[part] @ others.T
            beaten[part] += (scores >= best[part, None]).sum(axis=1)
            counted = int((reached > most).sum())  # they come first, as genuine scores ascend
            if counted < len(genuine):
                high = np.sort(scores[scores >= genuine[counted]])
                reached[counted:] += len(high) - np.searchsorted(high, genuine[counted:])
    return beaten, reached


def _on_grid(embeddings: NDArray[np.floating]) -> Floats:
    """Unit vectors of multiples of 2^-26: a product of two has 52 binary places and no sum reaches 2, so none is rounded."""
    return np.rint(normalised(embeddings) * GRID) / GRID


def _parts(count: int, size: int) -> Iterator[slice]:
    return (slice(begin, begin + size) for begin in range(0, count, size))


def _one_two_five(total: int) -> Integers:
    """1, 2, 5, 10, 20, ... below `total`, and `total`."""
    steps = [digit * 10**power for power in range(len(str(total))) for digit in (1, 2, 5)]
    return np.array([*(step for step in steps if step < total), total], dtype=np.int64)


def _spared(beaten: Integers, total: int, counts: Integers) -> Floats:
    """(Q, S) share of the subsets of each size that hold none of the `beaten` of `total` distractors."""
    drawn = np.arange(beaten.max())
    columns = []
    for count in counts:
        # One stranger after the other must be outside the subset: (total - count) / total, (total - count - 1) / (total - 1) ...
        outside = np.maximum(total - count - drawn, 0) / (total - drawn)
        columns.append(np.append(1.0, np.cumprod(outside))[beaten])
    return np.column_stack(columns)


def _band(found: Floats, wanted: Integers, bootstrap: int, seed: int) -> Floats | None:
    """(2, K) low and high of the mean of each column when the people, with all their probes, are drawn anew."""
    order = np.argsort(wanted, kind="stable")
    people, first, counts = np.unique(wanted[order], return_index=True, return_counts=True)
    if not bootstrap or len(people) < 2:
        return None
    sums = np.add.reduceat(found[order], first, axis=0)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(people), np.full(len(people), 1 / len(people)), size=bootstrap).astype(np.float64)
    draws = weights @ sums / (weights @ counts)[:, None]
    return np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)


def _tar_at(most: int, genuine: Floats, reached: Integers) -> float:
    """Highest TAR with at most so many false accepts.

    Genuine scores are all the thresholds it takes: the next one above any other accepts as many genuine pairs, and no more
    impostors.
    """
    return float((reached <= most).mean())


def _check(
    probes: NDArray[np.floating],
    gallery: NDArray[np.floating],
    distractors: NDArray[np.floating],
    probe_ids: ArrayLike,
    gallery_ids: ArrayLike,
) -> tuple[Floats, Integers, Floats, Integers]:
    """Probes and their identities, gallery and its identities, the latter sorted by identity; both on the grid."""
    for what, embeddings in (("probes", probes), ("gallery", gallery), ("distractors", distractors)):
        if embeddings.ndim != 2 or not len(embeddings) or embeddings.shape[1] != probes.shape[-1]:
            raise WorkbenchError(
                f"probes {probes.shape}, gallery {gallery.shape} and distractors {distractors.shape} must be (Q, D), (G, D) and "
                "(E, D), each with at least one row"
            )
        for part in _parts(len(embeddings), BLOCK):
            if not np.isfinite(embeddings[part]).all():
                bad = part.start + int(np.flatnonzero(~np.isfinite(embeddings[part]).all(axis=1))[0])
                raise WorkbenchError(f"number {bad} of the {what} is not finite; all embeddings must be finite numbers")
    wanted, people = np.asarray(probe_ids), np.asarray(gallery_ids)
    for what, identities, embeddings in (("probe_ids", wanted, probes), ("gallery_ids", people, gallery)):
        if identities.shape != embeddings.shape[:1] or identities.dtype.kind not in "iu":
            raise WorkbenchError(
                f"{what} are {identities.dtype} of shape {identities.shape}, expected integers of shape ({len(embeddings)},)"
            )
    if len(missing := np.setdiff1d(wanted, people)):
        raise WorkbenchError(f"identity {missing[0]} is on a probe, but nobody in the gallery is; {len(missing)} are missing")
    order = np.argsort(people, kind="stable")
    return _on_grid(probes), wanted.astype(np.int64), _on_grid(gallery[order]), people[order].astype(np.int64)
