"""SphereFace2: a binary classification for each class, instead of a softmax over all classes."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.losses.base import MarginSoftmax, in_range
from workbench.losses.head import HeadName, unit
from workbench.losses.registry import register


@register("sphereface2")
class SphereFace2(MarginSoftmax):
    """One-against-all binary cross-entropy with an additive margin on both sides.

    Wen et al., "SphereFace2: Binary classification is all you need for deep face recognition", ICLR
    2022, eq. 5, with the margin that the paper recommends (type C):

        alpha / r * log(1 + exp(-r (g(cos theta_y) - m) - b))
        + (1 - alpha) / r * sum_j log(1 + exp(r (g(cos theta_j) + m) + b))

    The sum runs over the non-target classes j. The function g(z) = 2 ((z + 1) / 2)^t - 1 widens the
    range of cosines near 1 and narrows that of impostor pairs. It is not a margin, so `ramp`, which
    scales m, does not change it. The bias b, shared by all classes, is trained. It starts where,
    with all cosines at 0, the gradients of the target class and of the non-target classes have the
    same size, as in the authors' code. With the head "sampled", the sum runs over the sampled
    classes without correction, and the bias starts accordingly.

    The gradient is the true one, with r g'(cos theta) = r t ((cos theta + 1) / 2)^(t - 1). The
    authors' code detaches g and uses r in its place. With the default t = 3 the true gradient is
    0.19 times theirs at 120 degrees, 0.75 times at 90 degrees and 2.8 times at 20 degrees.

    `target_logit` is r (g(cos theta) - m), without b.

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        num_classes: Number C of classes, >= 1.
        r: Scale of the logits, > 0.
        m: Margin on g, 0..2.
        t: Exponent of g, >= 1, where 1 gives g(z) = z.
        alpha: Weight of the target class, 0 < alpha < 1. The paper calls it lambda.
        lw: Factor on the whole loss, > 0. With 1 it is the equation. The authors' code uses 50,
            because the loss divided by r is small for the learning rates of the softmax losses.

    Attributes:
        bias: () bias b.

    Raises:
        WorkbenchError: If an option is out of range.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> loss = wb.losses.create("sphereface2", embedding_dim=8, num_classes=10)
        >>> loss.target_logit(torch.tensor([1.0, 0.0]))  # 40 (1 - 0.4) and 40 (-0.75 - 0.4)
        tensor([ 24., -46.])
    """

    formula = (
        "alpha/r softplus(-r (g(cos theta_y) - m) - b) "
        "+ (1 - alpha)/r sum_j softplus(r (g(cos theta_j) + m) + b)"
    )
    paper = (
        "Wen et al., SphereFace2: Binary classification is all you need for deep face recognition, "
        "ICLR 2022"
    )

    fixed_scale: ClassVar[bool] = False

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        r: float = 40.0,
        m: float = 0.4,
        t: float = 3.0,
        alpha: float = 0.7,
        lw: float = 1.0,
    ) -> None:
        for name, value in (("scale r", r), ("factor lw", lw)):
            if not (math.isfinite(value) and value > 0):
                raise WorkbenchError(f"sphereface2: {name} must be a positive number, got {value}")
        super().__init__(
            embedding_dim, num_classes, s=r, m=in_range("sphereface2: margin m", m, 0.0, 2.0)
        )
        self.t = in_range("sphereface2: exponent t", t, 1.0)
        if not 0 < alpha < 1:
            raise WorkbenchError(f"sphereface2: alpha is a share, 0 < alpha < 1, got {alpha}")
        self.alpha = float(alpha)
        self.lw = float(lw)
        self.bias = nn.Parameter(torch.tensor(self._balanced_bias()))

    def use_head(self, head: HeadName = "auto", sample_rate: float = 0.1) -> None:
        """Selects the head, and resets the bias, which depends on the number of classes seen.

        Args:
            head: As in `ClassificationLoss.use_head`.
            sample_rate: As in `ClassificationLoss.use_head`.

        Raises:
            WorkbenchError: If the head is unknown or the share is out of range.
        """
        super().use_head(head, sample_rate)
        nn.init.constant_(self.bias, self._balanced_bias())

    def margin(self, cosine: Tensor) -> Tensor:
        """Returns g(cosine) - m; see `MarginSoftmax.margin`."""
        return self._g(cosine) - self.m * self.ramp

    def non_target(self, cosine: Tensor, target: Tensor) -> Tensor:
        """Returns g(cosine) + m; see `MarginSoftmax.non_target`."""
        return self._g(cosine) + self.m * self.ramp

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
            bias=self.bias.expand(self.num_classes),
            non_target=self.frozen_non_target(),
            reduction="softplus",
        )
        target_logit = self.s * self.margin(cosine) + self.bias
        positive = self.alpha * F.softplus(-target_logit)
        return self.lw / self.s * (positive + (1.0 - self.alpha) * non_target_sum)

    def expected_losses(
        self, target: Tensor, non_target: Tensor, probabilities: Tensor, count: int
    ) -> Tensor:
        """Returns the expected binary cross-entropies; see `ClassificationLoss.expected_losses`."""
        of_others = (1.0 - self.alpha) * (F.softplus(non_target + self.bias) @ probabilities)
        positive = self.alpha * F.softplus(-target - self.bias)
        return self.lw / self.s * (positive + count * of_others)

    @torch.no_grad()
    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """Adds the bias; see `MarginSoftmax.measure`."""
        return super().measure(embeddings, labels) | {"bias": self.bias.item()}

    def extra_repr(self) -> str:
        """Returns the sizes and options for `repr`."""
        sizes = f"embedding_dim={self.embedding_dim}, num_classes={self.num_classes}"
        options = f"r={self.s:g}, m={self.m:g}, t={self.t:g}, alpha={self.alpha:g}, lw={self.lw:g}"
        return f"{sizes}, {options}"

    def _g(self, cosine: Tensor) -> Tensor:
        return 2.0 * ((cosine + 1.0) / 2.0) ** self.t - 1.0

    def _balanced_bias(self) -> float:
        """Returns the initial bias, at which both kinds of classes have gradients of the same size.

        It solves alpha sigmoid(-(y + b)) = (1 - alpha) (C - 1) sigmoid(i + b), where y and i are
        the target and the non-target logit at cosine 0, without b. This is a quadratic equation for
        exp(b).
        """
        middle: float = self.s * (2.0 * 0.5**self.t - 1.0)
        target, non_target = middle - self.s * self.m, middle + self.s * self.m
        z = self.alpha / ((1.0 - self.alpha) * max(self.classes_seen - 1, 1))
        decay = math.exp(max((target - non_target) / 2.0, -600.0))
        root = abs(1.0 - z) + math.hypot(1.0 - z, 2.0 * math.sqrt(z) * decay)
        # Both lines give the same root. Each is written so that no digits cancel.
        if z < 1:
            return math.log(2.0 * z / root) - non_target
        return math.log(root / 2.0) - target
