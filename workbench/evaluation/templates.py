"""Verification of templates as IJB-B and IJB-C are evaluated: pictures are pooled, and then one embedding a template compared.

The procedure is the one that publications since ArcFace follow (InsightFace's evaluation of IJB-C): Whitelam et al., CVPR
Workshops 2017; Maze et al., ICB 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm.auto import tqdm

from workbench.arrays import Floats, Integers
from workbench.data.benchmark import balanced_folds
from workbench.errors import WorkbenchError
from workbench.evaluation.angles import normalised
from workbench.evaluation.verification import VerificationResult, roc, verification

IJB_FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
IJB_PROTOCOL = "IJB 1:1"
"""Name of the protocol in results; they have no accuracy to be shown, as nearly all pairs are impostors."""
MOST_WITH_INTERVALS = 2_000_000
"""Of more pairs no intervals are made: the figures of IJB-C's pairs without one of ten groups take ten seconds."""
CHUNK_IMAGES, CHUNK_PAIRS = 20_000, 4096


def pool(
    embeddings: NDArray[np.floating],
    templates: Integers,
    media: Integers,
    weights: NDArray[np.floating] | None = None,
    *,
    keep_norm: bool = True,
) -> tuple[Integers, Floats]:
    """One embedding a template: the mean of each medium's pictures, the sum of these, brought to length 1.

    Args:
        embeddings: (M, D) of pictures, mirror images already added.
        templates, media: (M,) which template a picture belongs to, and which photo or video it comes from.
        weights: (M,) that embeddings are multiplied by, such as the detector's scores; it is not divided by their sum.
        keep_norm: take embeddings at the length they have, else at length 1.

    Returns:
        (T,) numbers of the templates, ascending, and (T, D) float64.

    Raises:
        WorkbenchError: shapes do not fit.
    """
    count = len(embeddings)
    if embeddings.ndim != 2 or any(
        column is not None and np.shape(column) != (count,)
        for column in (templates, media, weights)
    ):
        shapes = ", ".join(
            str(np.shape(column)) for column in (templates, media, weights) if column is not None
        )
        raise WorkbenchError(
            f"embeddings are {embeddings.shape}, templates, media and weights {shapes}; expected (M, D) and (M,)"
        )
    order = np.lexsort((media, templates))
    template, medium = templates[order], media[order]
    fresh = np.append(True, np.diff(template) != 0)[:count]
    first_of_medium = fresh | np.append(True, np.diff(medium) != 0)[:count]
    sizes = np.diff(np.append(np.flatnonzero(first_of_medium), count))
    shares = 1.0 / np.repeat(
        sizes, sizes
    )  # the sum of means is a sum of pictures, each by its share of its medium
    if weights is not None:
        shares = shares * weights[order]
    starts = np.flatnonzero(fresh)
    pooled = np.empty((len(starts), embeddings.shape[1]))
    begin = 0
    while begin < len(
        starts
    ):  # some templates at a time: all pictures in float64 would be gigabytes
        end = max(begin + 1, int(np.searchsorted(starts, starts[begin] + CHUNK_IMAGES)))
        images = slice(starts[begin], starts[end] if end < len(starts) else count)
        chosen = embeddings[order[images]]
        parts = (chosen.astype(np.float64) if keep_norm else normalised(chosen)) * shares[
            images, None
        ]
        pooled[begin:end] = np.add.reduceat(parts, starts[begin:end] - starts[begin], axis=0)
        begin = end
    return template[starts], normalised(pooled)


