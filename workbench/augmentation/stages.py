"""Applies augmentations to a batch. Neighbours of the same family are applied in one pass."""

from __future__ import annotations

from collections.abc import Iterable
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


def replaced(images: Tensor, positions: Tensor, new_images: Tensor) -> Tensor:
    """Returns a batch in which some images are replaced, in the same memory format.

    Args:
        images: (N, 3, H, W).
        positions: (n,) int64 positions in the batch, on the device of the images.
        new_images: (n, 3, H, W).
    """
    batch = images.clone()
    batch[positions] = new_images
    return batch


class Pixels:
    """A stage of one augmentation."""

    def __init__(self, step: PixelStep) -> None:
        self.step = step

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Returns the changed batch; see `Stage`."""
        drawn = self.step.draw(len(images), generator)
        if not len(drawn.positions):
            return images
        positions = drawn.positions.to(images.device)
        return replaced(images, positions, self.step.apply(images[positions], drawn.uniform))


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
        if not moved.any():
            return images
        positions = moved.nonzero().flatten().to(images.device)
        return replaced(images, positions, resample(images[positions], matrices[moved]))


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
    grid = torch.stack([x * (2 / width) / w, y * (2 / height) / w], dim=-1)
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
        if not changed.any():
            return images
        positions = changed.nonzero().flatten().to(images.device)
        changes = LinearColour(*(values[changed] for values in colours))
        return replaced(images, positions, recolour(images[positions], changes))


def recolour(images: Tensor, colours: LinearColour) -> Tensor:
    """Changes the colours of images.

    Args:
        images: (n, 3, H, W) uint8.
        colours: The changes of the n images, on the CPU.

    Returns:
        (n, 3, H, W) uint8.
    """
    pixel, mean = (factors.float().to(images.device) for factors in (colours.pixel, colours.mean))
    values = images.float().flatten(2)
    offset = mean @ values.mean(2, keepdim=True)
    values = torch.baddbmm(offset, pixel, values)
    bent = (colours.exponent != 1).nonzero().flatten()
    if len(bent):
        index = bent.to(images.device)
        exponent = colours.exponent[bent].float().to(images.device)[:, None, None]
        scaled = (values[index] / 255).clamp(0, 1)
        values = values.index_copy(0, index, 255 * scaled.pow(exponent))
    return to_pixels(values).view(images.shape)
