"""Find, choose, align: from a picture to the crops that recognition networks expect."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.faces.alignment import Size, can_be_aligned, fit, height_width, template, transform
from workbench.faces.detection import LARGEST_SIDE, detect
from workbench.faces.face import Face, choose
from workbench.faces.quality import PROFILE, Quality, measured, quality


@dataclass(frozen=True, eq=False)
class AlignedFace:
    """A face, upright and at the size that was asked for.

    Args:
        image: (height, width, 3) uint8.
        box: as `Face.box`, in the picture.
        landmarks: as `Face.landmarks`, in the picture.
        score: the detector's.
        residual: as `Fit.residual`: how far the landmarks are from a frontal face's.
        quality: size, sharpness and pose.
    """

    image: NDArray[np.uint8]
    box: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    score: float
    residual: float
    quality: Quality

    @property
    def profile(self) -> bool:
        """Whether the landmarks are those of a face seen from the side (`residual` above `PROFILE`)."""
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
    """Find the faces in a picture and bring them to ArcFace's crop.

    Args:
        image: (H, W, 3) uint8 RGB.
        size: of the crop, as for `template`.
        which: "all", "largest" or "central", as for `choose`.
        detector, threshold, largest_side, threads: as for `detect`.

    Returns:
        One crop a face, best score first; empty if there is no face. Faces whose landmarks lie on a line, which leaves their turn
        open, are left out.

    Raises:
        WorkbenchError: as `detect` and `template` do.
    """
    height_width(size)  # a wrong size is said before the work
    faces = detect(
        image, detector=detector, threshold=threshold, largest_side=largest_side, threads=threads
    )
    return [
        align_face(image, face, size)
        for face in choose(list(filter(can_be_aligned, faces)), image.shape, which)
    ]


def align_face(image: NDArray[np.uint8], face: Face, size: Size = 112) -> AlignedFace:
    """The crop of one face that `detect` found in `image`.

    Raises:
        WorkbenchError: as `fit` does, where its landmarks lie on a line.
    """
    found = fit(face.landmarks, template(size))
    pixels = transform(image, found.matrix, height_width(size))
    is_plain = pixels.shape[:2] == (112, 112)
    hints = measured(pixels, face.landmarks) if is_plain else quality(image, face.landmarks)
    return AlignedFace(pixels, face.box, face.landmarks, face.score, found.residual, hints)
