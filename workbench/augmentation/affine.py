"""Scale, rotation, shift and aspect ratio."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from workbench.augmentation.base import GeometricStep, between, between_ratios
from workbench.augmentation.options import bounds, number
from workbench.augmentation.registry import register

STANDARD = {"scale": (0.9, 1.1), "rotation": 10.0, "shift": 0.05}
"""The components that are applied if none is named."""
MAX_FACTOR = 10.0
"""Largest factor by which an image may be enlarged, reduced or stretched."""


@register("affine")
class Affine(GeometricStep):
    """Scales, rotates, shifts and stretches an image about its centre.

    Only the components that are named are applied. If none is named, scale, rotation and shift are
    applied as in `STANDARD`. Pixels from outside of the image are black, as in aligned faces.

    Args:
        probability: Probability that an image is changed, 0..1.
        scale: Smallest and largest factor of the size, 0.1..10, drawn on a logarithmic scale.
        rotation: Largest angle in degrees in either direction, 0..180.
        shift: Largest shift in either direction, as a share of the width and the height, 0..1.
        aspect: Smallest and largest factor of the ratio of width to height, 0.1..10, drawn on a
            logarithmic scale. The area does not change.

    Raises:
        WorkbenchError: if an option is out of range.
    """

    name = "affine"
    numbers = 5

    def __init__(
        self,
        probability: float = 1.0,
        scale: tuple[float, float] | None = None,
        rotation: float | None = None,
        shift: float | None = None,
        aspect: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(probability)
        options = {"scale": scale, "rotation": rotation, "shift": shift, "aspect": aspect}
        self.named = {name: value for name, value in options.items() if value is not None}
        components: dict[str, Any] = self.named or STANDARD
        factors = 1 / MAX_FACTOR, MAX_FACTOR
        self.scale = bounds("affine: scale", components.get("scale", (1.0, 1.0)), *factors)
        self.rotation = number("affine: rotation", components.get("rotation", 0.0), 0.0, 180.0)
        self.shift = number("affine: shift", components.get("shift", 0.0), 0.0, 1.0)
        self.aspect = bounds("affine: aspect", components.get("aspect", (1.0, 1.0)), *factors)

    @property
    def label(self) -> str:
        """The name and the components; see `Step.label`."""
        return f"affine: {', '.join(self.named)}" if 0 < len(self.named) < 3 else "affine"

    def matrices(self, uniform: Tensor, size: tuple[int, int]) -> Tensor:
        """Returns the inverses of the affine maps; see `GeometricStep.matrices`."""
        height, width = size
        scale = between_ratios(self.scale, uniform[:, 0])
        angle = between((-self.rotation, self.rotation), uniform[:, 1]).deg2rad()
        right = between((-self.shift, self.shift), uniform[:, 2]) * width
        down = between((-self.shift, self.shift), uniform[:, 3]) * height
        stretch = between_ratios(self.aspect, uniform[:, 4]).sqrt()

        # The new image is the old one stretched, rotated, scaled and shifted, in this order. The
        # maps from new to old positions undo this in the reverse order.
        unshift = torch.eye(3, dtype=torch.float64).repeat(len(uniform), 1, 1)
        unshift[:, 0, 2], unshift[:, 1, 2] = -right, -down
        unrotate = torch.zeros_like(unshift)
        unrotate[:, 0, 0] = unrotate[:, 1, 1] = angle.cos() / scale
        unrotate[:, 0, 1] = angle.sin() / scale
        unrotate[:, 1, 0] = -angle.sin() / scale
        unrotate[:, 2, 2] = 1.0
        unstretch = torch.zeros_like(unshift)
        unstretch[:, 0, 0], unstretch[:, 1, 1], unstretch[:, 2, 2] = 1 / stretch, stretch, 1.0
        return unstretch @ unrotate @ unshift
