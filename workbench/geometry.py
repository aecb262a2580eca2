"""The face template of ArcFace, and the least-squares transform that brings landmarks to it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

ARCFACE = np.array(
    [
        (38.2946, 51.6963),
        (73.5318, 51.5014),
        (56.0252, 71.7366),
        (41.5493, 92.3655),
        (70.7299, 92.2041),
    ]
)
"""The template of ArcFace (Deng et al., CVPR 2019): x and y in pixels of a 112 x 112 crop.

The rows are the left eye, the right eye, the tip of the nose, and the left and the right corner of
the mouth, where left and right are those of the image.
"""
ARCFACE.setflags(write=False)


def umeyama(
    source: NDArray[Any], target: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fits the similarity transform that brings points closest to a target (least squares).

    The transform rotates, scales and shifts; it never mirrors. See Umeyama, "Least-squares
    estimation of transformation parameters between two point patterns", PAMI 1991, equations 34
    to 43.

    Args:
        source: (N, 2) points, of which at least two differ.
        target: (N, 2) places to which the points should come.

    Returns:
        The (2, 2) matrix and the (2,) offset for which `source @ matrix.T + offset` is closest to
        `target`.

    Example:
        >>> square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
        >>> matrix, offset = umeyama(square, 3 * square + (5, 7))
        >>> np.allclose(matrix, [(3, 0), (0, 3)]), np.allclose(offset, (5, 7))
        (True, True)
    """
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    covariance = (target - target_mean).T @ (source - source_mean) / len(source)
    left, values, right = np.linalg.svd(covariance)
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    scale = (values * signs).sum() / ((source - source_mean) ** 2).sum(axis=1).mean()
    matrix = scale * (left * signs) @ right
    return matrix, target_mean - matrix @ source_mean
