"""SphereFace, also known as A-softmax: a multiplicative margin on the angle, with annealing."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.losses.angular import falling_cosine
from workbench.losses.base import (
    NEGLIGIBLE,
    HeadScale,
    MarginSoftmax,
    angle,
    at_least_float32,
    in_range,
)
from workbench.losses.registry import register


@register("sphereface")
class SphereFace(MarginSoftmax):
    """Multiplicative angular margin: the target logit is ||x|| * psi(theta_y).

    Liu et al., "SphereFace: Deep hypersphere embedding for face recognition", CVPR 2017, eq. 7:

        psi(theta) = (-1)^k cos(m theta) - 2k,  k = floor(m theta / pi)

    The non-target logits are ||x|| * cos theta_j. Class centres are normalised and embeddings are
    not: their length takes the place of the scale s of other losses.

    On the interval of each k, psi decreases from 1 - 2k to -1 - 2k, with slope 0 at both ends.
    Therefore psi is continuous, with a continuous slope, and decreases for any real m >= 1, not
    only for the integers of the paper (for which an interval ends exactly at theta = 180 degrees).

    Training with psi from the start seldom converges. The authors' code therefore uses a mixture
    with the plain cosine, annealed over the training steps t = 1, 2, ...:

        (lambda cos theta + psi) / (1 + lambda)
        lambda = max(lambda_min, lambda_base / (1 + gamma t))

    With lambda_min > 0, part of the plain cosine remains. The step t is a buffer that increases
    with each batch in training mode, as batch normalisation counts its batches.

    `ramp` (the training setting `margin_ramp_epochs`) increases m from 1 to its full size, in
    addition to the annealing. By default it is off.

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        num_classes: Number C of classes, >= 1.
        m: Factor on the angle, >= 1, where 1 is no margin. It is an integer in the paper.
        lambda_min: Smallest weight of the plain cosine, >= 0.
        lambda_base: Initial weight of the plain cosine, >= 0. If lambda_min and lambda_base are 0,
            there is no annealing.
        gamma: Speed of the annealing, >= 0.

    Attributes:
        step: () int64 number of training batches so far.

    Raises:
        WorkbenchError: If an option is out of range.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> loss = wb.losses.create("sphereface", embedding_dim=8, num_classes=10, m=2.0)
        >>> loss.target_logit(torch.tensor([0.5]), annealing=0.0)  # cos(2 * 60 degrees)
        tensor([-0.5000])
    """

    formula = "|x| psi(theta), psi = (-1)^k cos(m theta) - 2k"
    paper = "Liu et al., SphereFace: Deep hypersphere embedding for face recognition, CVPR 2017"
    head_scale: ClassVar[HeadScale | None] = "trained"
    fixed_scale: ClassVar[bool] = False
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
        """Returns lambda of the last training step, as a () tensor."""
        return (self.lambda_base / (1.0 + self.gamma * self.step)).clamp_min(self.lambda_min)

    def psi(self, cosine: Tensor) -> Tensor:
        """Returns the curve of eq. 7, without annealing.

        Args:
            cosine: Cosines of any shape, in [-1, 1].

        Returns:
            Values in [1 - 2m, 1], of the same shape.
        """
        m = 1.0 + (self.m - 1.0) * self.ramp
        return falling_cosine(m * angle(cosine))

    def margin(self, cosine: Tensor) -> Tensor:
        """Returns the annealed curve at the last training step; see `MarginSoftmax.margin`."""
        return self._annealed(cosine, self.annealing())

    def target_logit(self, cosine: Tensor, annealing: float | None = None) -> Tensor:
        """Returns the target logit for an embedding of length 1.

        Args:
            cosine: Cosines of any shape, in [-1, 1].
            annealing: The weight lambda of the plain cosine, >= 0. By default it is lambda_min, its
                value at the end of the annealing. 0 gives psi itself.

        Returns:
            Logits of the same shape.
        """
        weight = self.lambda_min if annealing is None else annealing
        return self._annealed(at_least_float32(cosine), weight)

    def scales(self, embeddings: Tensor) -> Tensor:
        """Returns the (N, 1) lengths of the embeddings; see `MarginSoftmax.scales`."""
        lengths: Tensor = torch.linalg.vector_norm(embeddings, dim=1, keepdim=True)
        return lengths

    def observe(self, embeddings: Tensor, labels: Tensor) -> None:
        """Counts a training batch; see `Loss.observe`."""
        self.step += 1

    def advice(self, steps: int) -> list[str]:
        """Warns if the annealing does not end within the training.

        Args:
            steps: Number of training steps.

        Returns:
            At most one sentence.
        """
        last = self.lambda_base / (1.0 + self.gamma * steps)
        if last <= max(self.lambda_min, NEGLIGIBLE) or self.m == 1:
            return []
        return [
            f"sphereface: after {steps:,} steps lambda is still {last:.3g} and the margin has a "
            f"weight of {1 / (1 + last):.1%}, but {1 / (1 + self.lambda_min):.1%} at the end of "
            "the annealing; train longer, lower lambda_base, or raise gamma"
        ]

    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """Adds `lambda`, and uses the mean length of the embeddings as `scale`.

        See `MarginSoftmax.measure`.
        """
        scale = self.scales(embeddings.float()).mean().item()
        return super().measure(embeddings, labels) | {
            "scale": scale,
            "lambda": self.annealing().item(),
        }

    def extra_repr(self) -> str:
        """Returns the sizes and options for `repr`."""
        sizes = f"embedding_dim={self.embedding_dim}, num_classes={self.num_classes}"
        lambdas = f"lambda_min={self.lambda_min:g}, lambda_base={self.lambda_base:g}"
        return f"{sizes}, m={self.m:g}, {lambdas}, gamma={self.gamma:g}"

    def _annealed(self, cosine: Tensor, annealing: Tensor | float) -> Tensor:
        # Equal to (lambda cos + psi) / (1 + lambda), but exact where psi = cos.
        return cosine + (self.psi(cosine) - cosine) / (1.0 + annealing)
