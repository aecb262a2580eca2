"""AdaFace: a margin that depends on image quality, estimated by the length of the embedding."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from workbench.losses.base import (
    NEGLIGIBLE,
    HeadScale,
    MarginSoftmax,
    angle,
    at_least_float32,
    in_range,
    update_average,
)
from workbench.losses.registry import register

EPSILON = 1e-3
"""Distance in radians that the margin keeps from the angles 0 and pi. It is also added to the
standard deviation before dividing by it. Both as in the authors' code."""

INITIAL_STD = 100.0
"""Moving standard deviation before the first batch, as in the authors' code."""


@register("adaface")
class AdaFace(MarginSoftmax):
    """Quality-adaptive margin: the target logit is s * (cos(theta_y - m z) - (m + m z)).

    Kim et al., "AdaFace: Quality adaptive margin for face recognition", CVPR 2022. The quality z is
    the clipped z-score of the length of the embedding:

        z = clip((||x|| - mu) / (sigma + 0.001) * h, -1, 1)

    where mu and sigma are moving averages of the mean and the standard deviation of ||x|| over the
    batches, and ||x|| is clipped to [0.001, 100]. With z = -1 (poor quality) the margin is that of
    ArcFace, with z = 0 that of CosFace; with z = 1 (good quality) hard images are emphasised. No
    gradient flows through the length.

    As in the authors' code, mu and sigma are updated before the loss of a batch is computed, and
    the margin on the angle keeps it between 0.001 and pi - 0.001. The authors' code also clips all
    cosines to +-0.999 first, to bound the derivative of the arc cosine, which is bounded here in
    another way. `ramp` scales m.

    As in the authors' code, sigma starts at 100, far above the standard deviation of the lengths of
    any network. After t steps (1 - rate)^t of this initial value is left: 2 % after 390 steps at a
    rate of 0.01. Until then z is near 0, and the loss is nearly CosFace.

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        num_classes: Number C of classes, >= 1.
        s: Scale of the logits, > 0.
        m: Margin, 0..2, used in radians on the angle and without a unit on the cosine.
        h: Concentration of the z-score, >= 0. With 0.333, two thirds of the images lie within
            +-0.333.
        rate: Weight of a batch in the moving averages, 0..1.

    Attributes:
        batch_mean: () moving average mu.
        batch_std: () moving average sigma.

    Raises:
        WorkbenchError: If an option is out of range.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> loss = wb.losses.create("adaface", embedding_dim=8, num_classes=10)
        >>> loss.target_logit(torch.tensor([0.5]))  # s (cos theta - m) for a mean length
        tensor([6.4000])
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
        self.register_buffer("batch_std", torch.tensor(INITIAL_STD))

    def quality(self, lengths: Tensor) -> Tensor:
        """Returns the quality z of embeddings.

        Args:
            lengths: Lengths of embeddings, any shape.

        Returns:
            Values in [-1, 1] of the same shape.
        """
        deviation = (_clip_lengths(lengths) - self.batch_mean) / (self.batch_std + EPSILON)
        return (deviation * self.h).clamp(-1.0, 1.0)

    def margin(self, cosine: Tensor) -> Tensor:
        """Returns the curve of an image of mean quality, z = 0; see `MarginSoftmax.margin`."""
        return cosine - self.m * self.ramp

    def target_margin(self, cosine: Tensor, embeddings: Tensor) -> Tensor:
        """Returns the curve of each image by its quality; see `MarginSoftmax.target_margin`."""
        lengths = torch.linalg.vector_norm(embeddings.detach(), dim=1, keepdim=True)
        return self._quality_margin(cosine, self.quality(lengths))

    def target_logit(self, cosine: Tensor, norm: float | None = None) -> Tensor:
        """Returns the target logit for embeddings of one length.

        Args:
            cosine: Cosines of any shape, in [-1, 1].
            norm: Length of the embeddings, >= 0; by default the mean length (z = 0).

        Returns:
            Logits of the same shape.
        """
        cosine = at_least_float32(cosine)
        if norm is None:
            return self.s * self.margin(cosine)
        return self.s * self._quality_margin(cosine, self.quality(cosine.new_tensor(norm)))

    def observe(self, embeddings: Tensor, labels: Tensor) -> None:
        """Updates the moving averages of the lengths; see `Loss.observe`."""
        lengths = _clip_lengths(torch.linalg.vector_norm(embeddings, dim=1))
        self.batch_mean = update_average(self.batch_mean, lengths.mean(), self.rate)
        if len(lengths) > 1:  # the standard deviation of one image is undefined
            self.batch_std = update_average(self.batch_std, lengths.std(), self.rate)

    def advice(self, steps: int) -> list[str]:
        """Also warns if the moving standard deviation keeps too much of its initial value.

        Args:
            steps: Number of training steps.

        Returns:
            Sentences for the user; usually none.
        """
        advice = super().advice(steps)
        remaining = (1.0 - self.rate) ** steps
        if self.h == 0 or remaining <= NEGLIGIBLE:
            return advice
        remedy = "raise rate"
        if self.rate:
            needed = math.log(NEGLIGIBLE) / math.log1p(-self.rate)
            remedy = f"train for {needed:,.0f} steps or more, or raise rate"
        return [
            *advice,
            f"adaface: the moving standard deviation starts at {INITIAL_STD:g}, and after "
            f"{steps:,} steps {remaining:.0%} of that is left; until it has decayed, the quality "
            f"of images has little effect and the loss is nearly CosFace; {remedy}",
        ]

    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """Adds mu and sigma as `length_mean` and `length_std`; see `MarginSoftmax.measure`."""
        lengths = {"length_mean": self.batch_mean.item(), "length_std": self.batch_std.item()}
        return super().measure(embeddings, labels) | lengths

    def extra_repr(self) -> str:
        """Returns the sizes and options for `repr`."""
        return f"{super().extra_repr()}, h={self.h:g}, rate={self.rate:g}"

    def _quality_margin(self, cosine: Tensor, z: Tensor) -> Tensor:
        m = self.m * self.ramp
        theta = angle(cosine)
        # An angle within EPSILON of 0 or pi keeps its value if the margin is 0.
        low, high = theta.clamp_max(EPSILON), theta.clamp_min(math.pi - EPSILON)
        return torch.minimum(torch.maximum(theta - m * z, low), high).cos() - (m + m * z)


def _clip_lengths(lengths: Tensor) -> Tensor:
    return lengths.clamp(0.001, 100.0)
