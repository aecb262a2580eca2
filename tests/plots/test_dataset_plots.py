"""How many identities have how many images, drawn."""

from __future__ import annotations

import numpy as np
import pytest

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
