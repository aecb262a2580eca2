"""Exact error rates over more impostor scores than fit into memory: 10^8 of them, or all pairs of a labelled set.

A true accept rate only changes at genuine scores. How many impostor scores reach each of those, and how many exceed it, fixes every
corner of the ROC, so impostor scores are counted as they come by and none is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm.auto import tqdm

from workbench.arrays import Bools, Floats, Integers
from workbench.errors import WorkbenchError
from workbench.evaluation.intervals import supported
from workbench.evaluation.search import BLOCK, blocks, parts
from workbench.evaluation.verification import Roc, equal_error_rate, tar_at

FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
AT_ONCE = 2**18
"""Impostor scores that are sorted at once, or as many as there are genuine ones: 2 MiB stay in the processor's cache."""
MOST_GENUINE = 500_000_000
"""Genuine pairs of a labelled set whose scores are held: 4 GB."""


@dataclass(frozen=True)
class StreamedResult:
    """What genuine and impostor scores say; `wb.plots.roc` and `det` draw it.

    Attributes:
        auc: area under the ROC, ties counted half.
        eer: the rate at which FAR and 1 - TAR meet.
        tar_at_far: {FAR: highest TAR whose false accepts do not exceed FAR}.
        roc: the ROC's corners: at each distinct genuine score, and just above it. Between two of them it is level.
        genuine, impostors: numbers of scores.
        protocol: how the figures were made, to be printed beside them.
    """

    auc: float
    eer: float
    tar_at_far: dict[float, float]
    roc: Roc
    genuine: int
    impostors: int
    protocol: dict[str, Any] = field(default_factory=dict)

    @property
    def band(self) -> None:
        """There is none: a jackknife would need the scores again."""

    def supported(self, far: float) -> bool:
        """Whether at least 10 false accepts are expected at this FAR."""
        return supported(self.impostors, far)


def stream_roc(
    genuine: ArrayLike,
    impostor_chunks: Iterable[ArrayLike],
    *,
    fars: Sequence[float] = FARS,
    progress: str = "",
    total: int | None = None,
) -> StreamedResult:
    """Exact ROC, TAR at FAR, AUC and EER in one pass over the impostor scores.

    Memory is that of the genuine scores, a few times, and of one chunk. The result does not depend on where chunks are cut.

    Args:
        genuine: (G,) similarities of genuine pairs, finite.
        impostor_chunks: arrays (n,) of similarities of impostor pairs, such as a generator makes or slices of a `np.memmap`;
            some may be empty.
        fars: false accept rates to give the TAR at, in (0, 1].
        progress: title of a progress bar; none if empty.
        total: number of impostor scores, for the bar.

    Raises:
        WorkbenchError: no genuine or no impostor scores, arrays of another shape, or a score that is NaN or infinite.
    """
    if any(not 0 < far <= 1 for far in fars):
        raise WorkbenchError(f"false accept rates must be in (0, 1], got {list(fars)}")
    known, times = np.unique(_checked(genuine, "genuine scores", 0), return_counts=True)
    reached, above = np.zeros(len(known), dtype=np.int64), np.zeros(len(known), dtype=np.int64)
    count, lowest = 0, np.inf
    if not len(known):
        raise WorkbenchError("there are no genuine scores; at least one is needed")
    with tqdm(
        total=total,
        desc=progress,
        unit="score",
        unit_scale=True,
        disable=not progress,
        dynamic_ncols=True,
    ) as bar:
        for chunk in _gathered(impostor_chunks, max(AT_ONCE, len(known))):
            high = np.sort(chunk[chunk >= known[0]])  # the others reach none
            reached += len(high) - np.searchsorted(high, known, side="left")
            above += len(high) - np.searchsorted(high, known, side="right")
            count, lowest = count + len(chunk), min(lowest, float(chunk.min()))
            bar.update(len(chunk))
    if not count:
        raise WorkbenchError("there are no impostor scores; at least one is needed")
    curve = _corners(known, times, reached, above, count, lowest)
    return StreamedResult(
        auc=float(np.trapezoid(curve.tar, curve.far)),
        eer=equal_error_rate(curve.far, curve.tar),
        tar_at_far={far: float(tar_at(curve.far, curve.tar, far)) for far in fars},
        roc=curve,
        genuine=int(times.sum()),
        impostors=count,
        protocol={
            "pairs": f"{times.sum():,} genuine, {count:,} impostor",
            "threshold": "every score; none is rounded",
            "interval": "none",
        },
    )


