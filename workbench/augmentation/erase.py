"""Random erasing of rectangles."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from workbench.augmentation.base import PixelStep
from workbench.augmentation.noise import generators
from workbench.augmentation.options import bounds
from workbench.augmentation.rectangles import draw_rectangles
from workbench.augmentation.registry import register
from workbench.errors import unknown_name

Fill = Literal["noise", "mean", "black"]


@register("erase")
class Erase(PixelStep):
    """Covers a random rectangle of an image.

    Zhong et al., "Random erasing data augmentation", AAAI 2020, with the area and the ratio of its
    experiments.

    Args:
        probability: Probability that an image is changed, 0..1.
        area: Smallest and largest share of the image that is covered, above 0 to 1.
        ratio: Smallest and largest ratio of width to height of the rectangle, > 0.
        fill: "noise" covers with random pixels, as the paper found best; "mean" with the mean
            colour of the image; "black" with black.

    Raises:
        WorkbenchError: if an option is out of range or unknown.
    """

    name = "erase"
    numbers = 5

    def __init__(
        self,
        probability: float = 0.2,
        area: tuple[float, float] = (0.02, 0.4),
        ratio: tuple[float, float] = (0.3, 1 / 0.3),
        fill: Fill = "noise",
    ) -> None:
        super().__init__(probability)
        if fill not in get_args(Fill):
            raise unknown_name("fill of augmentation 'erase'", fill, get_args(Fill))
        self.area = bounds("erase: area", area, 1e-3, 1.0)
        self.ratio = bounds("erase: ratio", ratio, 1e-3)
        self.fill = fill

    def apply(self, images: Tensor, uniform: Tensor) -> Tensor:
        """Returns the images with covered rectangles; see `PixelStep.apply`."""
        size = images.shape[-2], images.shape[-1]
        covered = draw_rectangles(uniform, size, self.area, self.ratio).inside(size, images.device)
        return torch.where(covered, self._cover(images, uniform[:, 4]), images)

    def _cover(self, images: Tensor, uniform: Tensor) -> Tensor:
        """Returns the pixels of the rectangles, which can be broadcast to the images."""
        if self.fill == "black":
            return torch.zeros_like(images[:, :, :1, :1])
        if self.fill == "mean":
            return images.float().mean((2, 3), keepdim=True).round().to(torch.uint8)
        noise = [
            torch.randint(0, 256, images.shape[1:], generator=one, dtype=torch.uint8)
            for one in generators(uniform)
        ]
        return torch.stack(noise).to(images.device)
