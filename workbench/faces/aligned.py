"""Detection and alignment in one call: from an image to the crops of its faces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.faces.alignment import Size, can_be_aligned, fit, height_width, template, transform
from workbench.faces.detection import LARGEST_SIDE, detect
from workbench.faces.face import Face, choose
from workbench.faces.quality import PROFILE, Quality, quality, quality_of_crop


@dataclass(frozen=True, eq=False)
class AlignedFace:
    """An aligned face, with what the detector and the alignment measured.

    Attributes:
        image: (height, width, 3) uint8, the crop.
        box: (4,) float32, as `Face.box`, in pixels of the original image.
        landmarks: (5, 2) float32, as `Face.landmarks`, in pixels of the original image.
        score: score of the detector, in [0, 1].
        residual: as `Fit.residual`: distance of the landmarks from those of a frontal face.
        quality: size, sharpness and yaw.
    """

    image: NDArray[np.uint8]
    box: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    score: float
    residual: float
    quality: Quality

    @property
    def profile(self) -> bool:
        """Whether the face is seen from the side, which is if `residual` is above `PROFILE`."""
        return self.residual > PROFILE


def align(
    image: NDArray[np.uint8],
    *,
    size: Size = 112,
    which: str = "all",
    detector: str = "auto",
    threshold: float | None = None,
    largest_side: int = LARGEST_SIDE,
    threads: int = 1,
) -> list[AlignedFace]:
    """Detects the faces in an image and aligns them to the template of ArcFace.

    Args:
        image: (H, W, 3) uint8 RGB.
        size: size of the crops in pixels: a side, or (height, width), as for `template`.
        which: "all", "largest" or "central", as for `choose`.
        detector: name of the detector, as for `detect`.
        threshold: lowest score in [0, 1], as for `detect`.
        largest_side: longest side in pixels that the detector sees, as for `detect`.
        threads: number of threads of onnxruntime, as for `detect`.

    Returns:
        One aligned face for each detected face, in descending order of their scores. The list is
        empty if there is no face. Faces whose landmarks lie on a line are left out, since such
        landmarks do not determine a rotation.

    Raises:
        WorkbenchError: if an argument is invalid or weights are missing, as for `detect`,
            `choose` and `template`.

    Example:
        >>> align(np.zeros((64, 64, 3), dtype=np.uint8))
        []
    """
    height_width(size)  # Raises an error for an invalid size before the slow detection.
    faces = detect(
        image, detector=detector, threshold=threshold, largest_side=largest_side, threads=threads
    )
    alignable = [face for face in faces if can_be_aligned(face)]
    return [align_face(image, face, size) for face in choose(alignable, image.shape, which)]


def align_face(image: NDArray[np.uint8], face: Face, size: Size = 112) -> AlignedFace:
    """Aligns one detected face.

    Args:
        image: (H, W, 3) uint8 RGB.
        face: a face that `detect` found in `image`.
        size: size of the crop in pixels: a side, or (height, width), as for `template`.

    Returns:
        The aligned face.

    Raises:
        WorkbenchError: if the size is invalid, or if the landmarks lie on a line.
    """
    fitted = fit(face.landmarks, template(size))
    pixels = transform(image, fitted.matrix, height_width(size))
    is_standard = pixels.shape[:2] == (112, 112)
    measured = (
        quality_of_crop(pixels, face.landmarks) if is_standard else quality(image, face.landmarks)
    )
    return AlignedFace(
        image=pixels,
        box=face.box,
        landmarks=face.landmarks,
        score=face.score,
        residual=fitted.residual,
        quality=measured,
    )
