"""Unified threshold (UniFace): trains one similarity threshold for all classes with the loss."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.losses.base import MarginSoftmax, in_range
from workbench.losses.head import HeadName, unit
from workbench.losses.registry import register


@register("unified_threshold")
class UnifiedThreshold(MarginSoftmax):
    """Unified cross-entropy with a cosine margin.

    Softmax only requires that the target class has the largest logit. This loss requires that one
    threshold on the cosine, b / s, separates the target class from the non-target classes of every
    image. Zhou et al., "UniFace: Unified cross-entropy loss for deep face recognition", ICCV 2023,
    there called L_uce-m:

        log(1 + exp(-(s (cos theta_y - m) - b))) + sum_j log(1 + exp(s cos theta_j - b))

    The sum runs over the non-target classes j. The bias b is trained. As in the authors' code it
    starts at ln(10 C r), where r is the share of the classes in the sum of a batch: 1, or the
    `sample_rate` of the head "sampled", which does not correct the sum. The authors' code also
    clamps the logits to -s..s, which here would only remove gradient, and has a weight on the sum,
    1 by default.

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        num_classes: Number C of classes, >= 1.
        s: Scale of the logits, > 0.
        m: Margin on the target cosine, 0..2.

    Attributes:
        bias: () bias b.

    Raises:
        WorkbenchError: If an option is out of range.

    Example:
        >>> import workbench as wb
        >>> loss = wb.losses.create("unified_threshold", embedding_dim=8, num_classes=10)
        >>> round(loss.bias.item() / loss.s, 3)  # the initial threshold on the cosine
        0.072
    """

    formula = "softplus(-(s (cos theta_y - m) - b)) + sum_j softplus(s cos theta_j - b)"
    paper = "Zhou et al., UniFace: Unified cross-entropy loss for deep face recognition, ICCV 2023"

    fixed_scale: ClassVar[bool] = False

    def __init__(
        self, embedding_dim: int, num_classes: int, s: float = 64.0, m: float = 0.4
    ) -> None:
        super().__init__(
            embedding_dim, num_classes, s, in_range("unified_threshold: margin m", m, 0.0, 2.0)
        )
        self.bias = nn.Parameter(torch.tensor(math.log(10.0 * self.classes_seen)))

    def use_head(self, head: HeadName = "auto", sample_rate: float = 0.1) -> None:
        """Selects the head, and resets the bias, which depends on the number of classes seen.

        Args:
            head: As in `ClassificationLoss.use_head`.
            sample_rate: As in `ClassificationLoss.use_head`.

        Raises:
            WorkbenchError: If the head is unknown or the share is out of range.
        """
        super().use_head(head, sample_rate)
        nn.init.constant_(self.bias, math.log(10.0 * self.classes_seen))

    def margin(self, cosine: Tensor) -> Tensor:
        """Returns cos theta - m; see `MarginSoftmax.margin`."""
        return cosine - self.m * self.ramp

    def per_sample(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Returns the sum of the binary cross-entropies of each sample.

        Args:
            embeddings: (N, D) float32 or float64 embeddings.
            labels: (N,) int64 labels.

        Returns:
            (N,) losses, >= 0.
        """
        cosine, non_target_sum = self.compare_with_centres(
            unit(embeddings),
            labels,
            scale=self.s,
            bias=(-self.bias).expand(self.num_classes),
            reduction="softplus",
        )
        return F.softplus(self.bias - self.s * self.margin(cosine)) + non_target_sum

    def expected_losses(
        self, target: Tensor, non_target: Tensor, probabilities: Tensor, count: int
    ) -> Tensor:
        """Returns the expected binary cross-entropies; see `ClassificationLoss.expected_losses`."""
        of_others = F.softplus(non_target - self.bias) @ probabilities
        return F.softplus(self.bias - target) + count * of_others

    @torch.no_grad()
    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """Adds `bias`, and the threshold b / s as `threshold`; see `MarginSoftmax.measure`."""
        bias = self.bias.item()
        return super().measure(embeddings, labels) | {"bias": bias, "threshold": bias / self.s}
