"""CurricularFace: ArcFace's margin, with hard non-target classes weighted by training progress."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from workbench.losses.angular import add_angle, add_angle_unbounded
from workbench.losses.base import NEGLIGIBLE, MarginSoftmax, in_range, update_average
from workbench.losses.registry import register


@register("curricularface")
class CurricularFace(MarginSoftmax):
    """Curriculum on hard negatives: their logit is s * cos theta_j * (t + cos theta_j).

    Huang et al., "CurricularFace: Adaptive curriculum learning loss for deep face recognition",
    CVPR 2020. The target logit is that of ArcFace. A non-target class is a hard negative for an
    image if cos theta_j > cos(theta_y + m), i.e. if its cosine exceeds the target cosine with
    margin. t is a moving average of the mean cos theta_y of the batches, and starts at 0. Early in
    training t + cos theta_j is below 1 and reduces the logits of hard negatives; later it is above
    1 and increases them. As in the authors' code, t is updated before the loss of a batch is
    computed. No gradient flows through t, nor from a hard negative to the target class.

    The target logit follows ArcFace's curve also where theta_y + m exceeds pi. The threshold for
    hard negatives is cos(theta_y + m) itself everywhere, as in the authors' code. `ramp` scales m
    and the change of the hard negatives: with `ramp` = 0 the loss is NormFace.

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        num_classes: Number C of classes, >= 1.
        s: Scale of the logits, > 0.
        m: Margin in radians, 0..pi.
        rate: Weight of a batch in the moving average, 0..1.

    Attributes:
        t: () moving average of the mean target cosine, -1..1.

    Raises:
        WorkbenchError: If an option is out of range.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> loss = wb.losses.create("curricularface", embedding_dim=8, num_classes=10)
        >>> loss.non_target(torch.tensor([[0.1, 0.6]]), target=torch.tensor([[0.5]]))
        tensor([[0.0100, 0.3600]])
    """

    formula = "s cos(theta + m); non-target, where above it: s c_j (t + c_j)"
    paper = (
        "Huang et al., CurricularFace: Adaptive curriculum learning loss for deep face "
        "recognition, CVPR 2020"
    )
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
        """Returns cos(theta + m); see `MarginSoftmax.margin`."""
        return add_angle(cosine, self.m * self.ramp)

    def non_target(self, cosine: Tensor, target: Tensor) -> Tensor:
        """Returns the modulated cosines of hard negatives; see `MarginSoftmax.non_target`."""
        modulated = cosine + self.ramp * cosine * (self.t + cosine - 1.0)
        threshold = add_angle_unbounded(target, self.m * self.ramp)
        return torch.where(cosine > threshold, modulated, cosine)

    def observe(self, embeddings: Tensor, labels: Tensor) -> None:
        """Updates t by the mean target cosine of a batch; see `Loss.observe`."""
        self.t = update_average(self.t, self.target_cosines(embeddings, labels).mean(), self.rate)

    def advice(self, steps: int) -> list[str]:
        """Also warns if t stays well below the mean target cosine.

        Args:
            steps: Number of training steps.

        Returns:
            Sentences for the user; usually none.
        """
        advice = super().advice(steps)
        remaining = (1.0 - self.rate) ** steps
        if remaining <= NEGLIGIBLE:
            return advice
        return [
            *advice,
            f"curricularface: t starts at 0, and after {steps:,} steps it has covered "
            f"{1 - remaining:.0%} of the way to the mean cosine, so hard negatives have a lower "
            "weight than in a long training; train longer, or raise rate",
        ]

    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """Adds t; see `MarginSoftmax.measure`."""
        return super().measure(embeddings, labels) | {"t": self.t.item()}
