"""Batches: in the order asked for, whoever decodes them; scaled and mirrored by nothing else than what is said."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from workbench import data
from workbench.data.batches import batches, mirror_some, to_network


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
    assert [picture[:, 0, 0].tolist() for picture in pictures] == [images[i][0, 0].tolist() for i in order]


def test_an_image_of_the_right_size_is_not_touched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 9, 7, 3), dtype=np.uint8)
    pictures, numbers = next(batches(pixels, np.array([2, 0]), (9, 7), 2))
    assert torch.equal(pictures, torch.from_numpy(pixels[[2, 0]]).permute(0, 3, 1, 2))
    assert numbers.dtype == torch.int64


@pytest.mark.parametrize("order", [[], np.array([], dtype=np.int64)])
def test_nothing_asked_for_is_no_batch(order: list[int], images: data.Images) -> None:
    assert list(batches(images, order, (8, 6), 2)) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_the_callers_random_numbers_are_left_alone(workers: int, images: data.Images) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert len(list(batches(images, [0, 1], (8, 6), 1, workers))) == 2
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    assert random.getstate() == before[2]


def test_scaling_for_the_network() -> None:
    pictures = torch.tensor([0, 127, 255], dtype=torch.uint8).repeat(2, 3, 4, 1)
    scaled = to_network(pictures, mean=127.5, std=127.5)
    assert scaled.dtype == torch.float32
    assert scaled.shape == pictures.shape
    assert scaled.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(scaled[1, 2, 3], torch.tensor([-1.0, -0.5 / 127.5, 1.0]))


def test_about_half_are_mirrored_and_the_rest_left_alone() -> None:
    pictures = torch.arange(400 * 3 * 2 * 4).reshape(400, 3, 2, 4).remainder(251).to(torch.uint8)
    mixed = mirror_some(pictures, torch.Generator().manual_seed(3))
    as_before = (mixed == pictures).flatten(1).all(1)
    turned = (mixed == pictures.flip(-1)).flatten(1).all(1)
    assert bool((as_before ^ turned).all())
    assert 150 < int(turned.sum()) < 250
    assert torch.equal(mixed, mirror_some(pictures, torch.Generator().manual_seed(3)))
    assert not torch.equal(mixed, mirror_some(pictures, torch.Generator().manual_seed(4)))


def test_mirroring_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    mirror_some(torch.zeros(4, 3, 2, 2, dtype=torch.uint8), torch.Generator())
    assert torch.equal(torch.get_rng_state(), before)
