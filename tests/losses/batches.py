"""Random batches for the tests of losses."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def random_batch(
    n: int,
    dim: int,
    classes: int,
    dtype: torch.dtype = torch.float64,
    seed: int = 1,
    scale: float = 1.0,
    lengths: tuple[float, float] | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns normally distributed embeddings and random labels.

    Args:
        n: The number of embeddings.
        dim: The length of an embedding.
        classes: The number of classes; the labels are drawn from 0 to `classes` - 1.
        dtype: The type of the embeddings, which are drawn in double precision.
        seed: The seed of both.
        scale: A factor for the embeddings.
        lengths: The norms of the first and the last embedding, between which those of the others
            are evenly spaced. By default the norms are those of the normal distribution.

    Returns:
        The embeddings, (n, dim), which require a gradient, and the labels, (n,).
    """
    draw = torch.Generator().manual_seed(seed)
    embeddings = scale * torch.randn(n, dim, generator=draw, dtype=torch.float64)
    if lengths is not None:
        norms = torch.linspace(*lengths, n, dtype=torch.float64)
        embeddings = F.normalize(embeddings) * norms[:, None]
    return embeddings.to(dtype).requires_grad_(), torch.randint(classes, (n,), generator=draw)
