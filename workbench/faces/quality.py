"""Quality hints, computed from the landmarks and pixels of a face without a learned model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.faces.alignment import warp

PROFILE = 7.0
"""Residual of the fit, in pixels of the 112 x 112 crop, above which a face counts as a profile.

Of 859 detected faces of SynthFaces, no face with a yaw below 30 degrees has a larger residual. 8 %
of those with a yaw of 30 to 45 degrees do, 68 % of those with 45 to 60 degrees, and all beyond. On
LFW, 1 % of the faces do.
"""
NOSE_LENGTH = 0.6
"""Distance of the tip of the nose from the plane of eyes and mouth, as a share of the distance
between the eyes. This value fits SynthFaces best."""
INNER_FACE = slice(36, 104), slice(24, 88)
"""Rows and columns of the 112 x 112 crop from the brows to the chin, with little background."""


@dataclass(frozen=True)
class Quality:
    """Hints for sorting and filtering faces. They do not predict how well a face is recognised.

    Attributes:
        eyes: distance between the eyes in pixels of the image, which measures the size of the face.
            It is 35 in a crop of ArcFace; a crop of a face with less is enlarged. The distance
            becomes smaller as a head turns.
        sharpness: standard deviation of the Laplacian divided by that of the grey values, from the
            brows to the chin of the 112 x 112 crop. Blur and enlargement lower it, noise and beards
            raise it. It does not depend on brightness and contrast.
        yaw: rotation of the head in degrees, in [-90, 90], positive to the right of the image. It
            follows from the position of the nose between the eyes. The mean error on SynthFaces is
            3 degrees, and longer or shorter noses cause larger errors.
    """

    eyes: float
    sharpness: float
    yaw: float


def quality(image: NDArray[np.uint8], landmarks: NDArray[Any]) -> Quality:
    """Measures the size, the sharpness and the yaw of a face.

    Args:
        image: (H, W, 3) uint8.
        landmarks: (5, 2), x and y in pixels of `image`.

    Returns:
        The measured quality.

    Raises:
        WorkbenchError: if the image or the landmarks are invalid.

    Example:
        >>> from workbench.geometry import ARCFACE
        >>> blank = np.zeros((112, 112, 3), dtype=np.uint8)
        >>> round(quality(blank, ARCFACE).eyes, 1)
        35.2
    """
    return quality_of_crop(warp(image, landmarks), landmarks)


def quality_of_crop(crop: NDArray[np.uint8], landmarks: NDArray[Any]) -> Quality:
    """As `quality`, for a face whose 112 x 112 crop exists already.

    Args:
        crop: (112, 112, 3) uint8, the aligned crop.
        landmarks: (5, 2), x and y in pixels of the image from which the crop was made.

    Returns:
        The measured quality.
    """
    left_eye, right_eye, nose, left_mouth, right_mouth = np.asarray(landmarks, dtype=np.float64)
    distance = float(np.linalg.norm(right_eye - left_eye))
    yaw = _yaw((left_eye + right_eye) / 2, nose, (left_mouth + right_mouth) / 2, distance)
    return Quality(distance, _sharpness(crop), yaw)


def _sharpness(crop: NDArray[np.uint8]) -> float:
    """As `Quality.sharpness`; 0 for a crop of one colour."""
    grey = crop[INNER_FACE].astype(np.float32).mean(axis=2)
    laplacian = (
        4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    )
    deviation = float(grey.std())
    if deviation <= 1e-3:
        return 0.0
    return float(laplacian.std()) / deviation


def _yaw(
    eyes: NDArray[np.float64],
    nose: NDArray[np.float64],
    mouth: NDArray[np.float64],
    distance: float,
) -> float:
    """The yaw in degrees, from the centres of eyes and mouth and the distance between the eyes.

    The distance between the eyes is proportional to the cosine of the yaw, and the distance of the
    nose from the line through both centres to its sine.
    """
    down = mouth - eyes
    right = np.array((down[1], -down[0])) / max(float(np.linalg.norm(down)), 1e-9)
    return float(np.degrees(np.arctan2((nose - eyes) @ right, NOSE_LENGTH * distance)))
