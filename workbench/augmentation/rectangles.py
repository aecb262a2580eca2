"""Random rectangles in images, for `crop` and `erase`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from workbench.augmentation.base import between, between_ratios
from workbench.augmentation.options import Range


class Rectangles(NamedTuple):
    """Rectangles of whole pixels, one in each of n images.

    Attributes:
        top: (n,) int64 rows above the rectangle.
        left: (n,) int64 columns to the left of it.
        height: (n,) int64 rows, >= 1.
        width: (n,) int64 columns, >= 1.
    """

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor

    def inside(self, size: tuple[int, int], device: torch.device) -> Tensor:
        """Returns which pixels are inside the rectangles.

        Args:
            size: (height, width) of the images in pixels.
            device: Device of the result.

        Returns:
            (n, 1, H, W) bool.
        """
        rows, columns = torch.arange(size[0]), torch.arange(size[1])
        top, left = self.top[:, None], self.left[:, None]
        in_rows = (top <= rows) & (rows < top + self.height[:, None])
        in_columns = (left <= columns) & (columns < left + self.width[:, None])
        return (in_rows.to(device)[:, :, None] & in_columns.to(device)[:, None, :])[:, None]


def draw_rectangles(
    uniform: Tensor, size: tuple[int, int], area: Range, ratio: Range
) -> Rectangles:
    """Draws rectangles by their area, their proportions and their place.

    A side that is longer than the image is shortened to it.

    Args:
        uniform: (n, 4) random numbers.
        size: (height, width) of the images in pixels.
        area: Smallest and largest share of the image that a rectangle covers.
        ratio: Smallest and largest ratio of width to height, drawn on a logarithmic scale.
    """
    image_height, image_width = size
    pixels = between(area, uniform[:, 0]) * image_height * image_width
    ratios = between_ratios(ratio, uniform[:, 1])
    height = (pixels / ratios).sqrt().round().clamp(1, image_height)
    width = (pixels * ratios).sqrt().round().clamp(1, image_width)
    top = (uniform[:, 2] * (image_height - height + 1)).floor()
    left = (uniform[:, 3] * (image_width - width + 1)).floor()
    return Rectangles(top.long(), left.long(), height.long(), width.long())
