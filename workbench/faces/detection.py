"""Detection of faces in images of any size, by any registered detector."""

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
"""Default of the longest side in pixels that a detector sees."""
SMALLEST_SIDE = 224
"""Images with a smaller longest side are enlarged to it. Of rendered profile faces of 112 pixels,
95 % are detected at their own size, and all at 224 pixels."""
SMALL_COPY = 256
"""Longest side in pixels of the copy on which faces too large for a detector are searched."""
AUTO = ("retinaface", "centerface")
"""The detectors of "auto", tried in this order until one detects a face. The second also detects a
face that lies on its side."""


def detect(
    image: NDArray[np.uint8],
    *,
    detector: str = "auto",
    threshold: float | None = None,
    largest_side: int = LARGEST_SIDE,
    threads: int = 1,
) -> list[Face]:
    """Detects the faces in an image.

    Args:
        image: (H, W, 3) uint8 RGB, upright, as `images.read` returns it.
        detector: "auto", one of `detectors()`, or NAME:FILE. "auto" is RetinaFace, followed by
            CenterFace if RetinaFace detects no face and the weights of CenterFace are installed.
        threshold: lowest score in [0, 1]. By default, each detector uses its own.
        largest_side: longest side in pixels, in 32..8192. A larger image is reduced to it first. A
            larger value detects smaller faces, and the time grows with the number of pixels.
        threads: number of threads of onnxruntime; 0 uses all cores. Two processes with one thread
            each are faster than one process with two.

    Returns:
        The faces in pixels of `image`, in descending order of their scores; empty if there is none.

    Raises:
        WorkbenchError: if the image or an option is invalid, if the detector is unknown, or if its
            weights are missing.

    Example:
        >>> detect(np.zeros((64, 64, 3), dtype=np.uint8))
        []
    """
    image = check_image(image)
    if threshold is not None and not 0 <= threshold <= 1:
        raise WorkbenchError(f"threshold {threshold!r}: expected a score in 0..1")
    if not 32 <= largest_side <= 8192:
        raise WorkbenchError(f"largest_side {largest_side!r}: expected 32..8192 pixels")
    for name in _names(detector):
        opened = _open(name, threads)
        lowest = opened.threshold if threshold is None else threshold
        if faces := _detect(image, opened, lowest, largest_side):
            return faces
    return []


def detect_many(
    images: Iterable[NDArray[np.uint8]],
    *,
    detector: str = "auto",
    threshold: float | None = None,
    largest_side: int = LARGEST_SIDE,
    threads: int = 1,
) -> list[list[Face]]:
    """Detects the faces in each of many images.

    The images are processed one after the other, since a batch is not faster on a CPU. Use several
    processes to process more images at a time.

    Args:
        images: arrays as for `detect`.
        detector: name of the detector, as for `detect`.
        threshold: lowest score in [0, 1], as for `detect`.
        largest_side: longest side in pixels that the detector sees, as for `detect`.
        threads: number of threads of onnxruntime, as for `detect`.

    Returns:
        For each image, its faces as `detect` returns them.

    Raises:
        WorkbenchError: as for `detect`.

    Example:
        >>> detect_many([np.zeros((64, 64, 3), dtype=np.uint8)])
        [[]]
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
    """Opens a detector, so that an error appears before there are images to process.

    Args:
        detector: name of the detector, as for `detect`.

    Raises:
        WorkbenchError: if the detector is unknown, or if its weights are missing.

    Example:
        >>> check_detector("retinaface")
    """
    for name in _names(detector):
        _open(name, threads=1)


def _names(detector: str) -> list[str]:
    """The names of the detectors that are tried one after the other."""
    if detector != "auto":
        return [detector]
    return [name for name in AUTO if name != "centerface" or not CenterFace.lacks()]


def _open(detector: str, threads: int) -> Detector:
    """Opens the detector with a name such as "retinaface" or "yunet:FILE"."""
    name, _, path = str(detector).partition(":")
    if name not in DETECTORS.names():
        raise unknown_name("face detector", name, ["auto", *DETECTORS.names()])
    return _cached_detector(DETECTORS.get(name), path, threads, os.getpid())


@lru_cache(maxsize=8)
def _cached_detector(
    factory: Callable[..., Detector], path: str, threads: int, process: int
) -> Detector:
    """Opens a detector once per process, since the threads of onnxruntime do not survive a fork."""
    return factory(path=path, threads=threads)


def _detect(
    image: NDArray[np.uint8], detector: Detector, threshold: float, largest_side: int
) -> list[Face]:
    """Detects faces on a copy of a size that suits the detector; returns them in image pixels."""
    resized = _resized(image, _resized_shape(image, largest_side))
    faces = detector.find(resized, threshold)
    if detector.largest_face and max(resized.shape) > detector.largest_face:
        # Of a face that fills a large image, a detector may take each of several parts for a face.
        # Such faces are detected as a whole on a smaller copy, and their parts are removed.
        small = _resized(resized, _resized_shape(resized, SMALL_COPY))
        whole = [
            _scaled(face, resized.shape, small.shape) for face in detector.find(small, threshold)
        ]
        large = [face for face in whole if max(face.size) > detector.largest_face]
        others = [face for face in faces if not any(_mostly_inside(face, one) for one in large)]
        faces = sorted(large + others, key=lambda face: -face.score)
    return [_scaled(face, image.shape, resized.shape) for face in faces]


def _resized(image: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """The image at a given (height, width)."""
    if image.shape[:2] == shape:
        return image
    return np.asarray(
        Image.fromarray(image).resize(shape[::-1], Image.Resampling.BILINEAR, reducing_gap=2.0)
    )


def _mostly_inside(face: Face, whole: Face) -> bool:
    """Whether more than half of the box of a face lies in the box of another one."""
    overlap = np.minimum(face.box[2:], whole.box[2:]) - np.maximum(face.box[:2], whole.box[:2])
    return bool((overlap > 0).all() and np.prod(overlap) > np.prod(face.size) / 2)


def _resized_shape(image: NDArray[np.uint8], largest_side: int) -> tuple[int, int]:
    """The height and width at which a detector sees an image."""
    height, width = image.shape[:2]
    longest = max(height, width)
    scale = min(max(longest, SMALLEST_SIDE), largest_side) / longest
    return max(1, round(height * scale)), max(1, round(width * scale))


def _scaled(face: Face, shape: tuple[int, ...], resized_shape: tuple[int, ...]) -> Face:
    """Converts a face from pixels of a resized image to pixels of the image of a given shape."""
    scale = np.array((shape[1] / resized_shape[1], shape[0] / resized_shape[0]), dtype=np.float32)
    return Face(face.box * np.tile(scale, 2), face.landmarks * scale, face.score)
