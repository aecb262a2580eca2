"""CurricularFace: ArcFace's margin, and hard negatives that count little at first and more as training gets on."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from workbench.losses.angular import add_angle, turned
from workbench.losses.base import FORGOTTEN, MarginSoftmax, in_range, moved
from workbench.losses.registry import register


@register("curricularface")
class CurricularFace(MarginSoftmax):
    """Curriculum on the negatives: the target logit is ArcFace's, a hard negative's is s * cos theta_j * (t + cos theta_j).

    Huang et al., "CurricularFace: Adaptive curriculum learning loss for deep face recognition", CVPR 2020. Another
    class is hard for an image where cos theta_j > cos(theta_y + m), i.e. where it wins against the margin. t is a moving average
    of the batches' mean cos theta_y, from 0 on: early in training t + cos theta_j is below 1 and damps hard negatives, later it
    is above and stresses them. t is updated before the batch is gone through, as in the authors' code; no gradient flows
    through it, nor from a hard negative to the own class.

    The own logit is ArcFace's curve, with its way past theta_y + m = pi. What other classes are compared with is cos(theta_y + m)
    itself, also there, as in the authors' code. `ramp` scales m, and mixes the hard negatives in: at 0 the loss is NormFace.

    Args:
        embedding_dim: D.
        num_classes: C.
        s: scale of the logits, > 0.
        m: margin in radians, 0..pi.
        rate: weight of a batch in the moving average, 0..1.

    Attributes:
        t: () the moving average, -1..1.
    """

    formula = "s cos(theta + m); others, where above it: s c_j (t + c_j)"
    paper = "Huang et al., CurricularFace: Adaptive curriculum learning loss for deep face recognition, CVPR 2020"
    t: Tensor

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        s: float = 64.0,
        m: float = 0.5,
        rate: float = 0.01,
    ) -> None:
        super().__init__(
            embedding_dim, num_classes, s, in_range("curricularface: margin m", m, 0.0, math.pi)
        )
        self.rate = in_range("curricularface: rate", rate, 0.0, 1.0)
        self.register_buffer("t", torch.zeros(()))

    def margin(self, cosine: Tensor) -> Tensor:
        return add_angle(cosine, self.m * self.ramp)

    def others(self, cosine: Tensor, own: Tensor) -> Tensor:
        stressed = cosine + self.ramp * cosine * (self.t + cosine - 1.0)
        return torch.where(cosine > turned(own, self.m * self.ramp), stressed, cosine)

    def observe(self, embeddings: Tensor, labels: Tensor) -> None:
        self.t = moved(self.t, self.own_cosines(embeddings, labels).mean(), self.rate)

    def advice(self, steps: int) -> list[str]:
        """As of a `Loss`: t starts at 0, and hard negatives are damped until it has risen."""
        left = (1.0 - self.rate) ** steps
        if left <= FORGOTTEN:
            return []
        return [
            f"curricularface: t starts at 0, and after {steps:,} steps it has come {1 - left:.0%} of the way to the mean cosine, "
            "so hard negatives are damped more than they would be in a long training; train longer, or raise rate"
        ]

    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """As for every margin; and t."""
        return super().measure(embeddings, labels) | {"t": self.t.item()}
