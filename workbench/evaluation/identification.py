"""Identification: probes are searched for in a gallery, with distractors among the candidates.

Kemelmacher-Shlizerman et al., "The MegaFace benchmark: 1 million faces for recognition at scale",
CVPR 2016. By MegaFace's rule, the candidates for a probe are one other image of its person and the
distractors (`candidates="megaface"`). By default, the candidates are the distractors and all
enrolled people, as these can be mistaken for each other too. Enrolled people are ranked by the best
of their images, distractors image by image. Ties count against the model: a candidate with the same
score as the right person ranks before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.arrays import Floats, Integers
from workbench.errors import WorkbenchError, unknown_name
from workbench.evaluation.intervals import LEVEL, bootstrap_in_words, supported
from workbench.evaluation.kinds import (
    Headline,
    Result,
    interval_in_words,
    joined,
    rates_in_words,
    register_result,
    tar_columns,
)
from workbench.evaluation.open_set import OpenSetResult
from workbench.evaluation.search import (
    BLOCK,
    Enrolled,
    Strangers,
    among_enrolled,
    blocks,
    count_if_known,
    enrol,
    parts,
)

FARS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
MAX_RANK = 100
Candidates = Literal["gallery", "megaface"]


@register_result
@dataclass(frozen=True)
class IdentificationResult(Result):
    """Identification figures of a set of probes.

    A search is one probe whose person is to be found. By MegaFace's rule, it is one probe with one
    of its mates, which are the other images of its person.

    Attributes:
        accuracy: rank-1 rate, the share of searches in which the right person ranks first.
        interval: bootstrap interval (low, high) of the rank-1 rate, people resampled; None if not
            requested, or with fewer than two people. If no search fails, the interval has no width,
            although the rate is not certain.
        cmc: (K,) share of searches in which the right person is among the first 1, 2, ..., K.
        cmc_band: (2, K) low and high of `cmc`, or None.
        distractor_counts: (C,) numbers of distractors, ascending; the last includes all of them.
        distractor_rates: (C,) rank-1 rate with each of these numbers of distractors, the mean over
            all subsets of that size.
        distractor_band: (2, C) low and high of `distractor_rates`, or None.
        tar_at_far: {FAR: highest TAR at which FAR is not exceeded}. Genuine pairs are a probe with
            each gallery image of its person (by MegaFace's rule, with each mate); impostor pairs
            are a probe with a distractor.
        ranks: (S,) rank of the right person in each search; 1 is best.
        identities: (S,) identity that is searched for.
        probes: number of probes.
        enrolled: number of people in the gallery; by MegaFace's rule, number of people with at
            least two images.
        genuine: number of genuine pairs.
        candidates: rule for the candidates, "gallery" or "megaface".
        open_set: figures of open-set identification, if they were computed.
        name: name of the evaluation.
        note: what a reader of the figures must know.
        protocol: how the figures were made.
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

    kind: ClassVar[str] = "identification"
    description: ClassVar[str] = "is a benchmark of identification (see the page Identification)"

    @property
    def distractors(self) -> int:
        """Number of distractors."""
        return int(self.distractor_counts[-1])

    @property
    def impostors(self) -> int:
        """Number of impostor pairs."""
        return self.probes * self.distractors

    def supported(self, far: float) -> bool:
        """Whether at least 10 false accepts are expected at a FAR.

        Several probes of one person count as one comparison with a distractor, as they are not
        independent.
        """
        return supported(
            min(self.impostors, len(np.unique(self.identities)) * self.distractors), far
        )

    @property
    def headline(self) -> Headline:
        """The rank-1 rate."""
        return Headline("accuracy", "Rank-1", self.accuracy, self.interval)

    def summary(self) -> str:
        """Rank-1, TAR at the supported FARs and FNIR at the supported FPIRs, in one line."""
        interval = interval_in_words(self.interval)
        rank_one = f"rank-1 {self.accuracy:.2%} {interval} among {self.distractors:,} distractors"
        rates = rates_in_words("TAR at FAR", self.tar_at_far, self.supported)
        misses = "" if self.open_set is None else self.open_set.summary()
        return joined(rank_one, rates, misses)

    def columns(self) -> dict[str, Any]:
        """The figures of the leaderboard's row: rank-1 as accuracy, and TAR at each FAR."""
        return super().columns() | tar_columns(self.tar_at_far, self.supported)

    def details(self) -> dict[str, Any]:
        """The numbers of scores, the protocol, and what differs from it in the open set."""
        scores = f"{self.genuine:,} genuine, {self.impostors:,} impostor"
        protocol = {} if self.open_set is None else self.open_set.protocol
        different = {
            f"open set, {key}": value
            for key, value in protocol.items()
            if self.protocol.get(key) != value
        }
        return {"scores": scores, **self.protocol, **different}

    def figures(self) -> dict[str, Any]:
        """What is stored in the .json file."""
        figures: dict[str, Any] = {
            "accuracy": self.accuracy,
            "interval": None if self.interval is None else list(self.interval),
            "tar_at_far": {f"{far:g}": tar for far, tar in self.tar_at_far.items()},
            "probes": self.probes,
            "enrolled": self.enrolled,
            "genuine": self.genuine,
            "candidates": self.candidates,
        }
        if self.open_set is not None:
            figures["open_set"] = self.open_set.figures()
        return figures

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is stored in the .npz file."""
        stored = {key: getattr(self, key) for key in (*_ARRAYS, *_BANDS)}
        arrays = {key: values for key, values in stored.items() if values is not None}
        return arrays if self.open_set is None else arrays | self.open_set.arrays()

    @classmethod
    def from_stored(cls, figures: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Build the result from stored figures and arrays."""
        stored: dict[str, Any] = {key: arrays[key] for key in _ARRAYS}
        stored |= {key: arrays.get(key) for key in _BANDS}
        interval, open_set = figures["interval"], figures.get("open_set")
        if interval is not None:
            low, high = interval
            interval = (low, high)
        return cls(
            accuracy=figures["accuracy"],
            interval=interval,
            tar_at_far={float(far): tar for far, tar in figures["tar_at_far"].items()},
            # Evaluations from before MegaFace's rule lack both, and have one search per probe.
            probes=figures.get("probes", len(arrays["ranks"])),
            candidates=figures.get("candidates", "gallery"),
            enrolled=figures["enrolled"],
            genuine=figures["genuine"],
            open_set=None if open_set is None else OpenSetResult.from_stored(open_set, arrays),
            **stored,
        )


_ARRAYS = ("cmc", "distractor_counts", "distractor_rates", "ranks", "identities")
_BANDS = ("cmc_band", "distractor_band")


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
    """Compute identification figures, by the cosine of embeddings.

    The figures do not depend on `block`, the order of the images, or the blocks in which the
    distractors are passed. The distractors are read once, and at most `block` of them are held in
    float64.

    Args:
        probes: (Q, D) embeddings of the probes.
        gallery: (G, D) embeddings of the gallery.
        distractors: (E, D) embeddings of other people: in memory, an `np.memmap`, or an iterable of
            blocks (n, D) of several hundred rows. Blocks from a generator take more time, as the
            number of impostor scores that a FAR allows is not known from the start.
        probe_ids: (Q,) identity of each probe, an integer that is in the gallery.
        gallery_ids: (G,) identity of each gallery image, an integer.
        candidates: "gallery": the distractors and all enrolled people. "megaface": the distractors
            and each other image of the probe's person in turn; gallery images are probes and mates
            like all others, and people with a single image are ignored.
        max_rank: highest rank of the CMC; the number of candidates, if there are fewer.
        fars: false accept rates at which TAR is computed, in (0, 1].
        bootstrap: resamples of the people on the probes for the 95 % intervals; 0 for none. The
            intervals do not cover other distractors or other training runs.
        seed: seed of the resampling.
        block: probes and distractors that are compared at once; at most block x block scores are
            held.

    Returns:
        The figures.

    Raises:
        WorkbenchError: if the shapes do not match, an embedding is not finite, or the person on a
            probe is not in the gallery.

    Example:
        >>> import numpy as np
        >>> gallery = np.eye(3)[:2]
        >>> result = identification(gallery, gallery, np.eye(3)[2:], [0, 1], [0, 1], bootstrap=0)
        >>> result.accuracy, result.ranks
        (1.0, array([1, 1]))
    """
    if candidates not in get_args(Candidates):
        raise unknown_name("rule for candidates", candidates, get_args(Candidates))
    if any(not 0 < far <= 1 for far in fars):
        raise WorkbenchError(f"false accept rates must be in (0, 1], got {list(fars)}")
    if bootstrap < 0 or max_rank < 1 or block < 1:
        raise WorkbenchError(
            "max_rank and block must be at least 1, and bootstrap at least 0; got "
            f"{max_rank}, {block} and {bootstrap}"
        )
    enrolled = enrol(probes, gallery, probe_ids, gallery_ids)
    if candidates == "gallery":
        searches, people = _in_gallery(enrolled, block), len(np.unique(enrolled.gallery_ids))
    else:
        searches = _with_each_mate(enrolled)
        people = len(np.unique(searches.person))
    probe_count, expected = len(searches.probes), count_if_known(distractors)
    most = None
    if expected is not None:
        most = _false_accepts(max(fars, default=1.0), probe_count * expected)
    compared = _among_distractors(searches, distractors, most, block)
    total = compared.distractors
    ranks = 1 + searches.before + compared.better
    longest = min(max_rank, searches.other_candidates + 1 + total)
    counts = _one_two_five(total)
    rates, band = _rates(searches, compared, ranks, longest, counts, bootstrap, seed)
    interval, words = None, "none"
    if band is not None:
        interval = (float(band[0, 0]), float(band[1, 0]))
        searched_for = len(np.unique(searches.person))
        words = bootstrap_in_words(f"{searched_for:,} people", bootstrap)
    return IdentificationResult(
        accuracy=float(rates[0]),
        interval=interval,
        cmc=rates[:longest],
        cmc_band=None if band is None else band[:, :longest],
        distractor_counts=counts,
        distractor_rates=rates[longest:],
        distractor_band=None if band is None else band[:, longest:],
        tar_at_far={
            far: _tar_at(_false_accepts(far, probe_count * total), compared.reached) for far in fars
        },
        ranks=ranks,
        identities=searches.person,
        probes=probe_count,
        enrolled=people,
        genuine=len(searches.genuine),
        candidates=candidates,
        protocol={
            **_PROTOCOLS[candidates],
            "fewer distractors": "mean over all subsets of that size",
            "interval": words,
        },
    )


def _rates(
    searches: _Searches,
    compared: _Compared,
    ranks: Integers,
    longest: int,
    counts: Integers,
    bootstrap: int,
    seed: int,
) -> tuple[Floats, Floats | None]:
    """Compute the CMC up to rank `longest`, then rank-1 among each number of distractors.

    Returns:
        (longest + C,) rates, and (2, longest + C) their bootstrap intervals, or None.
    """
    people, person = np.unique(searches.person, return_inverse=True)
    # -1 marks searches in which another enrolled person ranks before the right one.
    better = np.where(searches.before == 0, compared.better, -1)
    hits = np.hstack(
        [
            _by_rank(ranks, person, len(people), longest),
            _among_fewer(better, person, len(people), compared.distractors, counts),
        ]
    )
    return hits.sum(axis=0) / len(ranks), _band(hits, np.bincount(person), bootstrap, seed)


_PROTOCOLS = {
    "gallery": {
        "candidates": (
            "everybody in the gallery, by the best of their images, and each distractor; ties "
            "count as misses"
        ),
        "pairs": (
            "genuine: a probe and a gallery image of its person; impostor: a probe and a distractor"
        ),
    },
    "megaface": {
        "candidates": (
            "MegaFace's rule: one other image of the probe's person, each in turn, and each "
            "distractor, but nobody else who is enrolled; images of the gallery are probes too; "
            "ties count as misses"
        ),
        "pairs": (
            "genuine: a probe and another image of its person; impostor: a probe and a distractor"
        ),
    },
}


class _Searches(NamedTuple):
    """S searches, those of one probe next to each other."""

    probes: Floats
    """(Q, D) embeddings of the probes"""
    probe: Integers
    """(S,) number of the probe, ascending; each probe occurs at least once"""
    person: Integers
    """(S,) identity that is searched for"""
    right_score: Floats
    """(S,) score of the right person, which a distractor must reach to rank before it"""
    before: Integers
    """(S,) number of enrolled people who rank before the right person"""
    other_candidates: int
    """number of candidates who are neither distractors nor the right person"""
    genuine: Floats
    """scores of all genuine pairs, ascending"""


class _Compared(NamedTuple):
    """The comparison of all searches with all distractors."""

    better: Integers
    """(S,) number of distractors that rank before the right person"""
    reached: Integers
    """number of impostor scores that reach each genuine score"""
    distractors: int
    """number of distractors"""


def _in_gallery(enrolled: Enrolled, block: int) -> _Searches:
    """Return one search per probe, among all enrolled people."""
    best, before, genuine = among_enrolled(enrolled, block)
    return _Searches(
        probes=enrolled.probes,
        probe=np.arange(len(enrolled.probes)),
        person=enrolled.probe_ids,
        right_score=best,
        before=before,
        other_candidates=len(np.unique(enrolled.gallery_ids)) - 1,
        genuine=genuine,
    )


def _with_each_mate(enrolled: Enrolled) -> _Searches:
    """Return a search for each probe with each other image of its person."""
    images = np.concatenate([enrolled.gallery, enrolled.probes])
    identities = np.concatenate([enrolled.gallery_ids, enrolled.probe_ids])
    order = np.argsort(identities, kind="stable")
    _, first, counts = np.unique(identities[order], return_index=True, return_counts=True)
    probes, probe, person, right_scores, done = [], [], [], [], 0
    for begin, count in zip(first, counts, strict=True):
        if count < 2:
            continue
        of_person = order[begin : begin + count]
        scores = images[of_person] @ images[of_person].T
        is_mate = ~np.eye(count, dtype=bool)
        probes.append(of_person)
        probe.append(done + np.nonzero(is_mate)[0])
        person.append(np.full(count * (count - 1), identities[of_person[0]]))
        right_scores.append(scores[is_mate])
        done += count
    right_score = np.concatenate(right_scores)
    return _Searches(
        probes=images[np.concatenate(probes)],
        probe=np.concatenate(probe),
        person=np.concatenate(person),
        right_score=right_score,
        before=np.zeros(len(right_score), dtype=np.int64),
        other_candidates=0,
        genuine=np.sort(right_score),
    )


def _among_distractors(
    searches: _Searches, distractors: Strangers, most: int | None, block: int
) -> _Compared:
    """Compare all searches with all distractors.

    Args:
        searches: the searches.
        distractors: embeddings of the distractors.
        most: largest number of false accepts at any FAR; None if it is unknown. The impostor scores
            that reach a genuine score need not be counted beyond this number, so that few scores
            have to be sorted.
        block: at most block x block scores are held at once.
    """
    probes, genuine = searches.probes, searches.genuine
    better = np.zeros(len(searches.right_score), dtype=np.int64)
    reached, total = np.zeros(len(genuine), dtype=np.int64), 0
    first = np.searchsorted(searches.probe, np.arange(len(probes) + 1))
    for of_block in blocks(distractors, probes.shape[1], block, "distractors"):
        total += len(of_block)
        for part in parts(len(probes), block):
            scores = probes[part] @ of_block.T
            own = slice(first[part.start], first[part.stop])
            row = searches.probe[own] - part.start
            better[own] += _reaching(scores, row, searches.right_score[own])
            # Genuine scores ascend, so the ones that are reached often enough are the first.
            enough = 0 if most is None else int((reached > most).sum())
            if enough < len(genuine):
                high = np.sort(scores[scores >= genuine[enough]])
                reached[enough:] += len(high) - np.searchsorted(high, genuine[enough:])
    return _Compared(better, reached, total)


def _reaching(scores: Floats, row: Integers, wanted: Floats) -> Integers:
    """Count the scores that reach a wanted score.

    Args:
        scores: (R, E) scores.
        row: (S,) row of `scores` for each wanted score, ascending; each row occurs at least once.
        wanted: (S,) wanted scores.

    Returns:
        (S,) number of scores in the row that reach the wanted score.
    """
    if len(row) == len(scores):
        counts: Integers = (scores >= wanted[:, None]).sum(axis=1)
        return counts
    ordered = np.sort(scores, axis=1)
    low, high = np.zeros(len(row), dtype=np.int64), np.full(len(row), scores.shape[1])
    # A binary search in all rows at once, for the first score that is not lower.
    while (low < high).any():
        middle = (low + high) // 2
        lower = (low < high) & (ordered[row, np.minimum(middle, scores.shape[1] - 1)] < wanted)
        low, high = np.where(lower, middle + 1, low), np.where(lower, high, middle)
    reaching: Integers = scores.shape[1] - low
    return reaching


def _false_accepts(far: float, impostors: int) -> int:
    """Return how many false accepts a FAR allows.

    A tolerance for rounding ensures that a FAR of 0.1 allows 3 of 30.
    """
    return int(far * (1 + 1e-9) * impostors)


def _one_two_five(total: int) -> Integers:
    """Return 1, 2, 5, 10, 20, ... below `total`, and `total`."""
    steps = [digit * 10**power for power in range(len(str(total))) for digit in (1, 2, 5)]
    return np.array([*(step for step in steps if step < total), total], dtype=np.int64)


def _by_rank(ranks: Integers, person: Integers, people: int, longest: int) -> Floats:
    """Return the (P, K) number of each person's searches with a rank of at most 1, 2, ..., K."""
    cells = person * (longest + 1) + np.minimum(ranks - 1, longest)
    counts = np.bincount(cells, minlength=people * (longest + 1)).reshape(people, longest + 1)
    return counts[:, :longest].cumsum(axis=1).astype(np.float64)


def _among_fewer(
    better: Integers, person: Integers, people: int, total: int, counts: Integers
) -> Floats:
    """Return the (P, C) expected number of each person's searches with rank 1 among C distractors.

    The expectation is over all subsets of the distractors of that size.

    Args:
        better: (S,) how many of the `total` distractors rank before the right person; -1 where
            another enrolled person does.
        person: (S,) person of each search, 0..P-1.
        people: number P of people.
        total: number of distractors.
        counts: (C,) sizes of the subsets.
    """
    earlier = np.arange(max(int(better.max()), 0))
    columns = []
    for count in counts:
        # All better distractors must be outside of the subset, one after the other:
        # (total - count) / total, (total - count - 1) / (total - 1), ...
        outside = np.maximum(total - count - earlier, 0) / (total - earlier)
        # The last entry is 0, which is what the index -1 reads.
        first_probability = np.concatenate([[1.0], np.cumprod(outside), [0.0]])
        columns.append(np.bincount(person, weights=first_probability[better], minlength=people))
    return np.column_stack(columns)


def _band(hits: Floats, searches: NDArray[np.integer], bootstrap: int, seed: int) -> Floats | None:
    """Return the (2, K) bootstrap interval of each rate; None with fewer than two people.

    Args:
        hits: (P, K) number of each person's successful searches.
        searches: (P,) number of each person's searches.
        bootstrap: resamples of people, with all their searches.
        seed: seed of the resampling.
    """
    people = len(searches)
    if not bootstrap or people < 2:
        return None
    rng = np.random.default_rng(seed)
    times = rng.multinomial(people, np.full(people, 1 / people), size=bootstrap)
    weights = times.astype(np.float64)
    draws = weights @ hits / (weights @ searches)[:, None]
    return np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)


def _tar_at(most: int, reached: Integers) -> float:
    """Return the highest TAR with at most `most` false accepts.

    Only genuine scores need to be thresholds: any other threshold accepts as many genuine pairs as
    the next higher genuine score, and no fewer impostor pairs.
    """
    return float((reached <= most).mean())
