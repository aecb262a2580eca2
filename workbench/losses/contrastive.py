"""Contrastive loss: genuine pairs together, impostor pairs apart by a margin. No class centres."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.losses.base import Loss, in_range
from workbench.losses.pairs import distances, mean_angles, pairs
from workbench.losses.registry import register


@register("contrastive")
class Contrastive(Loss):
    """Contrastive loss on normalised embeddings: d^2 for a genuine pair, max(0, m - d)^2 for an impostor pair.

    Hadsell, Chopra and LeCun, "Dimensionality reduction by learning an invariant mapping", CVPR 2006, without its factor
    of 1/2.

    d is the Euclidean distance between embeddings of length 1, 0..2, i.e. 2 sin(angle / 2). All pairs of the batch are taken;
    the genuine and the impostor ones are averaged each over their own number and the two means added, as there are many times
    more impostor pairs, which in one mean would drown the others. A batch without pairs of a kind has 0 for it. There are
    genuine pairs only where a batch holds two images of a person, so batches are drawn by identity (setting
    images_per_identity). `ramp` scales m.

    Args:
        embedding_dim: D.
        num_classes: C; there are no class centres, it only bounds the labels.
        m: margin on the distance, 0..2.
    """

    formula = "genuine d^2, impostor max(0, m - d)^2"
    paper = "Hadsell et al., Dimensionality reduction by learning an invariant mapping, CVPR 2006"
    images_per_identity = 4

    def __init__(self, embedding_dim: int, num_classes: int, m: float = 1.0) -> None:
        super().__init__(embedding_dim, num_classes)
        self.m = in_range("contrastive: margin m", m, 0.0, 2.0)

    def value(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        apart = distances(embeddings)
        genuine, impostor = pairs(labels)
        missing = (self.m * self.ramp - apart).clamp_min(0.0)
        return _mean(apart.square(), genuine) + _mean(missing.square(), impostor)

    @torch.no_grad()
    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """Share of the impostor pairs that cost something; mean angles in degrees between two images of one person (genuine)
        and of two (impostor). Only what the batch has."""
        row = super().measure(embeddings, labels) | {"margin_ramp": self.ramp}
        _, impostor = pairs(labels)
        if impostor.any():
            within = distances(embeddings.float())[impostor] < self.m * self.ramp
            row["active_impostors"] = within.float().mean().item()
        return row | mean_angles(embeddings, labels)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, m={self.m:g}"


def _mean(costs: Tensor, chosen: Tensor) -> Tensor:
    """Mean over the chosen ones, 0 where there is none."""
    return torch.where(chosen, costs, 0.0).sum() / chosen.sum().clamp_min(1)
