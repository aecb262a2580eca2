"""Circle loss: each similarity is weighted by how far it still has to go."""

from __future__ import annotations

import math

from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.losses.base import MarginSoftmax, in_range
from workbench.losses.registry import register


@register("circle")
class Circle(MarginSoftmax):
    """Circle loss against class centres: log(1 + sum_j exp(gamma (a_j (cos theta_j - m) - a_y (cos theta_y - 1 + m)))).

    Sun et al., "Circle loss: A unified perspective of pair similarity optimization", CVPR 2020, with class-level
    labels and the paper's one margin: a_y = max(0, 1 + m - cos theta_y), a_j = max(0, cos theta_j + m). No gradient goes through
    the weights a, so the derivative of the curve is gamma * a, not that of its value.

    A larger m is an easier target: the decision boundary is (1 - cos theta_y)^2 + cos^2 theta_j = 2 m^2. So `ramp` does not
    raise m, it goes from plain cosines to the weighted ones.

    Args:
        embedding_dim: D.
        num_classes: C.
        gamma: scale of the logits, > 0.
        m: relaxation, 0 to 1.
    """

    formula = "gamma a (cos(theta) - 1 + m), a = max(0, 1 + m - cos(theta)) without gradient"
    paper = (
        "Sun et al., Circle loss: A unified perspective of pair similarity optimization, CVPR 2020"
    )

    def __init__(
        self, embedding_dim: int, num_classes: int, gamma: float = 256.0, m: float = 0.25
    ) -> None:
        if not (math.isfinite(gamma) and gamma > 0):
            raise WorkbenchError(f"circle: scale gamma must be a positive number, got {gamma}")
        super().__init__(
            embedding_dim, num_classes, s=gamma, m=in_range("circle: margin m", m, 0.0, 1.0)
        )

    def margin(self, cosine: Tensor) -> Tensor:
        weight = (1.0 + self.m - cosine).clamp_min(0.0).detach()
        return self._eased(cosine, weight * (cosine - (1.0 - self.m)))

    def others(self, cosine: Tensor, own: Tensor) -> Tensor:
        weight = (cosine + self.m).clamp_min(0.0).detach()
        return self._eased(cosine, weight * (cosine - self.m))

    def extra_repr(self) -> str:
        return f"embedding_dim={self.embedding_dim}, num_classes={self.num_classes}, gamma={self.s:g}, m={self.m:g}"

    def _eased(self, cosine: Tensor, weighted: Tensor) -> Tensor:
        return weighted if self.ramp == 1.0 else (1.0 - self.ramp) * cosine + self.ramp * weighted
