"""YuNet (Wu et al. 2023) by OpenCV, where a user has OpenCV and the network's file: `yunet:FILE.onnx`."""

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
MOST = 5000
"""Candidates that are kept before overlapping ones are removed, OpenCV's default."""


@DETECTORS.register("yunet")
class YuNet:
    """OpenCV's detector.

    Args:
        path: the network's ONNX file, e.g. face_detection_yunet_2023mar.onnx of OpenCV's model zoo.
        threads: OpenCV's number of threads is one for the whole process and is left alone.

    Raises:
        WorkbenchError: no OpenCV, no file, or not a file of YuNet.
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
                path, "", (320, 320), self.threshold, OVERLAP, MOST
            )
        except Exception as error:  # cv2.error, a class of its own
            raise WorkbenchError(
                f"yunet:{path}: OpenCV cannot open it ({' '.join(str(error).split())[:200]})"
            ) from None

    @staticmethod
    def lacks() -> str:
        """What it needs before it works; empty if nothing."""
        return (
            "OpenCV is missing: pip install opencv-python-headless"
            if find_spec("cv2") is None
            else "needs a file: yunet:FILE"
        )

    def find(self, image: NDArray[np.uint8], threshold: float) -> list[Face]:
        """Faces of an (H, W, 3) uint8 RGB picture with at least that score, best first, in its pixels."""
        self.network.setInputSize(image.shape[1::-1])
        self.network.setScoreThreshold(threshold)
        _, rows = self.network.detect(np.ascontiguousarray(image[..., ::-1]))
        # x, y, width, height, then the landmarks in ArcFace's order (it calls them by the person's own left and right), score.
        table = (
            np.zeros((0, 15), dtype=np.float32)
            if rows is None
            else np.asarray(rows, dtype=np.float32)
        )
        faces = [
            Face(np.append(row[:2], row[:2] + row[2:4]), row[4:14].reshape(5, 2), float(row[14]))
            for row in table
        ]
        return sorted(faces, key=lambda face: -face.score)
