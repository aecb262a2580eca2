"""Contact sheets: each picture at its place, white between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import data


def people(
    counts: list[int], side: tuple[int, int] = (6, 5), names: tuple[str, ...] = ()
) -> data.Dataset:
    """Person i has counts[i] pictures, all of grey level 10 * i + number."""
    identities = np.repeat(np.arange(len(counts)), counts)
    levels = [
        10 * person + number for person, count in enumerate(counts) for number in range(count)
    ]
    images = np.stack([np.full((*side, 3), level, dtype=np.uint8) for level in levels])
    return data.Dataset(
        "people", images, identities, names or [f"p{i}" for i in range(len(counts))]
    )


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    rows=st.integers(1, 7),
    columns=st.integers(1, 6),
    scale=st.integers(1, 3),
)
def test_each_picture_is_at_its_place(
    counts: list[int], rows: int, columns: int, scale: int
) -> None:
    sheet = data.contact_sheet(people(counts), rows, columns, scale, names=False)
    gutter, height, width = 2 * scale, 6 * scale, 5 * scale
    shown = [min(count, columns) for count in counts[:rows]]
    assert sheet.shape == (
        gutter + len(shown) * (height + gutter),
        gutter + max(shown) * (width + gutter),
        3,
    )
    wanted = np.full_like(sheet, 255)
    for row, count in enumerate(shown):
        for column in range(count):
            top, left = gutter + row * (height + gutter), gutter + column * (width + gutter)
            wanted[top : top + height, left : left + width] = 10 * row + column
    assert np.array_equal(sheet, wanted)


def test_names_are_written_at_the_left() -> None:
    plain = data.contact_sheet(people([2, 2], (30, 30)), names=False)
    named = data.contact_sheet(people([2, 2], (30, 30)))
    left = named.shape[1] - plain.shape[1]
    assert 10 < left < 60
    assert np.array_equal(named[:, left:], plain)
    for top in (2, 34):
        assert (named[top : top + 30, :left] < 128).any()
    assert (named[:, :2] == 255).all()


@pytest.mark.parametrize("name", ["", "José", "张伟", "a" * 500, "a\nb", "\udce4", "a\0b", "👩"])
def test_any_name_can_be_written(name: str) -> None:
    sheet = data.contact_sheet(people([1], (30, 30), (name,)), scale=2)
    assert sheet.shape[1] < 700


def test_pictures_of_other_sizes_are_brought_to_that_of_the_first() -> None:
    images = [np.zeros((8, 8, 3), dtype=np.uint8), np.zeros((20, 30, 3), dtype=np.uint8)]
    mixed = data.Dataset("mixed", images, np.zeros(2, dtype=np.int64), ["p"])
    assert data.contact_sheet(mixed, names=False).shape == (12, 22, 3)


def test_a_benchmark_that_knows_who_is_on_its_images_can_be_shown(
    complaint: Callable[..., Any],
) -> None:
    source = people([4] * 5)
    bench = data.draw_pairs(source)
    assert np.array_equal(data.contact_sheet(bench), data.contact_sheet(source))
    unknown = data.Benchmark("nobody", bench.images, bench.pairs, bench.same, bench.folds)
    with complaint("nobody", "identities are not known"):
        data.contact_sheet(unknown)
    none = data.Benchmark(
        "nobody", bench.images, bench.pairs, bench.same, bench.folds, np.full(20, -1)
    )
    with complaint("nobody", "identities are not known"):
        data.contact_sheet(none)


@pytest.mark.parametrize("options", [{"people": 0}, {"images": 0}, {"scale": 0}, {"scale": -2}])
def test_numbers_below_one_are_refused(
    options: dict[str, int], complaint: Callable[..., Any]
) -> None:
    with complaint("at least 1"):
        data.contact_sheet(people([1]), **options)


def test_a_sheet_that_is_too_large_is_refused(complaint: Callable[..., Any]) -> None:
    with complaint("megapixels", "smaller scale"):
        data.contact_sheet(people([5] * 5), scale=1000)
