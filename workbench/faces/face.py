"""A face in a picture: its box, its five landmarks, its score; and which of several faces is meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.errors import WorkbenchError, unknown_name

WHICH = ("all", "largest", "central")


@dataclass(frozen=True, eq=False)
class Face:
    """A detected face, in pixels of the picture it was found in; a pixel's centre has whole coordinates, as in OpenCV.

    Args:
        box: (4,) float32, x0, y0, x1, y1; it may reach beyond the picture.
        landmarks: (5, 2) float32, x and y of left eye, right eye, nose tip, left and right corner of the mouth, left and right
            as seen in the picture: ArcFace's order.
        score: the detector's confidence in [0, 1]; scores of two detectors do not compare.
    """

    box: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    score: float

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the box in pixels."""
        return float(self.box[2] - self.box[0]), float(self.box[3] - self.box[1])


def check_image(image: Any, where: str = "image") -> NDArray[np.uint8]:
    """`image` itself if it is (H, W, 3) uint8 with at least one pixel.

    Raises:
        WorkbenchError: it is not.
    """
    if not isinstance(image, np.ndarray):
        raise WorkbenchError(
            f"{where}: expected an (H, W, 3) uint8 array, not {type(image).__name__}; read files with images.read"
        )
    if image.dtype != np.uint8:
        raise WorkbenchError(f"{where}: expected uint8 with values 0..255, not {image.dtype}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        hint = (
            "; repeat a grey picture with np.stack([grey] * 3, axis=-1)" if image.ndim == 2 else ""
        )
        raise WorkbenchError(f"{where}: expected shape (H, W, 3), not {image.shape}{hint}")
    return image


def choose(faces: Sequence[Face], shape: tuple[int, ...], which: str = "largest") -> list[Face]:
    """The face that is meant, where a picture shows several.

    Args:
        faces: as `detect` gives them.
        shape: the picture's shape, of which height and width are read.
        which: "largest" (area of the box), "central" (centre of the box nearest to the picture's), or "all".

    Returns:
        One face, none if there is none, or all in the order given.

    Raises:
        WorkbenchError: another word for `which`.
    """
    if which not in WHICH:
        raise unknown_name("choice of faces", which, WHICH)
    if which == "all" or not faces:
        return list(faces)
    if which == "largest":
        return [max(faces, key=lambda face: face.size[0] * face.size[1])]
    centre = (np.array(shape[1::-1], dtype=np.float64) - 1) / 2
    return [
        min(
            faces,
            key=lambda face: float(np.linalg.norm((face.box[:2] + face.box[2:]) / 2 - centre)),
        )
    ]
