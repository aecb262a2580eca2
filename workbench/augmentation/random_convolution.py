"""Random convolutions, which change colours and textures but keep shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.augmentation.base import PixelStep, to_pixels
from workbench.augmentation.noise import generators
from workbench.augmentation.registry import register
from workbench.errors import WorkbenchError

LARGEST_KERNEL = 31
"""Largest allowed side of a kernel in pixels."""


@register("random_convolution")
class RandomConvolution(PixelStep):
    """Convolves an image with a random kernel, and mixes the result with the image.

    Xu et al., "Robust and generalizable visual representation learning via random convolutions",
    ICLR 2021, section 3. The kernel maps the 3 colours to 3 new ones. Its size k is drawn from
    `sizes`, and its 9 k^2 weights from a normal distribution with the variance 1 / (3 k^2). Pixel
    values are first scaled to -1..1, and pixels outside of the image are 0 on this scale. With
    `mix`, the result is w times the image plus 1 - w times its convolution, where w is drawn
    uniformly from 0..1. Values outside of -1..1 are clipped.

    The paper draws one kernel for a batch. Here each image has a kernel of its own, as all
    augmentations of the workbench are drawn for each image.

    Args:
        probability: Probability that an image is changed, 0..1. 0.5 is the paper's value.
        sizes: Sides of the kernels in pixels, odd numbers from 1 to 31.
        mix: Whether the convolution is mixed with the image.

    Raises:
        WorkbenchError: if an option is out of range.
    """

    name = "random_convolution"
    numbers = 3

    def __init__(
        self, probability: float = 0.5, sizes: Sequence[int] = (1, 3, 5, 7), mix: bool = True
    ) -> None:
        super().__init__(probability)
        self.sizes = tuple(sizes)
        if not self.sizes or not all(map(_is_a_size, self.sizes)):
            raise WorkbenchError(
                "augmentation random_convolution: sizes must be odd numbers from 1 to "
                f"{LARGEST_KERNEL}, got {list(self.sizes)!r}"
            )
        self.mix = bool(mix)

    def apply(self, images: Tensor, uniform: Tensor) -> Tensor:
        """Returns the convolved images; see `PixelStep.apply`."""
        count, channels, height, width = images.shape
        kernels = self.kernels(uniform).to(images.device)
        values = images.contiguous().float() / 127.5 - 1
        # Each image is a group of its own, because its kernel differs.
        convolved = F.conv2d(
            values.view(1, count * channels, height, width),
            kernels.flatten(0, 1),
            padding=max(self.sizes) // 2,
            groups=count,
        ).view_as(values)
        if self.mix:
            share = uniform[:, 1].to(images.device)[:, None, None, None]
            convolved = share * values + (1 - share) * convolved
        return to_pixels((convolved + 1) * 127.5)

    def kernels(self, uniform: Tensor) -> Tensor:
        """Returns the kernels of n images. Smaller ones are in the middle of a larger one of zeros.

        Args:
            uniform: (n, 3) random numbers, on the CPU. The first chooses the size of the kernel,
                and the third determines its weights.

        Returns:
            (n, 3, 3, K, K) float32 weights, new before old colours, where K is the largest of
            `sizes`.
        """
        largest = max(self.sizes)
        chosen = (uniform[:, 0].double() * len(self.sizes)).long().tolist()
        kernels = torch.zeros(len(uniform), 3, 3, largest, largest)
        for kernel, number, generator in zip(
            kernels, chosen, generators(uniform[:, 2]), strict=True
        ):
            size = self.sizes[number]
            weights = torch.randn(3, 3, size, size, generator=generator) / (math.sqrt(3) * size)
            begin = (largest - size) // 2
            kernel[:, :, begin : begin + size, begin : begin + size] = weights
        return kernels


def _is_a_size(size: int) -> bool:
    return type(size) is int and 1 <= size <= LARGEST_KERNEL and size % 2 == 1
