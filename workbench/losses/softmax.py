"""Softmax cross-entropy without normalisation and without margin."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.losses.base import ClassificationLoss, HeadScale
from workbench.losses.guessing import Guess
from workbench.losses.registry import register


@register("softmax")
class Softmax(ClassificationLoss):
    """Linear classifier with cross-entropy: logit_j = w_j . x + b_j.

    Neither the embeddings x nor the class centres w_j are normalised. This is the baseline of the
    papers on margins, e.g. of Wen et al., "A discriminative feature learning approach for deep face
    recognition", ECCV 2016.

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        num_classes: Number C of classes, >= 1.
        bias: Whether to add a trained bias b_j to each logit.

    Raises:
        WorkbenchError: If a size is not positive.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> loss = wb.losses.create("softmax", embedding_dim=8, num_classes=10)
        >>> loss.predict(torch.randn(4, 8)).shape
        torch.Size([4, 10])
    """

    formula = "w_y . x + b_y"
    paper = (
        "Wen et al., A discriminative feature learning approach for deep face recognition, "
        "ECCV 2016"
    )
    head_scale: ClassVar[HeadScale | None] = "trained"

    def __init__(self, embedding_dim: int, num_classes: int, bias: bool = True) -> None:
        super().__init__(embedding_dim, num_classes)
        self.bias = nn.Parameter(torch.zeros(num_classes)) if bias else None

    def logits(self, embeddings: Tensor, classes: slice = slice(None)) -> Tensor:
        """Returns the logits; see `ClassificationLoss.logits`."""
        bias = None if self.bias is None else self.bias[classes].to(embeddings.dtype)
        return F.linear(embeddings, self.weight[classes].to(embeddings.dtype), bias)

    def per_sample(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Returns the cross-entropy log(1 + sum_j exp(logit_j - logit_y)) of each sample.

        The sum runs over the non-target classes j, and y is the target class. For label smoothing
        see `cross_entropy`.

        Args:
            embeddings: (N, D) float32 or float64 embeddings.
            labels: (N,) int64 labels.

        Returns:
            (N,) losses, >= 0.
        """

        def target_logit(product: Tensor) -> Tensor:
            return product if self.bias is None else product + self.bias[labels]

        return self.cross_entropy(
            embeddings, labels, target_logit, bias=self.bias, normalised=False
        )

    @property
    def can_smooth(self) -> bool:
        """Whether `label_smoothing` is supported."""
        return True

    def guess(self, embeddings: Tensor, labels: Tensor) -> Guess | None:
        """Returns the values of a guess, without the biases; see `Loss.guess`.

        The lengths of embeddings and class centres are their root mean squares.
        """
        norms = (
            values.square().sum(1).mean().sqrt().item() for values in (embeddings, self.weight)
        )
        scale = math.prod(norms)
        return self.guess_from_logits(
            lambda cosine: scale * cosine, lambda cosine, _: scale * cosine, labels
        )

    def extra_repr(self) -> str:
        """Returns the sizes and options for `repr`."""
        return f"{super().extra_repr()}, bias={self.bias is not None}"
