"""Images of low resolution."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.augmentation.base import PixelStep, between, to_pixels
from workbench.augmentation.options import bounds
from workbench.augmentation.registry import register

MODES = ("nearest", "bilinear", "area", "bicubic")
"""Interpolations that are drawn at random for the reduction and the enlargement."""


@register("low_resolution")
class LowResolution(PixelStep):
    """Reduces an image and enlarges it again, each with an interpolation drawn at random.

    The default range is that of AdaFace: Kim et al., "AdaFace: Quality adaptive margin for face
    recognition", CVPR 2022, and its published code. It also draws from nearest, bilinear, area and
    bicubic interpolation, and from Lanczos in addition.

    Args:
        probability: Probability that an image is changed, 0..1.
        side: Smallest and largest ratio of the reduced to the original width and height, above 0
            to 1.

    Raises:
        WorkbenchError: if an option is out of range.
    """

    name = "low_resolution"
    numbers = 3

    def __init__(self, probability: float = 0.2, side: tuple[float, float] = (0.2, 1.0)) -> None:
        super().__init__(probability)
        self.side = bounds("low_resolution: side", side, 0.01, 1.0)

    def apply(self, images: Tensor, uniform: Tensor) -> Tensor:
        """Returns the images in low resolution; see `PixelStep.apply`."""
        sides = between(self.side, uniform[:, 0]).tolist()
        modes = (uniform[:, 1:] * len(MODES)).long().tolist()
        # Interpolation is linear and separable: one matrix for the rows of an image and one for
        # its columns. All images are changed by two batched products.
        rows, columns = (
            torch.stack(
                [
                    _resampling(length, max(int(side * length), 1), MODES[first], MODES[second])
                    for side, (first, second) in zip(sides, modes, strict=True)
                ]
            )[:, None].to(images.device)
            for length in images.shape[-2:]
        )
        return to_pixels(rows @ images.float() @ columns.mT)


@lru_cache(maxsize=4096)
def _resampling(length: int, reduced: int, reduce: str, enlarge: str) -> Tensor:
    """Returns the (length, length) matrix that reduces and enlarges a line of pixels."""
    identity = torch.eye(length)[None, None]
    # Each column of the identity is a line of pixels with a single white one.
    small = F.interpolate(identity, (reduced, length), mode=reduce)
    return F.interpolate(small, (length, length), mode=enlarge)[0, 0]
