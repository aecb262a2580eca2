"""NormFace: softmax over scaled cosines."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from workbench.losses.base import MarginSoftmax
from workbench.losses.registry import register


@register("normface")
class NormFace(MarginSoftmax):
    """Normalised softmax without margin: logit_j = s * cos theta_j.

    Wang et al., "NormFace: L2 hypersphere embedding for face verification", ACM MM 2017, with
    normalised class centres. The margin losses are variants of this loss.

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        num_classes: Number C of classes, >= 1.
        s: Scale of the logits, > 0.
        learn_scale: Whether to train the scale, starting from s.

    Raises:
        WorkbenchError: If an option is out of range.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> loss = wb.losses.create("normface", embedding_dim=8, num_classes=10)
        >>> loss.target_logit(torch.tensor([0.5]))
        tensor([32.])
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
        """The current scale: a number, or a () tensor if it is trained."""
        return self.s if self.learned_s is None else self.learned_s

    def margin(self, cosine: Tensor) -> Tensor:
        """Returns the cosine unchanged."""
        return cosine

    def extra_repr(self) -> str:
        """Returns the sizes and options for `repr`."""
        return f"{super().extra_repr()}, learn_scale={self.learned_s is not None}"
