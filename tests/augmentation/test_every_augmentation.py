"""What holds for every augmentation: shapes, probabilities, and draws for each image alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from workbench import augmentation

ENTRIES: dict[str, tuple[str, dict[str, Any]]] = {
    "affine": ("affine", {}),
    "affine with aspect": ("affine", {"aspect": [0.5, 2.0]}),
    "blur by defocus": ("blur", {"kind": "defocus", "size": [0.1, 0.3]}),
    "blur by motion": ("blur", {"kind": "motion", "size": [0.1, 0.3]}),
    "colour": ("colour", {}),
    "colour with hue and gamma": ("colour", {"hue": 0.3, "gamma": 0.5, "grey": 0.5}),
    "crop": ("crop", {}),
    "crop and resize": ("crop", {"resize": True}),
    "erase with noise": ("erase", {}),
    "erase with the mean": ("erase", {"fill": "mean"}),
    "erase with black": ("erase", {"fill": "black"}),
    "flip": ("flip", {}),
    "jpeg": ("jpeg", {}),
    "low_resolution": ("low_resolution", {}),
    "noise": ("noise", {}),
    "random convolution": ("random_convolution", {}),
    "random convolution, not mixed": ("random_convolution", {"mix": False, "sizes": [3]}),
    "warp": ("warp", {}),
}
"""All augmentations of single images, with the options that change the way they work."""


def images(count: int = 6, height: int = 24, width: int = 20, seed: int = 0) -> Tensor:
    """Smooth random images, channels last in memory as the batches of a training."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 5, 5, generator=generator) * 255
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return smooth.clamp(0, 255).to(torch.uint8).contiguous(memory_format=torch.channels_last)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(entry: str, **options: Any) -> augmentation.Augmentation:
    name, own = ENTRIES[entry]
    return augmentation.create([{name: own | options}])


def test_every_augmentation_is_tested() -> None:
    assert {name for name, _ in ENTRIES.values()} | {"mixup"} == set(augmentation.names())


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("size", [(24, 20), (1, 1), (7, 40)])
def test_shape_type_and_memory_format_are_kept(
    entry: str, count: int, size: tuple[int, int]
) -> None:
    batch = images(5, *size)[:count]
    before = batch.clone()
    result = made(entry, probability=1.0)(batch, seeded())
    assert result.shape == batch.shape
    assert result.dtype == torch.uint8
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch, before)


@pytest.mark.parametrize("entry", ENTRIES)
def test_probability_0_changes_nothing_and_1_changes_all(entry: str) -> None:
    batch = images(8)
    assert torch.equal(made(entry, probability=0.0)(batch, seeded()), batch)
    changed = (made(entry, probability=1.0)(batch, seeded(1)) != batch).flatten(1).any(1)
    assert int(changed.sum()) >= 7  # an image in almost full resolution may not change


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_probability_is_the_share_of_changed_images(entry: str) -> None:
    batch = images(1).expand(400, -1, -1, -1)
    changed = (made(entry, probability=0.3)(batch, seeded(2)) != batch).flatten(1).any(1)
    assert 70 < int(changed.sum()) < 160


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_generator_alone_decides(entry: str) -> None:
    augment, batch = made(entry, probability=0.9), images(16)
    before = torch.get_rng_state()
    first = augment(batch, seeded(3))
    assert torch.equal(augment(batch, seeded(3)), first)
    assert not torch.equal(augment(batch, seeded(4)), first)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("entry", ENTRIES)
def test_each_image_has_its_own_draw(entry: str) -> None:
    same = images(1).expand(6, -1, -1, -1)
    results = made(entry, probability=0.9)(same, seeded(5))
    assert len({result.numpy().tobytes() for result in results}) >= (2 if entry == "flip" else 5)


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_image_does_not_depend_on_the_pixels_of_the_others(entry: str) -> None:
    augment = made(entry, probability=0.7)
    batch = images(6)
    others = images(6, seed=1)
    others[2] = batch[2]
    assert torch.equal(augment(batch, seeded(6))[2], augment(others, seeded(6))[2])


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_image_does_not_depend_on_whether_others_are_chosen(entry: str) -> None:
    """With more images chosen, those that were chosen before are changed as before."""
    batch = images(40)
    few, all_ = (made(entry, probability=p)(batch, seeded(7)) for p in (0.3, 1.0))
    changed = (few != batch).flatten(1).any(1)
    assert 4 < int(changed.sum()) < 25
    assert torch.equal(few[changed], all_[changed])


@pytest.mark.parametrize("entry", ENTRIES)
def test_memory_formats_give_the_same(entry: str) -> None:
    augment, batch = made(entry, probability=0.8), images()
    result = augment(batch.contiguous(), seeded(8))
    assert result.is_contiguous()
    difference = (result.int() - augment(batch, seeded(8)).int()).abs()
    assert int(difference.max()) <= 1  # sums in another order


@settings(deadline=None, max_examples=40)
@given(
    spec=st.lists(st.sampled_from([*augmentation.names(), *augmentation.presets()]), max_size=6),
    count=st.integers(0, 5),
    size=st.tuples(st.integers(1, 33), st.integers(1, 33)),
)
def test_any_list_runs_on_any_size(spec: list[str], count: int, size: tuple[int, int]) -> None:
    names = [name for name in spec if name != "mixup"]
    names += ["mixup"] if "mixup" in spec else []
    batch = images(5, *size)[:count]
    result = augmentation.create(names)(batch, seeded(9))
    assert (result.shape, result.dtype) == (batch.shape, torch.uint8)
