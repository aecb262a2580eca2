"""benchmarks/dlib_crop.py: the place of a square in ArcFace's crop, and the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def script(import_script: Callable[[str], Any]) -> Any:
    return import_script("dlib_crop.py")


def test_a_square_is_mapped_with_its_corners(script: Any) -> None:
    angle, scale = np.radians(20), 0.4
    rotation = scale * np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    matrix = np.column_stack([rotation, (10.0, -3.0)])
    corners = np.array([(50, 80), (150, 80), (150, 180), (50, 180)]) @ rotation.T + (10.0, -3.0)
    chip = script.in_crop(matrix, (100, 130), 100, scale)
    # The centre of the first pixel is half a pixel from the corner of the crop.
    assert (chip.x, chip.y) == pytest.approx(corners.mean(axis=0) + 0.5)
    assert chip.side == pytest.approx(np.linalg.norm(corners[1] - corners[0]))


def test_the_table_has_the_measured_place_beside_the_constants(script: Any) -> None:
    figures = {
        "machine": {"cpu": "some"},
        "data": "orl",
        "photos": 3,
        "chips": 2,
        "mean": [57.014, 73.0, 99.0],
        "standard_error": [0.1, 0.2, 0.3],
        "standard_deviation": [1.0, 2.0, 3.0],
        "in_use": [56.9, 73.0, 100.6],
    }
    lines = script.table(figures)
    assert "orl: 2 chips on 3 photos" in lines
    assert lines[-3].split() == ["centre", "x", "57.01", "0.10", "1.00", "56.9"]
    assert lines[-1].split() == ["side", "99.00", "0.30", "3.00", "100.6"]
