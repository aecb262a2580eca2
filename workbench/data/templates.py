"""The benchmark type of IJB: sets of pictures of a person, photos and video frames, are compared with each other."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench import faces
from workbench.data.dataset import Changed, Images
from workbench.errors import WorkbenchError

SIZE = 112
"""Pixels a side of an aligned face."""
FLATTEST = 0.02
"""Landmarks less wide across than this share of their length are taken for a line, as in `faces.fit`."""


@dataclass(frozen=True)
class Aligned(Changed):
    """Another reader's images, brought to 112 x 112 by known landmarks.

    Attributes:
        images: M pictures.
        landmarks: (M, 5, 2) x and y in pixels of them; NaN for a picture that is left as it is.
    """

    images: Images
    landmarks: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        image, landmarks = self.images[index], self.landmarks[index]
        return faces.warp(image, landmarks, SIZE) if np.isfinite(landmarks).all() else image


@dataclass(frozen=True)
class Templates:
    """Verification of templates: do two sets of pictures show the same person?

    A template is all that is known of someone: photos, and videos of which several frames are given. What comes from one
    photo or video is one medium. Whitelam et al., "IARPA Janus Benchmark-B face dataset", CVPR Workshops 2017; Maze et al.,
    "IARPA Janus Benchmark-C: face dataset and protocol", ICB 2018.

    Attributes:
        name: what to call it in figures and file names.
        images: reader of M pictures, `images[i]` is (H, W, 3) uint8.
        templates: (M,) int64 number of the template that a picture belongs to; any numbers.
        media: (M,) int64 number of the medium that it comes from, which may be part of several templates.
        pairs: (P, 2) int64 numbers of templates.
        same: (P,) bool, True for a genuine pair.
        detector_scores: (M,) how sure the detector was that there is a face, from 0 on; None where not known.
        landmarks: (M, 5, 2) by which the pictures are to be aligned, in ArcFace's order, x and y in their pixels; NaN, or None
            for all, where they are to be taken as they are.
        keep_norm: embeddings are pooled at the length they have, which is less for poor pictures, not at length 1.
        note: what a reader of the figures must know.
    """

    name: str
    images: Images
    templates: NDArray[np.int64]
    media: NDArray[np.int64]
    pairs: NDArray[np.int64]
    same: NDArray[np.bool_]
    detector_scores: NDArray[np.float64] | None = None
    landmarks: NDArray[np.float64] | None = None
    keep_norm: bool = True
    note: str = ""

    @property
    def faces(self) -> Images:
        """The pictures as a network is to see them: aligned where there are landmarks."""
        return self.images if self.landmarks is None else Aligned(self.images, self.landmarks)

    @property
    def attributes(self) -> Mapping[str, NDArray[Any]]:
        """Columns of M values, for a summary."""
        return {} if self.detector_scores is None else {"detector score": self.detector_scores}

    @property
    def identities(self) -> None:
        """Who is on the pictures is not said, only which templates are of the same person."""

    @property
    def identity_names(self) -> tuple[str, ...]:
        return ()

    def fingerprint(self) -> str:
        """16 hex digits that change when templates, media, pairs, their kind, landmarks or weights do (not with pixels)."""
        digest = hashlib.sha256(
            repr((len(self.templates), len(self.pairs), self.keep_norm)).encode()
        )
        for numbers in (self.templates, self.media, self.pairs):
            digest.update(np.ascontiguousarray(numbers, dtype="<i8").data)
        digest.update(self.same.tobytes())
        for values in (self.detector_scores, self.landmarks):
            digest.update(
                b"none" if values is None else np.ascontiguousarray(values, dtype="<f8").data
            )
        return digest.hexdigest()[:16]

    def __post_init__(self) -> None:
        count, pairs = len(self.images), len(self.pairs)
        for what in ("templates", "media", "detector_scores", "landmarks"):
            values = getattr(self, what)
            expected = (count, 5, 2) if what == "landmarks" else (count,)
            if values is not None and values.shape != expected:
                raise WorkbenchError(
                    f"{self.name}: {what} have shape {values.shape}, expected {expected} for {count} images"
                )
        if self.pairs.shape != (pairs, 2) or self.same.shape != (pairs,) or not pairs:
            raise WorkbenchError(
                f"{self.name}: pairs {self.pairs.shape} and same {self.same.shape} are not (P, 2) and (P,)"
            )
        scores = self.detector_scores
        if scores is not None and not (scores >= 0).all():  # nor NaN
            raise WorkbenchError(
                f"{self.name}: image {int(np.argmax(~(scores >= 0)))} has a detector score that is no number from 0 on"
            )
        if len(unknown := np.setdiff1d(self.pairs, self.templates)):
            raise WorkbenchError(
                f"{self.name}: a pair names template {unknown[0]}, of which there is no image"
            )


def usable(landmarks: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(M, 5, 2) -> (M,): do five landmarks say how a face is turned, or are they on a line?"""
    centred = landmarks - landmarks.mean(axis=1, keepdims=True)
    (xx, xy), (_, yy) = np.moveaxis(centred.swapaxes(1, 2) @ centred, 0, -1)
    # Squares of the singular values are the eigenvalues of the 2 x 2 matrix of products.
    middle, half = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    length, breadth = np.sqrt(middle + half), np.sqrt(np.maximum(middle - half, 0))
    good: NDArray[np.bool_] = (breadth > 1.001 * FLATTEST * length) & (length > 1e-5)
    return good
