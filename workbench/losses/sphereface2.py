"""SphereFace2: each class a binary question of its own, in place of a softmax over all."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.losses.base import MarginSoftmax, in_range
from workbench.losses.head import HeadName, unit
from workbench.losses.registry import register


@register("sphereface2")
class SphereFace2(MarginSoftmax):
    """One-against-all binary cross-entropy with an additive margin on both sides (the paper's recommended type C).

    Wen, Liu et al., "SphereFace2: Binary classification is all you need for deep face recognition", ICLR 2022, eq. 5:

    alpha / r * log(1 + exp(-r (g(cos theta_y) - m) - b)) + (1 - alpha) / r * sum_j log(1 + exp(r (g(cos theta_j) + m) + b))

    over the other classes j. g(z) = 2 ((z + 1) / 2)^t - 1 spreads out the cosines near 1 and crowds those of strangers
    together; it is no margin, so it stays where `ramp` takes m to 0. The bias b, shared by all classes, is trained. It starts
    where, with all cosines at 0, the own class and the others pull equally hard, as in the authors' code.

    The gradient is the true one, with r g'(cos theta) = r t ((cos theta + 1) / 2)^(t - 1); the authors' code detaches g and takes
    r in its place. At the default t = 3 the true one is 0.75 times that at 90 degrees, 0.19 times at 120 and 2.8 times at 20. A
    sampled head sums over the classes drawn, without making up for the others; the bias starts where that sum pulls equally.

    `target_logit` is r (g(cos theta) - m), without b.

    Args:
        embedding_dim: D.
        num_classes: C.
        r: scale of the logits, > 0.
        m: margin on g, 0 to 2.
        t: exponent of g, >= 1 (1: g(z) = z).
        alpha: weight of the own class against the others, 0 < alpha < 1; the paper's lambda.
        lw: factor on the whole loss, > 0. 1 is the equation as it stands; the authors' code has it at 50, as the loss, divided
            by r, is small for the learning rates of the softmax losses.

    Attributes:
        bias: () b.
    """

    formula = "alpha/r softplus(-r (g(cos theta_y) - m) - b) + (1 - alpha)/r sum_j softplus(r (g(cos theta_j) + m) + b)"
    paper = "Wen et al., SphereFace2: Binary classification is all you need for deep face recognition, ICLR 2022"

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
        """As of every loss with class centres; and b starts anew, as it depends on the number of classes seen."""
        super().use_head(head, sample_rate)
        nn.init.constant_(self.bias, self._balanced_bias())

    def margin(self, cosine: Tensor) -> Tensor:
        return self._spread(cosine) - self.m * self.ramp

    def others(self, cosine: Tensor, own: Tensor) -> Tensor:
        return self._spread(cosine) + self.m * self.ramp

    def per_sample(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        bias = self.bias.expand(self.num_classes)
        others = self.frozen_others()
        own, rest = self.against_others(
            unit(embeddings), labels, scale=self.s, bias=bias, others=others, reduction="softplus"
        )
        target = self.s * self.margin(own) + self.bias
        return self.lw / self.s * (self.alpha * F.softplus(-target) + (1.0 - self.alpha) * rest)

    @torch.no_grad()
    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """As for every margin, and the bias."""
        return super().measure(embeddings, labels) | {"bias": self.bias.item()}

    def extra_repr(self) -> str:
        sizes = f"embedding_dim={self.embedding_dim}, num_classes={self.num_classes}"
        return f"{sizes}, r={self.s:g}, m={self.m:g}, t={self.t:g}, alpha={self.alpha:g}, lw={self.lw:g}"

    def _spread(self, cosine: Tensor) -> Tensor:
        """g."""
        return 2.0 * ((cosine + 1.0) / 2.0) ** self.t - 1.0

    def _balanced_bias(self) -> float:
        """The b with alpha sigmoid(-(y + b)) = (1 - alpha) (C - 1) sigmoid(i + b), where y and i are the logits, without b, of
        the own class and of another one at cosine 0: a quadratic equation for exp(b)."""
        middle: float = self.s * (2.0 * 0.5**self.t - 1.0)
        own, other = middle - self.s * self.m, middle + self.s * self.m
        z = self.alpha / ((1.0 - self.alpha) * max(self.classes_seen - 1, 1))
        root = abs(1.0 - z) + math.hypot(
            1.0 - z, 2.0 * math.sqrt(z) * math.exp(max((own - other) / 2.0, -600.0))
        )
        # The same root, written so that nothing cancels.
        return math.log(2.0 * z / root) - other if z < 1 else math.log(root / 2.0) - own
