"""Focal loss: gives less weight to well-classified samples. A part, as in `normface+focal`."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.losses.base import Reweighting, in_range
from workbench.losses.registry import register_part


@register_part("focal")
class Focal(Reweighting):
    """Multiplies the cross-entropy of each sample by alpha (1 - p)^gamma.

    Lin et al., "Focal loss for dense object detection", ICCV 2017. p = exp(-cross-entropy) is the
    probability of the target class. The factor is computed for each sample and has a gradient.
    (Implementations that apply it to the mean of the batch give all samples the same weight, and so
    lose its effect.)

    Args:
        gamma: Exponent, >= 0, where 0 leaves the loss unchanged.
        alpha: Constant factor, > 0. Lin et al. give the two classes of a detector different
            factors; the classes here have the same one, which acts as a factor on the learning
            rate.

    Raises:
        WorkbenchError: If gamma is negative, alpha is not positive, or one is not finite.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> focal = wb.losses.Focal(gamma=2.0)
        >>> focal(torch.tensor([0.1, 3.0]))  # the sample with the small loss is scaled down
        tensor([9.0559e-04, 2.7087e+00])
    """

    formula = "alpha (1 - p)^gamma CE, p = exp(-CE)"
    paper = "Lin et al., Focal loss for dense object detection, ICCV 2017"

    def __init__(self, gamma: float = 2.0, alpha: float = 1.0) -> None:
        super().__init__()
        self.gamma = in_range("focal: gamma", gamma, 0.0)
        self.alpha = in_range("focal: alpha", alpha, 0.0)
        if self.alpha == 0:
            raise WorkbenchError("focal: alpha is 0, which leaves no loss; give a number above 0")

    def forward(self, losses: Tensor) -> Tensor:
        """Returns the reweighted losses; see `Reweighting.forward`."""
        # expm1 is precise near p = 1. The lower bound keeps the derivative finite at p = 1, where
        # it would be infinite for gamma < 1.
        error = (-torch.expm1(-losses)).clamp_min(torch.finfo(losses.dtype).tiny)
        return self.alpha * error.pow(self.gamma) * losses

    def extra_repr(self) -> str:
        """Returns the options for `repr`."""
        return f"gamma={self.gamma:g}, alpha={self.alpha:g}"
