"""Functions shared by the pair and triplet losses: distances, and the pairs of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.losses.head import unit


def distances(embeddings: Tensor) -> Tensor:
    """Returns the Euclidean distances between all embeddings, scaled to length 1.

    Args:
        embeddings: (N, D) embeddings.

    Returns:
        (N, N) distances, 0..2. The derivative is 0 where two embeddings coincide.

    Example:
        >>> import torch
        >>> distances(torch.tensor([[1.0, 0.0], [-3.0, 0.0]]))
        tensor([[0., 2.],
                [2., 0.]])
    """
    directions = unit(embeddings)
    # Computed from the differences. The formula 2 - 2 cos would lose half of the digits where two
    # embeddings are close.
    return torch.cdist(directions, directions, compute_mode="donot_use_mm_for_euclid_dist")


def distance(cosine: Tensor) -> Tensor:
    """Returns the Euclidean distance of two directions, 2 sin(angle / 2).

    Args:
        cosine: Cosines between them, any shape.

    Returns:
        Distances of the same shape, 0..2.

    Example:
        >>> import torch
        >>> distance(torch.tensor([1.0, 0.5, -1.0]))
        tensor([0., 1., 2.])
    """
    return (2.0 - 2.0 * cosine).clamp_min(0.0).sqrt()


def pairs(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Returns which two images of a batch are a genuine pair, and which are an impostor pair.

    Args:
        labels: (N,) labels.

    Returns:
        Two (N, N) boolean tensors, for genuine and impostor pairs. An image and itself are neither.

    Example:
        >>> import torch
        >>> genuine, impostor = pairs(torch.tensor([5, 5, 8]))
        >>> genuine
        tensor([[False,  True, False],
                [ True, False, False],
                [False, False, False]])
    """
    same = labels[:, None] == labels
    return same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device), ~same


@torch.no_grad()
def mean_angles(embeddings: Tensor, labels: Tensor) -> dict[str, float]:
    """Returns the mean angles of the genuine and of the impostor pairs of a batch.

    Args:
        embeddings: (N, D) embeddings.
        labels: (N,) labels.

    Returns:
        `genuine_angle_mean` and `impostor_angle_mean` in degrees. A kind of pairs that the batch
        does not have is left out.

    Example:
        >>> import torch
        >>> mean_angles(torch.eye(2), torch.tensor([0, 0]))
        {'genuine_angle_mean': 90.0}
    """
    angles = 2.0 * (0.5 * distances(embeddings.float())).clamp_max(1.0).asin().rad2deg()
    masks = zip(("genuine_angle_mean", "impostor_angle_mean"), pairs(labels), strict=True)
    return {name: angles[mask].mean().item() for name, mask in masks if mask.any()}
