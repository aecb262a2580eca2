"""Focal loss: samples that are classified well already count less. To be added, as in `normface+focal`."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.losses.base import Reweighting, in_range
from workbench.losses.registry import register_part


@register_part("focal")
class Focal(Reweighting):
    """Each sample's cross-entropy times (1 - p)^gamma, where p = exp(-cross-entropy) is the probability of its own class.

    Lin et al., "Focal loss for dense object detection", ICCV 2017. The factor is the sample's own and has a gradient.
    Implementations that apply it to the mean of the batch weigh all samples alike and so miss the point.

    Args:
        gamma: >= 0; 0 leaves the loss as it is.
    """

    formula = "(1 - p)^gamma CE, p = exp(-CE)"
    paper = "Lin et al., Focal loss for dense object detection, ICCV 2017"

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = in_range("focal: gamma", gamma, 0.0)

    def forward(self, losses: Tensor) -> Tensor:
        # expm1 keeps the digits of 1 - p near p = 1; at p = 1 a gamma below 1 would have an infinite derivative.
        wrong = (-torch.expm1(-losses)).clamp_min(torch.finfo(losses.dtype).tiny)
        return wrong.pow(self.gamma) * losses

    def extra_repr(self) -> str:
        return f"gamma={self.gamma:g}"
