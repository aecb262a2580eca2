"""Computes exact error rates from more impostor scores than fit into memory, such as 10^8.

TAR changes only at genuine scores. The numbers of impostor scores that reach and that exceed each
genuine score determine every corner of the ROC curve. So impostor scores are counted chunk by
chunk, and none is stored.
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
"""Impostor scores that are sorted at once; 2 MiB fit into a CPU cache."""
MOST_GENUINE = 500_000_000
"""Most genuine pairs of a labelled set; their scores take 4 GB."""


@dataclass(frozen=True)
class StreamedResult:
    """Verification figures from a stream of impostor scores; `wb.plots.roc` and `det` draw them.

    Attributes:
        auc: area under the ROC curve; ties count half.
        eer: the rate at which FAR and 1 - TAR are equal.
        tar_at_far: {FAR: highest TAR at which FAR is not exceeded}.
        roc: corners of the ROC curve: at each distinct genuine score, and just above it. Between
            two corners the curve is level.
        genuine: number of genuine scores.
        impostors: number of impostor scores.
        protocol: how the figures were made.
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
        """Always None: a jackknife would need the scores again."""

    def supported(self, far: float) -> bool:
        """Whether at least 10 false accepts are expected at a FAR."""
        return supported(self.impostors, far)


def stream_roc(
    genuine: ArrayLike,
    impostor_chunks: Iterable[ArrayLike],
    *,
    fars: Sequence[float] = FARS,
    progress: str = "",
    total: int | None = None,
) -> StreamedResult:
    """Compute exact ROC, TAR at FAR, AUC and EER in one pass over the impostor scores.

    The memory needed is a few times that of the genuine scores, and that of one chunk. The result
    does not depend on how the scores are divided into chunks.

    Args:
        genuine: (G,) similarities of genuine pairs, finite.
        impostor_chunks: arrays (n,) of similarities of impostor pairs, from a generator or as
            slices of a `np.memmap`; chunks may be empty.
        fars: false accept rates at which TAR is computed, in (0, 1].
        progress: title of a progress bar; empty for none.
        total: number of impostor scores, for the progress bar.

    Returns:
        The figures.

    Raises:
        WorkbenchError: if there are no genuine or no impostor scores, an array has another shape,
            or a score is NaN or infinite.

    Example:
        >>> result = stream_roc([0.9, 0.8], [[0.1, 0.2], [0.85]], fars=[0.5])
        >>> result.impostors, result.tar_at_far
        (3, {0.5: 1.0})
    """
    if any(not 0 < far <= 1 for far in fars):
        raise WorkbenchError(f"false accept rates must be in (0, 1], got {list(fars)}")
    distinct, times = np.unique(_checked(genuine, "genuine scores", 0), return_counts=True)
    reached = np.zeros(len(distinct), dtype=np.int64)
    above = np.zeros(len(distinct), dtype=np.int64)
    count, lowest = 0, np.inf
    if not len(distinct):
        raise WorkbenchError("there are no genuine scores; at least one is needed")
    with tqdm(
        total=total,
        desc=progress,
        unit="score",
        unit_scale=True,
        disable=not progress,
        dynamic_ncols=True,
    ) as bar:
        for chunk in _gathered(impostor_chunks, max(AT_ONCE, len(distinct))):
            high = np.sort(chunk[chunk >= distinct[0]])  # lower scores reach no genuine score
            reached += len(high) - np.searchsorted(high, distinct, side="left")
            above += len(high) - np.searchsorted(high, distinct, side="right")
            count, lowest = count + len(chunk), min(lowest, float(chunk.min()))
            bar.update(len(chunk))
    if not count:
        raise WorkbenchError("there are no impostor scores; at least one is needed")
    curve = _corners(distinct, times, reached, above, count, lowest)
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
    """Compute verification figures over all pairs of a labelled set of images.

    The scores are computed in blocks, in two passes, without a matrix of all scores. The figures do
    not depend on the size of a block or the order of the images, as the sums in a cosine are exact
    (`search.on_grid`).

    Args:
        embeddings: (N, D) embeddings, in memory or in a file (`np.memmap`); a copy in float64 takes
            8 N D bytes.
        identities: (N,) identities, integers from 0 on.
        block: images that are compared at once with as many others.
        fars: false accept rates at which TAR is computed, in (0, 1].
        progress: title of a progress bar; empty for none.

    Returns:
        The figures.

    Raises:
        WorkbenchError: if the shapes do not match, an embedding is not finite, an identity is
            unknown (-1), there are no genuine or no impostor pairs, or more than `MOST_GENUINE`
            genuine ones.

    Example:
        >>> import numpy as np
        >>> all_pairs_roc(np.eye(4)[[0, 0, 1, 1]], [0, 0, 1, 1]).auc
        1.0
    """
    people = _checked_people(identities, embeddings)
    if block < 1:
        raise WorkbenchError(f"block must be at least 1, got {block}")
    impostors = _count_impostors(people)
    order = np.argsort(people, kind="stable")
    people = people[order]
    unit = np.empty(embeddings.shape)
    in_order = (embeddings[order[part]] for part in parts(len(order), block))
    done = 0
    for rounded in blocks(in_order, embeddings.shape[1], block, "embeddings"):
        unit[done : done + len(rounded)] = rounded
        done += len(rounded)
    same_person = _compared(unit, people, block, of_one_person=True)
    genuine = np.concatenate([scores[same] for scores, same in same_person])
    result = stream_roc(
        genuine,
        (scores[~same] for scores, same in _compared(unit, people, block)),
        fars=fars,
        progress=progress,
        total=impostors,
    )
    protocol = {
        "score": "cosine of the embeddings",
        **result.protocol,
        "pairs": f"all pairs of {len(people):,} images; {result.protocol['pairs']}",
    }
    return replace(result, protocol=protocol)


