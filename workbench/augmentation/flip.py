"""Mirror images."""

from __future__ import annotations

from torch import Tensor

from workbench.augmentation.base import PixelStep
from workbench.augmentation.registry import register


@register("flip")
class Flip(PixelStep):
    """Mirrors an image left to right.

    Args:
        probability: Probability that an image is mirrored, 0..1.
    """

    name = "flip"

    def __init__(self, probability: float = 0.5) -> None:
        super().__init__(probability)

    def apply(self, images: Tensor, uniform: Tensor) -> Tensor:
        """Returns the mirror images; see `PixelStep.apply`."""
        return images.flip(-1)
