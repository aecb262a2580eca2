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

    Deng et al., "ArcFace: Additive angular margin loss for deep face recognition", CVPR 2019, eq. 3.

    Where theta_y + m would pass pi and the curve turn up again, it goes on as cos theta_y - m sin m, so that a larger
    angle always costs more (for m up to 2.33; beyond, the step where the pieces meet leads upwards). With `easy_margin` the
    margin acts only where cos theta_y > 0. Both as in the authors' first release.

    The gradient is the true one, d psi / d cos theta = sin(theta + m) / sin theta. Implementations that edit the logits
    without recording it (arcface_torch) train with 1 in its place.

    Args:
        embedding_dim: D.
        num_classes: C.
        s: scale of the logits, > 0.
        m: margin in radians, 0 <= m < pi.
        easy_margin: see above.
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
        shifted = add_angle(cosine, self.m * self.ramp)
        return torch.where(cosine > 0, shifted, cosine) if self.easy_margin else shifted

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, easy_margin={self.easy_margin}"
