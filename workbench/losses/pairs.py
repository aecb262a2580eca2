"""What the losses on pairs and triplets of a batch share: distances, and who is who."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.losses.head import unit


def distances(embeddings: Tensor) -> Tensor:
    """Euclidean distances between the directions of embeddings: (N, D) -> (N, N) in [0, 2]."""
    directions = unit(embeddings)
    # From the differences: 2 - 2 cos loses half of the digits where two embeddings are close. The derivative where two
    # coincide is taken as 0.
    return torch.cdist(directions, directions, compute_mode="donot_use_mm_for_euclid_dist")


def pairs(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Which two images of a batch make a genuine pair, and which an impostor pair: (N,) -> (N, N) twice."""
    same = labels[:, None] == labels
    return same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device), ~same


@torch.no_grad()
def mean_angles(embeddings: Tensor, labels: Tensor) -> dict[str, float]:
    """Mean angles in degrees between two images of one person (genuine) and of two (impostor). Only what the batch has."""
    angles = 2.0 * (0.5 * distances(embeddings.float())).clamp_max(1.0).asin().rad2deg()
    kinds = zip(("genuine_angle_mean", "impostor_angle_mean"), pairs(labels), strict=True)
    return {name: angles[chosen].mean().item() for name, chosen in kinds if chosen.any()}
