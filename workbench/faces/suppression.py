"""Non-maximum suppression: one box for each face."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def best_boxes(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], overlap: float
) -> list[int]:
    """Selects boxes by non-maximum suppression.

    The boxes are visited in descending order of their scores. Each selected box removes the boxes
    that overlap it.

    Args:
        boxes: (N, 4), x0, y0, x1, y1.
        scores: (N,).
        overlap: intersection over union from which two boxes count as one face, in [0, 1].

    Returns:
        The indices of the selected boxes, in descending order of their scores.

    Example:
        >>> boxes = np.array([(0, 0, 10, 10), (1, 0, 11, 10), (20, 0, 30, 10)], dtype=np.float32)
        >>> best_boxes(boxes, np.array([0.8, 0.9, 0.7], dtype=np.float32), overlap=0.4)
        [1, 2]
    """
    order = np.argsort(-scores, kind="stable")
    areas = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    selected: list[int] = []
    while order.size:
        best, order = order[0], order[1:]
        selected.append(int(best))
        low = np.maximum(boxes[best, :2], boxes[order, :2])
        high = np.minimum(boxes[best, 2:], boxes[order, 2:])
        intersection = np.prod(np.maximum(high - low, 0), axis=1)
        union = np.maximum(areas[best] + areas[order] - intersection, 1e-9)
        order = order[intersection < overlap * union]
    return selected
