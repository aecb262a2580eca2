"""Unified threshold (UniFace): one similarity threshold for all people, trained with the loss."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.losses.base import MarginSoftmax, in_range
from workbench.losses.head import HeadName, unit
from workbench.losses.registry import register


@register("unified_threshold")
class UnifiedThreshold(MarginSoftmax):
    """Unified cross-entropy with a cosine margin: softmax asks only that the own class comes first among all, this that one
    threshold, b / s on the cosine, parts own classes from others.

    Zhou et al., "UniFace: Unified cross-entropy loss for deep face recognition", ICCV 2023, its L_uce-m:

    log(1 + exp(-(s (cos theta_y - m) - b))) + sum_j log(1 + exp(s cos theta_j - b))

    over the other classes j. b is trained, and starts at ln(10 C r) as in the authors' code, where r is the share of the classes
    that a batch's sum goes over: 1, or the `sample_rate` of a sampled head, which does not make up for the other classes. That
    code also clamps the logits to -s..s, which here would only take away gradient, and has a weight on the sum, 1 by default.

    Args:
        embedding_dim: D.
        num_classes: C.
        s: scale of the logits, > 0.
        m: margin on the cosine of the own class, 0..2.

    Attributes:
        bias: () b.
    """

    formula = "softplus(-(s (cos theta_y - m) - b)) + sum_j softplus(s cos theta_j - b)"
    paper = "Zhou et al., UniFace: Unified cross-entropy loss for deep face recognition, ICCV 2023"

    def __init__(
        self, embedding_dim: int, num_classes: int, s: float = 64.0, m: float = 0.4
    ) -> None:
        super().__init__(
            embedding_dim, num_classes, s, in_range("unified_threshold: margin m", m, 0.0, 2.0)
        )
        self.bias = nn.Parameter(torch.tensor(math.log(10.0 * self.classes_seen)))

    def use_head(self, head: HeadName = "auto", sample_rate: float = 0.1) -> None:
        """As of every loss with class centres; and b starts anew, as it depends on the number of classes seen."""
        super().use_head(head, sample_rate)
        nn.init.constant_(self.bias, math.log(10.0 * self.classes_seen))

    def margin(self, cosine: Tensor) -> Tensor:
        return cosine - self.m * self.ramp

    def per_sample(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        bias = (-self.bias).expand(self.num_classes)
        own, rest = self.against_others(
            unit(embeddings), labels, scale=self.s, bias=bias, reduction="softplus"
        )
        return F.softplus(self.bias - self.s * self.margin(own)) + rest

    @torch.no_grad()
    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """As for every margin; the bias, and the threshold on the cosine, b / s."""
        bias = self.bias.item()
        return super().measure(embeddings, labels) | {"bias": bias, "threshold": bias / self.s}
