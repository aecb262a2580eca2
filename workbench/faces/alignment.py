"""Alignment: from the five landmarks of a face to the upright crop that networks expect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workbench.errors import WorkbenchError
from workbench.faces.face import Face, check_image
from workbench.geometry import ARCFACE, umeyama

LARGEST = 4096
"""Longest side of a crop in pixels. A larger number is most likely a typing error."""
FLATTEST = 0.02
"""Landmarks count as lying on a line if their spread across it is below this share of their spread
along it."""

Size = int | tuple[int, int]


@dataclass(frozen=True, eq=False)
class Fit:
    """The similarity transform from an image to a crop.

    Attributes:
        matrix: (2, 3) float64: `matrix @ (x, y, 1)` maps a place in the image to one in the crop.
        residual: root mean square distance between the transformed landmarks and the template, in
            pixels of the 112 x 112 crop, whatever the size of the crop.
        scale: pixels of the crop per pixel of the image. Below 1, the face is made smaller.
        angle: in-plane rotation of the face in the image, in degrees, in [-180, 180). Positive
            values are clockwise.
    """

    matrix: NDArray[np.float64]
    residual: float
    scale: float
    angle: float


def height_width(size: Size) -> tuple[int, int]:
    """Returns the height and the width of a crop.

    Args:
        size: a side in pixels, or (height, width), each in 1..4096.

    Raises:
        WorkbenchError: if `size` is not one or two whole numbers, or if one is not in 1..4096.
    """
    pair = (size, size) if isinstance(size, (int, np.integer)) else size
    if (
        isinstance(size, bool)
        or not isinstance(pair, (tuple, list))
        or len(pair) != 2
        or not all(_is_side(side) for side in pair)
    ):
        raise WorkbenchError(
            f"size of a crop {size!r}: expected a side such as 112, or (height, width), "
            f"in 1..{LARGEST}"
        )
    return int(pair[0]), int(pair[1])


def _is_side(side: Any) -> bool:
    """Whether a value is a valid side of a crop."""
    return (
        isinstance(side, (int, np.integer))
        and not isinstance(side, bool)
        and bool(1 <= side <= LARGEST)
    )


def template(size: Size = 112) -> NDArray[np.float64]:
    """Returns the landmarks of ArcFace's template in a crop of a given size.

    112 x 112 is the crop of ArcFace (Deng et al. 2019). 112 x 96 is that of SphereFace and CosFace:
    the same crop without the 8 outermost columns on each side. For other sizes:

    - A multiple of 112 is the template scaled up.
    - A square whose side is a multiple of 128, and not of 112, holds the 112 x 112 crop in the
      middle 7/8 of its width and the top 7/8 of its height, as in InsightFace.
    - Any other size is scaled by height / 112, and the template is centred in the width.

    Args:
        size: a side in pixels, or (height, width), each in 1..4096.

    Returns:
        (5, 2) float64, x and y in pixels.

    Raises:
        WorkbenchError: if the size is invalid.

    Example:
        >>> template(112)[0].tolist()
        [38.2946, 51.6963]
        >>> (template((112, 96)) - template(112))[0].tolist()
        [-8.0, 0.0]
    """
    height, width = height_width(size)
    scale, shift = height / 112, (width - height) / 2
    if height == width and height % 128 == 0 and height % 112:
        scale, shift = height / 128, height / 16
    landmarks = ARCFACE * scale
    landmarks[:, 0] += shift
    return landmarks


def fit(landmarks: NDArray[Any], template: NDArray[Any]) -> Fit:
    """Fits the similarity transform that brings landmarks closest to a template.

    The transform rotates, scales and shifts; it never mirrors. It is the least-squares solution of
    Umeyama 1991.

    Args:
        landmarks: (5, 2), x and y in pixels of the image.
        template: (5, 2), x and y in pixels of the crop, from `template`.

    Returns:
        The transform and its residual.

    Raises:
        WorkbenchError: if an array has another shape, holds NaN or infinity, or holds points that
            lie on a line or in one place.

    Example:
        >>> fitted = fit(2 * template(112), template(112))
        >>> round(fitted.scale, 6), round(fitted.residual, 6)
        (0.5, 0.0)
    """
    points, target = _checked(landmarks, "landmarks"), _checked(template, "template")
    rotation, offset = umeyama(points, target)
    scale = float(np.hypot(rotation[0, 0], rotation[1, 0]))
    if scale < 1e-9:
        raise WorkbenchError(
            "landmarks: no rotation brings them near the template; expected left eye, right eye, "
            "nose, left and right corner of the mouth"
        )
    # The residual is measured in pixels of the 112 x 112 crop.
    unit = _spread(target) / _spread(ARCFACE)
    distances = np.linalg.norm(points @ rotation.T + offset - target, axis=1)
    residual = float(np.sqrt(np.mean(distances**2)) / unit)
    angle = float(-np.degrees(np.arctan2(rotation[1, 0], rotation[0, 0])))
    return Fit(np.column_stack([rotation, offset]), residual, scale, angle)


def can_be_aligned(face: Face) -> bool:
    """Whether `fit` accepts the landmarks of a face."""
    try:
        fit(face.landmarks, ARCFACE)
    except WorkbenchError:
        return False
    return True


def _spread(points: NDArray[np.float64]) -> float:
    """Root mean square distance of points from their mean."""
    return float(np.sqrt(np.mean(np.sum((points - points.mean(axis=0)) ** 2, axis=1))))


def _checked(points: NDArray[Any], name: str) -> NDArray[np.float64]:
    """Five points as float64. Raises an error if they do not determine a rotation."""
    points = np.asarray(points)
    if points.shape != (5, 2):
        raise WorkbenchError(f"{name}: expected shape (5, 2), not {points.shape}")
    points = points.astype(np.float64)
    if not np.isfinite(points).all():
        raise WorkbenchError(f"{name}: not finite: {points.tolist()}")
    along, across = np.linalg.svd(points - points.mean(0), compute_uv=False)
    if across <= FLATTEST * along or along < 1e-6:
        raise WorkbenchError(
            f"{name}: on a line or in one place, which does not determine a rotation: "
            f"{points.round(1).tolist()}"
        )
    return points


def warp(image: NDArray[np.uint8], landmarks: NDArray[Any], size: Size = 112) -> NDArray[np.uint8]:
    """Returns the aligned crop of a face: bilinear, and black outside the image.

    Args:
        image: (H, W, 3) uint8.
        landmarks: (5, 2), x and y in pixels of `image`.
        size: size of the crop in pixels: a side, or (height, width), as for `template`.

    Returns:
        (height, width, 3) uint8.

    Raises:
        WorkbenchError: if the image, the landmarks or the size are invalid.

    Example:
        >>> image = np.zeros((224, 224, 3), dtype=np.uint8)
        >>> warp(image, 2 * template(112), size=(112, 96)).shape
        (112, 96, 3)
    """
    return transform(image, fit(landmarks, template(size)).matrix, height_width(size))


def transform(
    image: NDArray[np.uint8], matrix: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Samples an image through a similarity transform, as `cv2.warpAffine` does.

    The sampling is bilinear, and places outside the image are black. If the face becomes half as
    large or smaller, square blocks of pixels are averaged first, so that every pixel of the image
    counts.

    Args:
        image: (H, W, 3) uint8.
        matrix: (2, 3), from places in the image to places in the crop. The centre of a pixel has
            whole-number coordinates.
        size: (height, width) of the crop.

    Returns:
        (height, width, 3) uint8.

    Raises:
        WorkbenchError: if the image is invalid.

    Example:
        >>> image = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
        >>> shift_by_one_column = np.array([(1, 0, -1), (0, 1, 0)])
        >>> bool((transform(image, shift_by_one_column, (3, 2)) == image[:, 1:]).all())
        True
    """
    image = check_image(image)
    height, width = size
    # `inverse` and `shift` map places in the crop to places in the image.
    inverse = np.linalg.inv(matrix[:, :2])
    shift = -inverse @ matrix[:, 2]
    block = max(1, int(np.sqrt(abs(np.linalg.det(inverse))) + 1e-6))
    region, corner = _region(image, inverse, shift, size, block)
    if region is None:
        return np.zeros((height, width, 3), dtype=np.uint8)
    if block > 1:
        region = np.asarray(Image.fromarray(region).reduce(block))
    # The centre of a block is (block - 1) / 2 from its first pixel. In Pillow's coordinates, the
    # centre of a pixel is at a half.
    inverse, shift = inverse / block, (shift - corner - (block - 1) / 2) / block
    shift = shift + 0.5 - inverse @ (0.5, 0.5)
    coefficients = (*inverse[0], shift[0], *inverse[1], shift[1])
    crop = np.empty((height, width, 3), dtype=np.float32)
    for channel in range(3):  # As floats, because Pillow truncates interpolated integers.
        plane = Image.fromarray(region[..., channel].astype(np.float32))
        plane = plane.transform(
            (width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
        )
        crop[..., channel] = np.asarray(plane)
    return (crop + 0.5).astype(np.uint8)


def _region(
    image: NDArray[np.uint8],
    inverse: NDArray[Any],
    shift: NDArray[Any],
    size: tuple[int, int],
    block: int,
) -> tuple[NDArray[np.uint8] | None, NDArray[np.float64]]:
    """The part of an image that a crop shows, with a black border one block wide.

    Returns the part, or None if the crop lies outside the image, and the place of its first pixel
    in the image.
    """
    height, width = size
    corners = np.array([(0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)])
    corners = corners @ inverse.T + shift
    limit = np.array(image.shape[1::-1])
    # The upper bound has a block to spare, since a block that is cut off would be partly border.
    low = np.clip(np.floor(corners.min(0)) - block, 0, limit).astype(int)
    high = np.clip(np.ceil(corners.max(0)) + 2 * block, 0, limit).astype(int)
    if (low >= high).any():
        return None, low.astype(np.float64)
    part = image[low[1] : high[1], low[0] : high[0]]
    bordered = np.pad(part, ((block, block), (block, block), (0, 0)))
    return bordered, low.astype(np.float64) - block


def crop(
    image: NDArray[np.uint8], face: Face, size: Size = 112, margin: float = 0.2
) -> NDArray[np.uint8]:
    """Returns an upright crop around the box of a face, without alignment.

    The crop has the proportions of `size`, is centred on the box, and contains it with a margin.

    Args:
        image: (H, W, 3) uint8.
        face: a face that `detect` found in `image`.
        size: size of the crop in pixels: a side, or (height, width).
        margin: free space on each side of the box, as a share of the box, above -0.5 and at most
            10. With 0, the crop is the box itself.

    Returns:
        (height, width, 3) uint8, black where the crop extends beyond the image.

    Raises:
        WorkbenchError: if the image, the size or the margin is invalid, or if the box is empty.

    Example:
        >>> box = np.array((10, 10, 40, 40), dtype=np.float32)
        >>> face = Face(box, np.zeros((5, 2), dtype=np.float32), score=1.0)
        >>> crop(np.zeros((50, 50, 3), dtype=np.uint8), face, size=30, margin=0).shape
        (30, 30, 3)
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
