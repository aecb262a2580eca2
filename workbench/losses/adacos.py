"""AdaCos: no margin, and a scale that follows the training."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from workbench.losses.base import MarginSoftmax, angle
from workbench.losses.head import unit
from workbench.losses.registry import register

SMALLEST, LARGEST = 1.0, 64.0
"""Bounds of the scale, where the formulas fail: ln(C - 1) is 0 for two classes and nothing for one; and where class centres
crowd, as in two dimensions, each new scale exceeds the one it is computed from, without end."""


@register("adacos")
class AdaCos(MarginSoftmax):
    """Softmax over cosines with a scale without hyperparameters, chosen so that the probabilities react most to the angles.

    Zhang et al., "AdaCos: Adaptively scaling cosine logits for effectively learning deep face representations", CVPR 2019.
    It starts with sqrt(2) ln(C - 1), and before each training batch becomes

    s = ln(B) / cos(min(pi / 4, median of theta_y)), B the batch's mean of sum_j exp(s' cos theta_j)

    over the other classes j (of an even batch the median is the mean of the middle two), with s' the scale before. The scale is
    kept between 1 and 64: with fewer than four classes it starts at the lower bound, and two classes or one give it nothing to
    adapt to. It is part of the state. A `sampled` head sees a part of the others, and the scale follows what it sees.

    Args:
        embedding_dim: D.
        num_classes: C.
        fixed: stay with the first scale (the paper's fixed AdaCos).

    Attributes:
        adapted: () the scale in force, logged as `scale`.
    """

    formula = "s cos(theta), s = ln(B) / cos(min(pi/4, median theta))"
    paper = "Zhang et al., AdaCos: Adaptively scaling cosine logits for effectively learning deep face representations, CVPR 2019"
    adapted: Tensor

    def __init__(self, embedding_dim: int, num_classes: int, fixed: bool = False) -> None:
        first = min(max(math.sqrt(2.0) * math.log(max(num_classes - 1, 1)), SMALLEST), LARGEST)
        super().__init__(embedding_dim, num_classes, s=first, m=0.0)
        self.fixed = bool(fixed)
        self.register_buffer("adapted", torch.tensor(self.s))

    @property
    def scale(self) -> Tensor:
        return self.adapted

    def margin(self, cosine: Tensor) -> Tensor:
        return cosine

    def observe(self, embeddings: Tensor, labels: Tensor) -> None:
        if self.fixed:
            return
        own, rest = self.against_others(unit(embeddings), labels, scale=self.adapted)
        log_mean = rest.logsumexp(0) - math.log(len(rest))
        median = angle(own).quantile(0.5).clamp_max(math.pi / 4)
        found = (log_mean / median.cos()).clamp(SMALLEST, LARGEST).to(self.adapted.dtype)
        # A batch that overflowed in half precision is left out of training and should not stay on in the scale.
        self.adapted = torch.where(found.isnan(), self.adapted, found)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, fixed={self.fixed}"
