"""Blur, low resolution, JPEG, noise and erasing, against SciPy, torchvision and statistics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from workbench import augmentation
from workbench.augmentation.blur import Blur, discs, lines
from workbench.augmentation.jpeg import Jpeg
from workbench.augmentation.low_resolution import MODES, LowResolution


def image(height: int = 24, width: int = 20) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (1, 3, height, width), generator=generator, dtype=torch.uint8)


def applied(spec: Any, batch: Tensor, seed: int = 0) -> Tensor:
    return augmentation.create(spec)(batch, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["defocus", "motion"])
@pytest.mark.parametrize("size", [(24, 20), (30, 41)])
def test_blur_is_scipys_convolution_with_the_kernel(kind: Any, size: tuple[int, int]) -> None:
    picture = image(*size)
    result = Blur(1.0, kind, (0.2, 0.2)).apply(picture, torch.tensor([[0.5, 0.3]]))
    length = torch.tensor([0.2 * size[0]], dtype=torch.float64)
    margin = math.ceil(float(length) / 2)
    kernels = (
        discs(length / 2, margin)
        if kind == "defocus"
        else lines(length, torch.tensor([0.3 * math.pi]), margin)
    )
    for channel in range(3):
        expected = ndimage.correlate(
            picture[0, channel].double().numpy(), kernels[0].numpy(), mode="nearest"
        )
        assert np.abs(result[0, channel].numpy() - expected).max() <= 0.51


def test_discs_have_the_area_and_the_second_moment_of_discs() -> None:
    radius = torch.tensor([3.0, 5.0, 9.5], dtype=torch.float64)
    kernels = discs(radius, 10)
    across = torch.arange(-10.0, 11.0, dtype=torch.float64)
    squared = across[:, None].square() + across.square()
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(3, dtype=torch.float64))
    # The mean squared distance from the centre of a disc is half its squared radius.
    torch.testing.assert_close(
        (kernels * squared).sum((1, 2)), radius.square() / 2, rtol=0, atol=0.4
    )
    assert torch.equal(kernels, kernels.mT)


@pytest.mark.parametrize("degrees", [0, 30, 45, 90, 150])
def test_lines_have_the_direction_and_the_length(degrees: int) -> None:
    length = torch.tensor([12.0], dtype=torch.float64)
    angle = torch.tensor([math.radians(degrees)], dtype=torch.float64)
    kernel = lines(length, angle, 8)[0]
    positions = torch.arange(-8.0, 9.0, dtype=torch.float64)
    down, across = torch.meshgrid(positions, positions, indexing="ij")
    moments = torch.stack(
        [torch.stack([across * across, across * down]), torch.stack([across * down, down * down])]
    )
    covariance = (kernel * moments).sum((-1, -2))
    values, vectors = torch.linalg.eigh(covariance)
    direction = vectors[:, 1]
    assert abs(abs(direction[0] * math.cos(angle) + direction[1] * math.sin(angle)) - 1) < 1e-3
    assert abs(values[1] - 144 / 12) < 1.5  # the variance of a line of this length
    assert values[0] < 0.6


def test_blur_of_length_0_keeps_the_bits() -> None:
    for kind in ("defocus", "motion"):
        spec = [{"blur": {"probability": 1.0, "kind": kind, "size": [0, 0]}}]
        assert torch.equal(applied(spec, image()), image())


@pytest.mark.parametrize("first", range(len(MODES)))
@pytest.mark.parametrize("second", range(len(MODES)))
@pytest.mark.parametrize("size", [(24, 20), (17, 31)])
def test_low_resolution_is_interpolated_twice(
    first: int, second: int, size: tuple[int, int]
) -> None:
    picture = image(*size)
    numbers = torch.tensor([[0.5, (first + 0.5) / len(MODES), (second + 0.5) / len(MODES)]])
    result = LowResolution(1.0, (0.4, 0.4)).apply(picture, numbers)
    reduced = [int(0.4 * side) for side in size]
    small = torch.nn.functional.interpolate(picture.double(), reduced, mode=MODES[first])
    expected = torch.nn.functional.interpolate(small, size, mode=MODES[second]).clamp(0, 255)
    assert (result - expected).abs().max() <= 0.51


def test_low_resolution_of_the_whole_side_by_nearest_keeps_the_bits() -> None:
    result = LowResolution(1.0, (1.0, 1.0)).apply(image(), torch.tensor([[0.5, 0.0, 0.0]]))
    assert torch.equal(result, image())


@pytest.mark.parametrize("quality", [1, 10, 50, 95, 100])
@pytest.mark.parametrize("size", [(24, 20), (33, 17)])
def test_jpeg_is_torchvisions(quality: int, size: tuple[int, int]) -> None:
    """But for the discrete cosine transform, which may be a faster and less exact one."""
    smooth = torch.nn.functional.interpolate(image(6, 6).float(), size, mode="bicubic")
    picture = smooth.clamp(0, 255).to(torch.uint8)
    result = Jpeg(1.0, (quality, quality)).apply(picture, torch.tensor([[0.5]])).float()
    expected = tv.jpeg(picture[0], quality).float()
    assert (result[0] - expected).abs().mean() < 2
    errors = [float((one - picture).square().mean().sqrt()) for one in (result, expected)]
    assert errors[0] == pytest.approx(errors[1], rel=0.1, abs=0.5)


def test_lower_quality_is_farther_from_the_image() -> None:
    errors = [
        (Jpeg(1.0, (quality, quality)).apply(image(), torch.tensor([[0.5]])).float() - image())
        .square()
        .mean()
        for quality in (5, 30, 60, 90)
    ]
    assert errors == sorted(errors, reverse=True)


def test_noise_is_gaussian_with_the_drawn_deviation() -> None:
    grey = torch.full((4, 3, 60, 60), 128, dtype=torch.uint8)
    result = applied([{"noise": {"probability": 1.0, "std": [0.1, 0.1]}}], grey)
    noise = (result.float() - 128).flatten(1)
    assert (noise.std(1) / 25.5 - 1).abs().max() < 0.03
    assert noise.mean(1).abs().max() < 1
    for one in noise:
        dithered = one.numpy() + np.random.default_rng(0).uniform(-0.5, 0.5, len(one))
        assert stats.kstest(dithered, "norm", (0, 25.5)).pvalue > 1e-3
    assert np.abs(np.corrcoef(noise.numpy()) - np.eye(4)).max() < 0.05


def test_noise_differs_between_channels_and_is_drawn_between_the_limits() -> None:
    grey = torch.full((200, 3, 30, 30), 128, dtype=torch.uint8)
    result = applied([{"noise": {"probability": 1.0, "std": [0.02, 0.08]}}], grey)
    assert not torch.equal(result[0, 0], result[0, 1])
    std = (result.float() - 128).flatten(1).std(1) / 255
    assert 0.018 < float(std.min()) < 0.025
    assert 0.072 < float(std.max()) < 0.085


@pytest.mark.parametrize("fill", ["noise", "mean", "black"])
def test_erasing_covers_one_rectangle(fill: str) -> None:
    batch = image(60, 50).repeat(100, 1, 1, 1)
    options = {"probability": 1.0, "area": [0.1, 0.3], "fill": fill}
    result = applied([{"erase": options}], batch)
    covered = (result != batch).any(1)
    rows, columns = covered.any(2).sum(1), covered.any(1).sum(1)
    share = rows * columns / (60 * 50)
    assert float(share.min()) > 0.09
    assert float(share.max()) < 0.31
    # Almost every pixel of the rectangle differs; noise may repeat a pixel by chance.
    assert (covered.sum((1, 2)) / (rows * columns) > 0.98).all()
    inside = result[0][:, covered[0]]
    if fill == "black":
        assert inside.max() == 0
    elif fill == "mean":
        assert inside[:, 0].tolist() == batch[0].float().mean((1, 2)).round().int().tolist()
        assert (inside == inside[:, :1]).all()
    else:
        assert abs(float(inside.float().mean()) - 127.5) < 10
        assert float(inside.float().std()) > 60
