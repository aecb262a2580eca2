"""Size, sharpness, yaw and profile, on portraits with a known ground truth."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from workbench import faces, images, synthfaces

Portraits = list[synthfaces.Portrait]


def _sharpness(image: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> float:
    return faces.quality(image, landmarks).sharpness


def test_blur_lowers_sharpness_step_by_step(portraits: Portraits) -> None:
    for portrait in portraits:
        image = Image.fromarray(images.decode(portrait.jpeg))
        blurred = [
            np.asarray(image.filter(ImageFilter.GaussianBlur(radius)))
            for radius in (0, 1, 2, 3, 5, 8)
        ]
        found = [_sharpness(image, portrait.landmarks) for image in blurred]
        assert found == sorted(found, reverse=True)
        assert found[-1] < 0.4 * found[0]


def test_enlarging_a_small_face_lowers_sharpness(portraits: Portraits) -> None:
    for portrait in portraits:
        image = Image.fromarray(images.decode(portrait.jpeg))
        sharp = _sharpness(np.asarray(image), portrait.landmarks)
        small = np.asarray(image.resize((32, 32), Image.Resampling.BOX))
        assert _sharpness(small, (portrait.landmarks + 0.5) / 7 - 0.5) < 0.7 * sharp


def test_sharpness_ignores_brightness_and_contrast(portraits: Portraits) -> None:
    image = images.decode(portraits[0].jpeg)
    other = (image * 0.5 + 60).round().astype(np.uint8)
    assert _sharpness(other, portraits[0].landmarks) == pytest.approx(
        _sharpness(image, portraits[0].landmarks), rel=0.05
    )


def test_a_uniform_image_has_no_sharpness() -> None:
    assert (
        _sharpness(np.full((112, 112, 3), 90, dtype=np.uint8), faces.ARCFACE.astype(np.float32))
        == 0
    )


def test_the_distance_between_the_eyes_is_in_pixels_of_the_image() -> None:
    image = np.zeros((400, 400, 3), dtype=np.uint8)
    assert faces.quality(image, faces.ARCFACE).eyes == pytest.approx(35.24, abs=0.01)
    assert faces.quality(image, faces.ARCFACE * 3 + 20).eyes == pytest.approx(3 * 35.24, abs=0.03)


def test_the_yaw_is_close_to_the_truth(poses: Portraits) -> None:
    truth = np.array([portrait.attributes["yaw"] for portrait in poses], dtype=np.float64)
    blank = np.zeros((160, 160, 3), dtype=np.uint8)
    found = np.array([faces.quality(blank, portrait.landmarks).yaw for portrait in poses])
    assert np.ptp(truth) == 180
    assert np.abs(found - truth).mean() < 5
    assert np.abs(found - truth).max() < 20


@pytest.mark.parametrize("degrees", [-150, -40, 70, 180])
def test_roll_and_size_do_not_change_the_yaw(degrees: float, poses: Portraits) -> None:
    a = np.radians(degrees)
    turn = 1.7 * np.array([(np.cos(a), -np.sin(a)), (np.sin(a), np.cos(a))])
    blank = np.zeros((9, 9, 3), dtype=np.uint8)
    for portrait in poses[:6]:
        expected = faces.quality(blank, portrait.landmarks).yaw
        assert faces.quality(blank, portrait.landmarks @ turn.T + 50).yaw == pytest.approx(
            expected, abs=1e-3
        )


def test_profiles_are_distinguished_from_frontal_faces(poses: Portraits) -> None:
    verdicts: dict[bool, list[bool]] = {True: [], False: []}
    for portrait in poses:
        yaw = abs(float(portrait.attributes["yaw"]))
        found = faces.align(images.decode(portrait.jpeg), which="largest")
        if found and not 30 <= yaw < 60:
            verdicts[yaw >= 60].append(found[0].profile)
    assert len(verdicts[True]) >= 5
    assert len(verdicts[False]) >= 18
    assert all(verdicts[True])
    assert not any(verdicts[False])
