"""A detected face, and the choice among several of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.errors import WorkbenchError, unknown_name

WHICH = ("all", "largest", "central")
"""The values that `choose` accepts for `which`."""


@dataclass(frozen=True, eq=False)
class Face:
    """A detected face, in pixels of the image. The centre of a pixel has whole-number coordinates.

    Args:
        box: (4,) float32, x0, y0, x1, y1. The box may extend beyond the image.
        landmarks: (5, 2) float32, x and y of the left eye, the right eye, the tip of the nose, and
            the left and right corner of the mouth, where left and right are those of the image.
        score: confidence of the detector in [0, 1]. Scores of different detectors are not
            comparable.
    """

    box: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    score: float

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the box in pixels."""
        return float(self.box[2] - self.box[0]), float(self.box[3] - self.box[1])


def check_image(image: Any, where: str = "image") -> NDArray[np.uint8]:
    """Returns an image unchanged if it is (H, W, 3) uint8 with at least one pixel.

    Args:
        image: the value to check.
        where: name of the image in an error message.

    Raises:
        WorkbenchError: if it is not such an array.
    """
    if not isinstance(image, np.ndarray):
        raise WorkbenchError(
            f"{where}: expected an (H, W, 3) uint8 array, not {type(image).__name__}; "
            "read files with images.read"
        )
    if image.dtype != np.uint8:
        raise WorkbenchError(f"{where}: expected uint8 with values 0..255, not {image.dtype}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        hint = ""
        if image.ndim == 2:
            hint = "; repeat a grey image with np.stack([grey] * 3, axis=-1)"
        raise WorkbenchError(f"{where}: expected shape (H, W, 3), not {image.shape}{hint}")
    return image


def choose(faces: Sequence[Face], shape: tuple[int, ...], which: str = "largest") -> list[Face]:
    """Chooses among the faces of an image.

    Args:
        faces: the faces, as `detect` returns them.
        shape: shape of the image, of which the height and the width are used.
        which: "largest" chooses the face whose box has the largest area, "central" the face whose
            box is closest to the centre of the image, and "all" chooses every face.

    Returns:
        A list with one face, with none if there is none, or with all of them in their order.

    Raises:
        WorkbenchError: if `which` is another value.

    Example:
        >>> landmarks = np.zeros((5, 2), dtype=np.float32)
        >>> small = Face(np.array((0, 0, 9, 9), dtype=np.float32), landmarks, score=0.9)
        >>> large = Face(np.array((0, 0, 50, 60), dtype=np.float32), landmarks, score=0.8)
        >>> choose([small, large], (100, 100, 3)) == [large]
        True
    """
    if which not in WHICH:
        raise unknown_name("choice of faces", which, WHICH)
    if which == "all" or not faces:
        return list(faces)
    if which == "largest":
        return [max(faces, key=lambda face: face.size[0] * face.size[1])]
    centre = (np.array(shape[1::-1], dtype=np.float64) - 1) / 2

    def distance_to_centre(face: Face) -> float:
        return float(np.linalg.norm((face.box[:2] + face.box[2:]) / 2 - centre))

    return [min(faces, key=distance_to_centre)]
