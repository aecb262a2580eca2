"""Verification protocols: the choices between embeddings and figures that papers differ in, stated with every result.

Numbers of two papers can be compared only where these agree: what is done with the mirror image, whether a mean embedding is
subtracted, how two embeddings are compared, and which thresholds are tried. Each preset is a `Protocol` with a name.
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
_GRID = "best on the other folds, of equally good ones the strictest; candidates are the squared distances 0, 0.01, ..., 3.99"


@dataclass(frozen=True)
class Protocol:
    """How pairs are scored and the folds' thresholds chosen.

    Attributes:
        flip: the mirror image's embedding is left out ("none"), added to the image's ("add"), or put behind it
            ("concatenate", which makes embeddings twice as long).
        mean: "subtract": before they are compared, the mean embedding of the pairs of all *other* folds is subtracted from both
            embeddings of a pair, an image counting as often as it is in a pair. A pair has one score: that with the mean of
            the folds it is not in.
        distance: "cosine"; "euclidean", the squared distance of embeddings brought to length 1; "euclidean-raw", that of
            embeddings as they are. A score is a similarity, so a distance counts with a minus sign.
        threshold: "exact", the candidates are the scores; "grid", the squared distances 0, 0.01, ..., 3.99 as arcface_torch
            has them, a pair being accepted below. For cosines these are 1 - distance / 2.
        folds: cut the pairs into so many consecutive folds; by default the benchmark's own folds.

    Raises:
        WorkbenchError: an option that does not exist, or a grid for distances that it cannot fit.
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
                f"folds of a protocol must be a number from 2 on, or None for the benchmark's own, got {self.folds!r}"
            )
        if self.distance == "euclidean-raw" and self.threshold == "grid":
            raise WorkbenchError(
                "the grid of thresholds from 0 to 4 is for embeddings of length 1; distance 'euclidean-raw' takes threshold 'exact'"
            )

    @property
    def name(self) -> str:
        """The preset that it is, or differs from in one option, else the default and what differs: workbench+flip-none."""
        return "+".join(self._nearest())

    @property
    def suffix(self) -> str:
        """What tells its results from those of the default in the name of an evaluation; empty for the default."""
        preset, *changes = self._nearest()
        return "".join(f"+{part}" for part in ([preset] * (preset != DEFAULT) + changes))

    def _nearest(self) -> list[str]:
        by_preset = []
        for preset, known in PRESETS.items():
            changed = [
                option.name
                for option in fields(self)
                if getattr(self, option.name) != getattr(known, option.name)
            ]
            by_preset.append([preset, *(f"{option}-{getattr(self, option)}" for option in changed)])
        usual, *others = by_preset
        return min(
            [usual, *(parts for parts in others if len(parts) <= 2)], key=len
        )  # of equally near ones the default

    def words(self) -> dict[str, str]:
        """What is done with embeddings, to be printed beside figures; `verification` says the rest."""
        return {
            "protocol": self.name,
            "score": SCORES[self.distance],
            "flip": FLIPS[self.flip],
            "mean subtracted": MEANS[self.mean],
        }

    @property
    def candidates(self) -> Floats | None:
        """Thresholds on scores to choose from, accepted where a score reaches them; None for the scores themselves."""
        if self.threshold == "exact":
            return None
        reached = (
            1.0 - ACCURACY_THRESHOLDS / 2 if self.distance == "cosine" else -ACCURACY_THRESHOLDS
        )
        accepted: Floats = np.nextafter(
            reached, np.inf
        )  # arcface_torch's `distance < threshold` leaves out equality
        return accepted

    @property
    def candidates_in_words(self) -> dict[str, str]:
        """The line that replaces what `verification` says of its candidates."""
        return {} if self.threshold == "exact" else {"threshold": _GRID}

    def folds_of(self, folds: Integers) -> Integers:
        """(P,) the folds of a benchmark's pairs under this protocol."""
        return folds if self.folds is None else consecutive_folds(len(folds), self.folds)

    def scores(self, embeddings: NDArray[np.floating], pairs: Integers, folds: Integers) -> Floats:
        """Similarities of pairs of embeddings. Labels are not an input.

        Args:
            embeddings: (M, D), mirrored images already dealt with.
            pairs: (P, 2) numbers of embeddings.
            folds: (P,) the pairs' folds, of which at least two differ; used where a mean is subtracted.

        Returns:
            (P,), higher for pairs that are more alike.
        """
        if self.mean == "none":
            return self._compared(embeddings[pairs[:, 0]], embeddings[pairs[:, 1]])
        found = np.empty(len(pairs))
        for fold, mean in _other_folds_means(embeddings, pairs, folds).items():
            first, second = (embeddings[pairs[folds == fold, side]] - mean for side in (0, 1))
            found[folds == fold] = self._compared(first, second)
        return found

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
    # Its own code takes the middle of the best thresholds on a grid of 0.0001, which is nearly exact, and scores the pairs on
    # which a fold's threshold is chosen with that fold's mean: at most a few pairs fall otherwise.
    "sphereface": Protocol(flip="concatenate", mean="subtract"),
}
"""By the repositories whose protocol it is: deepinsight/insightface (recognition/arcface_torch) and wy1iu/sphereface."""


def resolve(protocol: str | Protocol, **changes: Any) -> Protocol:
    """A preset by its name, or a protocol, with those options changed that are not None.

    Raises:
        WorkbenchError: no such preset or option.
    """
    if isinstance(protocol, str):
        if protocol not in PRESETS:
            raise unknown_name("protocol", protocol, PRESETS)
        protocol = PRESETS[protocol]
    return replace(
        protocol, **{option: value for option, value in changes.items() if value is not None}
    )


def as_cosines(result: VerificationResult) -> VerificationResult | None:
    """The result with cosines for scores and thresholds, where they can be told from its distances; else None."""
    score = result.protocol.get("score", SCORES["cosine"])
    if score == SCORES["euclidean"]:
        return replace(
            result, scores=1.0 + result.scores / 2, fold_threshold=1.0 + result.fold_threshold / 2
        )
    return None if score == SCORES["euclidean-raw"] else result


def of_two_photos(result: VerificationResult) -> VerificationResult | None:
    """The result as cosines, where it was made as two photos by themselves are compared: mirror image added, no mean known.

    Scores of whole templates, which are pooled from many pictures, are higher than those of two.
    """
    usual = {
        "flip": (FLIPS["add"],),
        "mean subtracted": (MEANS["none"],),
        "score": tuple(SCORES.values()),
    }
    alike = all(result.protocol.get(key, values[0]) in values for key, values in usual.items())
    return as_cosines(result) if alike else None


def _other_folds_means(
    embeddings: NDArray[np.floating], pairs: Integers, folds: Integers
) -> dict[int, Floats]:
    """{fold: mean embedding of the images in pairs of all other folds}."""
    counts, sums = {}, {}
    for fold in np.unique(folds).tolist():
        members = pairs[folds == fold].ravel()
        counts[fold] = len(members)
        times = np.bincount(
            members, minlength=len(embeddings)
        )  # not a copy of the embeddings for every pair
        sums[fold] = times @ embeddings.astype(np.float64)
    total, every = sum(sums.values()), sum(counts.values())
    return {fold: (total - sums[fold]) / (every - counts[fold]) for fold in counts}
