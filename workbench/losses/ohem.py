"""Online hard example mining: only a batch's hardest samples are trained on. To be added, as in `normface+ohem`."""

from __future__ import annotations

from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.losses.base import Reweighting, in_range
from workbench.losses.registry import register_part


@register_part("ohem")
class OHEM(Reweighting):
    """The samples with the greatest loss; the mean is taken over them alone.

    Shrivastava et al., "Training region-based object detectors with online hard example mining", CVPR 2016.

    Args:
        keep: share of the batch that is kept, 0 < keep <= 1, rounded down to whole samples; at least one is.
    """

    formula = "mean over the hardest"
    paper = "Shrivastava et al., Training region-based object detectors with online hard example mining, CVPR 2016"

    def __init__(self, keep: float = 0.75) -> None:
        super().__init__()
        self.keep = in_range("ohem: keep", keep, 0.0, 1.0)
        if self.keep == 0:
            raise WorkbenchError("ohem: keep must be more than 0, as nothing would be trained on")

    def forward(self, losses: Tensor) -> Tensor:
        count = max(int(self.keep * len(losses) + 1e-9), 1)  # 0.29 * 100 is 28.999999999999996
        return losses.topk(count).values

    def extra_repr(self) -> str:
        return f"keep={self.keep:g}"
