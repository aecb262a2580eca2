"""Faces in pictures of any size, by any detector."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workbench.errors import WorkbenchError, unknown_name
from workbench.faces.centerface import CenterFace
from workbench.faces.detectors import DETECTORS, Detector
from workbench.faces.face import Face, check_image

LARGEST_SIDE = 960
SMALLEST_SIDE = 224
"""Smaller pictures are enlarged: of rendered profiles of 112 pixels 95 % are found as they are, and all at 224."""
SMALL_COPY = 256
"""Longer side of the copy on which faces too large for a detector are looked for."""
AUTO = ("retinaface", "centerface")
"""Tried in this order until there is a face; the second also sees one that lies on its side."""


def detect(
    image: NDArray[np.uint8],
    *,
    detector: str = "auto",
    threshold: float | None = None,
    largest_side: int = LARGEST_SIDE,
    threads: int = 1,
) -> list[Face]:
    """Find the faces in a picture.

    Args:
        image: (H, W, 3) uint8 RGB, upright (`images.read` applies EXIF).
        detector: "auto" (RetinaFace, and where it finds nothing CenterFace if its weights are installed), one of `detectors()`,
            or NAME:FILE.
        threshold: least score in [0, 1]; each detector's own by default.
        largest_side: a larger picture is shrunk to so many pixels first; more finds smaller faces in the time of its pixels.
        threads: of onnxruntime; 0 takes all cores. Two processes of one thread do more than one process of two.

    Returns:
        Faces in pixels of `image`, best score first; empty if there is none.

    Raises:
        WorkbenchError: not such an image, no such detector, or its weights are missing.
    """
    image = check_image(image)
    if threshold is not None and not 0 <= threshold <= 1:
        raise WorkbenchError(f"threshold {threshold!r}: expected a score in 0..1")
    if not 32 <= largest_side <= 8192:
        raise WorkbenchError(f"largest_side {largest_side!r}: expected 32..8192 pixels")
    for name in _meant(detector):
        one = _open(name, threads)
        if found := _find(
            image, one, one.threshold if threshold is None else threshold, largest_side
        ):
            return found
    return []


def detect_many(
    images: Iterable[NDArray[np.uint8]],
    *,
    detector: str = "auto",
    threshold: float | None = None,
    largest_side: int = LARGEST_SIDE,
    threads: int = 1,
) -> list[list[Face]]:
    """`detect` for many pictures: a list of faces for each.

    They go through the network one by one, as together they take as long on a CPU; several processes do more.
    """
    return [
        detect(
            image,
            detector=detector,
            threshold=threshold,
            largest_side=largest_side,
            threads=threads,
        )
        for image in images
    ]


def check_detector(detector: str) -> None:
    """Open a detector before there is work for it.

    Raises:
        WorkbenchError: no such detector, or its weights are missing.
    """
    for name in _meant(detector):
        _open(name, threads=1)


def _meant(detector: str) -> list[str]:
    """The detectors that are tried one after the other."""
    if detector != "auto":
        return [detector]
    return [name for name in AUTO if name != "centerface" or not CenterFace.lacks()]


def _open(detector: str, threads: int) -> Detector:
    name, _, path = str(detector).partition(":")
    if name not in DETECTORS.names():
        raise unknown_name("face detector", name, ["auto", *DETECTORS.names()])
    return _opened(DETECTORS.get(name), path, threads, os.getpid())


@lru_cache(maxsize=8)
def _opened(factory: Callable[..., Detector], path: str, threads: int, process: int) -> Detector:
    """Opened once in each process: onnxruntime's threads do not survive a fork."""
    return factory(path=path, threads=threads)


def _find(
    image: NDArray[np.uint8], detector: Detector, threshold: float, largest_side: int
) -> list[Face]:
    seen = _resized(image, _seen_size(image, largest_side))
    found = detector.find(seen, threshold)
    if detector.largest_face and max(seen.shape) > detector.largest_face:
        # Of a face that fills a large picture it sees parts, each of which it may take for a face.
        copy = _resized(seen, _seen_size(seen, SMALL_COPY))
        whole = [_scaled(face, seen.shape, copy.shape) for face in detector.find(copy, threshold)]
        large = [face for face in whole if max(face.size) > detector.largest_face]
        parts = [face for face in found if not any(_mostly_inside(face, other) for other in large)]
        found = sorted(large + parts, key=lambda face: -face.score)
    return [_scaled(face, image.shape, seen.shape) for face in found]


def _resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if image.shape[:2] == size:
        return image
    return np.asarray(
        Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR, reducing_gap=2.0)
    )


def _mostly_inside(face: Face, whole: Face) -> bool:
    shared = np.minimum(face.box[2:], whole.box[2:]) - np.maximum(face.box[:2], whole.box[:2])
    return bool((shared > 0).all() and np.prod(shared) > np.prod(face.size) / 2)


def _seen_size(image: NDArray[np.uint8], largest_side: int) -> tuple[int, int]:
    """Height and width at which the detector sees it."""
    height, width = image.shape[:2]
    longest = max(height, width)
    scale = min(max(longest, SMALLEST_SIDE), largest_side) / longest
    return max(1, round(height * scale)), max(1, round(width * scale))


def _scaled(face: Face, shape: tuple[int, ...], seen: tuple[int, ...]) -> Face:
    """A face found at the size that was seen, in the picture's own pixels."""
    scale = np.array((shape[1] / seen[1], shape[0] / seen[0]), dtype=np.float32)
    return Face(face.box * np.tile(scale, 2), face.landmarks * scale, face.score)
