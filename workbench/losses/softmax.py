"""Plain softmax cross-entropy."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.losses.base import ClassificationLoss, HeadScale
from workbench.losses.registry import register


@register("softmax")
class Softmax(ClassificationLoss):
    """Linear classifier with cross-entropy: logit_j = w_j . x + b_j, nothing normalised, no margin.

    The baseline of every margin paper, e.g. Wen et al., "A discriminative feature learning approach for deep face
    recognition", ECCV 2016.

    Args:
        embedding_dim: D.
        num_classes: C.
        bias: add the b_j.
    """

    formula = "w_y . x + b_y"
    paper = "Wen et al., A discriminative feature learning approach for deep face recognition, ECCV 2016"
    head_scale: ClassVar[HeadScale | None] = "trained"

    def __init__(self, embedding_dim: int, num_classes: int, bias: bool = True) -> None:
        super().__init__(embedding_dim, num_classes)
        self.bias = nn.Parameter(torch.zeros(num_classes)) if bias else None

    def logits(self, embeddings: Tensor, classes: slice = slice(None)) -> Tensor:
        bias = None if self.bias is None else self.bias[classes].to(embeddings.dtype)
        return F.linear(embeddings, self.weight[classes].to(embeddings.dtype), bias)

    def per_sample(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy: log(1 + sum over the other classes of exp(logit_j - logit_y))."""
        own, rest = self.against_others(embeddings, labels, bias=self.bias, normalised=False)
        target = own if self.bias is None else own + self.bias[labels]
        return F.softplus(rest - target)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, bias={self.bias is not None}"
