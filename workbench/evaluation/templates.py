"""Verification of templates as on IJB-B and IJB-C: images are pooled to one embedding per template.

The procedure is that of publications since ArcFace (InsightFace's evaluation of IJB-C): Whitelam et
al., CVPR Workshops 2017; Maze et al., ICB 2018.
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
MOST_WITH_INTERVALS = 2_000_000
"""With more pairs, no intervals are computed: on IJB-C, each group would take ten seconds."""
CHUNK_IMAGES, CHUNK_PAIRS = 20_000, 4096


def pool(
    embeddings: NDArray[np.floating],
    templates: Integers,
    media: Integers,
    weights: NDArray[np.floating] | None = None,
    *,
    keep_norm: bool = True,
) -> tuple[Integers, Floats]:
    """Pool embeddings to one embedding per template.

    The embedding of a template is the sum over its media of the mean embedding of each medium,
    brought to length 1.

    Args:
        embeddings: (M, D) embeddings of images, in which mirror images are already included.
        templates: (M,) template of each image.
        media: (M,) photo or video that each image comes from.
        weights: (M,) factors of the embeddings, such as detector scores; their sum is not divided
            out.
        keep_norm: whether embeddings keep their length; otherwise they are normalised first.

    Returns:
        (T,) numbers of the templates, ascending, and (T, D) their embeddings in float64.

    Raises:
        WorkbenchError: if the shapes do not match.

    Example:
        >>> import numpy as np
        >>> images = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> numbers, pooled = pool(images, np.array([7, 7, 9]), np.array([1, 1, 2]))
        >>> numbers, pooled
        (array([7, 9]), array([[1., 0.],
               [0., 1.]]))
    """
    count = len(embeddings)
    columns = [column for column in (templates, media, weights) if column is not None]
    if embeddings.ndim != 2 or any(np.shape(column) != (count,) for column in columns):
        shapes = ", ".join(str(np.shape(column)) for column in columns)
        raise WorkbenchError(
            f"embeddings are {embeddings.shape}, templates, media and weights {shapes}; expected "
            "(M, D) and (M,)"
        )
    order = np.lexsort((media, templates))
    template, medium = templates[order], media[order]
    first_of_template = np.append(True, np.diff(template) != 0)[:count]
    first_of_medium = first_of_template | np.append(True, np.diff(medium) != 0)[:count]
    sizes = np.diff(np.append(np.flatnonzero(first_of_medium), count))
    # The sum of means is a sum of images, each divided by the size of its medium.
    shares = 1.0 / np.repeat(sizes, sizes)
    if weights is not None:
        shares = shares * weights[order]
    starts = np.flatnonzero(first_of_template)
    pooled = np.empty((len(starts), embeddings.shape[1]))
    begin = 0
    # Some templates at a time, as all images in float64 would take gigabytes.
    while begin < len(starts):
        end = max(begin + 1, int(np.searchsorted(starts, starts[begin] + CHUNK_IMAGES)))
        images = slice(starts[begin], starts[end] if end < len(starts) else count)
        chosen = embeddings[order[images]]
        values = chosen.astype(np.float64) if keep_norm else normalised(chosen)
        weighted = values * shares[images, None]
        pooled[begin:end] = np.add.reduceat(weighted, starts[begin:end] - starts[begin], axis=0)
        begin = end
    return template[starts], normalised(pooled)


def template_scores(
    numbers: Integers, pooled: Floats, pairs: Integers, progress: str = ""
) -> Floats:
    """Compute the cosine of each pair of templates.

    Args:
        numbers: (T,) numbers of the templates, ascending.
        pooled: (T, D) their embeddings of length 1, from `pool`.
        pairs: (P, 2) numbers of templates.
        progress: title of a progress bar; empty for none.

    Returns:
        (P,) cosines in [-1, 1].

    Raises:
        WorkbenchError: if a template of a pair is not among `numbers`.
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
    """Compute TAR at the point of the ROC curve whose FAR is nearest, as publications on IJB do.

    The FAR of that point may exceed the wanted one, whereas `verification` takes the highest TAR
    that does not exceed it. Of equally near points, the one with the lowest threshold counts. The
    ROC curve is that of scikit-learn's `roc_curve`, which leaves out points on straight lines.

    Args:
        scores: (P,) similarities, finite.
        same: (P,) True for genuine pairs.
        fars: false accept rates.

    Returns:
        {FAR: TAR}.

    Raises:
        WorkbenchError: if the shapes do not match, a score is NaN or infinite, or there are no
            genuine or no impostor pairs.
    """
    impostors, genuine = int(np.sum(~np.asarray(same, dtype=bool))), int(np.sum(same))
    far, tar, _ = roc(scores, same)
    return _nearest(far, tar, impostors, genuine, fars)


def _nearest(
    far: Floats, tar: Floats, impostors: int, genuine: int, fars: Sequence[float]
) -> dict[float, float]:
    """Return {FAR: TAR at the nearest corner of the ROC curve}; the first point is ignored."""
    # Counts are integers, so that points on a straight line are found exactly.
    accepted = [
        np.rint(rates[1:] * count).astype(np.int64)
        for rates, count in ((far, impostors), (tar, genuine))
    ]
    bends = np.any([np.diff(counts, 2) != 0 for counts in accepted], axis=0)
    ends = np.ones(min(len(far) - 1, 2), dtype=bool)
    is_corner = np.concatenate([[True], ends[:1], bends, ends[1:]])
    kept = np.flatnonzero(is_corner)[::-1]  # the lowest threshold first
    return {rate: float(tar[kept[np.argmin(np.abs(far[kept] - rate))]]) for rate in fars}


def template_verification(
    scores: ArrayLike, same: ArrayLike, *, intervals: bool = True
) -> VerificationResult:
    """Evaluate scored pairs of templates.

    TAR is given at FAR from 1e-1 to 1e-6, by the rule of `verification` and by that of publications
    on IJB. IJB defines no folds, so each fold of the accuracy is a tenth of the genuine and of the
    impostor pairs, in the order of the list.

    Args:
        scores: (P,) similarities, finite.
        same: (P,) True for genuine pairs.
        intervals: whether 95 % intervals are computed, if there are at most two million pairs.

    Returns:
        The figures; the protocol holds TAR by the rule of publications.

    Raises:
        WorkbenchError: if the shapes do not match, a score is NaN or infinite, or there are fewer
            than two genuine or two impostor pairs.
    """
    kinds = np.asarray(same, dtype=bool)
    few_enough = len(kinds) <= MOST_WITH_INTERVALS
    result = verification(
        scores, same, balanced_folds(kinds), fars=IJB_FARS, intervals=intervals and few_enough
    )
    genuine = int(kinds.sum())
    far, tar, _ = result.roc
    nearest = _nearest(far, tar, result.impostors, genuine, IJB_FARS)
    by_majority = max(result.impostors, genuine) / len(kinds)
    protocol = {
        **result.protocol,
        "TAR at FAR": "highest TAR whose false accepts do not exceed FAR",
        "TAR at the nearest point of the ROC, as IJB publications": ", ".join(
            f"{rate:.2%} at {at:g}" for at, rate in nearest.items()
        ),
        "accuracy": (
            f"IJB defines none; always giving the more frequent answer would have {by_majority:.2%}"
        ),
    }
    if intervals and not few_enough:
        protocol["interval"] = f"none, as there are more than {MOST_WITH_INTERVALS:,} pairs"
    return replace(result, protocol=protocol)
