"""The adapter for OpenCV's detector, mostly with a fake of OpenCV."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from helpers import Complaint
from numpy.typing import NDArray

from workbench import faces
from workbench.faces import detection, yunet


class FakeNetwork:
    """Like cv2.FaceDetectorYN, with two faces, one pixel apart, at the brightest red pixel."""

    calls: list[tuple[Any, ...]]

    def __init__(self) -> None:
        self.calls = []

    def setInputSize(self, size: tuple[int, int]) -> None:  # noqa: N802
        self.calls.append(("size", tuple(size)))

    def setScoreThreshold(self, threshold: float) -> None:  # noqa: N802
        self.calls.append(("threshold", threshold))

    def detect(self, image: NDArray[np.uint8]) -> tuple[int, NDArray[np.float32] | None]:
        assert image.flags.c_contiguous
        if not image.any():
            return 1, None
        y, x = np.unravel_index(np.argmax(image[..., 2]), image.shape[:2])  # BGR
        places = [coordinate for point in faces.ARCFACE for coordinate in point]
        rows = [[x + step, y, 20, 30, *places, score] for step, score in ((1, 0.91), (0, 0.95))]
        return 1, np.array(rows, dtype=np.float32)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNetwork]:
    made = FakeNetwork()
    module = ModuleType("cv2")
    detector = type("FaceDetectorYN", (), {"create": staticmethod(lambda *_: made)})
    monkeypatch.setattr(module, "FaceDetectorYN", detector, raising=False)
    monkeypatch.setitem(sys.modules, "cv2", module)
    monkeypatch.setattr(yunet, "find_spec", lambda _: object())
    detection._cached_detector.cache_clear()
    yield made
    detection._cached_detector.cache_clear()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "yunet.onnx"
    path.write_bytes(b"no network")
    return path


def test_its_rows_become_faces(network: FakeNetwork, file: Path) -> None:
    image = np.zeros((300, 400, 3), dtype=np.uint8)
    image[40, 50] = (255, 0, 0)
    best, other = faces.detect(image, detector=f"yunet:{file}", threshold=0.8)
    assert best.box.tolist() == [50, 40, 70, 70]
    assert other.box.tolist() == [51, 40, 71, 70]
    assert (best.score, other.score) == (pytest.approx(0.95), pytest.approx(0.91))
    np.testing.assert_allclose(best.landmarks, faces.ARCFACE, rtol=1e-6)
    assert network.calls == [("size", (400, 300)), ("threshold", 0.8)]


def test_coordinates_are_those_of_the_image(network: FakeNetwork, file: Path) -> None:
    image = np.zeros((600, 800, 3), dtype=np.uint8)
    image[80:84, 100:104] = (255, 0, 0)
    best = faces.detect(image, detector=f"yunet:{file}", largest_side=400)[0]
    assert network.calls == [("size", (400, 300)), ("threshold", 0.9)]
    np.testing.assert_allclose(best.box, (100, 80, 140, 140), atol=3)
    np.testing.assert_allclose(best.landmarks, faces.ARCFACE * 2, rtol=1e-6)


def test_no_face_is_an_empty_list(network: FakeNetwork, file: Path) -> None:
    assert faces.detect(np.zeros((300, 300, 3), dtype=np.uint8), detector=f"yunet:{file}") == []


@pytest.mark.parametrize(
    ("name", "texts"),
    [("yunet", ["yunet:FILE"]), ("yunet:no-such.onnx", ["no-such.onnx", "no such file"])],
)
def test_a_file_is_required(
    name: str, texts: list[str], network: FakeNetwork, complaint: Complaint
) -> None:
    with complaint(*texts):
        faces.detect(np.zeros((9, 9, 3), dtype=np.uint8), detector=name)
    assert "yunet:FILE" in faces.detectors()["yunet"]


def test_without_opencv_the_error_names_the_package(
    monkeypatch: pytest.MonkeyPatch, file: Path, complaint: Complaint
) -> None:
    monkeypatch.setattr(yunet, "find_spec", lambda _: None)
    with complaint("yunet", "pip install opencv-python-headless"):
        faces.detect(np.zeros((9, 9, 3), dtype=np.uint8), detector=f"yunet:{file}")
    assert "opencv-python-headless" in faces.detectors()["yunet"]


def test_a_file_that_opencv_cannot_open_is_refused(file: Path, complaint: Complaint) -> None:
    pytest.importorskip("cv2", exc_type=ImportError)
    with complaint(f"yunet:{file}", "OpenCV cannot open it"):
        faces.detect(np.zeros((9, 9, 3), dtype=np.uint8), detector=f"yunet:{file}")
