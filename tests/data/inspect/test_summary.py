"""Data sets in words: bins that can be taken in, sizes, what is broken."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import data
from workbench.data.inspect.summary import (
    MOST_BINS,
    bars,
    describe,
    find_broken,
    histogram,
    in_bytes,
    ranges,
    size_on_disk,
    write_broken,
)


@pytest.mark.parametrize(
    ("counts", "bins"),
    [
        ([5, 5], [(5, 5, 2)]),
        ([2, 4, 4], [(2, 2, 1), (3, 3, 0), (4, 4, 2)]),
        ([1, 3, 30, 20], [(1, 1, 1), (2, 4, 1), (5, 9, 0), (10, 19, 0), (20, 30, 2)]),
        (
            [41, 57, 99],
            [(41, 49, 1), (50, 59, 1), (60, 69, 0), (70, 79, 0), (80, 89, 0), (90, 99, 1)],
        ),
    ],
)
def test_bins_have_borders_that_can_be_taken_in(
    counts: list[int], bins: list[tuple[int, int, int]]
) -> None:
    assert histogram(np.array(counts)) == bins


@given(st.lists(st.integers(1, 3_000_000), min_size=1, max_size=30))
def test_every_identity_is_in_one_bin(counts: list[int]) -> None:
    bins = histogram(np.array(counts))
    assert sum(number for *_, number in bins) == len(counts)
    assert (bins[0][0], bins[-1][1]) == (min(counts), max(counts))
    assert all(high + 1 == low for (_, high, _), (low, _, _) in pairwise(bins))
    assert len(bins) <= max(MOST_BINS, 21)  # from 1 to a million there are so many borders
    for (low, high, number), line in zip(bins, bars(bins, "images", "identities"), strict=True):
        assert line.endswith(f" {number:,} identities")
        assert (number > 0) == ("#" in line)
        assert line.lstrip().startswith(
            f"{low:,} images" if low == high else f"{low:,}-{high:,} images"
        )


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (1234, "1.23 kB"),
        (999_999, "1 MB"),
        (3.2e9, "3.2 GB"),
        (2e12, "2e+03 GB"),
    ],
)
def test_sizes_in_words(size: int, words: str) -> None:
    assert in_bytes(size) == words


def test_a_data_set_in_words(identity_folder: Path) -> None:
    opened = data.open(f"folder:{identity_folder}")
    size = sum(file.stat().st_size for file in identity_folder.rglob("*.png"))
    assert describe(opened, "x") == [
        "x: 6 images of 3 identities, the first 10 x 12",
        "images per identity: 2 to 2, median 2",
        f"fingerprint: {opened.fingerprint()}",
        f"size on disk: {in_bytes(size)}",
    ]
    joined = data.join([opened, data.subset(opened, 1, 1)])
    lines = describe(joined, "y")
    assert lines[2:5] == [
        "  1 images: #############                            1 identities",
        "  2 images: ######################################## 3 identities",
        f"fingerprint: {joined.fingerprint()}",
    ]
    assert lines[-1] == "set: people 6, people-1x1 1"
    assert not any(line.startswith("size") for line in lines)  # of a part it is not known


def test_sizes_are_those_of_the_files(identity_folder: Path, workbench_data: Path) -> None:
    files = data.open(f"folder:{identity_folder}").images
    records = workbench_data / "recordio" / "faces_lfw40"
    size = size_on_disk(data.open(f"recordio:{records}").images)
    assert size == (records / "train.rec").stat().st_size
    assert size_on_disk(data.join([data.open(f"recordio:{records}")] * 2).images) == 2 * size
    assert size_on_disk(np.zeros((3, 2, 2, 3), dtype=np.uint8)) is None
    (identity_folder / "ann" / "0.png").unlink()
    assert size_on_disk(files) is None


def test_every_broken_image_is_found(
    identity_folder: Path, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    opened = data.open(f"folder:{identity_folder}")
    (identity_folder / "ann" / "1.png").write_bytes(b"")
    (identity_folder / "cid" / "0.png").unlink()
    found = find_broken(opened.images, progress=False)
    assert found == [
        (f"{identity_folder}/ann/1.png", "empty (0 bytes), expected an image file"),
        (f"{identity_folder}/cid/0.png", "cannot be read (No such file or directory)"),
    ]
    write_broken(found, tmp_path / "new" / "a.csv")
    assert (
        (tmp_path / "new" / "a.csv")
        .read_text()
        .splitlines()[1]
        .startswith(f'{identity_folder}/ann/1.png,"empty (0')
    )
    with complaint("people: cannot be written"):
        write_broken(found, identity_folder)


def test_many_texts_are_left_out_before_an_array_is_made_of_them() -> None:
    class Names(list[str]):
        def __array__(self, *_: object, **__: object) -> None:
            raise AssertionError

    columns: dict[str, Any] = {
        "file": Names(map(str, range(100))),
        "light": ["L1", "L2", "L1"],
        "set": np.array(["a", "b", "a"], dtype=object),
    }
    assert ranges(columns) == {"light": "L1 2, L2 1", "set": "a 2, b 1"}
