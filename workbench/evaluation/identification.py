"""Identification among distractors: who of the gallery is on a probe, with strangers among the candidates.

Kemelmacher-Shlizerman et al., "The MegaFace benchmark: 1 million faces for recognition at scale", CVPR 2016. There, the
candidates for a probe are one other image of its person and the distractors (`candidates="megaface"`). By default they are
the distractors and everybody in the gallery, as people who are enrolled can be taken for each other too: people of the gallery
are ranked by the best of their images, distractors image by image. Ties count against the model: whoever scores as high as
the right person ranks before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.arrays import Floats, Integers
from workbench.errors import WorkbenchError, unknown_name
from workbench.evaluation.intervals import LEVEL, bootstrap_in_words, supported
from workbench.evaluation.open_set import OpenSetResult
from workbench.evaluation.search import (
    BLOCK,
    Enrolled,
    Strangers,
    among_enrolled,
    blocks,
    enrol,
    known_count,
    parts,
)

FARS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
MAX_RANK = 100
Candidates = Literal["gallery", "megaface"]


@dataclass(frozen=True)
class IdentificationResult:
    """How often the right person is found, and how far that depends on the number of strangers.

    A search is one probe, whose person is to be found; by MegaFace's rule one probe with one of its mates, the other images
    of its person.

    Attributes:
        accuracy: rank-1, the share of searches in which the right person comes before all other candidates.
        interval: bootstrap interval (low, high) of it, people redrawn; None if not asked for, or of fewer than two people.
            Where no search fails it shrinks to a point, which says no more than that.
        cmc: (K,) share of searches in which the right person is among the first 1, 2, ..., K candidates.
        cmc_band: (2, K) low and high of it, or None.
        distractor_counts: (C,) numbers of distractors, ascending, the last is all of them.
        distractor_rates: (C,) rank-1 with so many of them, the mean over all subsets of that size.
        distractor_band: (2, C) low and high of it, or None.
        tar_at_far: {FAR: highest TAR whose false accepts do not exceed FAR}; genuine pairs are those of a probe with each
            gallery image of its person (by MegaFace's rule with each mate), impostor pairs those of a probe with a distractor.
        ranks: (S,) place of the right person among the candidates of each search, 1 is best.
        identities: (S,) who is searched for.
        probes: number of probes.
        enrolled: number of people in the gallery; by MegaFace's rule of those with a mate.
        genuine: number of genuine pairs.
        candidates: whom a probe is compared with, "gallery" or "megaface".
        open_set: what happens when those who ask need not be enrolled, where that was measured.
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
    probes: int
    enrolled: int
    genuine: int
    candidates: str = "gallery"
    open_set: OpenSetResult | None = None
    name: str = ""
    note: str = ""
    protocol: dict[str, Any] = field(default_factory=dict)

    @property
    def distractors(self) -> int:
        return int(self.distractor_counts[-1])

    @property
    def impostors(self) -> int:
        """Number of impostor pairs."""
        return self.probes * self.distractors

    def supported(self, far: float) -> bool:
        """Whether at least 10 false accepts are expected at this FAR among comparisons of different people.

        Several probes of a person with the same stranger are one such comparison.
        """
        return supported(
            min(self.impostors, len(np.unique(self.identities)) * self.distractors), far
        )


def identification(
    probes: NDArray[np.floating],
    gallery: NDArray[np.floating],
    distractors: Strangers,
    probe_ids: ArrayLike,
    gallery_ids: ArrayLike,
    *,
    candidates: Candidates = "gallery",
    max_rank: int = MAX_RANK,
    fars: Sequence[float] = FARS,
    bootstrap: int = 1000,
    seed: int = 0,
    block: int = BLOCK,
) -> IdentificationResult:
    """Find the people of the probes in the gallery, by the cosine of embeddings.

    The figures do not depend on `block`, nor on the order of images or how the distractors are cut into blocks. Distractors
    are gone through once and no more than `block` of them are held in float64.

    Args:
        probes: (Q, D). gallery: (G, D).
        distractors: (E, D), of people who are neither; in memory, an `np.memmap`, or an iterable of blocks (n, D), which
            should be of some hundreds at least. Blocks that come from a generator cost more time, as it is not known at
            the beginning how many impostor scores a FAR allows.
        probe_ids: (Q,) integers, each of which is in the gallery. gallery_ids: (G,) integers.
        candidates: "gallery", the distractors and everybody in the gallery; or "megaface", the distractors and one image of
            the probe's person, each of its other images in turn. By the latter rule the images of the gallery are probes
            and mates like all others, and people with a single image play no part.
        max_rank: length of the CMC, or as many candidates as there are.
        fars: false accept rates to give the TAR at, in (0, 1].
        bootstrap: resamples of the people on the probes, for the 95 % intervals; 0 for none. They say nothing of other
            distractors or of another training run.
        seed: of the resampling.
        block: probes and distractors to compare at once, at most block x block scores are held.

    Raises:
        WorkbenchError: shapes do not fit, an embedding is not finite, or a person on a probe is not in the gallery.
    """
    if candidates not in get_args(Candidates):
        raise unknown_name("rule for candidates", candidates, get_args(Candidates))
    if any(not 0 < far <= 1 for far in fars):
        raise WorkbenchError(f"false accept rates must be in (0, 1], got {list(fars)}")
    if bootstrap < 0 or max_rank < 1 or block < 1:
        raise WorkbenchError(
            f"max_rank and block must be at least 1 and bootstrap 0, got {max_rank}, {block} and {bootstrap}"
        )
    known = enrol(probes, gallery, probe_ids, gallery_ids)
    searches = _in_gallery(known, block) if candidates == "gallery" else _with_each_mate(known)
    asked = len(searches.asked)
    promised = known_count(distractors)
    most = None if promised is None else _false_accepts(max(fars, default=1.0), asked * promised)
    beaten, reached, total = _among_distractors(searches, distractors, most, block)
    ranks = 1 + searches.before + beaten
    people, person = np.unique(searches.person, return_inverse=True)
    longest = min(max_rank, searches.others + 1 + total)
    counts = _one_two_five(total)
    # Of each person: how many of the searches find it by rank k, and how often is it first among so many distractors?
    found = np.hstack(
        [
            _by_rank(ranks, person, len(people), longest),
            _among_fewer(
                np.where(searches.before == 0, beaten, -1), person, len(people), total, counts
            ),
        ]
    )
    of_each = np.bincount(person)
    rates = found.sum(axis=0) / len(ranks)
    band = _band(found, of_each, bootstrap, seed)
    return IdentificationResult(
        accuracy=float(rates[0]),
        interval=None if band is None else (float(band[0, 0]), float(band[1, 0])),
        cmc=rates[:longest],
        cmc_band=None if band is None else band[:, :longest],
        distractor_counts=counts,
        distractor_rates=rates[longest:],
        distractor_band=None if band is None else band[:, longest:],
        tar_at_far={far: _tar_at(_false_accepts(far, asked * total), reached) for far in fars},
        ranks=ranks,
        identities=searches.person,
        probes=asked,
        enrolled=len(people) if candidates == "megaface" else len(np.unique(known.people)),
        genuine=len(searches.genuine),
        candidates=candidates,
        protocol={
            **_PROTOCOLS[candidates],
            "fewer distractors": "mean over all subsets of that size",
            "interval": "none"
            if band is None
            else bootstrap_in_words(f"{len(people):,} people", bootstrap),
        },
    )


_PROTOCOLS = {
    "gallery": {
        "candidates": "everybody in the gallery, by the best of their images, and each distractor; ties count as misses",
        "pairs": "genuine: a probe and a gallery image of its person; impostor: a probe and a distractor",
    },
    "megaface": {
        "candidates": "MegaFace's rule: one other image of the probe's person, each in turn, and each distractor, but nobody "
        "else who is enrolled; images of the gallery are probes too; ties count as misses",
        "pairs": "genuine: a probe and another image of its person; impostor: a probe and a distractor",
    },
}


class _Searches(NamedTuple):
    """What is searched for: (S,) arrays, the searches of a probe one behind the other."""

    asked: Floats
    """(Q, D) the probes"""
    probe: Integers
    """ascending, each probe at least once"""
    person: Integers
    right: Floats
    """score that a distractor must reach"""
    before: Integers
    """candidates that come before the right one already"""
    others: int
    """candidates who are neither distractors nor the right one"""
    genuine: Floats
    """sorted scores of all genuine pairs"""


def _in_gallery(known: Enrolled, block: int) -> _Searches:
    """One search a probe, among everybody who is enrolled."""
    best, before, genuine = among_enrolled(known, block)
    others = len(np.unique(known.people)) - 1
    return _Searches(
        known.probes, np.arange(len(known.probes)), known.wanted, best, before, others, genuine
    )


def _with_each_mate(known: Enrolled) -> _Searches:
    """A search for each probe and each other image of its person, of which no more than one is a candidate at a time."""
    images, identities = (
        np.concatenate([known.gallery, known.probes]),
        np.concatenate([known.people, known.wanted]),
    )
    order = np.argsort(identities, kind="stable")
    _, first, counts = np.unique(identities[order], return_index=True, return_counts=True)
    kept, probe, person, right, done = [], [], [], [], 0
    for begin, count in zip(first, counts, strict=True):
        if count < 2:
            continue
        mine = order[begin : begin + count]
        scores = images[mine] @ images[mine].T
        others = ~np.eye(count, dtype=bool)
        kept.append(mine)
        probe.append(done + np.nonzero(others)[0])
        person.append(np.full(count * (count - 1), identities[mine[0]]))
        right.append(scores[others])
        done += count
    scored = np.concatenate(right)
    asked, before = images[np.concatenate(kept)], np.zeros(len(scored), dtype=np.int64)
    return _Searches(
        asked, np.concatenate(probe), np.concatenate(person), scored, before, 0, np.sort(scored)
    )


def _among_distractors(
    searches: _Searches, distractors: Strangers, most: int | None, block: int
) -> tuple[Integers, Integers, int]:
    """How many distractors reach each search's right score, how many impostor scores each genuine score; number of distractors.

    Impostor scores are counted only until there are more than `most`, if that is known: soon few of them have to be sorted.
    """
    asked, probe, _, right, _, _, genuine = searches
    beaten, reached, total = (
        np.zeros(len(right), dtype=np.int64),
        np.zeros(len(genuine), dtype=np.int64),
        0,
    )
    first = np.searchsorted(probe, np.arange(len(asked) + 1))
    for others in blocks(distractors, asked.shape[1], block, "distractors"):
        total += len(others)
        for part in parts(len(asked), block):
            scores = asked[part] @ others.T
            own = slice(first[part.start], first[part.stop])
            beaten[own] += _reaching(scores, probe[own] - part.start, right[own])
            counted = (
                0 if most is None else int((reached > most).sum())
            )  # they come first, as genuine scores ascend
            if counted < len(genuine):
                high = np.sort(scores[scores >= genuine[counted]])
                reached[counted:] += len(high) - np.searchsorted(high, genuine[counted:])
    return beaten, reached, total


def _reaching(scores: Floats, row: Integers, wanted: Floats) -> Integers:
    """How many scores of its row reach each wanted one. row: ascending, each of the (R, E) scores' rows at least once."""
    if len(row) == len(scores):
        counts: Integers = (scores >= wanted[:, None]).sum(axis=1)
        return counts
    ordered = np.sort(scores, axis=1)
    low, high = np.zeros(len(row), dtype=np.int64), np.full(len(row), scores.shape[1])
    while (
        low < high
    ).any():  # a binary search in all rows at once, for the first that is not lower
        middle = (low + high) // 2
        lower = (low < high) & (ordered[row, np.minimum(middle, scores.shape[1] - 1)] < wanted)
        low, high = np.where(lower, middle + 1, low), np.where(lower, high, middle)
    reaching: Integers = scores.shape[1] - low
    return reaching


def _false_accepts(far: float, impostors: int) -> int:
    """How many a FAR allows; a hair more, so that 3 of 30 is a rate of 0.1."""
    return int(far * (1 + 1e-9) * impostors)


def _one_two_five(total: int) -> Integers:
    """1, 2, 5, 10, 20, ... below `total`, and `total`."""
    steps = [digit * 10**power for power in range(len(str(total))) for digit in (1, 2, 5)]
    return np.array([*(step for step in steps if step < total), total], dtype=np.int64)


def _by_rank(ranks: Integers, person: Integers, people: int, longest: int) -> Floats:
    """(P, K) of each person the number of searches that find it by rank 1, 2, ..., K."""
    cells = person * (longest + 1) + np.minimum(ranks - 1, longest)
    counts = np.bincount(cells, minlength=people * (longest + 1)).reshape(people, longest + 1)
    return counts[:, :longest].cumsum(axis=1).astype(np.float64)


def _among_fewer(
    beaten: Integers, person: Integers, people: int, total: int, counts: Integers
) -> Floats:
    """(P, C) of each person the number of searches that find it first among so many distractors, the mean over all subsets.

    Args:
        beaten: (S,) how many of the `total` distractors come before the right person; -1 where somebody else does anyway.
    """
    drawn = np.arange(max(int(beaten.max()), 0))
    columns = []
    for count in counts:
        # One stranger after the other must be outside the subset: (total - count) / total, (total - count - 1) / (total - 1) ...
        outside = np.maximum(total - count - drawn, 0) / (total - drawn)
        spared = np.concatenate([[1.0], np.cumprod(outside), [0.0]])  # the last is what -1 finds
        columns.append(np.bincount(person, weights=spared[beaten], minlength=people))
    return np.column_stack(columns)


def _band(found: Floats, of_each: Integers, bootstrap: int, seed: int) -> Floats | None:
    """(2, K) low and high of each column's mean over searches when the people, with all their searches, are drawn anew."""
    people = len(of_each)
    if not bootstrap or people < 2:
        return None
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(people, np.full(people, 1 / people), size=bootstrap).astype(
        np.float64
    )
    draws = weights @ found / (weights @ of_each)[:, None]
    return np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)


def _tar_at(most: int, reached: Integers) -> float:
    """Highest TAR with at most so many false accepts.

    Genuine scores are all the thresholds it takes: the next one above any other accepts as many genuine pairs, and no more
    impostors.
    """
    return float((reached <= most).mean())