def template_scores(
    numbers: Integers, pooled: Floats, pairs: Integers, progress: str = ""
) -> Floats:
    """Cosine of each pair of templates.

    Args:
        numbers: (T,) of the templates, ascending. pooled: (T, D) their embeddings at length 1, from `pool`.
        pairs: (P, 2) numbers of templates.
        progress: title of a progress bar; none if empty.

    Returns:
        (P,) in [-1, 1].

    Raises:
        WorkbenchError: a template of a pair is not among `numbers`.
    """
    places = np.searchsorted(numbers, pairs).clip(max=max(len(numbers) - 1, 0))
    if not len(numbers) or not (numbers[places] == pairs).all():
        unknown = pairs.ravel()[0] if not len(numbers) else pairs[numbers[places] != pairs][0]
        raise WorkbenchError(f"a pair names template {unknown}, which has no embedding")
    scores = np.empty(len(pairs))
    with tqdm(
        total=len(pairs),
        desc=progress,
        unit="pair",
        unit_scale=True,
        disable=not progress,
        dynamic_ncols=True,
    ) as bar:
        for begin in range(0, len(pairs), CHUNK_PAIRS):
            first, second = places[begin : begin + CHUNK_PAIRS].T
            scores[begin : begin + CHUNK_PAIRS] = np.einsum(
                "pd,pd->p", pooled[first], pooled[second]
            )
            bar.update(len(first))
    return scores.clip(-1.0, 1.0)


def nearest_tar(
    scores: ArrayLike, same: ArrayLike, fars: Sequence[float] = IJB_FARS
) -> dict[float, float]:
    """{FAR: TAR of the ROC's point whose own FAR is nearest}, as publications on IJB give it.

    That point may accept more impostors than FAR says, where `verification` takes the highest TAR that does not. Of points
    equally near the laxest counts. The ROC is that of scikit-learn's `roc_curve`, which leaves out points on straight lines.

    Raises:
        WorkbenchError: as `workbench.evaluation.verification`.
    """
    return _nearest(
        *roc(scores, same)[:2], int(np.sum(~np.asarray(same, dtype=bool))), int(np.sum(same)), fars
    )


def _nearest(
    far: Floats, tar: Floats, impostors: int, genuine: int, fars: Sequence[float]
) -> dict[float, float]:
    # In whole pairs, so that a straight line is one exactly. The point at which nothing is accepted is not looked at.
    accepted = [
        np.rint(rates[1:] * count).astype(np.int64)
        for rates, count in ((far, impostors), (tar, genuine))
    ]
    bends = np.any([np.diff(counts, 2) != 0 for counts in accepted], axis=0)
    ends = np.ones(min(len(far) - 1, 2), dtype=bool)
    kept = np.flatnonzero(np.concatenate([[True], ends[:1], bends, ends[1:]]))[
        ::-1
    ]  # the laxest first
    return {rate: float(tar[kept[np.argmin(np.abs(far[kept] - rate))]]) for rate in fars}


def template_verification(
    scores: ArrayLike, same: ArrayLike, *, intervals: bool = True
) -> VerificationResult:
    """Evaluate scored pairs of templates: TAR at FAR from 1e-1 down to 1e-6 by this project's rule, and by that of publications.

    IJB defines no folds. Those of the accuracy are tenths of the genuine and of the impostor pairs, in the order of the list.

    Args:
        scores, same: (P,) of pairs.
        intervals: compute 95 % intervals, unless there are more than two million pairs.

    Raises:
        WorkbenchError: as `workbench.evaluation.verification`, or there are fewer than two pairs of a kind.
    """
    kinds = np.asarray(same, dtype=bool)
    few_enough = len(kinds) <= MOST_WITH_INTERVALS
    result = verification(
        scores, same, balanced_folds(kinds), fars=IJB_FARS, intervals=intervals and few_enough
    )
    genuine = int(kinds.sum())
    nearest = _nearest(*result.roc[:2], result.impostors, genuine, IJB_FARS)
    rejecting = max(result.impostors, genuine) / len(kinds)
    protocol = {
        **result.protocol,
        "TAR at FAR": "highest TAR whose false accepts do not exceed FAR",
        "TAR at the nearest point of the ROC, as IJB publications": ", ".join(
            f"{tar:.2%} at {far:g}" for far, tar in nearest.items()
        ),
        "accuracy": f"IJB defines none; always giving the more frequent answer would have {rejecting:.2%}",
    }
    if intervals and not few_enough:
        protocol["interval"] = f"none, as there are more than {MOST_WITH_INTERVALS:,} pairs"
    return replace(result, protocol=protocol)
