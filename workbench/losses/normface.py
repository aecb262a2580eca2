"""NormFace: softmax over scaled cosines."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from workbench.losses.base import MarginSoftmax
from workbench.losses.registry import register


@register("normface")
class NormFace(MarginSoftmax):
    """Normalised softmax, the margin losses' common ground: logit_j = s * cos theta_j, no margin.

    Wang et al., "NormFace: L2 hypersphere embedding for face verification", ACM MM 2017, with normalised weights.

    Args:
        embedding_dim: D.
        num_classes: C.
        s: scale of the logits, > 0.
        learn_scale: train s, starting from the value given, instead of holding it.
    """

    formula = "s cos(theta)"
    paper = "Wang et al., NormFace: L2 hypersphere embedding for face verification, ACM MM 2017"

    def __init__(
        self, embedding_dim: int, num_classes: int, s: float = 64.0, learn_scale: bool = False
    ) -> None:
        super().__init__(embedding_dim, num_classes, s, m=0.0)
        self.learned_s = nn.Parameter(torch.tensor(self.s)) if learn_scale else None

    @property
    def scale(self) -> float | Tensor:
        return self.s if self.learned_s is None else self.learned_s

    def margin(self, cosine: Tensor) -> Tensor:
        return cosine

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, learn_scale={self.learned_s is not None}"
