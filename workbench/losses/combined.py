"""Combined margin: the margins of SphereFace, ArcFace and CosFace in one formula."""

from __future__ import annotations

import math

from torch import Tensor

from workbench.losses.angular import falling_cosine
from workbench.losses.base import MarginSoftmax, angle, in_range
from workbench.losses.registry import register


@register("combined")
class Combined(MarginSoftmax):
    """Three margins in one formula: the target logit is s * (cos(m1 theta_y + m2) - m3).

    Deng et al., "ArcFace: Additive angular margin loss for deep face recognition", CVPR 2019,
    eq. 4. The defaults are those of InsightFace's configurations for this loss. With m2 = m3 = 0 it
    is SphereFace on normalised embeddings, with m1 = 1 and m3 = 0 ArcFace, and with m1 = 1 and
    m2 = 0 CosFace.

    Where m1 theta_y + m2 exceeds pi, the cosine would increase again. There the curve keeps
    decreasing as that of SphereFace does, with a continuous slope; see `angular.falling_cosine`.
    (The loss `arcface` continues as cos theta_y - m sin m instead, as in its authors' code.)

    InsightFace's MXNet code also applies all three margins. arcface_torch takes the same three
    numbers but uses only one margin: with m1 = 1 and m3 > 0 it is CosFace and ignores m2, so the
    same numbers give another loss there. With m1 other than 1 and m3 = 0 it raises an error.

    `ramp` increases all three margins from none to their full size: m1 from 1, m2 and m3 from 0.

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        num_classes: Number C of classes, >= 1.
        s: Scale of the logits, > 0.
        m1: Factor on the angle, >= 1, where 1 is no margin.
        m2: Margin on the angle in radians, 0 <= m2 <= 2 pi. From pi on, the whole curve is the
            continuation.
        m3: Margin on the cosine, 0..2.

    Raises:
        WorkbenchError: If an option is out of range.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> loss = wb.losses.create("combined", embedding_dim=8, num_classes=10)
        >>> loss.target_logit(torch.tensor([0.5]))  # 64 (cos(60 degrees + 0.3) - 0.2)
        tensor([1.3914])
    """

    formula = "s (cos(m1 theta + m2) - m3)"
    paper = (
        "Deng et al., ArcFace: Additive angular margin loss for deep face recognition, CVPR 2019"
    )

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        s: float = 64.0,
        m1: float = 1.0,
        m2: float = 0.3,
        m3: float = 0.2,
    ) -> None:
        super().__init__(embedding_dim, num_classes, s, m=0.0)
        self.m1 = in_range("combined: m1, a factor on the angle,", m1, 1.0)
        self.m2 = in_range("combined: m2, an angle in radians,", m2, 0.0, 2 * math.pi)
        self.m3 = in_range("combined: m3, a margin on the cosine,", m3, 0.0, 2.0)

    def margin(self, cosine: Tensor) -> Tensor:
        """Returns cos(m1 theta + m2) - m3; see `MarginSoftmax.margin`."""
        m1 = 1.0 + (self.m1 - 1.0) * self.ramp
        if m1 == 1.0 and self.m2 * self.ramp == 0.0:
            return cosine - self.m3 * self.ramp
        return falling_cosine(m1 * angle(cosine) + self.m2 * self.ramp) - self.m3 * self.ramp

    def extra_repr(self) -> str:
        """Returns the sizes and options for `repr`."""
        sizes = f"embedding_dim={self.embedding_dim}, num_classes={self.num_classes}"
        return f"{sizes}, s={self.s:g}, m1={self.m1:g}, m2={self.m2:g}, m3={self.m3:g}"
