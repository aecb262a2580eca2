"""CosFace (also AM-softmax): an additive margin on the cosine."""

from __future__ import annotations

from torch import Tensor

from workbench.losses.base import MarginSoftmax
from workbench.losses.registry import register


@register("cosface")
class CosFace(MarginSoftmax):
    """Additive cosine margin: the target logit is s * (cos theta_y - m).

    Wang et al., "CosFace: Large margin cosine loss for deep face recognition", CVPR 2018, eq. 4; the same as Wang et al.,
    "Additive margin softmax for face verification", 2018, eq. 6.

    Args:
        embedding_dim: D.
        num_classes: C.
        s: scale of the logits, > 0.
        m: margin on the cosine, >= 0; the papers use 0.35 to 0.4.
    """

    formula = "s (cos(theta) - m)"
    paper = "Wang et al., CosFace: Large margin cosine loss for deep face recognition, CVPR 2018"

    def __init__(self, embedding_dim: int, num_classes: int, s: float = 64.0, m: float = 0.35) -> None:
        super().__init__(embedding_dim, num_classes, s, m)

    def margin(self, cosine: Tensor) -> Tensor:
        return cosine - self.m * self.ramp
