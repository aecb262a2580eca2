"""Triplet loss: an anchor's impostor must be further away than its genuine partner, by a margin. No class centres."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from workbench.errors import WorkbenchError, unknown_name
from workbench.losses.base import Loss
from workbench.losses.pairs import distances, mean_angles, pairs
from workbench.losses.registry import register

Mining = Literal["batch_hard", "semi_hard", "all"]


@register("triplet")
class Triplet(Loss):
    """Triplet loss on normalised embeddings: max(0, d(a, p) - d(a, n) + m), with triplets mined within the batch.

    Schroff et al., "FaceNet: A unified embedding for face recognition and clustering", CVPR 2015, eq. 3.

    The distance d is the Euclidean one between embeddings of length 1, 0..2, i.e. 2 sin(angle / 2); Hermans et al. find it
    to train more steadily than its square, which eq. 3 has and `squared` gives.

    - `batch_hard`: for each anchor its furthest positive and its nearest negative; mean over the anchors. Hermans et al.,
      "In defense of the triplet loss for person re-identification", 2017, eq. 5.
    - `semi_hard`: the triplets whose negative is further away than the positive, but within the margin:
      0 < d(a, n) - d(a, p) <= m (FaceNet, section 3.2; all of the batch's, where FaceNet takes one a pair); mean over them.
    - `all`: every triplet; mean over those that cost something, as the many easy ones would drown them.

    A batch without such a triplet costs 0. There are triplets only where a batch holds two images of a person, so batches
    are drawn by identity (setting images_per_identity). `ramp` scales m.

    Args:
        embedding_dim: D.
        num_classes: C; there are no class centres, it only bounds the labels.
        m: margin on the distance, >= 0 and at most the largest distance, 2 (4 if squared).
        mining: see above.
        squared: compare squared distances.
    """

    formula = "max(0, d(a, p) - d(a, n) + m)"
    paper = "Schroff et al., FaceNet: A unified embedding for face recognition and clustering, CVPR 2015"
    images_per_identity = 4

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        m: float = 0.3,
        mining: Mining = "batch_hard",
        squared: bool = False,
    ) -> None:
        super().__init__(embedding_dim, num_classes)
        furthest = 4.0 if squared else 2.0
        if not (math.isfinite(m) and 0 <= m <= furthest):
            raise WorkbenchError(
                f"triplet: margin m is a difference of distances, 0 <= m <= {furthest:g}, got {m}"
            )
        if mining not in get_args(Mining):
            raise unknown_name("mining of loss 'triplet'", mining, get_args(Mining))
        self.m = float(m)
        self.mining = mining
        self.squared = bool(squared)

    def value(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        gap, _, used = self._mine(embeddings, labels)
        cost = torch.where(used, self.m * self.ramp - gap, 0.0).clamp_min(0.0)
        return cost.sum() / used.sum().clamp_min(1)

    @torch.no_grad()
    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """Share of the triplets (with `batch_hard`: of the anchors) that cost something; mean angles in degrees between two
        images of one person (genuine) and of two (impostor). Only what the batch has."""
        row = super().measure(embeddings, labels) | {"margin_ramp": self.ramp}
        gap, there, used = self._mine(embeddings.float(), labels)
        if there.any():
            row["active_triplets"] = (
                (used & (gap < self.m * self.ramp)).sum() / there.sum()
            ).item()
        return row | mean_angles(embeddings, labels)

    def _mine(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """d(a, n) - d(a, p), where there is such a triplet, and which of them count; all of the same shape."""
        apart = distances(embeddings)
        if self.squared:
            apart = apart.square()
        genuine, impostor = pairs(labels)
        if self.mining == "batch_hard":  # (N,)
            furthest = torch.where(genuine, apart, -1.0).amax(1)
            nearest = torch.where(impostor, apart, 5.0).amin(1)
            there = genuine.any(1) & impostor.any(1)
            return nearest - furthest, there, there
        anchor, partner = genuine.nonzero(
            as_tuple=True
        )  # (pairs, N), which is far less than (N, N, N)
        gap = apart[anchor] - apart[anchor, partner][:, None]
        there = impostor[anchor]
        margin = self.m * self.ramp
        out = (gap <= 0) | (gap > margin) if self.mining == "semi_hard" else gap >= margin
        return (
            gap,
            there,
            there & ~out,
        )  # so that a gap that is not a number stays in, and is noticed

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, m={self.m:g}, mining={self.mining!r}, squared={self.squared}"
        )
