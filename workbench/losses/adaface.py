"""AdaFace: the margin follows image quality, read from the length of the embedding."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from workbench.losses.base import (
    FORGOTTEN,
    HeadScale,
    MarginSoftmax,
    angle,
    at_least_float32,
    in_range,
    moved,
)
from workbench.losses.registry import register

EPSILON = 1e-3
"""In radians: so close to 0 and pi the margin may turn an angle. Also keeps a standard deviation off 0. As in the authors' code."""

FIRST_SPREAD = 100.0
"""The moving standard deviation before the first batch, as in the authors' code."""


@register("adaface")
class AdaFace(MarginSoftmax):
    """Quality-adaptive margin: the target logit is s * (cos(theta_y - m z) - (m + m z)), z the embedding's length as a z-score.

    Kim et al., "AdaFace: Quality adaptive margin for face recognition", CVPR 2022: z = clip((||x|| - mu) /
    (sigma + 0.001) * h, -1, 1), where mu and sigma are moving averages of the batches' mean and standard deviation of ||x||,
    clipped to [0.001, 100]. z = -1 (poor) is ArcFace, z = 0 CosFace, z = 1 (good) stresses hard images. No gradient flows
    through the length.

    As in the authors' code mu and sigma are updated before the batch is gone through, and the margin on the angle does not
    turn it past 0.001 or pi - 0.001. Their code also clips the cosines of all classes to +-0.999 before, for the sake of the
    arc cosine's derivative, which is bounded here anyway. `ramp` scales m.

    sigma starts at 100, as there, far above the spread of any network's lengths: after t steps (1 - rate)^t of that is left,
    2 % after 390 steps at a rate of 0.01. Until then z is near 0 and the loss is nearly CosFace.

    Args:
        embedding_dim: D.
        num_classes: C.
        s: scale of the logits, > 0.
        m: margin, 0..2: in radians on the angle and as it is on the cosine.
        h: concentration of the z-score, >= 0; at 0.333 two thirds of the images lie within +-0.333.
        rate: weight of a batch in the moving averages, 0..1.

    Attributes:
        batch_mean, batch_std: () mu and sigma.
    """

    formula = "s (cos(theta - m z) - m - m z), z = clip(h (|x| - mu) / sigma, -1, 1)"
    paper = "Kim et al., AdaFace: Quality adaptive margin for face recognition, CVPR 2022"
    head_scale: ClassVar[HeadScale | None] = "none"
    batch_mean: Tensor
    batch_std: Tensor

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        s: float = 64.0,
        m: float = 0.4,
        h: float = 0.333,
        rate: float = 0.01,
    ) -> None:
        super().__init__(embedding_dim, num_classes, s, in_range("adaface: margin m", m, 0.0, 2.0))
        self.h = in_range("adaface: h", h, 0.0)
        self.rate = in_range("adaface: rate", rate, 0.0, 1.0)
        self.register_buffer("batch_mean", torch.tensor(20.0))
        self.register_buffer("batch_std", torch.tensor(FIRST_SPREAD))

    def quality(self, lengths: Tensor) -> Tensor:
        """z: lengths of any shape -> values in [-1, 1]."""
        return ((_clipped(lengths) - self.batch_mean) / (self.batch_std + EPSILON) * self.h).clamp(
            -1.0, 1.0
        )

    def margin(self, cosine: Tensor) -> Tensor:
        """The curve of an image of mean quality, z = 0."""
        return cosine - self.m * self.ramp

    def own_margin(self, cosine: Tensor, embeddings: Tensor) -> Tensor:
        return self._bent(
            cosine, self.quality(torch.linalg.vector_norm(embeddings.detach(), dim=1, keepdim=True))
        )

    def target_logit(self, cosine: Tensor, norm: float | None = None) -> Tensor:
        """The curve for an embedding of one length, by default the mean one (z = 0).

        Args:
            cosine: any shape, in [-1, 1].
            norm: another length, >= 0.
        """
        cosine = at_least_float32(cosine)
        return self.s * (
            self.margin(cosine)
            if norm is None
            else self._bent(cosine, self.quality(cosine.new_tensor(norm)))
        )

    def observe(self, embeddings: Tensor, labels: Tensor) -> None:
        lengths = _clipped(torch.linalg.vector_norm(embeddings, dim=1))
        self.batch_mean = moved(self.batch_mean, lengths.mean(), self.rate)
        if len(lengths) > 1:  # one image has no spread
            self.batch_std = moved(self.batch_std, lengths.std(), self.rate)

    def advice(self, steps: int) -> list[str]:
        """As of a `Loss`: the moving standard deviation starts far too high."""
        left = (1.0 - self.rate) ** steps
        if self.h == 0 or left <= FORGOTTEN:
            return []
        enough = (
            f"{math.log(FORGOTTEN) / math.log1p(-self.rate):,.0f} steps or more"
            if self.rate
            else "no number of steps"
        )
        return [
            f"adaface: the moving standard deviation starts at {FIRST_SPREAD:g}, and after {steps:,} steps {left:.0%} of that is "
            "left; as long as it is so high, images are hardly told apart by quality and the loss is nearly CosFace; "
            f"{enough} make up for it at this rate; train longer, or raise rate"
        ]

    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """As for every margin; and mu and sigma."""
        lengths = {"length_mean": self.batch_mean.item(), "length_std": self.batch_std.item()}
        return super().measure(embeddings, labels) | lengths

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, h={self.h:g}, rate={self.rate:g}"

    def _bent(self, cosine: Tensor, z: Tensor) -> Tensor:
        m = self.m * self.ramp
        theta = angle(cosine)
        # An angle that is nearer to 0 or pi than that by itself may stay there: no margin is no change.
        low, high = theta.clamp_max(EPSILON), theta.clamp_min(math.pi - EPSILON)
        return torch.minimum(torch.maximum(theta - m * z, low), high).cos() - (m + m * z)


def _clipped(lengths: Tensor) -> Tensor:
    return lengths.clamp(0.001, 100.0)
