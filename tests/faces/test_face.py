"""The choice of a face, and the check of an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import Complaint

from workbench import faces


def _face(x0: float, y0: float, x1: float, y1: float, score: float = 0.9) -> faces.Face:
    return faces.Face(
        np.array((x0, y0, x1, y1), dtype=np.float32), np.zeros((5, 2), dtype=np.float32), score
    )


LARGE, MIDDLE, WIDE = _face(0, 0, 40, 40), _face(45, 40, 60, 60, 0.7), _face(0, 90, 100, 99)


@pytest.mark.parametrize(
    ("which", "expected"),
    [("largest", [LARGE]), ("central", [MIDDLE]), ("all", [WIDE, MIDDLE, LARGE])],
)
def test_the_requested_face_is_chosen(which: str, expected: list[faces.Face]) -> None:
    assert faces.choose([WIDE, MIDDLE, LARGE], (100, 105, 3), which) == expected


def test_the_centre_depends_on_height_and_width() -> None:
    left, right = _face(40, 40, 60, 60), _face(140, 40, 160, 60)
    assert faces.choose([left, right], (100, 300, 3), "central") == [right]
    assert faces.choose([left, right], (300, 100, 3), "central") == [left]


@pytest.mark.parametrize("which", ["largest", "central", "all"])
def test_without_faces_none_is_chosen(which: str) -> None:
    assert faces.choose([], (10, 10, 3), which) == []


def test_an_unknown_choice_is_refused(complaint: Complaint) -> None:
    with complaint("'largets'", "did you mean 'largest'?"):
        faces.choose([LARGE], (9, 9, 3), "largets")


@pytest.mark.parametrize(
    ("image", "texts"),
    [
        (np.zeros((8, 8), dtype=np.uint8), ["(8, 8)", "np.stack"]),
        (np.zeros((8, 8, 4), dtype=np.uint8), ["(8, 8, 4)"]),
        (np.zeros((0, 8, 3), dtype=np.uint8), ["(0, 8, 3)"]),
        (np.zeros((8, 8, 3)), ["float64", "uint8"]),
        (np.full((8, 8, 3), np.nan, dtype=np.float32), ["float32"]),
        ("photo.jpg", ["str", "images.read"]),
    ],
)
def test_an_invalid_image_is_refused(image: Any, texts: list[str], complaint: Complaint) -> None:
    for use in (faces.detect, faces.align, lambda image: faces.warp(image, faces.ARCFACE)):
        with complaint(*texts):
            use(image)
