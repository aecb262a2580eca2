"""Perspective distortions that move the four corners separately."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.augmentation.base import GeometricStep, between
from workbench.augmentation.options import number
from workbench.augmentation.registry import register

MAX_DISTANCE = 0.24
"""Largest allowed `distance`. From 0.25 on, the four corners may no longer be convex."""


@register("warp")
class Warp(GeometricStep):
    """Moves each corner of an image at random, and the rest by the homography that this defines.

    Args:
        probability: Probability that an image is changed, 0..1.
        distance: Largest distance by which a corner is moved in each direction, as a share of the
            width and the height, 0..0.24.

    Raises:
        WorkbenchError: if an option is out of range.
    """

    name = "warp"
    numbers = 8

    def __init__(self, probability: float = 1.0, distance: float = 0.05) -> None:
        super().__init__(probability)
        self.distance = number("warp: distance", distance, 0.0, MAX_DISTANCE)

    def matrices(self, uniform: Tensor, size: tuple[int, int]) -> Tensor:
        """Returns the homographies from moved corners to corners; see `GeometricStep.matrices`."""
        height, width = size
        half = torch.tensor([width / 2, height / 2], dtype=torch.float64)
        signs = torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=torch.float64)
        corners = signs * half
        moved = between((-self.distance, self.distance), uniform).view(-1, 4, 2) * 2 * half
        return _homographies(corners + moved, corners.expand(len(uniform), 4, 2))


def _homographies(start: Tensor, end: Tensor) -> Tensor:
    """Returns the homographies that map four points each to four other points.

    A homography h maps (x, y) to (u, v) with u (h20 x + h21 y + 1) = h00 x + h01 y + h02, and
    likewise for v with the second row. Four points give eight linear equations.

    Args:
        start: (n, 4, 2) points before.
        end: (n, 4, 2) points after.

    Returns:
        (n, 3, 3).
    """
    (x, y), (u, v) = start.unbind(-1), end.unbind(-1)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    first = torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], dim=-1)
    second = torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], dim=-1)
    equations = torch.cat([first, second], dim=1)
    solution = torch.linalg.solve(equations, torch.cat([u, v], dim=1))
    return torch.cat([solution, torch.ones_like(solution[:, :1])], dim=1).view(-1, 3, 3)
