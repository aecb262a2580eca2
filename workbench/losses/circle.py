"""Circle loss: weights each similarity by its distance from its optimum."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.losses.base import MarginSoftmax, in_range
from workbench.losses.registry import register


@register("circle")
class Circle(MarginSoftmax):
    """Circle loss against class centres.

    Sun et al., "Circle loss: A unified perspective of pair similarity optimization", CVPR 2020,
    with class-level labels and a single margin m:

        log(1 + sum_j exp(gamma (a_j (cos theta_j - m) - a_y (cos theta_y - 1 + m))))

    where a_y = max(0, 1 + m - cos theta_y) and a_j = max(0, cos theta_j + m). No gradient flows
    through the weights a, so the derivative of the curve is gamma * a and not the derivative of its
    value.

    A larger m is an easier objective: the decision boundary is
    (1 - cos theta_y)^2 + cos^2 theta_j = 2 m^2. Therefore `ramp` does not increase m, but
    interpolates from the plain cosines to the weighted ones.

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        num_classes: Number C of classes, >= 1.
        gamma: Scale of the logits, > 0.
        m: Relaxation factor, 0..1.

    Raises:
        WorkbenchError: If an option is out of range.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> loss = wb.losses.create("circle", embedding_dim=8, num_classes=10)
        >>> loss.target_logit(torch.tensor([0.5]))  # 256 * 0.75 * (0.5 - 0.75)
        tensor([-48.])
    """

    formula = "gamma a (cos(theta) - 1 + m), a = max(0, 1 + m - cos(theta)) without gradient"
    paper = (
        "Sun et al., Circle loss: A unified perspective of pair similarity optimization, CVPR 2020"
    )

    fixed_scale: ClassVar[bool] = False

    def __init__(
        self, embedding_dim: int, num_classes: int, gamma: float = 256.0, m: float = 0.25
    ) -> None:
        if not (math.isfinite(gamma) and gamma > 0):
            raise WorkbenchError(f"circle: scale gamma must be a positive number, got {gamma}")
        super().__init__(
            embedding_dim, num_classes, s=gamma, m=in_range("circle: margin m", m, 0.0, 1.0)
        )

    def margin(self, cosine: Tensor) -> Tensor:
        """Returns the weighted target cosine; see `MarginSoftmax.margin`."""
        weight = (1.0 + self.m - cosine).clamp_min(0.0).detach()
        return self._interpolate(cosine, weight * (cosine - (1.0 - self.m)))

    def non_target(self, cosine: Tensor, target: Tensor) -> Tensor:
        """Returns the weighted non-target cosines; see `MarginSoftmax.non_target`."""
        weight = (cosine + self.m).clamp_min(0.0).detach()
        return self._interpolate(cosine, weight * (cosine - self.m))

    def extra_repr(self) -> str:
        """Returns the sizes and options for `repr`."""
        sizes = f"embedding_dim={self.embedding_dim}, num_classes={self.num_classes}"
        return f"{sizes}, gamma={self.s:g}, m={self.m:g}"

    def _interpolate(self, cosine: Tensor, weighted: Tensor) -> Tensor:
        if self.ramp == 1.0:
            return weighted
        return (1.0 - self.ramp) * cosine + self.ramp * weighted
