"""CosFace (also AM-softmax): an additive margin on the cosine."""

from __future__ import annotations

from torch import Tensor

from workbench.losses.base import MarginSoftmax, in_range
from workbench.losses.registry import register


@register("cosface")
class CosFace(MarginSoftmax):
    """Additive cosine margin: the target logit is s * (cos theta_y - m).

    Wang et al., "CosFace: Large margin cosine loss for deep face recognition", CVPR 2018; the same as Wang et al.,
    "Additive margin softmax for face verification", 2018.

    Args:
        embedding_dim: D.
        num_classes: C.
        s: scale of the logits, > 0.
        m: margin on the cosine, 0..2; the authors of CosFace and AM-softmax use 0.35, arcface_torch 0.4.
    """

    formula = "s (cos(theta) - m)"
    paper = "Wang et al., CosFace: Large margin cosine loss for deep face recognition, CVPR 2018"

    def __init__(
        self, embedding_dim: int, num_classes: int, s: float = 64.0, m: float = 0.35
    ) -> None:
        super().__init__(embedding_dim, num_classes, s, in_range("cosface: margin m", m, 0.0, 2.0))

    def margin(self, cosine: Tensor) -> Tensor:
        return cosine - self.m * self.ramp
