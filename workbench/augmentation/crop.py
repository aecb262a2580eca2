"""Random crops."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.augmentation.base import GeometricStep, PixelStep, Step
from workbench.augmentation.options import Range, bounds
from workbench.augmentation.rectangles import draw_rectangles
from workbench.augmentation.registry import register

NAME = "crop"


@register(NAME)
def crop(
    probability: float = 0.2,
    area: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (0.75, 4 / 3),
    resize: bool = False,
) -> Step:
    """Keeps a random rectangle of an image.

    The defaults are those of AdaFace: Kim et al., "AdaFace: Quality adaptive margin for face
    recognition", CVPR 2022, section 4.1 and its published code. There, the rectangle stays in its
    place and the pixels outside become black, so that the face remains aligned.

    Args:
        probability: Probability that an image is cropped, 0..1.
        area: Smallest and largest share of the image that the rectangle covers, above 0 to 1.
        ratio: Smallest and largest ratio of its width to its height, > 0.
        resize: Whether the rectangle is enlarged to the whole image, as in torchvision's
            `RandomResizedCrop`, instead of staying in its place.

    Returns:
        The augmentation.

    Raises:
        WorkbenchError: if an option is out of range.
    """
    kind = _ResizedCrop if resize else _CropInPlace
    return kind(
        probability,
        bounds(f"{NAME}: area", area, 1e-3, 1.0),
        bounds(f"{NAME}: ratio", ratio, 1e-3),
    )


class _CropInPlace(PixelStep):
    """Makes the pixels outside of a random rectangle black."""

    name = NAME
    numbers = 4

    def __init__(self, probability: float, area: Range, ratio: Range) -> None:
        super().__init__(probability)
        self.area, self.ratio = area, ratio

    def apply(self, images: Tensor, uniform: Tensor) -> Tensor:
        size = images.shape[-2], images.shape[-1]
        rectangles = draw_rectangles(uniform, size, self.area, self.ratio)
        return images * rectangles.inside(size, images.device)


class _ResizedCrop(GeometricStep):
    """Enlarges a random rectangle to the whole image."""

    name = NAME
    numbers = 4

    def __init__(self, probability: float, area: Range, ratio: Range) -> None:
        super().__init__(probability)
        self.area, self.ratio = area, ratio

    @property
    def label(self) -> str:
        return f"{self.name}: resized"

    def matrices(self, uniform: Tensor, size: tuple[int, int]) -> Tensor:
        height, width = size
        rectangles = draw_rectangles(uniform, size, self.area, self.ratio)
        matrices = torch.eye(3, dtype=torch.float64).repeat(len(uniform), 1, 1)
        matrices[:, 0, 0] = rectangles.width / width
        matrices[:, 1, 1] = rectangles.height / height
        matrices[:, 0, 2] = rectangles.left + rectangles.width / 2 - width / 2
        matrices[:, 1, 2] = rectangles.top + rectangles.height / 2 - height / 2
        return matrices
