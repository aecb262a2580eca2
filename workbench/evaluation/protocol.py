"""Verification protocols: the choices between embeddings and figures in which papers differ.

Figures of two papers can only be compared if these choices agree: how the mirror image is used,
whether a mean embedding is subtracted, how two embeddings are compared, and which thresholds are
candidates. Each preset is a named `Protocol`, and every result states its protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from workbench.arrays import Floats, Integers
from workbench.data.benchmark import consecutive_folds
from workbench.errors import WorkbenchError, unknown_name
from workbench.evaluation.angles import normalised, similarity
from workbench.evaluation.arcface_torch import ACCURACY_THRESHOLDS, squared_distances
from workbench.evaluation.verification import VerificationResult

Flip = Literal["none", "add", "concatenate"]
Mean = Literal["none", "subtract"]
Distance = Literal["cosine", "euclidean", "euclidean-raw"]
Threshold = Literal["exact", "grid"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "flip": get_args(Flip),
    "mean": get_args(Mean),
    "distance": get_args(Distance),
    "threshold": get_args(Threshold),
}
FLIPS = {
    "none": "none",
    "add": "embeddings of image and mirror image added",
    "concatenate": "embedding of the mirror image put behind that of the image",
}
MEANS = {
    "none": "none",
    "subtract": "that of the other folds' pairs",
}
SCORES = {
    "cosine": "cosine of the embeddings",
    "euclidean": "minus the squared Euclidean distance of the embeddings at length 1",
    "euclidean-raw": "minus the squared Euclidean distance of the embeddings as they are",
}
_GRID = (
    "best on the other folds, of equally good ones the strictest; candidates are the squared "
    "distances 0, 0.01, ..., 3.99"
)


@dataclass(frozen=True)
class Protocol:
    """How pairs are scored and how the folds' thresholds are chosen.

    Attributes:
        flip: the embedding of the mirror image is not used ("none"), added to that of the image
            ("add"), or concatenated to it ("concatenate", which doubles the length).
        mean: "subtract": before they are compared, the mean embedding of the pairs of all *other*
            folds is subtracted from both embeddings of a pair. An image counts as often as it is in
            a pair. A pair has one score: that with the mean of the folds that do not contain it.
        distance: "cosine"; "euclidean": squared distance of embeddings of length 1;
            "euclidean-raw": squared distance of embeddings as they are. A score is a similarity, so
            a distance has a minus sign.
        threshold: "exact": every score is a candidate; "grid": the candidates are the squared
            distances 0, 0.01, ..., 3.99 of arcface_torch, and a pair with a smaller distance is
            accepted. For cosines these are 1 - distance / 2.
        folds: number of consecutive folds into which the pairs are cut; by default the benchmark's
            own folds.

    Raises:
        WorkbenchError: if an option does not exist, or the grid does not fit the distance.

    Example:
        >>> Protocol(flip="none").name
        'workbench+flip-none'
        >>> PRESETS["arcface_torch"].distance
        'euclidean'
    """

    flip: Flip = "add"
    mean: Mean = "none"
    distance: Distance = "cosine"
    threshold: Threshold = "exact"
    folds: int | None = None

    def __post_init__(self) -> None:
        for option, choices in _CHOICES.items():
            if getattr(self, option) not in choices:
                raise unknown_name(f"{option} of a protocol", str(getattr(self, option)), choices)
        if self.folds is not None and (not isinstance(self.folds, int) or self.folds < 2):
            raise WorkbenchError(
                "folds of a protocol must be a number from 2 on, or None for the benchmark's own, "
                f"got {self.folds!r}"
            )
        if self.distance == "euclidean-raw" and self.threshold == "grid":
            raise WorkbenchError(
                "the grid of thresholds from 0 to 4 is for embeddings of length 1; distance "
                "'euclidean-raw' takes threshold 'exact'"
            )

    @property
    def name(self) -> str:
        """Name of the preset, then the options that differ from it: workbench+flip-none.

        The preset is the one that differs in at most one option; otherwise the default.
        """
        return "+".join(self._nearest())

    @property
    def suffix(self) -> str:
        """Suffix of the names of evaluations; empty for the default protocol."""
        preset, *changes = self._nearest()
        return "".join(f"+{part}" for part in ([preset] * (preset != DEFAULT) + changes))

    def _nearest(self) -> list[str]:
        """Return the name of the nearest preset, then the options that differ from it."""
        by_preset = []
        for name, preset in PRESETS.items():
            changed = [
                option.name
                for option in fields(self)
                if getattr(self, option.name) != getattr(preset, option.name)
            ]
            by_preset.append([name, *(f"{option}-{getattr(self, option)}" for option in changed)])
        default, *others = by_preset
        # The default comes first, so that it is chosen of equally near presets.
        return min([default, *(parts for parts in others if len(parts) <= 2)], key=len)

    def words(self) -> dict[str, str]:
        """Describe how embeddings are compared; `verification` describes the rest."""
        return {
            "protocol": self.name,
            "score": SCORES[self.distance],
            "flip": FLIPS[self.flip],
            "mean subtracted": MEANS[self.mean],
        }

    @property
    def candidates(self) -> Floats | None:
        """Candidate thresholds on scores; None if every score is a candidate."""
        if self.threshold == "exact":
            return None
        thresholds = -ACCURACY_THRESHOLDS
        if self.distance == "cosine":
            thresholds = 1.0 - ACCURACY_THRESHOLDS / 2
        # A score that equals the threshold is accepted, but arcface_torch's `distance < threshold`
        # excludes equality, so the threshold is the next larger number.
        larger: Floats = np.nextafter(thresholds, np.inf)
        return larger

    @property
    def candidates_in_words(self) -> dict[str, str]:
        """Entry that replaces the one of `verification` for thresholds; empty for none."""
        return {} if self.threshold == "exact" else {"threshold": _GRID}

    def folds_of(self, folds: Integers) -> Integers:
        """Return the (P,) folds of pairs under this protocol.

        Args:
            folds: (P,) folds of the benchmark.
        """
        return folds if self.folds is None else consecutive_folds(len(folds), self.folds)

    def scores(self, embeddings: NDArray[np.floating], pairs: Integers, folds: Integers) -> Floats:
        """Compute the similarities of pairs of embeddings. Labels are not an input.

        Args:
            embeddings: (M, D) embeddings, in which mirror images are already included.
            pairs: (P, 2) numbers of embeddings.
            folds: (P,) fold of each pair, at least two different ones; used if a mean is
                subtracted.

        Returns:
            (P,) similarities; higher for pairs that are more alike.
        """
        if self.mean == "none":
            return self._compared(embeddings[pairs[:, 0]], embeddings[pairs[:, 1]])
        scores = np.empty(len(pairs))
        for fold, mean in _other_folds_means(embeddings, pairs, folds).items():
            first, second = (embeddings[pairs[folds == fold, side]] - mean for side in (0, 1))
            scores[folds == fold] = self._compared(first, second)
        return scores

    def _compared(self, first: NDArray[np.floating], second: NDArray[np.floating]) -> Floats:
        if self.distance == "cosine":
            return similarity(first, second)
        if self.distance == "euclidean":
            return -squared_distances(normalised(first), normalised(second))
        return -squared_distances(
            np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
        )


DEFAULT = "workbench"
PRESETS: Mapping[str, Protocol] = {
    DEFAULT: Protocol(),
    "arcface_torch": Protocol(distance="euclidean", threshold="grid"),
    # SphereFace's own code takes the middle of the best thresholds on a grid of 0.0001, which is
    # nearly exact. It also scores the pairs on which a fold's threshold is chosen with the mean of
    # that fold. At most a few pairs are decided differently.
    "sphereface": Protocol(flip="concatenate", mean="subtract"),
}
"""Protocols by name.

