"""One box a face: non-maximum suppression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def best_boxes(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], overlap: float
) -> list[int]:
    """Which boxes stay when each, from the best score down, removes those it overlaps.

    Args:
        boxes: (N, 4), x0, y0, x1, y1.
        scores: (N,).
        overlap: intersection over union from which two boxes are one face.

    Returns:
        Their indices, best score first.
    """
    order = np.argsort(-scores, kind="stable")
    areas = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    kept: list[int] = []
    while order.size:
        best, order = order[0], order[1:]
        kept.append(int(best))
        corners = (
            np.maximum(boxes[best, :2], boxes[order, :2]),
            np.minimum(boxes[best, 2:], boxes[order, 2:]),
        )
        shared = np.prod(np.maximum(corners[1] - corners[0], 0), axis=1)
        order = order[shared < overlap * np.maximum(areas[best] + areas[order] - shared, 1e-9)]
    return kept
