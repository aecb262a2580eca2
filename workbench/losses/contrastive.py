"""Contrastive loss: pulls genuine pairs together and pushes impostor pairs apart by a margin."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.losses.base import Loss, in_range
from workbench.losses.guessing import Guess, expected, random_cosines
from workbench.losses.pairs import distance, distances, mean_angles, pairs
from workbench.losses.registry import register


@register("contrastive")
class Contrastive(Loss):
    """Contrastive loss on normalised embeddings, without class centres.

    Hadsell, Chopra and LeCun, "Dimensionality reduction by learning an invariant mapping", CVPR
    2006, without its factor of 1/2. A genuine pair costs d^2, and an impostor pair costs
    max(0, m - d)^2, where d is the Euclidean distance between the embeddings scaled to length 1:
    d = 2 sin(angle / 2), 0..2.

    All pairs of the batch are used. The genuine and the impostor pairs are averaged separately, and
    the two means are added. A single mean would be dominated by the impostor pairs, of which there
    are many more. If the batch has no pairs of a kind, their mean is 0. Genuine pairs require two
    images of an identity in a batch, so training samples batches by identity (its setting
    `images_per_identity`). `ramp` scales m.

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        num_classes: Number C of classes, >= 1. It only bounds the labels.
        m: Margin on the distance, 0..2.

    Raises:
        WorkbenchError: If an option is out of range.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> loss = wb.losses.create("contrastive", embedding_dim=2, num_classes=2, m=2.0)
        >>> embeddings = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
        >>> loss(embeddings, torch.tensor([0, 0])), loss(embeddings, torch.tensor([0, 1]))
        (tensor(4.), tensor(0.))
    """

    formula = "genuine d^2, impostor max(0, m - d)^2"
    paper = "Hadsell et al., Dimensionality reduction by learning an invariant mapping, CVPR 2006"
    images_per_identity = 4

    def __init__(self, embedding_dim: int, num_classes: int, m: float = 1.0) -> None:
        super().__init__(embedding_dim, num_classes)
        self.m = in_range("contrastive: margin m", m, 0.0, 2.0)

    def value(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Returns the mean cost of genuine pairs plus that of impostor pairs; see `Loss.value`."""
        pair_distances = distances(embeddings)
        genuine, impostor = pairs(labels)
        shortfall = (self.m * self.ramp - pair_distances).clamp_min(0.0)
        return _masked_mean(pair_distances.square(), genuine) + _masked_mean(
            shortfall.square(), impostor
        )

    def guess(self, embeddings: Tensor, labels: Tensor) -> Guess | None:
        """Returns the values of a guess; see `Loss.guess`.

        In a uniform guess all distances are m / 2, which is the best single distance.
        """
        genuine, impostor = (float(mask.any()) for mask in pairs(labels))
        cosines = random_cosines(self.embedding_dim, 512)
        m = self.m * self.ramp
        shortfall = (m - distance(cosines.cosines)).clamp_min(0.0)
        random = genuine * 2.0 + impostor * expected(cosines, shortfall.square())
        return Guess(random, m * m / 2.0 if genuine and impostor else 0.0)

    @torch.no_grad()
    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """Adds the share of impostor pairs within the margin, and mean angles of pairs.

        Args:
            embeddings: (N, D) embeddings.
            labels: (N,) int64 labels.

        Returns:
            The figures of `Loss.measure`, `margin_ramp`, `active_impostors`, and the angles of
            `pairs.mean_angles`. Figures of pairs that the batch does not have are left out.
        """
        row = super().measure(embeddings, labels) | {"margin_ramp": self.ramp}
        _, impostor = pairs(labels)
        if impostor.any():
            within_margin = distances(embeddings.float())[impostor] < self.m * self.ramp
            row["active_impostors"] = within_margin.float().mean().item()
        return row | mean_angles(embeddings, labels)

    def extra_repr(self) -> str:
        """Returns the sizes and options for `repr`."""
        return f"{super().extra_repr()}, m={self.m:g}"


def _masked_mean(costs: Tensor, mask: Tensor) -> Tensor:
    """Returns the mean of the costs where the mask is true, or 0 if it is nowhere true."""
    return torch.where(mask, costs, 0.0).sum() / mask.sum().clamp_min(1)
