"""Benchmarks without some images are compared with those that were reduced by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workbench import data
from workbench.data.dataset import image_name
from workbench.data.leaving_out import LeftOut, find_unreadable, lost_parts, without
from workbench.data.templates import Aligned

PICTURES = [np.full((4, 4, 3), number, dtype=np.uint8) for number in range(10)]


def _pairs() -> data.Benchmark:
    pairs = np.array([[0, 1], [2, 3], [4, 5], [6, 7], [0, 2], [2, 4], [4, 6], [6, 8]])
    return data.Benchmark("pairs", PICTURES, pairs, np.arange(8) < 4, np.arange(8) % 2)


def test_pairs_with_such_an_image_are_left_out_and_images_keep_their_numbers() -> None:
    whole = _pairs()
    reduced = without(whole, [1, 8, 9])
    assert reduced.pairs.tolist() == [[2, 3], [4, 5], [6, 7], [0, 2], [2, 4], [4, 6]]
    assert reduced.same.tolist() == [True] * 3 + [False] * 3
    assert reduced.folds.tolist() == [1, 0, 1, 0, 1, 0]
    assert len(reduced.images) == 10
    assert lost_parts(whole, reduced) == {"pairs": (2, 8)}
    assert without(whole, []) is whole


@pytest.mark.parametrize(
    ("images", "kind"),
    [([4], "impostor"), ([1, 3], "genuine"), ([0, 1, 2, 3, 4, 5, 6, 7], "genuine")],
)
def test_a_benchmark_that_loses_half_of_a_kind_is_an_error(
    images: list[int], kind: str, complaint: Any
) -> None:
    with complaint("pairs: of 4", f"{kind} pairs only", "more than half are needed"):
        without(_pairs(), images)


def _identification() -> data.Identification:
    identities = np.array([0, 0, 0, 1, 1, 2, 2, -1, -1, -1])
    return data.Identification(
        "among",
        PICTURES,
        identities,
        np.array([0, 3, 5]),
        np.array([1, 2, 4, 6]),
        np.array([7, 8, 9]),
    )


def test_probes_without_their_person_in_the_gallery_are_left_out() -> None:
    whole = _identification()
    reduced = without(whole, [5, 8])
    assert reduced.gallery.tolist() == [0, 3]
    assert reduced.probes.tolist() == [1, 2, 4]
    assert reduced.distractors.tolist() == [7, 9]
    assert lost_parts(whole, reduced) == {
        "gallery": (1, 3),
        "probes": (1, 4),
        "distractors": (1, 3),
    }


@pytest.mark.parametrize(
    ("images", "what"),
    [
        ([0, 3], "images of the gallery"),
        ([1, 2], "probes"),
        ([0], "probes"),
        ([7, 8], "distractors"),
    ],
)
def test_an_identification_that_loses_half_of_a_part_is_an_error(
    images: list[int], what: str, complaint: Any
) -> None:
    with complaint("among: of", f"{what} only"):
        without(_identification(), images)


def test_a_template_keeps_its_other_images_and_without_any_its_pairs_are_left_out() -> None:
    templates = np.array([-1, -1, 5, 5, 7, 7, 8, 9, 9, 9])
    pairs = np.array([[-1, 5], [5, 7], [7, 9], [-1, 7], [-1, 9], [5, 8]])
    same = np.array([True, True, True, False, False, False])
    whole = data.Templates("templates", PICTURES, templates, np.arange(10), pairs, same)
    reduced = without(whole, [1, 2, 6])
    assert reduced.templates[[0, 3, 4, 5, 7, 8, 9]].tolist() == [-1, 5, 7, 7, 9, 9, 9]
    assert not np.isin(reduced.templates[[1, 2, 6]], reduced.pairs).any()
    assert reduced.pairs.tolist() == pairs[:5].tolist()
    assert lost_parts(whole, reduced) == {"pairs": (1, 6)}


def test_images_that_cannot_be_read_are_found_and_named(identity_folder: Path) -> None:
    broken = identity_folder / "bob" / "1.png"
    broken.write_bytes(b"")
    images = data.open(f"folder:{identity_folder}").images
    unreadable = find_unreadable(images, np.arange(6))
    assert unreadable == {3: (str(broken), "empty (0 bytes), expected an image file")}
    assert find_unreadable(images, np.array([0, 1, 2])) == {}


def test_where_half_cannot_be_read_something_else_is_wrong(
    identity_folder: Path, complaint: Any
) -> None:
    for file in sorted(identity_folder.rglob("*.png"))[:3]:
        file.write_bytes(b"")
    with complaint("3 of 6 images cannot be read", "ann/0.png: empty"):
        find_unreadable(data.open(f"folder:{identity_folder}").images, np.arange(6))


def test_a_few_are_named_and_the_others_counted() -> None:
    images = {number: (f"{number}.png", "empty") for number in range(5)}
    text = str(LeftOut(images, 1200, {"pairs": (7, 6000)}))
    assert (
        text
        == "5 of 1,200 images, which cannot be read (0.png, 1.png, 2.png and 2 more), 7 of 6,000 pairs"
    )
    assert str(LeftOut()) == ""


def test_a_cropped_image_has_the_name_of_the_picture(identity_folder: Path) -> None:
    images = data.open(f"folder:{identity_folder}@2x2").images
    assert image_name(Aligned(images, np.zeros((4, 5, 2))), 3) == image_name(images, 3)
    assert image_name(images, 3).endswith(".png")