"arcface_torch" is that of deepinsight/insightface (recognition/arcface_torch), "sphereface" that of
wy1iu/sphereface.
"""


def resolve(protocol: str | Protocol, **changes: Any) -> Protocol:
    """Return a protocol with some options changed.

    Args:
        protocol: name of a preset, or a protocol.
        changes: options to change; None leaves an option as it is.

    Returns:
        The protocol.

    Raises:
        WorkbenchError: if there is no such preset or option.
    """
    if isinstance(protocol, str):
        if protocol not in PRESETS:
            raise unknown_name("protocol", protocol, PRESETS)
        protocol = PRESETS[protocol]
    return replace(
        protocol, **{option: value for option, value in changes.items() if value is not None}
    )


def as_cosines(result: VerificationResult) -> VerificationResult | None:
    """Convert the scores and thresholds of a result to cosines.

    Args:
        result: result of any protocol.

    Returns:
        The converted result; None if its distances do not determine cosines.
    """
    score = result.protocol.get("score", SCORES["cosine"])
    if score == SCORES["euclidean"]:
        return replace(
            result, scores=1.0 + result.scores / 2, fold_threshold=1.0 + result.fold_threshold / 2
        )
    return None if score == SCORES["euclidean-raw"] else result


def of_two_photos(result: VerificationResult) -> VerificationResult | None:
    """Convert a result to cosines if its scores are comparable with that of two photos.

    That is the case if the embedding of the mirror image is added and no mean is subtracted. Scores
    of templates, which are pooled from many images, are higher than those of two images.

    Args:
        result: result of any protocol.

    Returns:
        The converted result; None if its scores cannot be compared.
    """
    expected = {
        "flip": (FLIPS["add"],),
        "mean subtracted": (MEANS["none"],),
        "score": tuple(SCORES.values()),
    }
    comparable = all(
        result.protocol.get(key, values[0]) in values for key, values in expected.items()
    )
    return as_cosines(result) if comparable else None


def _other_folds_means(
    embeddings: NDArray[np.floating], pairs: Integers, folds: Integers
) -> dict[int, Floats]:
    """Return {fold: mean embedding of the images in pairs of all other folds}."""
    counts, sums = {}, {}
    for fold in np.unique(folds).tolist():
        members = pairs[folds == fold].ravel()
        counts[fold] = len(members)
        # Weights per image, so that the embeddings are not copied for every pair.
        times = np.bincount(members, minlength=len(embeddings))
        sums[fold] = times @ embeddings.astype(np.float64)
    sum_of_all, count = sum(sums.values()), sum(counts.values())
    return {fold: (sum_of_all - sums[fold]) / (count - counts[fold]) for fold in counts}
