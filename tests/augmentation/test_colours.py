"""Colours against torchvision's functions, PIL's, and formulas in float64."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from workbench import augmentation
from workbench.augmentation.base import LinearColour
from workbench.augmentation.colour import Colour
from workbench.augmentation.stages import recolour


def image(low: int = 60, high: int = 190) -> Tensor:
    """Mid-tones, which no change of the tests drives out of 0..255."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(low, high, (1, 3, 24, 20), generator=generator, dtype=torch.uint8)


def identity(count: int = 1) -> LinearColour:
    return LinearColour(
        torch.eye(3, dtype=torch.float64).repeat(count, 1, 1),
        torch.zeros(count, 3, 3, dtype=torch.float64),
        torch.ones(count, dtype=torch.float64),
    )


def changed(picture: Tensor, share: float, **options: Any) -> Tensor:
    """Applies `colour` with all random numbers equal to `share`."""
    return recolour(picture, Colour(**options).change(identity(), torch.full((1, 6), share)))


@pytest.mark.parametrize("component", ["brightness", "contrast", "saturation"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_components_are_torchvisions(component: str, share: float) -> None:
    factor = 0.7 + 0.6 * share
    ours = changed(image(), share, **{component: 0.3})
    expected = getattr(tv, f"adjust_{component}")(image(), factor)
    assert int((ours.int() - expected.int()).abs().max()) <= 1


@pytest.mark.parametrize(
    ("component", "enhancer"),
    [
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("saturation", ImageEnhance.Color),
    ],
)
def test_components_are_pils(component: str, enhancer: Any) -> None:
    picture = Image.fromarray(image()[0].permute(1, 2, 0).numpy())
    expected = np.asarray(enhancer(picture).enhance(1.2)).astype(int)
    ours = changed(image(), 1.0, **{component: 0.2})[0].permute(1, 2, 0).numpy()
    assert np.abs(ours - expected).max() <= 1


def test_grey_is_torchvisions() -> None:
    expected = tv.rgb_to_grayscale(image(), num_output_channels=3)
    assert int((changed(image(), 0.0, grey=1.0).int() - expected.int()).abs().max()) <= 1


def test_grey_is_a_probability() -> None:
    batch = image().expand(500, -1, -1, -1)
    spec = [{"colour": {"probability": 1.0, "grey": 0.2}}]
    result = augmentation.create(spec)(batch, torch.Generator().manual_seed(2))
    grey = (result[:, 0] == result[:, 1]).flatten(1).all(1)
    assert 70 < int(grey.sum()) < 130
    assert torch.equal(result[~grey], batch[~grey])


@pytest.mark.parametrize("exponent", [0.5, 2.0])
def test_gamma_is_torchvisions(exponent: float) -> None:
    share = 0.0 if exponent < 1 else 1.0
    expected = tv.adjust_gamma(image(0, 256), exponent)
    ours = changed(image(0, 256), share, gamma=1.0)
    assert int((ours.int() - expected.int()).abs().max()) <= 1


@pytest.mark.parametrize("turns", [-0.4, -0.1, 0.05, 0.25, 0.5])
def test_hue_is_a_rotation_in_pythons_yiq(turns: float) -> None:
    """With a tolerance, as `colorsys` rounds the coefficients of YIQ to two digits."""
    picture = image(100, 150)
    ours = changed(picture, 0.5 + turns, hue=0.5)[0].permute(1, 2, 0).reshape(-1, 3)
    for before, after in zip(
        picture[0].permute(1, 2, 0).reshape(-1, 3).tolist(), ours.tolist(), strict=True
    ):
        y, i, q = colorsys.rgb_to_yiq(*(value / 255 for value in before))
        rotated = (i + 1j * q) * np.exp(-2j * np.pi * turns)
        # colorsys.yiq_to_rgb clips, which mid-tones do not need
        expected = colorsys.yiq_to_rgb(y, rotated.real, rotated.imag)
        assert np.abs(np.array(after) - 255 * np.array(expected)).max() < 3


def test_hue_turns_in_the_direction_of_torchvision() -> None:
    picture = image(40, 220)
    for turns in (-0.05, 0.05):
        expected = tv.adjust_hue(picture, turns).float()
        ours, opposite = (changed(picture, 0.5 + one, hue=0.5).float() for one in (turns, -turns))
        assert (ours - expected).abs().mean() < 0.5 * (opposite - expected).abs().mean()


def test_hue_keeps_the_brightness_and_a_whole_turn_keeps_the_colours() -> None:
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    picture = image(100, 150)
    before = (picture.float() * weights).sum(1)
    after = (changed(picture, 0.8, hue=0.5).float() * weights).sum(1)
    assert (before - after).abs().max() < 1
    half = changed(picture, 0.0, hue=0.5)
    assert (changed(half, 1.0, hue=0.5).int() - picture.int()).abs().max() <= 1


def test_components_of_an_entry_are_applied_in_the_documented_order() -> None:
    options = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.3, "gamma": 0.5}
    share = 0.8
    ours = changed(image(), share, **options)
    expected = image().float() / 255
    expected = tv.adjust_brightness(expected, 0.8 + 0.4 * share)
    expected = tv.adjust_contrast(expected, 0.8 + 0.4 * share)
    expected = tv.adjust_saturation(expected, 0.7 + 0.6 * share)
    expected = tv.adjust_gamma(expected, 1.5 ** (2 * share - 1))
    assert (ours.float() - 255 * expected).abs().max() < 1


def test_neighbouring_entries_are_applied_after_each_other() -> None:
    """In one pass: the contrast uses the mean of the image that the brightness has changed."""
    spec = [
        {"colour": {"probability": 1.0, "brightness": 0.2}},
        {"colour": {"probability": 1.0, "contrast": 0.3}},
        {"colour": {"probability": 1.0, "saturation": 0.3}},
    ]
    batch = image().repeat(5, 1, 1, 1)
    together = augmentation.create(spec)(batch, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    for entry in spec:
        batch = augmentation.create([entry])(batch, generator)
    assert int((together.int() - batch.int()).abs().max()) <= 2  # rounded once, not three times


def test_values_are_limited_to_the_range_of_pixels() -> None:
    picture = torch.tensor([0, 10, 200, 255], dtype=torch.uint8).expand(1, 3, 4, 4)
    brighter = changed(picture, 1.0, brightness=1.0)
    assert brighter[0, 0, 0].tolist() == [0, 20, 255, 255]
    assert changed(picture, 0.0, brightness=1.0).max() == 0


def test_named_components_alone_are_applied() -> None:
    assert vars(Colour(hue=0.1)) | {"probability": 0, "named": 0} == {
        "probability": 0,
        "named": 0,
        "brightness": 0.0,
        "contrast": 0.0,
        "saturation": 0.0,
        "hue": 0.1,
        "grey": 0.0,
        "gamma": 0.0,
    }
    standard = Colour()
    assert (standard.brightness, standard.contrast, standard.saturation) == (0.5, 0.5, 0.5)
