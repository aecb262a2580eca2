"""The benchmark type of IJB: compares templates, which are sets of photos and video frames."""

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
"""Pixels of a side of an aligned face."""
FLATTEST = 0.02
"""Five landmarks lie on a line if their breadth is less than this share of their length.

`faces.fit` uses the same limit.
"""


@dataclass(frozen=True)
class Aligned(Changed):
    """Reader that aligns another reader's images to 112 x 112 by known landmarks.

    Attributes:
        images: reader of M images.
        landmarks: (M, 5, 2) float64 x and y in pixels; NaN for an image that is not changed.
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
    """Verification of templates: do two sets of images show the same person?

    A template holds all images of a person that are compared as one: photos, and frames of videos.
    The images of one photo or one video are one medium. Whitelam et al., "IARPA Janus Benchmark-B
    face dataset", CVPR Workshops 2017; Maze et al., "IARPA Janus Benchmark-C: face dataset and
    protocol", ICB 2018.

    Attributes:
        name: name for figures and file names.
        images: reader of M images.
        templates: (M,) int64 number of the template that an image belongs to; any numbers.
        media: (M,) int64 number of the medium that an image comes from. A medium may be part of
            several templates.
        pairs: (P, 2) int64 numbers of templates.
        same: (P,) bool, True for a genuine pair.
        detector_scores: (M,) float64, 0 or more, how sure the detector was that there is a face;
            None if unknown.
        landmarks: (M, 5, 2) float64 landmarks by which the images are aligned, in ArcFace's order,
            x and y in pixels. NaN for an image that is used as it is; None if all are.
        keep_norm: whether embeddings are averaged with their norm, which is smaller for images of
            low quality, instead of being normalised first.
        note: what a reader of the results must know.

    Raises:
        WorkbenchError: if the shapes do not agree, a detector score is negative or NaN, or a pair
            names a template without images.

    Example:
        >>> import numpy as np
        >>> from workbench.data import Templates
        >>> images = [np.full((8, 8, 3), grey, np.uint8) for grey in (0, 50, 100)]
        >>> templates, media = np.array([1, 1, 2]), np.array([1, 2, 3])
        >>> toy = Templates("toy", images, templates, media, np.array([[1, 2]]), np.array([False]))
        >>> len(toy.pairs)
        1
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
        """The images as a network takes them: aligned if there are landmarks."""
        return self.images if self.landmarks is None else Aligned(self.images, self.landmarks)

    @property
    def attributes(self) -> Mapping[str, NDArray[Any]]:
        """Columns of M values each, for a summary."""
        return {} if self.detector_scores is None else {"detector score": self.detector_scores}

    @property
    def identities(self) -> None:
        """None: only which templates show the same person is known, not who it is."""

    @property
    def identity_names(self) -> tuple[str, ...]:
        """Empty: the people are unknown."""
        return ()

    def fingerprint(self) -> str:
        """Returns 16 hexadecimal digits that identify the benchmark.

        They change with the templates, media, pairs, landmarks, detector scores, and with which
        pairs are genuine. They do not depend on pixels.
        """
        digest = hashlib.sha256(
            repr((len(self.templates), len(self.pairs), self.keep_norm)).encode()
        )
        for numbers in (self.templates, self.media, self.pairs):
            digest.update(np.ascontiguousarray(numbers, dtype="<i8").data)
        digest.update(self.same.tobytes())
        for values in (self.detector_scores, self.landmarks):
            if values is None:
                digest.update(b"none")
            else:
                digest.update(np.ascontiguousarray(values, dtype="<f8").data)
        return digest.hexdigest()[:16]

    def __post_init__(self) -> None:
        count, pairs = len(self.images), len(self.pairs)
        for column in ("templates", "media", "detector_scores", "landmarks"):
            values = getattr(self, column)
            expected = (count, 5, 2) if column == "landmarks" else (count,)
            if values is not None and values.shape != expected:
                raise WorkbenchError(
                    f"{self.name}: {column} have shape {values.shape}, "
                    f"expected {expected} for {count} images"
                )
        if self.pairs.shape != (pairs, 2) or self.same.shape != (pairs,) or not pairs:
            raise WorkbenchError(
                f"{self.name}: pairs {self.pairs.shape} and same {self.same.shape} "
                "are not (P, 2) and (P,)"
            )
        if self.detector_scores is not None:
            valid = self.detector_scores >= 0  # False for NaN
            if not valid.all():
                raise WorkbenchError(
                    f"{self.name}: image {int(np.argmin(valid))} has a detector score that is not "
                    "a number from 0"
                )
        if len(unknown := np.setdiff1d(self.pairs, self.templates)):
            raise WorkbenchError(
                f"{self.name}: a pair names template {unknown[0]}, of which there is no image"
            )


def usable(landmarks: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Returns whether landmarks determine how a face is turned, because they do not lie on a line.

    Args:
        landmarks: (M, 5, 2) x and y of five landmarks.

    Returns:
        (M,) bool.
    """
    centred = landmarks - landmarks.mean(axis=1, keepdims=True)
    (xx, xy), (_, yy) = np.moveaxis(centred.swapaxes(1, 2) @ centred, 0, -1)
    # The squares of the singular values are the eigenvalues of the 2 x 2 matrix of products.
    middle, half = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    length, breadth = np.sqrt(middle + half), np.sqrt(np.maximum(middle - half, 0))
    spread_out: NDArray[np.bool_] = (breadth > 1.001 * FLATTEST * length) & (length > 1e-5)
    return spread_out
