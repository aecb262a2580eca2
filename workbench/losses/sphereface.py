"""SphereFace (A-softmax): a multiplicative margin on the angle, eased in by annealing."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.losses.angular import falling_cosine
from workbench.losses.base import (
    FORGOTTEN,
    HeadScale,
    MarginSoftmax,
    angle,
    at_least_float32,
    in_range,
)
from workbench.losses.registry import register


@register("sphereface")
class SphereFace(MarginSoftmax):
    """Multiplicative angular margin: the target logit is ||x|| * psi(theta_y), the others are ||x|| * cos theta_j.

    Liu et al., "SphereFace: Deep hypersphere embedding for face recognition", CVPR 2017, eq. 7:
    psi(theta) = (-1)^k cos(m theta) - 2k with k = floor(m theta / pi). Class centres are normalised, embeddings are not:
    their length stands where other losses have a scale s.

    psi = cos(m theta - k pi) - 2k falls from 1 - 2k to -1 - 2k over each piece and goes on there, with slope 0 at the
    seams. So it is continuous, with a continuous slope, and falls all the way for any real m >= 1, not only for the
    paper's integers (where m theta ends on a seam at 180 degrees).

    Trained on from the start it seldom converges, so the authors' code puts (lambda cos theta + psi) / (1 + lambda) in its
    place, lambda = max(lambda_min, lambda_base / (1 + gamma t)) at training step t = 1, 2, ... With lambda_min > 0 a part
    of the plain cosine stays for good. As batch normalisation counts its batches, t goes up with each batch seen in
    training mode, and is part of the state.

    `ramp` (the setting margin_ramp_epochs) raises m from 1 to its full size, on top of the annealing; by default it is off
    and the annealing alone does the easing.

    Args:
        embedding_dim: D.
        num_classes: C.
        m: factor on the angle, >= 1 (1: no margin); an integer in the paper.
        lambda_min: least weight of the plain cosine, >= 0.
        lambda_base: its weight at the beginning, >= 0; with lambda_min = 0 and lambda_base = 0 there is no annealing.
        gamma: how fast it falls, >= 0.

    Attributes:
        step: () int64, training batches seen.
    """

    formula = "|x| psi(theta), psi = (-1)^k cos(m theta) - 2k"
    paper = "Liu et al., SphereFace: Deep hypersphere embedding for face recognition, CVPR 2017"
    head_scale: ClassVar[HeadScale | None] = "trained"
    step: Tensor

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        m: float = 4.0,
        lambda_min: float = 5.0,
        lambda_base: float = 1000.0,
        gamma: float = 0.12,
    ) -> None:
        super().__init__(embedding_dim, num_classes, s=1.0, m=m)
        if m < 1:
            raise WorkbenchError(f"sphereface: margin m is a factor on the angle, m >= 1, got {m}")
        self.lambda_min = in_range("sphereface: lambda_min", lambda_min, 0.0)
        self.lambda_base = in_range("sphereface: lambda_base", lambda_base, 0.0)
        self.gamma = in_range("sphereface: gamma", gamma, 0.0)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def annealing(self) -> Tensor:
        """Lambda of the last training step, as a scalar."""
        return (self.lambda_base / (1.0 + self.gamma * self.step)).clamp_min(self.lambda_min)

    def psi(self, cosine: Tensor) -> Tensor:
        """Eq. 7 without annealing: cosines of any shape -> values in [1 - 2m, 1]."""
        m = 1.0 + (self.m - 1.0) * self.ramp
        return falling_cosine(m * angle(cosine))

    def margin(self, cosine: Tensor) -> Tensor:
        """The annealed curve as it stands at the last training step."""
        return self._mixed(cosine, self.annealing())

    def target_logit(self, cosine: Tensor, annealing: float | None = None) -> Tensor:
        """The curve for an embedding of length 1, by default with the annealing over (lambda = lambda_min).

        Args:
            cosine: any shape, in [-1, 1].
            annealing: another lambda, >= 0; 0 gives psi itself.
        """
        return self._mixed(
            at_least_float32(cosine), self.lambda_min if annealing is None else annealing
        )

    def scales(self, embeddings: Tensor) -> Tensor:
        """(N, D) -> (N, 1) lengths."""
        lengths: Tensor = torch.linalg.vector_norm(embeddings, dim=1, keepdim=True)
        return lengths

    def observe(self, embeddings: Tensor, labels: Tensor) -> None:
        self.step += 1

    def advice(self, steps: int) -> list[str]:
        """As of a `Loss`: the annealing may not come to its end."""
        last = self.lambda_base / (1.0 + self.gamma * steps)
        if last <= max(self.lambda_min, FORGOTTEN) or self.m == 1:
            return []
        return [
            f"sphereface: after {steps:,} steps lambda is still {last:.3g} and the margin has a weight of {1 / (1 + last):.1%}, "
            f"{1 / (1 + self.lambda_min):.1%} at the end of the annealing; train longer, lower lambda_base, or raise gamma"
        ]

    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """As for every margin, where the scale is the mean length of the embeddings; and lambda."""
        scale = self.scales(embeddings.float()).mean().item()
        return super().measure(embeddings, labels) | {
            "scale": scale,
            "lambda": self.annealing().item(),
        }

    def extra_repr(self) -> str:
        annealing = f"lambda_min={self.lambda_min:g}, lambda_base={self.lambda_base:g}, gamma={self.gamma:g}"
        return f"embedding_dim={self.embedding_dim}, num_classes={self.num_classes}, m={self.m:g}, {annealing}"

    def _mixed(self, cosine: Tensor, annealing: Tensor | float) -> Tensor:
        # The same as (lambda cos + psi) / (1 + lambda), but exact where psi = cos.
        return cosine + (self.psi(cosine) - cosine) / (1.0 + annealing)
