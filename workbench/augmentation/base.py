"""Base classes of augmentations: what they draw for each image, and what they apply.

An augmentation draws the same quantity of random numbers for each image, whether the image is
chosen or not. The result of an image therefore does not depend on the other images of the batch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from workbench.augmentation.options import Range, number

GREY_WEIGHTS = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the grey value of a pixel (ITU-R BT.601)."""


class Drawn(NamedTuple):
    """The random numbers of the images that an augmentation changes.

    Attributes:
        positions: (n,) int64 positions of these images in the batch, ascending, on the CPU.
        uniform: (n, k) float32 random numbers, 0 <= u < 1, on the CPU.
    """

    positions: Tensor
    uniform: Tensor


class Step(ABC):
    """One augmentation of a list, with its options.

    Args:
        probability: Probability that an image is changed, 0..1.

    Attributes:
        name: The name under which the augmentation is registered.
        numbers: Quantity of random numbers that are drawn for each image, besides the one that
            decides whether the image is changed.

    Raises:
        WorkbenchError: if the probability is out of range.
    """

    name: ClassVar[str]
    numbers: ClassVar[int] = 0

    def __init__(self, probability: float) -> None:
        self.probability = number(f"{self.name}: probability", probability, 0.0, 1.0)

    @property
    def label(self) -> str:
        """The name in a figure, with the components that are applied if there are one or two."""
        return self.name

    def draw(self, count: int, generator: torch.Generator) -> Drawn:
        """Draws which images are changed, and the random numbers for them.

        Args:
            count: Number of images in the batch.
            generator: Source of the random numbers, on the CPU.
        """
        chosen = torch.rand(count, generator=generator) < self.probability
        uniform = torch.rand(count, self.numbers, generator=generator)
        positions = chosen.nonzero().flatten()
        return Drawn(positions, uniform[positions])


class PixelStep(Step):
    """An augmentation that is applied on its own to the images that it changes."""

    @abstractmethod
    def apply(self, images: Tensor, uniform: Tensor) -> Tensor:
        """Returns changed images.

        Args:
            images: (n, 3, H, W) uint8 on any device, n >= 1. They are not modified.
            uniform: (n, k) random numbers, on the CPU.

        Returns:
            (n, 3, H, W) uint8 on the same device.
        """


class GeometricStep(Step):
    """An augmentation that moves pixels. Neighbours in a list share one resampling."""

    @abstractmethod
    def matrices(self, uniform: Tensor, size: tuple[int, int]) -> Tensor:
        """Returns the maps from positions in the new image to positions in the old one.

        Positions are (x, y, 1) in pixels from the centre of the image, to the right and down.

        Args:
            uniform: (n, k) random numbers.
            size: (height, width) of the images in pixels.

        Returns:
            (n, 3, 3) float64 homographies.
        """


class LinearColour(NamedTuple):
    """Changes of colours that are linear in the pixels: y = pixel @ x + mean @ m, then a power.

    Here x is the colour of a pixel, 0..255, and m is the mean colour of the image.

    Attributes:
        pixel: (n, 3, 3) float64 factors of the colour of a pixel.
        mean: (n, 3, 3) float64 factors of the mean colour of the image.
        exponent: (n,) float64 exponents of the colours scaled to 0..1, applied last.
    """

    pixel: Tensor
    mean: Tensor
    exponent: Tensor


class ColourStep(Step):
    """An augmentation that changes colours. Neighbours in a list are applied in one pass."""

    @abstractmethod
    def change(self, colours: LinearColour, uniform: Tensor) -> LinearColour:
        """Returns the changes of colours with those of this augmentation added.

        Args:
            colours: The changes of n images by the augmentations before this one.
            uniform: (n, k) random numbers.
        """


def between(limits: Range, uniform: Tensor) -> Tensor:
    """Maps random numbers from 0..1 to a range.

    Args:
        limits: Smallest and largest value.
        uniform: Random numbers, 0..1.

    Returns:
        float64 numbers of the same shape.
    """
    return limits[0] + (limits[1] - limits[0]) * uniform.double()


def between_ratios(limits: Range, uniform: Tensor) -> Tensor:
    """Maps random numbers from 0..1 to a range, uniformly on a logarithmic scale.

    A factor and its reciprocal are then equally likely.

    Args:
        limits: Smallest and largest value, > 0.
        uniform: Random numbers, 0..1.

    Returns:
        float64 numbers of the same shape.
    """
    logarithms = math.log(limits[0]), math.log(limits[1])
    return between(logarithms, uniform).exp()


def to_pixels(values: Tensor) -> Tensor:
    """Rounds values to whole pixel values 0..255.

    Args:
        values: Float values of any shape. They are overwritten, which is several times as fast as
            memory for the results of each operation.

    Returns:
        uint8 values of the same shape.
    """
    return values.round_().clamp_(0, 255).to(torch.uint8)
