"""The value of a loss for a network that guesses, computed without random numbers.

Two guesses are of interest. A *random guess* is a network whose embeddings have random directions,
independent of each other and of the class centres, as before training. A *uniform guess* is a
network that finds every image equally similar to all classes, or to all other images. Training
reaches it without telling identities apart, and only a lower loss shows that it does.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

STEP = 0.5
"""Step of the integral over u in `expected_softmax_loss`. The trapezoidal rule has a relative error
of about exp(-pi^2 / STEP) there, 3e-9."""
MOST_POINTS = 4000
"""Number of points of that integral for logits that have exploded, which then has wider steps."""
WIDTH = 9.0
"""Largest distance of the angles from 90 degrees in `random_cosines`, in standard deviations."""


class Guess(NamedTuple):
    """Values of a loss for a network that guesses."""

    random: float
    """Expected value if the embeddings have random directions, as before training."""
    uniform: float
    """Lowest value if all similarities are the same, which needs no knowledge of identities."""


class RandomCosines(NamedTuple):
    """The distribution of the cosine between two random directions, on a grid."""

    cosines: Tensor
    """(K,) float64, descending."""
    probabilities: Tensor
    """(K,) float64, with sum 1."""

    def largest_of(self, count: int) -> RandomCosines:
        """Returns the distribution of the largest of several independent cosines.

        Args:
            count: Number of cosines, >= 1.
        """
        at_least = self.probabilities.cumsum(0).clamp_max(1.0)
        power = -torch.expm1(count * torch.log1p(-at_least))  # 1 - P(all are smaller)
        return RandomCosines(self.cosines, power.diff(prepend=power.new_zeros(1)))

    def smallest_of(self, count: int) -> RandomCosines:
        """Returns the distribution of the smallest of several independent cosines.

        Args:
            count: Number of cosines, >= 1.
        """
        power = self.probabilities.cumsum(0).clamp_max(1.0).pow(count)
        return RandomCosines(self.cosines, power.diff(prepend=power.new_zeros(1)))


def random_cosines(dim: int, size: int) -> RandomCosines:
    """Returns the distribution of the cosine between two random directions.

    The density of the angle is proportional to sin(theta)^(D - 2).

    Args:
        dim: Number D of dimensions, >= 1.
        size: Number of points of the grid.

    Example:
        >>> cosines, probabilities = random_cosines(dim=8, size=64)
        >>> round(float((probabilities * cosines.square()).sum()), 6)  # the variance is 1 / D
        0.125
    """
    if dim == 1:
        both = torch.tensor([1.0, -1.0], dtype=torch.float64)
        return RandomCosines(both, torch.full_like(both, 0.5))
    width = min(math.pi / 2.0, WIDTH / math.sqrt(dim))
    middles = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    theta = math.pi / 2.0 + width * (2.0 * middles - 1.0)
    return RandomCosines(theta.cos(), torch.softmax((dim - 2) * theta.sin().log(), 0))


def expected_softmax_loss(
    target: Tensor, non_target: Tensor, probabilities: Tensor, count: int
) -> Tensor:
    """Returns the expected cross-entropy if the non-target logits are random and independent.

    With T = exp(target) and the sum S of exp(logit) over the non-target classes, the cross-entropy
    is ln(T + S) - ln T. Its expectation over S is computed by integrating, over u = ln t,

        ln z = integral of exp(-t) - exp(-t z) du,  z = T + S

    because E[exp(-t S)] is a power of E[exp(-t exp(logit))] for independent logits.

    Args:
        target: (K,) float64 target logits.
        non_target: (K, J) or (1, J) float64 values of a non-target logit, for each target logit.
        probabilities: (J,) float64 probabilities of these values.
        count: Number of non-target classes, >= 0.

    Returns:
        (K,) float64 expected losses.

    Example:
        >>> import torch
        >>> logits = torch.zeros(1, dtype=torch.float64)
        >>> loss = expected_softmax_loss(logits, logits[None], logits + 1.0, count=9)  # ln 10
        >>> round(float(loss), 6)
        2.302585
    """
    highest = max(target.max().item(), non_target.max().item())
    lowest = min(target.min().item(), non_target.min().item())
    if count == 0 or not math.isfinite(highest - lowest):
        return 0.0 * target  # NaN stays NaN
    if non_target.shape[1] == 1:  # a fixed logit
        return F.softplus(math.log(count) + (non_target[:, 0] - target))
    first, last = -max(highest, 0.0) - math.log(count + 1.0) - 21.0, max(-lowest, 0.0) + 4.0
    step = max(STEP, (last - first) / MOST_POINTS)
    u = torch.arange(first, last + step, step, dtype=torch.float64)
    below = (-torch.expm1(-(u[:, None, None] + non_target).exp()) @ probabilities).clamp_max(1.0)
    power = count * torch.log1p(-below)  # ln E[exp(-t S)]
    difference = torch.exp(-u.exp())[:, None] - torch.exp(power - (u[:, None] + target).exp())
    return step * difference.sum(0) - target


def expected(distribution: RandomCosines, values: Tensor) -> float:
    """Returns the mean of values on the grid of a distribution.

    Args:
        distribution: The distribution.
        values: (K,) values for its cosines.
    """
    return float((distribution.probabilities * values).sum())
