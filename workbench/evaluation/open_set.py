"""Open-set identification: those who ask need not be enrolled, so a threshold must say when nobody is found.

Grother, Ngan and Hanaoka, "Face recognition vendor test part 2: identification", NIST IR 8271, 2019, section 3; ISO/IEC
19795-1. A search is mated where the person on the probe is enrolled. FPIR is the share of non-mated searches in which
somebody is found, that is, in which the highest score reaches the threshold. FNIR is the share of mated searches in which the
right person is not: its score stays below the threshold, or it is not among the first R. Ties count against the model.

With more people enrolled more can be mistaken for a stranger: both rates belong to the size of the gallery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.arrays import BAND_FPIRS, Bools, Floats, Integers
from workbench.errors import WorkbenchError
from workbench.evaluation.intervals import LEVEL, bootstrap_in_words, supported
from workbench.evaluation.search import (
    BLOCK,
    Enrolled,
    Strangers,
    among_enrolled,
    blocks,
    enrol,
    parts,
)

FPIRS = (0.1, 0.01, 0.001)


class OpenSetCurve(NamedTuple):
    """Operating points from the strictest threshold (nobody is found) to the laxest (in every search somebody is)."""

    fpir: Floats
    fnir: Floats
    thresholds: Floats


@dataclass(frozen=True)
class OpenSetResult:
    """Searches of people who are enrolled and of strangers who are not.

    Attributes:
        fnir_at_fpir: {FPIR: lowest FNIR whose false positives do not exceed FPIR}.
        intervals: {FPIR: bootstrap interval (low, high) of that FNIR}, people redrawn; empty if not asked for.
        band: (2, len(BAND_FPIRS)) low and high FNIR at `BAND_FPIRS`, or None.
        mated: (Q,) score of each mated probe with its own person.
        ranks: (Q,) place of that person in the gallery, 1 is best.
        nonmated: (E,) highest score of each non-mated probe with anybody in the gallery.
        rank: R, among the first of how many the right person must be; None where any place will do.
        enrolled: number of people in the gallery.
        protocol: how the figures were made, to be printed beside them.
    """

    fnir_at_fpir: dict[float, float]
    intervals: dict[float, tuple[float, float]]
    band: Floats | None
    mated: Floats
    ranks: Integers
    nonmated: Floats
    rank: int | None
    enrolled: int
    protocol: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def curve(self) -> OpenSetCurve:
        """FPIR and FNIR at every threshold that matters, one point a distinct score."""
        thresholds = np.append(np.inf, np.unique(np.concatenate([self.mated, self.nonmated]))[::-1])
        hits = np.sort(self.mated[self._in_place])
        false = len(self.nonmated) - np.searchsorted(np.sort(self.nonmated), thresholds)
        right = len(hits) - np.searchsorted(hits, thresholds)
        return OpenSetCurve(
            false / len(self.nonmated), (len(self.mated) - right) / len(self.mated), thresholds
        )

    def threshold_at(self, fpir: float) -> float:
        """The lowest score that as a threshold keeps FPIR within this; infinity where none does."""
        curve = self.curve
        return float(
            curve.thresholds[np.searchsorted(curve.fpir, fpir * (1 + 1e-9), side="right") - 1]
        )

    def rates_at(self, threshold: float) -> tuple[float, float]:
        """(FPIR, FNIR) at a threshold."""
        found = self._in_place & (self.mated >= threshold)
        return float((self.nonmated >= threshold).mean()), float((~found).mean())

    def supported(self, fpir: float) -> bool:
        """Whether at least 10 false positives are expected at this FPIR among the non-mated searches."""
        return supported(len(self.nonmated), fpir)

    @property
    def _in_place(self) -> Bools:
        return (
            np.ones(len(self.ranks), dtype=bool) if self.rank is None else self.ranks <= self.rank
        )


def open_set(
    probes: NDArray[np.floating],
    gallery: NDArray[np.floating],
    nonmated: Strangers,
    probe_ids: ArrayLike,
    gallery_ids: ArrayLike,
    nonmated_ids: ArrayLike | None = None,
    *,
    rank: int | None = 1,
    fpirs: Sequence[float] = FPIRS,
    bootstrap: int = 1000,
    seed: int = 0,
    block: int = BLOCK,
) -> OpenSetResult:
    """Search a gallery for people who are enrolled and for strangers, by the cosine of embeddings.

    The figures do not depend on `block`, nor on the order of images or how the non-mated probes are cut into blocks.

    Args:
        probes: (Q, D) mated probes. gallery: (G, D), people are scored by the best of their images.
        nonmated: (E, D) probes of people who are not enrolled; in memory, an `np.memmap`, or an iterable of blocks (n, D).
        probe_ids: (Q,) integers, each of which is in the gallery. gallery_ids: (G,) integers.
        nonmated_ids: (E,) integers, for the bootstrap; -1 where it is not known who it is. By default nobody is on two of them.
        rank: R, among the first of how many the right person must be; None for any place.
        fpirs: false positive identification rates to give the FNIR at, in (0, 1].
        bootstrap: resamples for the 95 % intervals; 0 for none. Both the people on the mated and those on the non-mated
            probes are redrawn, with all their probes, and thresholds chosen anew; the gallery stays.
        seed: of the resampling.
        block: embeddings of either side to compare at once, at most block x block scores are held.

    Raises:
        WorkbenchError: shapes do not fit, an embedding is not finite, a person on a mated probe is not in the gallery, or one
            on a non-mated probe is.
    """
    if any(not 0 < fpir <= 1 for fpir in fpirs):
        raise WorkbenchError(
            f"false positive identification rates must be in (0, 1], got {list(fpirs)}"
        )
    if bootstrap < 0 or block < 1 or (rank is not None and rank < 1):
        raise WorkbenchError(
            f"rank and block must be at least 1 and bootstrap 0, got {rank}, {block} and {bootstrap}"
        )
    known = enrol(probes, gallery, probe_ids, gallery_ids)
    best, before, _ = among_enrolled(known, block)
    highest = np.concatenate(
        [
            _highest(others, known, block)
            for others in blocks(nonmated, probes.shape[1], block, "non-mated probes")
        ]
    )
    strangers = _strangers(nonmated_ids, len(highest), known)
    table = _Sorted(best, before < (np.inf if rank is None else rank), highest)
    asked = np.array([*fpirs, *BAND_FPIRS])
    fnirs = table.fnir(np.ones(len(best)), np.ones(len(highest)), asked)
    edges = _edges(table, known.wanted, strangers, asked, bootstrap, seed)
    count = len(fpirs)
    people = f"{len(np.unique(known.wanted)):,} people and {len(np.unique(strangers)):,} strangers"
    return OpenSetResult(
        fnir_at_fpir=dict(zip(fpirs, fnirs[:count].tolist(), strict=True)),
        intervals={}
        if edges is None
        else {
            fpir: (float(low), float(high))
            for fpir, low, high in zip(fpirs, *edges[:, :count], strict=True)
        },
        band=None if edges is None else edges[:, count:],
        mated=best,
        ranks=1 + before,
        nonmated=highest,
        rank=rank,
        enrolled=len(np.unique(known.people)),
        protocol={
            "found": "score reaches the threshold"
            + _PLACES.get(rank, f" and the person is among the first {rank}"),
            "threshold": "lowest with which no more of the non-mated probes find somebody; candidates are the scores",
            "interval": "none" if edges is None else bootstrap_in_words(people, bootstrap),
        },
    )


_PLACES = {None: "", 1: " and the person comes first in the gallery"}


def _highest(others: Floats, known: Enrolled, block: int) -> Floats:
    """(n,) best score of each with anybody in the gallery."""
    best: Floats = np.max(
        [(others @ known.gallery[part].T).max(axis=1) for part in parts(len(known.gallery), block)],
        axis=0,
    )
    return best


def _strangers(ids: ArrayLike | None, count: int, known: Enrolled) -> Integers:
    """(E,) 0..P-1 who is on each non-mated probe; everybody of whom that is not known is somebody else."""
    given = np.full(count, -1) if ids is None else np.asarray(ids)
    if given.shape != (count,) or given.dtype.kind not in "iu":
        raise WorkbenchError(
            f"nonmated_ids are {given.dtype} of shape {given.shape}, expected integers of shape ({count},)"
        )
    if len(both := np.intersect1d(given[given >= 0], known.people)):
        raise WorkbenchError(
            f"identity {both[0]} is on a non-mated probe and in the gallery; these must be strangers"
        )
    unknown = np.flatnonzero(given < 0)
    apart = given.astype(np.int64)
    apart[unknown] = -1 - np.arange(len(unknown))
    return np.unique(apart, return_inverse=True)[1].astype(np.int64)


class _Sorted:
    """Both kinds of searches sorted once, highest score first, so that each resample is a reweighting and a cumulative sum."""

    def __init__(self, mated: Floats, in_place: Bools, nonmated: Floats) -> None:
        self.hits = np.flatnonzero(in_place)[np.argsort(-mated[in_place], kind="stable")]
        self.order = np.argsort(-nonmated, kind="stable")
        falling = nonmated[self.order]
        self.ends = np.flatnonzero(
            np.append(np.diff(falling) != 0, True)
        )  # equal scores cannot be parted
        rising = mated[self.hits][::-1]
        # above[k]: hits that a threshold accepts which shuts out the k-th highest distinct non-mated score; the last: all.
        self.above = np.append(
            len(rising) - np.searchsorted(rising, falling[self.ends], side="right"), len(rising)
        )

    def fnir(self, mated_weights: Floats, nonmated_weights: Floats, fpirs: Floats) -> Floats:
        """Lowest FNIR with FPIR <= each of these (a hair more, so that 3 of 30 is a rate of 0.1)."""
        false = np.cumsum(nonmated_weights[self.order])[self.ends]
        allowed = np.searchsorted(false / false[-1], fpirs * (1 + 1e-9), side="right")
        right = np.append(0.0, np.cumsum(mated_weights[self.hits]))
        searches = mated_weights.sum()
        fnir: Floats = (searches - right[self.above[allowed]]) / searches
        return fnir


def _edges(
    table: _Sorted, wanted: Integers, strangers: Integers, fpirs: Floats, bootstrap: int, seed: int
) -> Floats | None:
    """(2, K) low and high FNIR at the FPIRs when the people on both kinds of probes, with all their probes, are drawn anew."""
    mated = np.unique(wanted, return_inverse=True)[1]
    if not bootstrap or mated.max() == 0 or strangers.max() == 0:
        return None
    rng = np.random.default_rng(seed)
    draws = [
        table.fnir(_redrawn(mated, rng), _redrawn(strangers, rng), fpirs) for _ in range(bootstrap)
    ]
    return np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)


def _redrawn(person: NDArray[np.integer], rng: np.random.Generator) -> Floats:
    """How often each probe is drawn when as many people as there are are drawn with replacement."""
    people = int(person.max()) + 1
    times: Floats = np.bincount(rng.integers(people, size=people), minlength=people)[person].astype(
        np.float64
    )
    return times
