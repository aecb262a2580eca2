"""Mixing of pairs of images and of their identities."""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.special import betaincinv
from torch import Tensor

from workbench.augmentation.base import Step, to_pixels
from workbench.augmentation.options import number
from workbench.augmentation.registry import register


class Mixing(NamedTuple):
    """How the images of a batch were mixed; their labels are mixed in the same way.

    The loss of the batch is `weight * loss(labels) + (1 - weight) * loss(labels[partner])`.

    Attributes:
        partner: (N,) int64 position of the image that each image was mixed with, on the device of
            the images.
        weight: Share of the image itself, 0.5..1.
    """

    partner: Tensor
    weight: float


@register("mixup")
class Mixup(Step):
    """Replaces the images of a batch by weighted means of themselves and of others of the batch.

    Zhang et al., "mixup: Beyond empirical risk minimization", ICLR 2018, eq. 2. As in the code of
    the paper, a batch has one weight, which is drawn from the distribution Beta(alpha, alpha), and
    the partners are a random permutation of the batch. A weight w below 0.5 is replaced by 1 - w,
    which exchanges the two images of a pair, so that the label of an image is that of its larger
    part. It must be the last augmentation of a list.

    Args:
        probability: Probability that a batch is mixed, 0..1.
        alpha: Parameter of the distribution of the weight, > 0. With small values most weights are
            near 0 or 1. The paper uses 0.1 to 0.4 on ImageNet.

    Raises:
        WorkbenchError: if an option is out of range.
    """

    name = "mixup"

    def __init__(self, probability: float = 1.0, alpha: float = 0.2) -> None:
        super().__init__(probability)
        self.alpha = number("mixup: alpha", alpha, 1e-3, 1e3)

    def draw_mixing(self, count: int, generator: torch.Generator) -> Mixing | None:
        """Draws the partners and the weight of a batch.

        Args:
            count: Number of images in the batch.
            generator: Source of the random numbers, on the CPU.

        Returns:
            The mixing; None if the batch is not mixed.
        """
        chosen, quantile = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        partner = torch.randperm(count, generator=generator)
        if chosen >= self.probability or not count:
            return None
        weight = float(betaincinv(self.alpha, self.alpha, quantile))
        return Mixing(partner, max(weight, 1 - weight))


def mixed(images: Tensor, mixing: Mixing) -> Tensor:
    """Returns the weighted means of images and their partners.

    Args:
        images: (N, 3, H, W) uint8.
        mixing: The partners, on the device of the images, and the weight.

    Returns:
        (N, 3, H, W) uint8.
    """
    values = images.float()
    return to_pixels(torch.lerp(values[mixing.partner], values, mixing.weight))
