"""AdaCos: softmax over cosines without margin, whose scale adapts during training."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from workbench.losses.base import MarginSoftmax, angle
from workbench.losses.head import unit
from workbench.losses.registry import register

MIN_SCALE, MAX_SCALE = 1.0, 64.0
"""Bounds of the scale, needed where the formulas fail. The first scale is sqrt(2) ln(C - 1), which
is 0 for two classes and undefined for one. If class centres are crowded, as in two dimensions, each
new scale exceeds the previous one without bound."""


@register("adacos")
class AdaCos(MarginSoftmax):
    """Softmax over cosines with an adaptive scale that needs no hyperparameter.

    Zhang et al., "AdaCos: Adaptively scaling cosine logits for effectively learning deep face
    representations", CVPR 2019. The scale is chosen so that the probability of the target class
    reacts most strongly to the angle. It starts at sqrt(2) ln(C - 1). Before each training batch
    the scale s' is replaced by

        s = ln(B) / cos(min(pi / 4, median of theta_y))

    where B is the mean over the batch of sum_j exp(s' cos theta_j), and the sum runs over the
    non-target classes j. For an even batch the median is the mean of the middle two angles.

    The scale is kept between 1 and 64. With fewer than four classes it starts at the lower bound,
    and with one or two classes it cannot adapt. It is a buffer, so it is saved with the weights.
    With the head "sampled", B only contains the sampled classes.

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        num_classes: Number C of classes, >= 1.
        fixed: Whether to keep the first scale (the paper's fixed AdaCos).

    Attributes:
        adapted: () current scale, logged as `scale`.

    Raises:
        WorkbenchError: If a size is not positive.

    Example:
        >>> import workbench as wb
        >>> loss = wb.losses.create("adacos", embedding_dim=8, num_classes=1000)
        >>> round(float(loss.scale), 2)
        9.77
    """

    formula = "s cos(theta), s = ln(B) / cos(min(pi/4, median theta))"
    paper = (
        "Zhang et al., AdaCos: Adaptively scaling cosine logits for effectively learning deep face "
        "representations, CVPR 2019"
    )
    fixed_scale: ClassVar[bool] = False
    adapted: Tensor

    def __init__(self, embedding_dim: int, num_classes: int, fixed: bool = False) -> None:
        first = math.sqrt(2.0) * math.log(max(num_classes - 1, 1))
        first = min(max(first, MIN_SCALE), MAX_SCALE)
        super().__init__(embedding_dim, num_classes, s=first, m=0.0)
        self.fixed = bool(fixed)
        self.register_buffer("adapted", torch.tensor(self.s))

    @property
    def scale(self) -> Tensor:
        """The current scale, as a () tensor."""
        return self.adapted

    def margin(self, cosine: Tensor) -> Tensor:
        """Returns the cosine unchanged."""
        return cosine

    def observe(self, embeddings: Tensor, labels: Tensor) -> None:
        """Adapts the scale to a training batch; see `Loss.observe`."""
        if self.fixed:
            return
        cosine, log_sum_exp = self.compare_with_centres(
            unit(embeddings), labels, scale=self.adapted
        )
        log_mean = log_sum_exp.logsumexp(0) - math.log(len(log_sum_exp))
        median = angle(cosine).quantile(0.5).clamp_max(math.pi / 4)
        scale = (log_mean / median.cos()).clamp(MIN_SCALE, MAX_SCALE).to(self.adapted.dtype)
        # Training skips a batch that overflowed in half precision, so it must not change the scale.
        self.adapted = torch.where(scale.isnan(), self.adapted, scale)

    def extra_repr(self) -> str:
        """Returns the sizes and options for `repr`."""
        return f"{super().extra_repr()}, fixed={self.fixed}"
