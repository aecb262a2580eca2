"""Centre loss: draws each embedding to the mean of its class. To be added to a loss, as in `softmax+center`."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.losses.base import Loss, Term, in_range
from workbench.losses.registry import register_part


@register_part("center")
class Center(Term):
    """Centre loss: mean over the batch of ||x - c_y||^2 / 2, with centres of its own that follow the embeddings.

    Wen et al., "A discriminative feature learning approach for deep face recognition", ECCV 2016 (as a mean, so that
    the weight does not depend on the size of the batch; also in the authors' code). The centres are no trained parameters:
    after the loss of a training batch is taken, each moves by `rate` towards its images: c_j -= rate * sum(c_j - x_i) /
    (1 + n_j) over the n_j images of class j in the batch. They start at 0.

    Embeddings are taken as they are, not normalised.

    Args:
        embedding_dim: D.
        num_classes: C.
        weight: of the term, >= 0.
        rate: how far a centre moves, 0..1.

    Attributes:
        centres: (C, D).
    """

    formula = "|x - c_y|^2 / 2"
    paper = "Wen et al., A discriminative feature learning approach for deep face recognition, ECCV 2016"
    centres: Tensor

    def __init__(
        self, embedding_dim: int, num_classes: int, weight: float = 0.003, rate: float = 0.5
    ) -> None:
        super().__init__(weight)
        self.rate = in_range("center: rate", rate, 0.0, 1.0)
        self.register_buffer("centres", torch.zeros(num_classes, embedding_dim))

    def forward(self, embeddings: Tensor, labels: Tensor, loss: Loss) -> Tensor:
        apart = embeddings - self.centres[labels].to(embeddings.dtype)
        if self.training:
            self._move(apart.detach(), labels)
        return 0.5 * apart.square().sum(1).mean()

    @torch.no_grad()
    def _move(self, apart: Tensor, labels: Tensor) -> None:
        """The centres' step for (N, D) differences x - c_y. Touches the batch's centres only, whatever C is."""
        counts = apart.new_zeros(len(self.centres)).index_add_(
            0, labels, apart.new_ones(len(labels))
        )
        steps = self.rate * apart / (1.0 + counts[labels])[:, None]
        steps = torch.where(
            steps.isfinite(), steps, 0.0
        )  # an embedding that overflowed must not stay on in its centre
        self.centres.index_add_(0, labels, steps.to(self.centres.dtype))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rate={self.rate:g}"
