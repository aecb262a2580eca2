"""From five landmarks to the upright crop that recognition networks expect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workbench.errors import WorkbenchError
from workbench.faces.face import Face, check_image

ARCFACE = np.array(
    [
        (38.2946, 51.6963),
        (73.5318, 51.5014),
        (56.0252, 71.7366),
        (41.5493, 92.3655),
        (70.7299, 92.2041),
    ]
)
"""Where the landmarks of a 112 x 112 crop are, x and y: left eye, right eye, nose tip, left and right corner of the mouth."""
ARCFACE.setflags(write=False)

LARGEST = 4096
"""The largest crop in pixels a side: a larger one is a slip of the keyboard."""
FLATTEST = 0.02
"""Landmarks less wide across than this share of their length are taken for a line."""

Size = int | tuple[int, int]


@dataclass(frozen=True, eq=False)
class Fit:
    """The similarity transform from a picture to a crop.

    Args:
        matrix: (2, 3) float64: `matrix @ (x, y, 1)` of the picture is a place in the crop.
        residual: root mean square distance of the five landmarks from the template after the transform, in pixels of the
            112 x 112 crop, whatever the size of the crop.
        scale: pixels of the crop per pixel of the picture; below 1 the face is shrunk.
        angle: by how many degrees the face was turned in the picture, in [-180, 180); positive is clockwise as one sees it.
    """

    matrix: NDArray[np.float64]
    residual: float
    scale: float
    angle: float


def height_width(size: Size) -> tuple[int, int]:
    """A crop's height and width.

    Raises:
        WorkbenchError: not a whole number or two, or not in 1..4096.
    """
    pair = (size, size) if isinstance(size, (int, np.integer)) else size
    if (
        isinstance(size, bool)
        or not isinstance(pair, (tuple, list))
        or len(pair) != 2
        or not all(_side(side) for side in pair)
    ):
        raise WorkbenchError(
            f"size of a crop {size!r}: expected a side such as 112, or (height, width), in 1..{LARGEST}"
        )
    return int(pair[0]), int(pair[1])


def _side(side: Any) -> bool:
    return (
        isinstance(side, (int, np.integer))
        and not isinstance(side, bool)
        and bool(1 <= side <= LARGEST)
    )


def template(size: Size = 112) -> NDArray[np.float64]:
    """Where ArcFace's landmarks are in a crop of some size.

    112 x 112 is the crop of ArcFace (Deng et al. 2019), 112 x 96 that of SphereFace and CosFace, the same with 8 columns less
    on either side. Multiples of 112 scale it; of a square whose side is a multiple of 128 (and not of 112) the middle 7/8 in
    width, its top 7/8 in height hold that crop, as in InsightFace. Any other size takes the scale from its height, height / 112,
    and has the crop in the middle of its width.

    Args:
        size: a side in pixels, or (height, width).

    Returns:
        (5, 2) float64, x and y in pixels.

    Raises:
        WorkbenchError: not a size.
    """
    height, width = height_width(size)
    scale, shift = height / 112, (width - height) / 2
    if height == width and height % 128 == 0 and height % 112:
        scale, shift = height / 128, height / 16
    placed = ARCFACE * scale
    placed[:, 0] += shift
    return placed


def fit(landmarks: NDArray[Any], template: NDArray[Any]) -> Fit:
    """The similarity transform (turn, scale, shift; no mirroring) that brings landmarks nearest to a template.

    Umeyama 1991, equations 40-42. In the plane a turn with a scale is one complex factor, so it is an ordinary least-squares
    line through complex numbers.

    Args:
        landmarks: (5, 2), x and y in the picture.
        template: (5, 2), where they should be, from `template`.

    Raises:
        WorkbenchError: another shape, numbers that are not finite, or points that lie on a line or on each other.
    """
    points, target = _complex(landmarks, "landmarks"), _complex(template, "template")
    middle, target_middle = points.mean(), target.mean()
    points, target = points - middle, target - target_middle
    factor = np.vdot(points, target) / np.vdot(points, points).real
    shift = target_middle - factor * middle
    if abs(factor) < 1e-9:
        raise WorkbenchError(
            "landmarks: no turn brings them near the template; expected left eye, right eye, nose, mouth corners"
        )
    matrix = np.array(
        [(factor.real, -factor.imag, shift.real), (factor.imag, factor.real, shift.imag)]
    )
    unit = np.sqrt(np.mean(np.abs(target) ** 2)) / np.sqrt(
        np.mean(np.sum((ARCFACE - ARCFACE.mean(0)) ** 2, axis=1))
    )
    residual = np.sqrt(np.mean(np.abs(factor * points - target) ** 2)) / unit
    return Fit(matrix, float(residual), float(abs(factor)), float(-np.degrees(np.angle(factor))))


def can_be_aligned(face: Face) -> bool:
    """Whether `fit` takes its landmarks."""
    try:
        fit(face.landmarks, ARCFACE)
    except WorkbenchError:
        return False
    return True


def _complex(points: NDArray[Any], what: str) -> NDArray[np.complex128]:
    points = np.asarray(points)
    if points.shape != (5, 2):
        raise WorkbenchError(f"{what}: expected shape (5, 2), not {points.shape}")
    points = points.astype(np.float64)
    if not np.isfinite(points).all():
        raise WorkbenchError(f"{what}: not finite: {points.tolist()}")
    length, breadth = np.linalg.svd(points - points.mean(0), compute_uv=False)
    if breadth <= FLATTEST * length or length < 1e-6:
        raise WorkbenchError(
            f"{what}: on a line or on one place, which leaves the face's turn open: {points.round(1).tolist()}"
        )
    return points[:, 0] + 1j * points[:, 1]


def warp(image: NDArray[np.uint8], landmarks: NDArray[Any], size: Size = 112) -> NDArray[np.uint8]:
    """The upright crop: bilinear, black where it reaches beyond the picture.

    Args:
        image: (H, W, 3) uint8.
        landmarks: (5, 2), x and y in `image`.
        size: of the crop, as for `template`.

    Returns:
        (height, width, 3) uint8.

    Raises:
        WorkbenchError: not such an image, landmarks or size.
    """
    return transform(image, fit(landmarks, template(size)).matrix, height_width(size))


def transform(
    image: NDArray[np.uint8], matrix: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Sample a picture through a similarity transform, bilinear, black outside, as `cv2.warpAffine` does.

    Where a face is shrunk to half or less, squares of pixels are averaged first: else most pixels would have no say.

    Args:
        image: (H, W, 3) uint8.
        matrix: (2, 3), from places in the picture to places in the crop; a pixel's centre has whole coordinates.
        size: (height, width) of the crop.

    Returns:
        (height, width, 3) uint8.
    """
    image = check_image(image)
    height, width = size
    turn = np.linalg.inv(matrix[:, :2])
    shift = -turn @ matrix[:, 2]
    square = max(1, int(np.sqrt(abs(np.linalg.det(turn))) + 1e-6))
    region, corner = _region(image, turn, shift, size, square)
    if region is None:
        return np.zeros((height, width, 3), dtype=np.uint8)
    if square > 1:
        region = np.asarray(Image.fromarray(region).reduce(square))
    # Squares have their centres (square - 1) / 2 from their corners; Pillow's coordinates put a pixel's centre at a half.
    turn, shift = turn / square, (shift - corner - (square - 1) / 2) / square
    shift = shift + 0.5 - turn @ (0.5, 0.5)
    coefficients = (*turn[0], shift[0], *turn[1], shift[1])
    crop = np.empty((height, width, 3), dtype=np.float32)
    for channel in range(3):  # in float: of whole numbers Pillow cuts off the fraction
        plane = Image.fromarray(region[..., channel].astype(np.float32))
        plane = plane.transform(
            (width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
        )
        crop[..., channel] = np.asarray(plane)
    return (crop + 0.5).astype(np.uint8)


def _region(
    image: NDArray[np.uint8],
    turn: NDArray[Any],
    shift: NDArray[Any],
    size: tuple[int, int],
    square: int,
) -> tuple[NDArray[np.uint8] | None, NDArray[np.float64]]:
    """The part of a picture that a crop shows, in a black frame, and where its first pixel is in the picture."""
    height, width = size
    corners = (
        np.array([(0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)]) @ turn.T
        + shift
    )
    reach = np.array(image.shape[1::-1])
    low = np.clip(np.floor(corners.min(0)) - square, 0, reach).astype(int)
    high = np.clip(np.ceil(corners.max(0)) + 2 * square, 0, reach).astype(
        int
    )  # a square that is cut off is partly frame
    if (low >= high).any():
        return None, low.astype(np.float64)
    part = image[low[1] : high[1], low[0] : high[0]]
    return np.pad(part, ((square, square), (square, square), (0, 0))), low.astype(
        np.float64
    ) - square


def crop(
    image: NDArray[np.uint8], face: Face, size: Size = 112, margin: float = 0.2
) -> NDArray[np.uint8]:
    """An unturned crop around a face's box: what "crop without alignment" means in comparisons.

    The crop has the proportions of `size`, is centred on the box, and holds it with a margin.

    Args:
        image: (H, W, 3) uint8.
        face: from `detect` on `image`.
        size: of the crop in pixels: a side, or (height, width).
        margin: free space on either side of the box, as a share of the box; 0 is the box itself.

    Returns:
        (height, width, 3) uint8, black where the crop reaches beyond the picture.

    Raises:
        WorkbenchError: not such an image, size or margin, or an empty box.
    """
    height, width = height_width(size)
    if not (isinstance(margin, (int, float)) and -0.5 < margin <= 10):
        raise WorkbenchError(
            f"margin {margin!r}: expected a share of the box such as 0.2, above -0.5 and at most 10"
        )
    box_width, box_height = face.size
    if not (np.isfinite(face.box).all() and box_width > 0 and box_height > 0):
        raise WorkbenchError(f"box {face.box.tolist()}: expected x0 < x1 and y0 < y1")
    scale = min(width / box_width, height / box_height) / (1 + 2 * margin)
    centre = (face.box[:2].astype(np.float64) + face.box[2:]) / 2
    shift = (np.array((width, height)) - 1) / 2 - scale * centre
    return transform(image, np.array([(scale, 0, shift[0]), (0, scale, shift[1])]), (height, width))
