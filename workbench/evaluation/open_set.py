"""Open-set identification: a probe may show a person who is not enrolled, so a threshold is needed.

Grother, Ngan and Hanaoka, "Face recognition vendor test part 2: identification", NIST IR 8271,
2019, section 3; ISO/IEC 19795-1. A search is mated if the person on the probe is enrolled. FPIR is
the share of non-mated searches that return somebody, that is, whose highest score reaches the
threshold. FNIR is the share of mated searches that do not return the right person: its score is
below the threshold, or it is not among the first R. Ties count against the model.

With more enrolled people, more of them can be mistaken for a stranger, so both rates depend on the
size of the gallery.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Self

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
    """Operating points, from the highest threshold (nobody is returned) to the lowest."""

    fpir: Floats
    fnir: Floats
    thresholds: Floats


@dataclass(frozen=True)
class OpenSetResult:
    """Identification figures of mated and non-mated probes.

    Attributes:
        fnir_at_fpir: {FPIR: lowest FNIR at which FPIR is not exceeded}.
        intervals: {FPIR: bootstrap interval (low, high) of that FNIR}, people resampled; empty if
            not requested.
        band: (2, len(BAND_FPIRS)) low and high FNIR at `BAND_FPIRS`, or None.
        mated: (Q,) score of each mated probe with its own person.
        ranks: (Q,) rank of that person in the gallery; 1 is best.
        nonmated: (E,) highest score of each non-mated probe with any enrolled person.
        rank: R, the lowest rank that counts as a hit; None if every rank counts.
        enrolled: number of people in the gallery.
        protocol: how the figures were made.
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
        """FPIR and FNIR with one point per distinct score."""
        thresholds = np.append(np.inf, np.unique(np.concatenate([self.mated, self.nonmated]))[::-1])
        hits = np.sort(self.mated[self._has_rank])
        false_alarms = len(self.nonmated) - np.searchsorted(np.sort(self.nonmated), thresholds)
        misses = len(self.mated) - len(hits) + np.searchsorted(hits, thresholds)
        return OpenSetCurve(false_alarms / len(self.nonmated), misses / len(self.mated), thresholds)

    def threshold_at(self, fpir: float) -> float:
        """Return the lowest threshold that does not exceed an FPIR; infinity if none does."""
        curve = self.curve
        return float(
            curve.thresholds[np.searchsorted(curve.fpir, fpir * (1 + 1e-9), side="right") - 1]
        )

    def rates_at(self, threshold: float) -> tuple[float, float]:
        """Return (FPIR, FNIR) at a threshold."""
        hits = self._has_rank & (self.mated >= threshold)
        return float((self.nonmated >= threshold).mean()), float((~hits).mean())

    def supported(self, fpir: float) -> bool:
        """Whether at least 10 false positives are expected at an FPIR."""
        return supported(len(self.nonmated), fpir)

    def summary(self) -> str:
        """FNIR at the supported FPIRs, in one line; empty where no FPIR is supported."""
        rates = self.fnir_at_fpir.items()
        words = [f"{100 * fpir:g}%: {fnir:.1%}" for fpir, fnir in rates if self.supported(fpir)]
        return f"FNIR at FPIR {', '.join(words)}" if words else ""

    def figures(self) -> dict[str, Any]:
        """What is stored in the .json file of the identification that this is part of."""
        intervals = {f"{fpir:g}": list(interval) for fpir, interval in self.intervals.items()}
        return {
            "fnir_at_fpir": {f"{fpir:g}": fnir for fpir, fnir in self.fnir_at_fpir.items()},
            "intervals": intervals,
            "rank": self.rank,
            "enrolled": self.enrolled,
            "protocol": self.protocol,
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is stored in the .npz file of the identification that this is part of."""
        stored = {key: getattr(self, key) for key in (*_ARRAYS, "band")}
        return {f"{_PREFIX}{key}": values for key, values in stored.items() if values is not None}

    @classmethod
    def from_stored(cls, figures: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Build the result from stored figures and from the arrays of the identification."""
        intervals = figures["intervals"].items()
        return cls(
            fnir_at_fpir={float(fpir): fnir for fpir, fnir in figures["fnir_at_fpir"].items()},
            intervals={float(fpir): (low, high) for fpir, (low, high) in intervals},
            band=arrays.get(f"{_PREFIX}band"),
            rank=figures["rank"],
            enrolled=figures["enrolled"],
            protocol=figures["protocol"],
            **{key: arrays[f"{_PREFIX}{key}"] for key in _ARRAYS},
        )

    @property
    def _has_rank(self) -> Bools:
        """(Q,) whether the right person is among the first R."""
        if self.rank is None:
            return np.ones(len(self.ranks), dtype=bool)
        return self.ranks <= self.rank


_PREFIX, _ARRAYS = "open_set_", ("mated", "ranks", "nonmated")


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
    """Compute open-set identification figures, by the cosine of embeddings.

    The figures do not depend on `block`, the order of the images, or the blocks in which the
    non-mated probes are passed.

    Args:
        probes: (Q, D) embeddings of mated probes.
        gallery: (G, D) embeddings of the gallery; people are ranked by the best of their images.
        nonmated: (E, D) embeddings of probes of people who are not enrolled: in memory, an
            `np.memmap`, or an iterable of blocks (n, D).
        probe_ids: (Q,) identity of each mated probe, an integer that is in the gallery.
        gallery_ids: (G,) identity of each gallery image, an integer.
        nonmated_ids: (E,) identity of each non-mated probe, for the bootstrap; -1 where unknown. By
            default all are different people.
        rank: R, the lowest rank that counts as a hit; None if every rank counts.
        fpirs: false positive identification rates at which FNIR is computed, in (0, 1].
        bootstrap: resamples for the 95 % intervals; 0 for none. The people on the mated and those
            on the non-mated probes are resampled, with all their probes, and thresholds are chosen
            anew; the gallery stays the same.
        seed: seed of the resampling.
        block: embeddings of either side that are compared at once; at most block x block scores are
            held.

    Returns:
        The figures, with the scores they were computed from.

    Raises:
        WorkbenchError: if the shapes do not match, an embedding is not finite, the person on a
            mated probe is not in the gallery, or the person on a non-mated probe is.

    Example:
        >>> import numpy as np
        >>> gallery = np.eye(3)[:2]
        >>> result = open_set(gallery, gallery, np.eye(3)[2:], [0, 1], [0, 1], bootstrap=0)
        >>> result.fnir_at_fpir[0.1]
        0.0
    """
    if any(not 0 < fpir <= 1 for fpir in fpirs):
        raise WorkbenchError(
            f"false positive identification rates must be in (0, 1], got {list(fpirs)}"
        )
    if bootstrap < 0 or block < 1 or (rank is not None and rank < 1):
        raise WorkbenchError(
            "rank and block must be at least 1, and bootstrap at least 0; got "
            f"{rank}, {block} and {bootstrap}"
        )
    enrolled = enrol(probes, gallery, probe_ids, gallery_ids)
    best, before, _ = among_enrolled(enrolled, block)
    of_blocks = blocks(nonmated, probes.shape[1], block, "non-mated probes")
    highest = np.concatenate([_highest(part, enrolled, block) for part in of_blocks])
    strangers = _strangers(nonmated_ids, len(highest), enrolled)
    table = _Sorted(best, before < (np.inf if rank is None else rank), highest)
    all_fpirs = np.array([*fpirs, *BAND_FPIRS])
    fnirs = table.fnir(np.ones(len(best)), np.ones(len(highest)), all_fpirs)
    edges = _edges(table, enrolled.probe_ids, strangers, all_fpirs, bootstrap, seed)
    count = len(fpirs)
    intervals: dict[float, tuple[float, float]] = {}
    if edges is not None:
        for fpir, low, high in zip(fpirs, *edges[:, :count], strict=True):
            intervals[fpir] = (float(low), float(high))
    people = len(np.unique(enrolled.probe_ids)), len(np.unique(strangers))
    return OpenSetResult(
        fnir_at_fpir=dict(zip(fpirs, fnirs[:count].tolist(), strict=True)),
        intervals=intervals,
        band=None if edges is None else edges[:, count:],
        mated=best,
        ranks=1 + before,
        nonmated=highest,
        rank=rank,
        enrolled=len(np.unique(enrolled.gallery_ids)),
        protocol=_protocol_in_words(rank, people, bootstrap if edges is not None else 0),
    )


def _protocol_in_words(rank: int | None, people: tuple[int, int], bootstrap: int) -> dict[str, Any]:
    """Describe how the figures were made; `people` are the numbers of mated and other people."""
    places = {None: "", 1: " and the person comes first in the gallery"}
    place = places.get(rank, f" and the person is among the first {rank}")
    interval = "none"
    if bootstrap:
        interval = bootstrap_in_words(
            f"{people[0]:,} people and {people[1]:,} strangers", bootstrap
        )
    return {
        "found": f"score reaches the threshold{place}",
        "threshold": (
            "lowest with which no more of the non-mated probes find somebody; candidates are the "
            "scores"
        ),
        "interval": interval,
    }


def _highest(embeddings: Floats, enrolled: Enrolled, block: int) -> Floats:
    """Return the (n,) highest score of each embedding with any gallery image."""
    gallery = enrolled.gallery
    by_part = [(embeddings @ gallery[part].T).max(axis=1) for part in parts(len(gallery), block)]
    highest: Floats = np.max(by_part, axis=0)
    return highest


def _strangers(ids: ArrayLike | None, count: int, enrolled: Enrolled) -> Integers:
    """Return the (E,) person on each non-mated probe, 0..P-1; unknown people are all different."""
    identities = np.full(count, -1) if ids is None else np.asarray(ids)
    if identities.shape != (count,) or identities.dtype.kind not in "iu":
        raise WorkbenchError(
            f"nonmated_ids are {identities.dtype} of shape {identities.shape}, expected integers "
            f"of shape ({count},)"
        )
    if len(both := np.intersect1d(identities[identities >= 0], enrolled.gallery_ids)):
        raise WorkbenchError(
            f"identity {both[0]} is on a non-mated probe and in the gallery; these must be "
            "strangers"
        )
    unknown = np.flatnonzero(identities < 0)
    distinct = identities.astype(np.int64)
    distinct[unknown] = -1 - np.arange(len(unknown))
    return np.unique(distinct, return_inverse=True)[1].astype(np.int64)


class _Sorted:
    """Searches that are sorted once, so that a resample needs only a cumulative sum of weights.

    Args:
        mated: (Q,) score of each mated search.
        has_rank: (Q,) whether the right person is among the first R.
        nonmated: (E,) highest score of each non-mated search.
    """

    def __init__(self, mated: Floats, has_rank: Bools, nonmated: Floats) -> None:
        self.hits = np.flatnonzero(has_rank)[np.argsort(-mated[has_rank], kind="stable")]
        self.order = np.argsort(-nonmated, kind="stable")
        descending = nonmated[self.order]
        # A threshold cannot separate equal scores, so only the last of them is an operating point.
        self.ends = np.flatnonzero(np.append(np.diff(descending) != 0, True))
        ascending = mated[self.hits][::-1]
        # above[k]: number of hits above the k-th highest distinct non-mated score; at the end all.
        below = np.searchsorted(ascending, descending[self.ends], side="right")
        self.above = np.append(len(ascending) - below, len(ascending))

    def fnir(self, mated_weights: Floats, nonmated_weights: Floats, fpirs: Floats) -> Floats:
        """Return the lowest FNIR at each FPIR; a tolerance makes 3 of 30 a rate of 0.1."""
        false_alarms = np.cumsum(nonmated_weights[self.order])[self.ends]
        allowed = np.searchsorted(false_alarms / false_alarms[-1], fpirs * (1 + 1e-9), side="right")
        hits = np.append(0.0, np.cumsum(mated_weights[self.hits]))
        searches = mated_weights.sum()
        fnir: Floats = (searches - hits[self.above[allowed]]) / searches
        return fnir


def _edges(
    table: _Sorted,
    probe_ids: Integers,
    strangers: Integers,
    fpirs: Floats,
    bootstrap: int,
    seed: int,
) -> Floats | None:
    """Return the (2, K) bootstrap interval of FNIR at each FPIR; None with a single person."""
    mated = np.unique(probe_ids, return_inverse=True)[1]
    if not bootstrap or mated.max() == 0 or strangers.max() == 0:
        return None
    rng = np.random.default_rng(seed)
    draws = [
        table.fnir(_resampled(mated, rng), _resampled(strangers, rng), fpirs)
        for _ in range(bootstrap)
    ]
    return np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)


def _resampled(person: NDArray[np.integer], rng: np.random.Generator) -> Floats:
    """Return how often each probe occurs when people are drawn with replacement."""
    people = int(person.max()) + 1
    drawn = rng.integers(people, size=people)
    times: Floats = np.bincount(drawn, minlength=people)[person].astype(np.float64)
    return times
