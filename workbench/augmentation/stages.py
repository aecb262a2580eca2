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


def change(images: Tensor, positions: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Returns a batch in which a function has changed some of the images.

    Args:
        images: (N, 3, H, W). They are not modified.
        positions: (n,) int64 positions of the images to change, ascending, on the CPU.
        function: Maps (n, 3, H, W) images to changed images; it is not called if n is 0.

    Returns:
        (N, 3, H, W) in the memory format of `images`.
    """
    if not len(positions):
        return images
    if len(positions) == len(images):
        return torch.empty_like(images).copy_(function(images))
    on_device = positions.to(images.device)
    batch = images.clone()
    batch[on_device] = function(images[on_device])
    return batch


class Pixels:
    """A stage of one augmentation."""

    def __init__(self, step: PixelStep) -> None:
        self.step = step

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Returns the changed batch; see `Stage`."""
        drawn = self.step.draw(len(images), generator)
        return change(
            images, drawn.positions, lambda chosen: self.step.apply(chosen, drawn.uniform)
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
        return change(images, positions, lambda chosen: resample(chosen, matrices[positions]))


def resample(images: Tensor, matrices: Tensor) -> Tensor:
    """Moves the pixels of images by homographies, with bilinear interpolation.

    Args:
        images: (n, 3, H, W) uint8.
        matrices: (n, 3, 3) maps from new to old positions; see `GeometricStep.matrices`.

    Returns:
        (n, 3, H, W) uint8. Pixels from outside of the image are black.
    """
    height, width = images.shape[-2:]
    maps = matrices.float().to(images.device)[:, :, :, None, None]
    across = torch.arange(width, device=images.device) - (width - 1) / 2
    down = (torch.arange(height, device=images.device) - (height - 1) / 2)[:, None]
    # Positions (x, y, w) of shape (n, H, W), as sums of one term for each column and each row.
    x, y, w = (
        maps[:, row, 0] * across + (maps[:, row, 1] * down + maps[:, row, 2]) for row in range(3)
    )
    # Positions of -1 and 1 are the edges of the image. Writing into the grid avoids a copy.
    grid = torch.empty(*w.shape, 2, device=images.device)
    torch.div(x, w * (width / 2), out=grid[..., 0])
    torch.div(y, w * (height / 2), out=grid[..., 1])
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
            new = step.change(LinearColour(*(values[chosen] for values in colours)), uniform)
            for values, new_values in zip(colours, new, strict=True):
                values[chosen] = new_values
            changed[chosen] = True
        positions = changed.nonzero().flatten()
        changes = LinearColour(*(values[positions] for values in colours))
        return change(images, positions, lambda chosen: recolour(chosen, changes))


def recolour(images: Tensor, colours: LinearColour) -> Tensor:
    """Changes the colours of images.

    Args:
        images: (n, 3, H, W) uint8.
        colours: The changes of the n images, on the CPU.

    Returns:
        (n, 3, H, W) uint8.
    """
    pixel, mean = (
        factors.mT.float().to(images.device) for factors in (colours.pixel, colours.mean)
    )
    # (n, HW, 3), which is a view of images that are channels last in memory.
    values = images.permute(0, 2, 3, 1).flatten(1, 2).float()
    values = torch.baddbmm(values.mean(1, keepdim=True) @ mean, values, pixel)
    bent = (colours.exponent != 1).nonzero().flatten()
    if len(bent):
        on_device = bent.to(images.device)
        exponent = colours.exponent[bent].float().to(images.device)[:, None, None]
        values[on_device] = 255 * (values[on_device] / 255).clamp_(0, 1).pow_(exponent)
    count, channels, height, width = images.shape
    return to_pixels(values).view(count, height, width, channels).permute(0, 3, 1, 2)
