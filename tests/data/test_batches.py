"""Batches have the requested order with any number of workers, and are scaled."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from workbench import data
from workbench.data import batches as module
from workbench.data.batches import CHANNELS, batches, kept, to_network
from workbench.errors import WorkbenchError


@pytest.fixture
def images(identity_folder: Path) -> data.Images:
    return data.open(f"folder:{identity_folder}").images


@pytest.mark.parametrize("workers", [0, 2])
def test_the_order_is_kept_and_the_last_batch_smaller(workers: int, images: data.Images) -> None:
    order = [5, 0, 3, 3, 1]
    made = list(batches(images, order, (8, 6), 2, workers))
    assert [len(pictures) for pictures, _ in made] == [2, 2, 1]
    assert torch.cat([numbers for _, numbers in made]).tolist() == order
    pictures = torch.cat([pictures for pictures, _ in made])
    assert pictures.dtype == torch.uint8
    assert pictures.shape == (5, 3, 8, 6)
    assert [picture[:, 0, 0].tolist() for picture in pictures] == [
        images[i][0, 0].tolist() for i in order
    ]


def test_an_image_of_the_right_size_is_not_touched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 9, 7, 3), dtype=np.uint8)
    pictures, numbers = next(batches(pixels, np.array([2, 0]), (9, 7), 2))
    assert torch.equal(pictures, torch.from_numpy(pixels[[2, 0]]).permute(0, 3, 1, 2))
    assert numbers.dtype == torch.int64


@pytest.mark.parametrize("order", [[], np.array([], dtype=np.int64)])
def test_an_empty_order_yields_no_batch(order: list[int], images: data.Images) -> None:
    assert list(batches(images, order, (8, 6), 2)) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_the_callers_random_numbers_are_left_alone(workers: int, images: data.Images) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert len(list(batches(images, [0, 1], (8, 6), 1, workers))) == 2
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    assert random.getstate() == before[2]


class Counting:
    """Reader of 10 x 12 images that records which images were read; one may be broken."""

    def __init__(self, broken: int | None = None) -> None:
        self.pixels = np.random.default_rng(1).integers(0, 256, (6, 10, 12, 3), dtype=np.uint8)
        self.broken = broken
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        self.read.append(index)
        if index == self.broken:
            raise WorkbenchError(f"{index}.png: broken")
        return self.pixels[index]


EPOCHS = ([3, 0, 3, 5], [1, 5, 0, 2], [0, 1, 2, 3])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("size", [(8, 6), (10, 12)], ids=["fitted", "of the right size"])
def test_kept_images_make_the_same_batches(size: tuple[int, int], workers: int) -> None:
    reader = kept(Counting(), size, workers)
    assert len(reader) == 6
    for order in EPOCHS:
        made = list(batches(reader, order, size, 3, workers))
        expected = list(batches(Counting(), order, size, 3))
        assert [numbers.tolist() for _, numbers in made] == [
            numbers.tolist() for _, numbers in expected
        ]
        assert all(
            torch.equal(pictures, expected_pictures)
            for (pictures, _), (expected_pictures, _) in zip(made, expected, strict=True)
        )
        for pictures, _ in made:
            pictures.zero_()  # changing a batch does not change the images in memory


def test_kept_images_are_read_once_and_only_when_asked_for() -> None:
    images = Counting()
    reader = kept(images, (8, 6))
    assert images.read == []
    for order in EPOCHS:
        list(batches(reader, order, (8, 6), 3))
    assert images.read == [3, 0, 5, 1, 2]


def test_kept_images_are_no_views_of_larger_ones() -> None:
    images = Counting()
    reader = kept(images, (10, 12))
    before = reader[2].copy()
    images.pixels[:] = 0
    assert np.array_equal(reader[2], before)


def test_a_broken_picture_is_reported_when_it_is_met_and_each_time() -> None:
    reader = kept(Counting(broken=2), (8, 6))
    assert len(list(batches(reader, [0, 1], (8, 6), 1))) == 2
    for _ in range(2):
        with pytest.raises(WorkbenchError, match=r"^2\.png: broken$"):
            list(batches(reader, [0, 2], (8, 6), 2))


class Broken:
    """Reader of images whose pixels are their number; every third image cannot be read."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        if index % 3 == 0:
            raise WorkbenchError(f"{index}.png: broken")
        return np.full((8, 6, 3), index, dtype=np.uint8)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("keep", [False, True])
def test_broken_pictures_are_left_out_and_reported_once(workers: int, keep: bool) -> None:
    order = [1, 0, 2, 3, 6, 9, 0, 4, 5, 0]
    reported: list[str] = []
    images = kept(Broken(), (8, 6), workers) if keep else Broken()
    made = list(batches(images, order, (8, 6), 3, workers, broken="skip", report=reported.append))
    assert [numbers.tolist() for _, numbers in made] == [[1, 2], [], [4, 5], []]
    assert reported == ["0.png: broken", "3.png: broken", "6.png: broken", "9.png: broken"]
    for pictures, numbers in made:
        assert pictures.shape == (len(numbers), 3, 8, 6)
        assert pictures.dtype == torch.uint8
        assert numbers.dtype == torch.int64
        assert (pictures == numbers[:, None, None, None]).all()
        assert to_network(pictures, 127.5, 127.5).shape == pictures.shape
    assert len(list(batches(images, order, (8, 6), 3, workers, broken="skip"))) == 4


@pytest.mark.parametrize("workers", [0, 1])
def test_a_fault_that_is_no_broken_picture_is_never_passed_over(workers: int) -> None:
    with pytest.raises(IndexError):
        list(
            batches(
                np.zeros((2, 8, 6, 3), dtype=np.uint8), [0, 2], (8, 6), 2, workers, broken="skip"
            )
        )


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_lie_as_the_network_wants_them(workers: int, images: data.Images) -> None:
    for pictures, _ in batches(images, [0, 1, 2], (8, 6), 2, workers):
        assert pictures.is_contiguous(memory_format=torch.channels_last)


def test_what_is_too_large_to_keep_is_read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    images = Counting()
    monkeypatch.setattr(module, "KEPT_BYTES", 6 * 8 * 6 * 3)
    assert kept(images, (8, 6)) is not images
    assert kept(images, (8, 7)) is images
    assert kept(images, (8, 6), workers=1) is images


def test_scaling_for_the_network() -> None:
    pictures = torch.tensor([0, 127, 255], dtype=torch.uint8).repeat(2, 3, 4, 1)
    scaled = to_network(pictures, mean=127.5, std=127.5)
    assert scaled.dtype == torch.float32
    assert scaled.shape == pictures.shape
    assert scaled.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(scaled[1, 2, 3], torch.tensor([-1.0, -0.5 / 127.5, 1.0]))


def test_the_order_of_the_colours_is_the_networks() -> None:
    pictures = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).to(torch.uint8)
    rgb, bgr = (to_network(pictures, 10.0, 2.0, order) for order in CHANNELS)
    assert torch.equal(rgb, to_network(pictures, 10.0, 2.0))
    assert torch.equal(bgr, rgb[:, [2, 1, 0]])
    assert bgr.is_contiguous(memory_format=torch.channels_last)