def _checked_people(identities: ArrayLike, embeddings: NDArray[np.floating]) -> Integers:
    """Check the identities of embeddings."""
    people = np.asarray(identities)
    shapes_match = embeddings.ndim == 2 and people.shape == embeddings.shape[:1]
    if not shapes_match or people.dtype.kind not in "iu":
        raise WorkbenchError(
            f"embeddings have shape {embeddings.shape} and identities are {people.dtype} of shape "
            f"{people.shape}, expected (N, D) and integers (N,)"
        )
    if len(people) and people.min() < 0:
        raise WorkbenchError(
            "an identity is -1, so it is not known who is on the image; leave these images out"
        )
    return people


def _count_impostors(people: Integers) -> int:
    """Return the number of impostor pairs; raise an error if a kind of pairs is missing."""
    _, counts = np.unique(people, return_counts=True)
    genuine = int((counts * (counts - 1) // 2).sum())
    impostors = len(people) * (len(people) - 1) // 2 - genuine
    if not genuine or not impostors:
        raise WorkbenchError(
            f"{genuine} genuine and {impostors} impostor pairs; at least one of each is needed"
        )
    if genuine > MOST_GENUINE:
        raise WorkbenchError(
            f"{genuine:,} genuine pairs are more than the {MOST_GENUINE:,} that are held; use "
            "fewer images of each person"
        )
    return impostors


def _compared(
    unit: Floats, people: Integers, block: int, of_one_person: bool = False
) -> Iterator[tuple[Floats, Bools]]:
    """Yield the scores of all pairs i < j in blocks, and whether each pair is genuine.

    Args:
        unit: (N, D) embeddings of length 1, sorted by person.
        people: (N,) identities, ascending.
        block: images per block.
        of_one_person: whether blocks without genuine pairs are skipped.

    Yields:
        (n,) scores, and (n,) True for genuine pairs.
    """
    for rows in parts(len(unit), block):
        for columns in parts(len(unit), block):
            no_genuine = people[columns.start] > people[rows.stop - 1]  # people are sorted
            if columns.start < rows.start or (of_one_person and no_genuine):
                continue
            scores = unit[rows] @ unit[columns].T
            if no_genuine:
                yield scores.ravel(), np.zeros(scores.size, dtype=bool)
                continue
            chosen = np.arange(rows.start, rows.stop)[:, None] < np.arange(
                columns.start, columns.stop
            )
            same = people[rows, None] == people[columns]
            yield scores[chosen], same[chosen]


def _gathered(chunks: Iterable[ArrayLike], least: int) -> Iterator[Floats]:
    """Yield scores in arrays of about `least`, so that chunks of any size take few passes."""
    waiting: list[Floats] = []
    held = 0
    for number, scores in enumerate(chunks):
        chunk = np.asarray(scores)
        # A chunk that is not (n,) is passed on as a whole, to be refused.
        for part in parts(len(chunk) if chunk.ndim == 1 else 1, least):
            piece = chunk[part] if chunk.ndim == 1 else chunk
            checked = _checked(piece, f"impostor scores of chunk {number}", part.start)
            waiting.append(checked.copy())  # a generator may use its memory again
            held += len(checked)
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
    distinct: Floats, times: Integers, reached: Integers, above: Integers, count: int, lowest: float
) -> Roc:
    """Compute the corners of the ROC curve, from the highest threshold to the lowest, each once.

    Args:
        distinct: (K,) distinct genuine scores, ascending.
        times: (K,) how often each occurs.
        reached: (K,) number of impostor scores that reach each of them.
        above: (K,) number of impostor scores that exceed each of them.
        count: number of impostor scores.
        lowest: lowest impostor score.
    """
    genuine = times[::-1].cumsum()
    before = np.append(0, genuine[:-1])
    far = np.stack([above[::-1], reached[::-1]], axis=1).ravel()
    tar = np.stack([before, genuine], axis=1).ravel()
    thresholds = np.stack([np.nextafter(distinct, np.inf)[::-1], distinct[::-1]], axis=1).ravel()
    far, tar = np.concatenate([[0], far, [count]]), np.concatenate([[0], tar, [genuine[-1]]])
    thresholds = np.concatenate([[np.inf], thresholds, [lowest]])
    kept = np.append(True, (np.diff(far) != 0) | (np.diff(tar) != 0))
    return Roc(far[kept] / count, tar[kept] / genuine[-1], thresholds[kept])
