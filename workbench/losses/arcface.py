"""ArcFace: an additive margin on the angle."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.losses.angular import add_angle
from workbench.losses.base import MarginSoftmax
from workbench.losses.registry import register


@register("arcface")
class ArcFace(MarginSoftmax):
    """Additive angular margin: the target logit is s * cos(theta_y + m).

    Deng et al., "ArcFace: Additive angular margin loss for deep face recognition", CVPR 2019,
    eq. 3.

    Where theta_y + m exceeds pi, cos(theta_y + m) would increase again. There the curve continues
    as cos theta_y - m sin m, so that the loss always rises with the angle. (This holds for m up to
    2.33. For larger m, the curve jumps upwards where the two pieces meet.) With `easy_margin` the
    margin is applied only where cos theta_y > 0. Both follow the authors' first release.

    The gradient is exact: d psi / d cos theta = sin(theta + m) / sin theta. Implementations that
    change the logits outside automatic differentiation, such as arcface_torch, train with a
    derivative of 1 instead.

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        num_classes: Number C of classes, >= 1.
        s: Scale of the logits, > 0.
        m: Margin in radians, 0 <= m < pi.
        easy_margin: Whether to apply the margin only where cos theta_y > 0.

    Raises:
        WorkbenchError: If an option is out of range.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> loss = wb.losses.create("arcface", embedding_dim=8, num_classes=10)
        >>> loss.target_logit(torch.tensor([0.5]))  # 64 cos(60 degrees + 0.5)
        tensor([1.5102])
        >>> loss(torch.randn(4, 8), torch.tensor([0, 3, 3, 9])).shape
        torch.Size([])
    """

    formula = "s cos(theta + m)"
    paper = (
        "Deng et al., ArcFace: Additive angular margin loss for deep face recognition, CVPR 2019"
    )

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        s: float = 64.0,
        m: float = 0.5,
        easy_margin: bool = False,
    ) -> None:
        super().__init__(embedding_dim, num_classes, s, m)
        if m >= math.pi:
            raise WorkbenchError(f"arcface: margin m is an angle in radians, 0 <= m < pi, got {m}")
        self.easy_margin = bool(easy_margin)

    def margin(self, cosine: Tensor) -> Tensor:
        """Returns cos(theta + m); see `MarginSoftmax.margin`."""
        shifted = add_angle(cosine, self.m * self.ramp)
        return torch.where(cosine > 0, shifted, cosine) if self.easy_margin else shifted

    def extra_repr(self) -> str:
        """Returns the sizes and options for `repr`."""
        return f"{super().extra_repr()}, easy_margin={self.easy_margin}"
