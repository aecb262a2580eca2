"""Hints at how good a crop is: measured off landmarks and pixels, not learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.faces.alignment import warp

PROFILE = 7.0
"""Residual of the fit, in pixels of the 112 x 112 crop, above which a face is called a profile.

Of 859 SynthFaces, detected and fitted: none turned by less than 30 degrees lies above it, 8 % of those by 30 to 45, 68 % by 45
to 60, all beyond; 1 % of LFW.
"""
NOSE = 0.6
"""By how much the tip of the nose stands out before the plane of eyes and mouth, as a share of the distance between the eyes:
the value that fits SynthFaces best."""
INNER = slice(36, 104), slice(24, 88)
"""Rows and columns of the 112 x 112 crop from brows to chin, with little background."""


@dataclass(frozen=True)
class Quality:
    """What can be read off one face at once. Hints to sort and filter by, not a judgement of how well it will be recognised.

    Args:
        eyes: distance between the two eyes in the picture, in pixels: how large the face is. 35 in an ArcFace crop; a crop made
            from less is an enlargement. It shrinks as a head turns.
        sharpness: standard deviation of the Laplacian over that of the grey values, from brows to chin of the 112 x 112 crop.
            Blur and enlargement lower it, noise and beards raise it; it depends on no one's brightness or contrast.
        yaw: degrees by which the head is turned, > 0 to the right of the image, in [-90, 90]: from where the nose stands between
            the eyes. Within 3 degrees on average on SynthFaces; a nose of another length has another factor.
    """

    eyes: float
    sharpness: float
    yaw: float


def quality(image: NDArray[np.uint8], landmarks: NDArray[Any]) -> Quality:
    """Size, sharpness and turn of a face.

    Args:
        image: (H, W, 3) uint8.
        landmarks: (5, 2), x and y in `image`.

    Raises:
        WorkbenchError: not such an image or landmarks.
    """
    return measured(warp(image, landmarks), landmarks)


def measured(crop: NDArray[np.uint8], landmarks: NDArray[Any]) -> Quality:
    """`quality` where the 112 x 112 crop is at hand."""
    left, right, nose, *lips = np.asarray(landmarks, dtype=np.float64)
    eyes = float(np.linalg.norm(right - left))
    return Quality(
        eyes, _sharpness(crop), _yaw((left + right) / 2, nose, (lips[0] + lips[1]) / 2, eyes)
    )


def _sharpness(crop: NDArray[np.uint8]) -> float:
    grey = crop[INNER].astype(np.float32).mean(axis=2)
    laplacian = (
        4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    )
    spread = float(grey.std())
    return float(laplacian.std()) / spread if spread > 1e-3 else 0.0


def _yaw(
    eyes: NDArray[np.float64], nose: NDArray[np.float64], lips: NDArray[np.float64], distance: float
) -> float:
    """The distance between the eyes shrinks with the cosine of the turn, and the nose leaves the middle line with its sine."""
    down = lips - eyes
    right = np.array((down[1], -down[0])) / max(float(np.linalg.norm(down)), 1e-9)
    return float(np.degrees(np.arctan2((nose - eyes) @ right, NOSE * distance)))
