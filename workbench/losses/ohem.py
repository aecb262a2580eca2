"""Online hard example mining: trains on the hardest samples only. A part, as in `normface+ohem`."""

from __future__ import annotations

from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.losses.base import Reweighting, in_range
from workbench.losses.registry import register_part


@register_part("ohem")
class OHEM(Reweighting):
    """Keeps the samples with the largest losses, so that the mean is taken over them alone.

    Shrivastava et al., "Training region-based object detectors with online hard example mining",
    CVPR 2016.

    Args:
        keep: Share of the batch that is kept, 0 < keep <= 1. The number of samples is rounded down,
            but at least one is kept.

    Raises:
        WorkbenchError: If the share is out of range.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> wb.losses.OHEM(keep=0.5)(torch.tensor([0.5, 2.0, 1.0, 3.0]))
        tensor([3., 2.])
    """

    formula = "mean over the hardest"
    paper = (
        "Shrivastava et al., Training region-based object detectors with online hard example "
        "mining, CVPR 2016"
    )

    def __init__(self, keep: float = 0.75) -> None:
        super().__init__()
        self.keep = in_range("ohem: keep", keep, 0.0, 1.0)
        if self.keep == 0:
            raise WorkbenchError("ohem: keep must be more than 0, so that samples are left")

    def forward(self, losses: Tensor) -> Tensor:
        """Returns the largest losses; see `Reweighting.forward`."""
        # The small number corrects rounding: 0.29 * 100 is 28.999999999999996.
        count = max(int(self.keep * len(losses) + 1e-9), 1)
        return losses.topk(count).values

    def extra_repr(self) -> str:
        """Returns the options for `repr`."""
        return f"keep={self.keep:g}"
