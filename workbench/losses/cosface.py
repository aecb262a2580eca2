"""CosFace, also known as AM-softmax: an additive margin on the cosine."""

from __future__ import annotations

from torch import Tensor

from workbench.losses.base import MarginSoftmax, in_range
from workbench.losses.registry import register


@register("cosface")
class CosFace(MarginSoftmax):
    """Additive cosine margin: the target logit is s * (cos theta_y - m).

    Wang et al., "CosFace: Large margin cosine loss for deep face recognition", CVPR 2018. The same
    loss was published by Wang et al., "Additive margin softmax for face verification", 2018.

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        num_classes: Number C of classes, >= 1.
        s: Scale of the logits, > 0.
        m: Margin on the cosine, 0..2. The authors of CosFace and AM-softmax use 0.35, and
            arcface_torch uses 0.4.

    Raises:
        WorkbenchError: If an option is out of range.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> loss = wb.losses.create("cosface", embedding_dim=8, num_classes=10)
        >>> loss.target_logit(torch.tensor([0.5]))  # 64 (0.5 - 0.35)
        tensor([9.6000])
    """

    formula = "s (cos(theta) - m)"
    paper = "Wang et al., CosFace: Large margin cosine loss for deep face recognition, CVPR 2018"

    def __init__(
        self, embedding_dim: int, num_classes: int, s: float = 64.0, m: float = 0.35
    ) -> None:
        super().__init__(embedding_dim, num_classes, s, in_range("cosface: margin m", m, 0.0, 2.0))

    def margin(self, cosine: Tensor) -> Tensor:
        """Returns cos theta - m; see `MarginSoftmax.margin`."""
        return cosine - self.m * self.ramp
