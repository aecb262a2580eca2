"""Applies augmentations to a batch. Neighbours of the same family are applied in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.augmentation.base import (
    ColourStep,
    GeometricStep,
    LinearColour,
    PixelStep,
    Step,
    to_pixels,
)

PIXELS_AT_A_TIME = 2**16
"""Number of pixels that are changed at a time on a CPU: 16 images of 64 x 64."""


class Stage(Protocol):
    """A part of an augmentation that reads and writes each image once."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Returns the images, (N, 3, H, W) uint8, of which those that were chosen are changed."""


def stages(steps: Iterable[Step]) -> list[Stage]:
    """Groups augmentations into stages: neighbours of the same family become one.

    Args:
        steps: The augmentations in the order of the list, without `mixup`.
    """
    made: list[Stage] = []
    for family, members in groupby(steps, _family):
        if family is GeometricStep:
            made.append(Geometry([one for one in members if isinstance(one, GeometricStep)]))
        elif family is ColourStep:
            made.append(Colours([one for one in members if isinstance(one, ColourStep)]))
        else:
            made.extend(Pixels(one) for one in members if isinstance(one, PixelStep))
    return made


def _family(step: Step) -> type[Step]:
    return next(kind for kind in (GeometricStep, ColourStep, PixelStep) if isinstance(step, kind))


def change(
    images: Tensor, positions: Tensor, function: Callable[[Tensor, slice], Tensor]
) -> Tensor:
    """Returns a batch in which a function has changed some of the images.

    On a CPU, the function is applied to a few images at a time. Their intermediate results then
    stay in its cache, which makes it up to three times as fast.

    Args:
        images: (N, 3, H, W) uint8. They are not modified.
        positions: (n,) int64 positions of the images to change, ascending, on the CPU.
        function: Maps (k, 3, H, W) images, and the part of the n images that they are, to changed
            images. It is not called if n is 0.

    Returns:
        (N, 3, H, W) in the memory format of `images`.
    """
    if not len(positions):
        return images
    every = len(positions) == len(images)
    chosen = images if every else images[positions.to(images.device)]
    at_a_time = len(chosen)
    if images.device.type == "cpu":
        at_a_time = max(PIXELS_AT_A_TIME // (images.shape[-2] * images.shape[-1]), 1)
    changed = torch.empty_like(chosen)
    for begin in range(0, len(chosen), at_a_time):
        part = slice(begin, begin + at_a_time)
        changed[part] = function(chosen[part], part)
    if every:
        return changed
    batch = images.clone()
    batch[positions.to(images.device)] = changed
    return batch


class Pixels:
    """A stage of one augmentation."""

    def __init__(self, step: PixelStep) -> None:
        self.step = step

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Returns the changed batch; see `Stage`."""
        drawn = self.step.draw(len(images), generator)
        return change(
            images,
            drawn.positions,
            lambda chosen, part: self.step.apply(chosen, drawn.uniform[part]),
        )


class Geometry:
    """A stage that applies all its geometric augmentations by one resampling of each image."""

    def __init__(self, steps: list[GeometricStep]) -> None:
        self.steps = steps

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Returns the changed batch; see `Stage`."""
        size = images.shape[-2], images.shape[-1]
        matrices = torch.eye(3, dtype=torch.float64).repeat(len(images), 1, 1)
        moved = torch.zeros(len(images), dtype=torch.bool)
        for step in self.steps:
            chosen, uniform = step.draw(len(images), generator)
            # The maps lead from the new image to the old one, so a later one is on the right.
            matrices[chosen] = matrices[chosen] @ step.matrices(uniform, size)
            moved[chosen] = True
        positions = moved.nonzero().flatten()
        matrices = matrices[positions]
        return change(images, positions, lambda chosen, part: resample(chosen, matrices[part]))


def resample(images: Tensor, matrices: Tensor) -> Tensor:
    """Moves the pixels of images by homographies, with bilinear interpolation.

    Args:
        images: (n, 3, H, W) uint8.
        matrices: (n, 3, 3) maps from new to old positions; see `GeometricStep.matrices`.

    Returns:
        (n, 3, H, W) uint8. Pixels from outside of the image are black.
    """
    height, width = images.shape[-2:]
    # In the grid, positions of -1 and 1 are the edges of the image.
    to_grid = torch.tensor([2 / width, 2 / height, 1.0], dtype=torch.float64)
    maps = (to_grid[:, None] * matrices).float().to(images.device)[:, :, :, None, None]
    across = torch.arange(width, device=images.device) - (width - 1) / 2
    down = (torch.arange(height, device=images.device) - (height - 1) / 2)[:, None]
    # Positions (x, y, w) of shape (n, H, W), as sums of one term for each column and each row.
    x, y, w = (
        maps[:, row, 0] * across + (maps[:, row, 1] * down + maps[:, row, 2]) for row in range(3)
    )
    grid = torch.empty(*w.shape, 2, device=images.device)
    torch.div(x, w, out=grid[..., 0])  # written into the grid, which avoids a copy
    torch.div(y, w, out=grid[..., 1])
    return to_pixels(F.grid_sample(images.float(), grid, align_corners=False))


class Colours:
    """A stage that applies all its colour augmentations by one product for each image."""

    def __init__(self, steps: list[ColourStep]) -> None:
        self.steps = steps

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Returns the changed batch; see `Stage`."""
        count = len(images)
        colours = LinearColour(
            torch.eye(3, dtype=torch.float64).repeat(count, 1, 1),
            torch.zeros(count, 3, 3, dtype=torch.float64),
            torch.ones(count, dtype=torch.float64),
        )
        changed = torch.zeros(count, dtype=torch.bool)
        for step in self.steps:
            chosen, uniform = step.draw(count, generator)
            new = step.change(_part(colours, chosen), uniform)
            for values, new_values in zip(colours, new, strict=True):
                values[chosen] = new_values
            changed[chosen] = True
        positions = changed.nonzero().flatten()
        return change(
            images,
            positions,
            lambda chosen, part: recolour(chosen, _part(colours, positions[part])),
        )


def _part(colours: LinearColour, positions: Tensor) -> LinearColour:
    """Returns the changes of the images at some positions."""
    return LinearColour(*(values[positions] for values in colours))


def recolour(images: Tensor, colours: LinearColour) -> Tensor:
    """Changes the colours of images.

    Args:
        images: (n, 3, H, W) uint8.
        colours: The changes of the n images, on the CPU.

    Returns:
        (n, 3, H, W) uint8.
    """
    pixel, mean = (factors.float().to(images.device) for factors in (colours.pixel, colours.mean))
    values = images.contiguous().flatten(2).float()
    values = torch.baddbmm(mean @ values.mean(2, keepdim=True), pixel, values)
    bent = (colours.exponent != 1).nonzero().flatten()
    if len(bent):
        on_device = bent.to(images.device)
        exponent = colours.exponent[bent].float().to(images.device)[:, None, None]
        values[on_device] = 255 * (values[on_device] / 255).clamp_(0, 1).pow_(exponent)
    return to_pixels(values).view(images.shape)