def all_pairs_roc(
    embeddings: NDArray[np.floating],
    identities: ArrayLike,
    *,
    block: int = BLOCK,
    fars: Sequence[float] = FARS,
    progress: str = "",
) -> StreamedResult:
    """Verification over all pairs of a labelled set: every two images of a person, and of two people.

    There is no matrix of all scores: they come in blocks, of which two passes are made. The figures do not depend on the size of a
    block nor on the order of the images, as the sums in a cosine are exact (`search.on_grid`).

    Args:
        embeddings: (N, D), in memory or in a file (`np.memmap`); on the grid they take 8 N D bytes.
        identities: (N,) integers from 0 on.
        block: images to compare at once with as many others.
        fars: false accept rates to give the TAR at, in (0, 1].
        progress: title of a progress bar; none if empty.

    Raises:
        WorkbenchError: shapes do not fit, an embedding is not finite, an identity is unknown (-1), there are no genuine or no
            impostor pairs, or more genuine ones than `MOST_GENUINE`.
    """
    people = np.asarray(identities)
    if (
        embeddings.ndim != 2
        or people.shape != embeddings.shape[:1]
        or people.dtype.kind not in "iu"
    ):
        raise WorkbenchError(
            f"embeddings have shape {embeddings.shape} and identities are {people.dtype} of shape {people.shape}, "
            "expected (N, D) and integers (N,)"
        )
    if len(people) and people.min() < 0:
        raise WorkbenchError(
            "an identity is -1, so it is not known who is on the image; leave these images out"
        )
    if block < 1:
        raise WorkbenchError(f"block must be at least 1, got {block}")
    _, counts = np.unique(people, return_counts=True)
    genuine = int((counts * (counts - 1) // 2).sum())
    impostors = len(people) * (len(people) - 1) // 2 - genuine
    if not genuine or not impostors:
        raise WorkbenchError(
            f"{genuine} genuine and {impostors} impostor pairs; at least one of each is needed"
        )
    if genuine > MOST_GENUINE:
        raise WorkbenchError(
            f"{genuine:,} genuine pairs are more than the {MOST_GENUINE:,} that are held; take fewer images of each person"
        )
    order = np.argsort(people, kind="stable")
    people = people[order]
    unit = np.empty(embeddings.shape)
    done = 0
    for part in blocks(
        (embeddings[order[part]] for part in parts(len(order), block)),
        embeddings.shape[1],
        block,
        "embeddings",
    ):
        unit[done : done + len(part)] = part
        done += len(part)
    own = np.concatenate(
        [scores[same] for scores, same in _compared(unit, people, block, of_one_person=True)]
    )
    result = stream_roc(
        own,
        (scores[~same] for scores, same in _compared(unit, people, block)),
        fars=fars,
        progress=progress,
        total=impostors,
    )
    told = {
        "score": "cosine of the embeddings",
        **result.protocol,
        "pairs": f"all pairs of {len(people):,} images; {result.protocol['pairs']}",
    }
    return replace(result, protocol=told)


def _compared(
    unit: Floats, people: Integers, block: int, of_one_person: bool = False
) -> Iterator[tuple[Floats, Bools]]:
    """Scores of pairs i < j, and whether both are one person, block by block; `of_one_person` passes over blocks without such."""
    for rows in parts(len(unit), block):
        for columns in parts(len(unit), block):
            apart = people[columns.start] > people[rows.stop - 1]  # people are sorted
            if columns.start < rows.start or (of_one_person and apart):
                continue
            scores = unit[rows] @ unit[columns].T
            if apart:
                yield scores.ravel(), np.zeros(scores.size, dtype=bool)
                continue
            chosen = np.arange(rows.start, rows.stop)[:, None] < np.arange(
                columns.start, columns.stop
            )
            same = people[rows, None] == people[columns]
            yield scores[chosen], same[chosen]


def _gathered(chunks: Iterable[ArrayLike], least: int) -> Iterator[Floats]:
    """Scores in arrays of about `least`, whatever comes in: few passes over many genuine scores, nor more held than that."""
    waiting: list[Floats] = []
    held = 0
    for number, given in enumerate(chunks):
        chunk = np.asarray(given)
        for part in parts(
            len(chunk) if chunk.ndim == 1 else 1, least
        ):  # what is no (n,) is refused as a whole
            scores = _checked(
                chunk[part] if chunk.ndim == 1 else chunk,
                f"impostor scores of chunk {number}",
                part.start,
            )
            waiting.append(scores.copy())  # whoever makes them may use the memory again
            held += len(scores)
            if held >= least:
                yield np.concatenate(waiting)
                waiting, held = [], 0
    if held:
        yield np.concatenate(waiting)


def _checked(scores: ArrayLike, what: str, first: int) -> Floats:
    values = np.asarray(scores)
    if values.ndim != 1 or values.dtype.kind not in "fiu":
        raise WorkbenchError(
            f"{what} are {values.dtype} of shape {values.shape}, expected numbers of shape (n,)"
        )
    finite = np.isfinite(values)
    if not finite.all():
        bad = int(np.argmin(finite))
        raise WorkbenchError(
            f"{what}: number {first + bad} is {values[bad]}; all scores must be finite numbers"
        )
    return values.astype(np.float64, copy=False)


def _corners(
    known: Floats, times: Integers, reached: Integers, above: Integers, count: int, lowest: float
) -> Roc:
    """The ROC's corners from the strictest threshold to the laxest, each once."""
    genuine = times[::-1].cumsum()
    before = np.append(0, genuine[:-1])
    far = np.stack([above[::-1], reached[::-1]], axis=1).ravel()
    tar = np.stack([before, genuine], axis=1).ravel()
    thresholds = np.stack([np.nextafter(known, np.inf)[::-1], known[::-1]], axis=1).ravel()
    far, tar = np.concatenate([[0], far, [count]]), np.concatenate([[0], tar, [genuine[-1]]])
    thresholds = np.concatenate([[np.inf], thresholds, [lowest]])
    kept = np.append(True, (np.diff(far) != 0) | (np.diff(tar) != 0))
    return Roc(far[kept] / count, tar[kept] / genuine[-1], thresholds[kept])
