"""Detection and alignment of photos, compared with the crops of another program."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from numpy.typing import NDArray

from workbench import faces, images

EVERY = 8


@pytest.fixture(scope="module")
def photos(workbench_data: Path) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Every eighth of the 444 photos, 250 x 250, each with its 112 x 112 crop."""
    folder = workbench_data / "lfw"
    with (
        ZipFile(folder / "lfw_250_300pairs.zip") as originals,
        ZipFile(folder / "lfw_112.zip") as crops,
    ):
        names = sorted(name for name in originals.namelist() if name.endswith(".jpg"))[::EVERY]
        return [
            (
                images.decode(originals.read(name)),
                images.decode(crops.read(name.replace("lfw_250/", "lfw_112/"))),
            )
            for name in names
        ]


def test_the_central_face_of_every_photo_is_detected(
    photos: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
) -> None:
    gaps, landmark_gaps = [], []
    for photo, crop in photos:
        (face,) = faces.align(photo, which="central")
        gaps.append(np.abs(face.image.astype(int) - crop).mean())
        (again,) = faces.align(crop, which="central")
        landmark_gaps.append(np.abs(again.landmarks - faces.ARCFACE).mean())
    assert len(photos) == 56
    assert max(gaps) < 30
    assert np.median(gaps) < 11
    assert np.median(landmark_gaps) < 3


def test_faces_in_tight_crops_are_detected(
    photos: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
) -> None:
    assert all(faces.detect_many([crop[10:105, 14:98] for _, crop in photos]))


@pytest.mark.slow
def test_a_face_is_detected_in_every_photo(workbench_data: Path) -> None:
    with ZipFile(workbench_data / "lfw" / "lfw_250_300pairs.zip") as originals:
        names = [name for name in originals.namelist() if name.endswith(".jpg")]
        missed = [name for name in names if not faces.detect(images.decode(originals.read(name)))]
    assert (len(names), missed) == (444, [])
