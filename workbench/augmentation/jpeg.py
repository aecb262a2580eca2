"""Artefacts of JPEG compression."""

from __future__ import annotations

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.augmentation.base import PixelStep, between
from workbench.augmentation.options import bounds
from workbench.augmentation.registry import register


@register("jpeg")
class Jpeg(PixelStep):
    """Encodes and decodes an image as JPEG, with the colours at half the resolution, as is usual.

    Args:
        probability: Probability that an image is compressed, 0..1.
        quality: Smallest and largest quality of the encoder, 1..100.

    Raises:
        WorkbenchError: if an option is out of range.
    """

    name = "jpeg"
    numbers = 1

    def __init__(self, probability: float = 0.1, quality: tuple[float, float] = (30, 90)) -> None:
        super().__init__(probability)
        self.quality = bounds("jpeg: quality", quality, 1, 100)

    def apply(self, images: Tensor, uniform: Tensor) -> Tensor:
        """Returns the images after compression; see `PixelStep.apply`."""
        pixels = images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        qualities = between(self.quality, uniform[:, 0]).round().int().tolist()
        compressed = [
            _compressed(image, quality) for image, quality in zip(pixels, qualities, strict=True)
        ]
        return torch.from_numpy(np.stack(compressed)).permute(0, 3, 1, 2).to(images.device)


def _compressed(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Returns an image after compression, four times as fast as Pillow."""
    file = simplejpeg.encode_jpeg(image, quality, colorsubsampling="420")
    decoded: NDArray[np.uint8] = simplejpeg.decode_jpeg(file)
    return decoded
