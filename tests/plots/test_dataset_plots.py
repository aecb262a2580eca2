"""Figures of data sets: images of an identity, and augmented images."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from workbench import plots


@pytest.mark.parametrize(
    ("counts", "x", "y", "named"),
    [
        ([5], [5], [1], ["5"]),
        ([2, 2, 4], [2, 3, 4], [2, 0, 1], ["2", "3", "4"]),
        (np.array([1, 60]), [*range(1, 61)], [1, *[0] * 58, 1], [*map(str, range(1, 61))]),
    ],
)
def test_a_bar_stands_for_identities_with_so_many_images(
    counts: list[int], x: list[float], y: list[int], named: list[str]
) -> None:
    (bar,) = plots.images_per_identity(counts).data
    assert (list(bar.x), list(bar.y), list(bar.customdata)) == (x, y, named)


@pytest.mark.parametrize("most", [61, 100, 1234, 100_000])
def test_wide_ranges_are_drawn_in_bars_of_the_same_whole_width(most: int) -> None:
    counts = np.concatenate([[1, most], np.random.default_rng(0).integers(1, most + 1, 500)])
    drawn = plots.images_per_identity(counts)
    (bar,) = drawn.data
    assert len(bar.x) <= 60
    assert sum(bar.y) == len(counts)
    assert np.allclose(np.diff(bar.x), bar.width)
    assert bar.customdata[0].startswith("1 to ")
    assert drawn.layout.shapes[0].x0 == np.median(counts)
    assert drawn.layout.annotations[0].text == f"median {np.median(counts):g}"


def test_without_identities_the_figure_is_empty() -> None:
    drawn = plots.images_per_identity([])
    assert not drawn.data
    assert drawn.layout.xaxis.title.text


def test_augmented_images_are_at_the_titles_of_their_rows() -> None:
    faces = np.arange(3 * 5 * 4 * 3, dtype=np.uint8).reshape(3, 5, 4, 3)
    drawn = plots.augmentations({"original": faces, "noise, 10 %": 255 - faces}, scale=2)
    (image,) = drawn.data
    file = io.BytesIO(base64.b64decode(image.source.removeprefix("data:image/png;base64,")))
    pixels = np.asarray(Image.open(file))
    gutter = 4
    assert pixels.shape == (2 * (5 + gutter), 3 * (4 + gutter), 3)
    for row, images in enumerate((faces, 255 - faces)):
        top = row * (5 + gutter)
        assert top < drawn.layout.yaxis.tickvals[row] < top + 5
        for column, face in enumerate(images):
            left = column * (4 + gutter)
            assert left < drawn.layout.xaxis.tickvals[column] < left + 4
            assert np.array_equal(pixels[top : top + 5, left : left + 4], face)
            assert (pixels[top + 5 : top + 9, left : left + 8] == 255).all()
    assert list(drawn.layout.yaxis.ticktext) == ["original", "noise, 10 %"]
    margin = drawn.layout.margin
    assert drawn.layout.width - margin.l - margin.r == 2 * pixels.shape[1]
    assert drawn.layout.height - margin.t - margin.b == 2 * pixels.shape[0]


def test_without_augmented_images_the_figure_is_empty() -> None:
    assert not plots.augmentations({}).data
