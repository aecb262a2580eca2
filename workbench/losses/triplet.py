"""Triplet loss: an anchor's negative must be farther away than its positive, by a margin."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from workbench.errors import WorkbenchError, unknown_name
from workbench.losses.base import Loss
from workbench.losses.guessing import Guess, random_cosines
from workbench.losses.pairs import distance, distances, mean_angles, pairs
from workbench.losses.registry import register

Mining = Literal["batch_hard", "semi_hard", "all"]


class _Triplets(NamedTuple):
    """Triplets of a batch, as tensors of the same shape. `exist` marks the valid elements."""

    gaps: Tensor
    """d(a, n) - d(a, p)."""
    exist: Tensor
    """Whether the batch has such a triplet."""
    used: Tensor
    """Whether the loss uses it."""


@register("triplet")
class Triplet(Loss):
    """Triplet loss on normalised embeddings: max(0, d(a, p) - d(a, n) + m), without class centres.

    Schroff et al., "FaceNet: A unified embedding for face recognition and clustering", CVPR 2015,
    eq. 3. An anchor a and its positive p are two images of an identity, and the negative n is an
    image of another one. The distance d is the Euclidean one between embeddings scaled to length 1:
    d = 2 sin(angle / 2), 0..2. Eq. 3 uses the squared distance, which the option `squared` selects;
    Hermans et al. report more stable training with the distance itself. Triplets are mined within
    the batch:

    - "batch_hard": for each anchor the farthest positive and the nearest negative. The loss is the
      mean over the anchors. Hermans et al., "In defense of the triplet loss for person
      re-identification", 2017, eq. 5.
    - "semi_hard": triplets whose negative is farther away than the positive, but within the margin,
      0 < d(a, n) - d(a, p) <= m (FaceNet, section 3.2). The loss is the mean over all such triplets
      of the batch, while FaceNet uses one for each pair.
    - "all": all triplets. The loss is the mean over those with a positive cost, since the many
      triplets without cost would dominate a mean over all.

    The loss of a batch without such triplets is 0. Triplets require two images of an identity in a
    batch, so training samples batches by identity (its setting `images_per_identity`). `ramp`
    scales m.

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        num_classes: Number C of classes, >= 1. It only bounds the labels.
        m: Margin on the distance, from 0 to the largest distance: 2, or 4 if squared.
        mining: "batch_hard", "semi_hard" or "all".
        squared: Whether to compare squared distances.

    Raises:
        WorkbenchError: If an option is out of range or unknown.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> loss = wb.losses.create("triplet", embedding_dim=2, num_classes=2, m=0.3)
        >>> embeddings = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
        >>> loss(embeddings, torch.tensor([0, 0, 1, 1]))  # 2 - 0 + 0.3
        tensor(2.3000)
    """

    formula = "max(0, d(a, p) - d(a, n) + m)"
    paper = (
        "Schroff et al., FaceNet: A unified embedding for face recognition and clustering, "
        "CVPR 2015"
    )
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
        max_distance = 4.0 if squared else 2.0
        if not (math.isfinite(m) and 0 <= m <= max_distance):
            raise WorkbenchError(
                "triplet: margin m is a difference of distances, "
                f"0 <= m <= {max_distance:g}, got {m}"
            )
        if mining not in get_args(Mining):
            raise unknown_name("mining of loss 'triplet'", mining, get_args(Mining))
        self.m = float(m)
        self.mining = mining
        self.squared = bool(squared)

    def value(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Returns the mean cost of the mined triplets; see `Loss.value`."""
        triplets = self._mine(embeddings, labels)
        costs = torch.where(triplets.used, self.m * self.ramp - triplets.gaps, 0.0).clamp_min(0.0)
        return costs.sum() / triplets.used.sum().clamp_min(1)

    @torch.no_grad()
    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """Adds the share of triplets that contribute to the loss, and mean angles of pairs.

        Args:
            embeddings: (N, D) embeddings.
            labels: (N,) int64 labels.

        Returns:
            The figures of `Loss.measure`, `margin_ramp`, `active_triplets` (with "batch_hard", the
            share of anchors), and the angles of `pairs.mean_angles`. Figures of triplets and pairs
            that the batch does not have are left out.
        """
        row = super().measure(embeddings, labels) | {"margin_ramp": self.ramp}
        gaps, exist, used = self._mine(embeddings.float(), labels)
        if exist.any():
            active = used & (gaps < self.m * self.ramp)
            row["active_triplets"] = (active.sum() / exist.sum()).item()
        return row | mean_angles(embeddings, labels)

    def guess(self, embeddings: Tensor, labels: Tensor) -> Guess | None:
        """Returns the values of a guess, or None for a batch without triplets; see `Loss.guess`.

        In a uniform guess all distances are the same, and each triplet costs the margin. A triplet
        loss that stays at its margin is therefore the sign of embeddings that coincide.
        """
        genuine, impostor = pairs(labels)
        numbers = torch.stack([genuine.sum(1), impostor.sum(1)], dim=1)
        complete = numbers[(numbers > 0).all(1)]
        numbers, anchors = torch.unique(complete, dim=0, return_counts=True)
        if len(numbers) == 0:
            return None
        shares = anchors.double() / anchors.sum()
        values = [self._random_cost(*map(int, pair)) for pair in numbers]
        random = sum(share * value for share, value in zip(shares.tolist(), values, strict=True))
        return Guess(random, self.m * self.ramp)

    def _random_cost(self, positives: int, negatives: int) -> float:
        """Returns the expected cost of an anchor if the embeddings have random directions."""
        positive = negative = random_cosines(self.embedding_dim, 256)
        if self.mining == "batch_hard":
            positive, negative = positive.smallest_of(positives), negative.largest_of(negatives)
        apart = [distance(one.cosines) for one in (positive, negative)]
        if self.squared:
            apart = [one.square() for one in apart]
        gaps = apart[1] - apart[0][:, None]
        margin = self.m * self.ramp
        used = torch.ones_like(gaps, dtype=torch.bool)
        if self.mining == "all":
            used = gaps < margin
        elif self.mining == "semi_hard":
            used = (gaps > 0) & (gaps <= margin)
        weights = torch.where(
            used, torch.outer(positive.probabilities, negative.probabilities), 0.0
        )
        costs = (margin - gaps).clamp_min(0.0)
        return float((weights * costs).sum() / weights.sum().clamp_min(1e-300))

    def _mine(self, embeddings: Tensor, labels: Tensor) -> _Triplets:
        pair_distances = distances(embeddings)
        if self.squared:
            pair_distances = pair_distances.square()
        genuine, impostor = pairs(labels)
        if self.mining == "batch_hard":
            farthest = torch.where(genuine, pair_distances, -1.0).amax(1)
            nearest = torch.where(impostor, pair_distances, 5.0).amin(1)
            exist = genuine.any(1) & impostor.any(1)
            return _Triplets(nearest - farthest, exist, exist)
        # Shape (genuine pairs, N), which is much smaller than (N, N, N).
        anchor, positive = genuine.nonzero(as_tuple=True)
        gaps = pair_distances[anchor] - pair_distances[anchor, positive][:, None]
        exist = impostor[anchor]
        margin = self.m * self.ramp
        excluded = gaps >= margin
        if self.mining == "semi_hard":
            excluded = (gaps <= 0) | (gaps > margin)
        # Written as "not excluded", so that a gap of NaN is used and the loss becomes NaN.
        return _Triplets(gaps, exist, exist & ~excluded)

    def extra_repr(self) -> str:
        """Returns the sizes and options for `repr`."""
        return (
            f"{super().extra_repr()}, m={self.m:g}, mining={self.mining!r}, squared={self.squared}"
        )
