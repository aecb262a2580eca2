"""The YuNet detector (Wu et al. 2023), run by OpenCV on a network file of the user."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workbench.errors import WorkbenchError
from workbench.faces.detectors import DETECTORS
from workbench.faces.face import Face

OVERLAP = 0.3
"""Intersection over union from which two boxes count as one face."""
MAX_CANDIDATES = 5000
"""Candidates that are kept before overlapping ones are removed; OpenCV's default."""


@DETECTORS.register("yunet")
class YuNet:
    """OpenCV's detector, named `yunet:FILE.onnx`.

    Args:
        path: ONNX file of the network, e.g. face_detection_yunet_2023mar.onnx of OpenCV's model
            zoo.
        threads: unused. The number of OpenCV's threads belongs to the whole process and is not
            changed.

    Raises:
        WorkbenchError: if OpenCV is not installed, if there is no file, or if the file does not
            hold YuNet.
    """

    threshold, largest_face = 0.9, 0

    def __init__(self, path: str = "", threads: int = 1) -> None:
        if not path:
            raise WorkbenchError(
                "face detector 'yunet': expected yunet:FILE, FILE being the network's .onnx file"
            )
        if not Path(path).is_file():
            raise WorkbenchError(f"yunet:{path}: there is no such file")
        if find_spec("cv2") is None:
            raise WorkbenchError(
                "face detector 'yunet': OpenCV is missing: pip install opencv-python-headless"
            )
        try:
            self.network = import_module("cv2").FaceDetectorYN.create(
                path, "", (320, 320), self.threshold, OVERLAP, MAX_CANDIDATES
            )
        except Exception as error:  # cv2.error, which cannot be named without importing OpenCV.
            reason = " ".join(str(error).split())[:200]
            raise WorkbenchError(f"yunet:{path}: OpenCV cannot open it ({reason})") from None

    @staticmethod
    def lacks() -> str:
        """Returns what is missing on this machine; a file is always needed."""
        if find_spec("cv2") is None:
            return "OpenCV is missing: pip install opencv-python-headless"
        return "needs a file: yunet:FILE"

    def find(self, image: NDArray[np.uint8], threshold: float) -> list[Face]:
        """Detects faces, as described in `Detector.find`."""
        self.network.setInputSize(image.shape[1::-1])
        self.network.setScoreThreshold(threshold)
        _, rows = self.network.detect(np.ascontiguousarray(image[..., ::-1]))
        if rows is None:
            return []
        # Columns: x, y, width, height; ten coordinates of the landmarks, in ArcFace's order; score.
        faces = [
            Face(np.append(row[:2], row[:2] + row[2:4]), row[4:14].reshape(5, 2), float(row[14]))
            for row in np.asarray(rows, dtype=np.float32)
        ]
        return sorted(faces, key=lambda face: -face.score)
