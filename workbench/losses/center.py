"""Centre loss: pulls each embedding to the mean of its class. A part, as in `softmax+center`."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.losses.base import Loss, Term, in_range
from workbench.losses.registry import register_part


@register_part("center")
class Center(Term):
    """Centre loss: the mean of ||x - c_y||^2 / 2 over the batch, where c_y is the class mean.

    Wen et al., "A discriminative feature learning approach for deep face recognition", ECCV 2016.
    The loss is a mean, as in the authors' code, so that its weight does not depend on the size of
    the batch.

    The class means c_j are running estimates that start at 0. They are not trained by gradient
    descent, and are not the class centres of the loss that this part is added to. After the loss of
    a training batch is computed, each one moves towards the n_j embeddings of its class:

        c_j -= rate * sum_i (c_j - x_i) / (1 + n_j)

    Embeddings are not normalised.

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        num_classes: Number C of classes, >= 1.
        weight: Factor of the term in the total loss, >= 0.
        rate: Step size of the class means, 0..1.

    Attributes:
        centres: (C, D) class means.

    Raises:
        WorkbenchError: If an option is out of range.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> sizes = {"embedding_dim": 2, "num_classes": 3}
        >>> loss = wb.losses.create("softmax+center", **sizes, center={"weight": 0.01})
        >>> value = loss(torch.tensor([[3.0, 4.0]]), torch.tensor([1]))
        >>> loss.terms["center"].centres[1]
        tensor([0.7500, 1.0000])
    """

    formula = "|x - c_y|^2 / 2"
    paper = (
        "Wen et al., A discriminative feature learning approach for deep face recognition, "
        "ECCV 2016"
    )
    centres: Tensor

    def __init__(
        self, embedding_dim: int, num_classes: int, weight: float = 0.003, rate: float = 0.5
    ) -> None:
        super().__init__(weight)
        self.rate = in_range("center: rate", rate, 0.0, 1.0)
        self.register_buffer("centres", torch.zeros(num_classes, embedding_dim))

    def forward(self, embeddings: Tensor, labels: Tensor, loss: Loss) -> Tensor:
        """Returns the mean squared distance to the class means, halved; see `Term.forward`.

        In training mode it also moves the class means.
        """
        differences = embeddings - self.centres[labels].to(embeddings.dtype)
        if self.training:
            self._move_centres(differences.detach(), labels)
        return 0.5 * differences.square().sum(1).mean()

    @torch.no_grad()
    def _move_centres(self, differences: Tensor, labels: Tensor) -> None:
        """Moves the class means of the batch, given the (N, D) differences x - c_y."""
        ones = differences.new_ones(len(labels))
        counts = differences.new_zeros(len(self.centres)).index_add_(0, labels, ones)
        steps = self.rate * differences / (1.0 + counts[labels])[:, None]
        # An embedding that overflowed must not change its class mean.
        steps = torch.where(steps.isfinite(), steps, 0.0)
        self.centres.index_add_(0, labels, steps.to(self.centres.dtype))

    def extra_repr(self) -> str:
        """Returns the options for `repr`."""
        return f"{super().extra_repr()}, rate={self.rate:g}"
