"""Noise of an image sensor."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.augmentation.base import PixelStep, between, to_pixels
from workbench.augmentation.options import bounds
from workbench.augmentation.registry import register

SEEDS = 2**24
"""Number of seeds of the noise of an image; a random float32 number has so many values."""


@register("noise")
class Noise(PixelStep):
    """Adds Gaussian noise to each pixel and channel of an image.

    Args:
        probability: Probability that an image is changed, 0..1.
        std: Smallest and largest standard deviation of the noise, as a share of 255, 0..1.

    Raises:
        WorkbenchError: if an option is out of range.
    """

    name = "noise"
    numbers = 2

    def __init__(self, probability: float = 0.1, std: tuple[float, float] = (0.01, 0.08)) -> None:
        super().__init__(probability)
        self.std = bounds("noise: std", std, 0.0, 1.0)

    def apply(self, images: Tensor, uniform: Tensor) -> Tensor:
        """Returns the noisy images; see `PixelStep.apply`."""
        std = 255 * between(self.std, uniform[:, 0]).float()
        noise = std[:, None, None, None] * torch.stack(
            [torch.randn(images.shape[1:], generator=one) for one in generators(uniform[:, 1])]
        )
        return to_pixels(images.float() + noise.to(images.device))


def generators(uniform: Tensor) -> list[torch.Generator]:
    """Makes a generator for each image, so that its noise does not depend on the other images.

    Args:
        uniform: (n,) random numbers, which determine the seeds.
    """
    seeds = (uniform.double() * SEEDS).long().tolist()
    return [torch.Generator().manual_seed(seed) for seed in seeds]
