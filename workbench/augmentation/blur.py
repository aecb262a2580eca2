"""Blur of a lens out of focus, and of motion."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.augmentation.base import PixelStep, between, to_pixels
from workbench.augmentation.options import bounds
from workbench.augmentation.registry import register
from workbench.errors import unknown_name

Kind = Literal["defocus", "motion"]


@register("blur")
class Blur(PixelStep):
    """Blurs an image as a lens out of focus or a moving camera does.

    Args:
        probability: Probability that an image is blurred, 0..1.
        kind: "defocus" replaces each point by a disc, "motion" by a line in a random direction.
        size: Smallest and largest diameter of the disc or length of the line, as a share of the
            height of the image, 0..0.5.

    Raises:
        WorkbenchError: if an option is out of range or unknown.
    """

    name = "blur"
    numbers = 2

    def __init__(
        self,
        probability: float = 0.1,
        kind: Kind = "defocus",
        size: tuple[float, float] = (0.02, 0.08),
    ) -> None:
        super().__init__(probability)
        if kind not in get_args(Kind):
            raise unknown_name("kind of augmentation 'blur'", kind, get_args(Kind))
        self.kind = kind
        self.size = bounds("blur: size", size, 0.0, 0.5)

    @property
    def label(self) -> str:
        """The name and the kind; see `Step.label`."""
        return f"blur: {self.kind}"

    def apply(self, images: Tensor, uniform: Tensor) -> Tensor:
        """Returns the blurred images; see `PixelStep.apply`."""
        count, channels, height, width = images.shape
        length = between(self.size, uniform[:, 0]) * height
        margin = math.ceil(self.size[1] * height / 2)
        if self.kind == "defocus":
            kernels = discs(length / 2, margin)
        else:
            kernels = lines(length, math.pi * uniform[:, 1].double(), margin)
        # Each channel of each image is a group of its own, because its kernel differs.
        weights = kernels.float().to(images.device).repeat_interleave(channels, 0)[:, None]
        padded = F.pad(images.contiguous().float(), (margin,) * 4, mode="replicate")
        blurred = F.conv2d(
            padded.reshape(1, count * channels, *padded.shape[-2:]),
            weights,
            groups=count * channels,
        )
        return to_pixels(blurred.view(count, channels, height, width))


def discs(radius: Tensor, margin: int) -> Tensor:
    """Returns kernels that are discs, with smooth edges.

    Args:
        radius: (n,) radii in pixels.
        margin: Pixels on each side of the middle of a kernel, at least the largest radius.

    Returns:
        (n, 2 margin + 1, 2 margin + 1) float64, each with the sum 1.
    """
    across, down = _positions(margin)
    distance = (across.square() + down.square()).sqrt()
    weights = (radius[:, None, None] + 0.5 - distance).clamp(0, 1)
    return weights / weights.sum((1, 2), keepdim=True)


def lines(length: Tensor, angle: Tensor, margin: int) -> Tensor:
    """Returns kernels that are straight lines through the middle, with smooth edges.

    Args:
        length: (n,) lengths in pixels.
        angle: (n,) angles to the horizontal in radians.
        margin: Pixels on each side of the middle of a kernel, at least half the largest length.

    Returns:
        (n, 2 margin + 1, 2 margin + 1) float64, each with the sum 1.
    """
    across, down = _positions(margin)
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    along = (across * cosine + down * sine).abs()
    beside = (down * cosine - across * sine).abs()
    weights = (length[:, None, None] / 2 + 0.5 - along).clamp(0, 1) * (1 - beside).clamp(0, 1)
    return weights / weights.sum((1, 2), keepdim=True)


def _positions(margin: int) -> tuple[Tensor, Tensor]:
    """Returns the horizontal and vertical positions in a kernel, as (1, 1, k) and (1, k, 1)."""
    positions = torch.arange(-margin, margin + 1, dtype=torch.float64)
    return positions[None, None, :], positions[None, :, None]
