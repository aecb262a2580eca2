"""ElasticFace: ArcFace or CosFace with a random margin for each image."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from workbench.errors import unknown_name
from workbench.losses.angular import add_angle
from workbench.losses.base import MarginSoftmax, in_range
from workbench.losses.registry import register

Kind = Literal["arc", "cos"]
MEAN_MARGINS = {"arc": 0.5, "cos": 0.35}
"""The mean margins of the paper."""


@register("elasticface")
class ElasticFace(MarginSoftmax):
    """Random margin: the target logit is s * cos(theta_y + m_i) or s * (cos theta_y - m_i).

    Boutros et al., "ElasticFace: Elastic margin loss for deep face recognition", CVPR workshops
    2022, eq. 6 (arc) and 7 (cos). The equation numbers are taken from notes on the paper and were
    not verified against its text. The margin m_i of each image is sampled from N(m, std). In
    evaluation mode and for the margin curve it is the mean m.

    With `plus` (ElasticFace+, section 3.2) the sampled margins of a batch are assigned by distance:
    the image farthest from its target class centre gets the largest margin. (The authors' code
    indexes the sorted margins with the sorting order itself, where its inverse would be needed.
    This implementation follows the paper.)

    A sampled margin below 0 is replaced by 0. Where theta_y + m_i exceeds pi, the kind "arc"
    continues as ArcFace does. `ramp` scales the sampled margin.

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        num_classes: Number C of classes, >= 1.
        s: Scale of the logits, > 0.
        m: Mean margin, >= 0. With "arc" it is in radians and at most pi. By default it is that of
            the paper: 0.5 with "arc", 0.35 with "cos".
        std: Standard deviation of the margin, >= 0. With `plus`, forks of the authors' code use
            0.0175 with "arc" and 0.02 with "cos"; notes on the paper say 0.025 for the latter.
            Neither value was verified.
        kind: "arc" for a margin on the angle, "cos" for a margin on the cosine.
        plus: Whether to assign larger margins to images farther from their class centre.

    Raises:
        WorkbenchError: If an option is out of range or the kind is unknown.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> loss = wb.losses.create("elasticface", embedding_dim=8, num_classes=10, kind="cos")
        >>> loss.target_logit(torch.tensor([0.5]))  # 64 (0.5 - 0.35)
        tensor([9.6000])
        >>> loss.sample_margins(torch.zeros(4, 1)).shape
        torch.Size([4, 1])
    """

    formula = "s cos(theta + m) or s (cos(theta) - m), m ~ N(m, std)"
    paper = (
        "Boutros et al., ElasticFace: Elastic margin loss for deep face recognition, "
        "CVPR workshops 2022"
    )

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        s: float = 64.0,
        m: float | None = None,
        std: float = 0.05,
        kind: Kind = "arc",
        plus: bool = False,
    ) -> None:
        if kind not in get_args(Kind):
            raise unknown_name("kind of loss 'elasticface'", kind, get_args(Kind))
        self._max_margin = math.pi if kind == "arc" else math.inf
        if m is None:
            m = MEAN_MARGINS[kind]
        m = in_range("elasticface: margin m", m, 0.0, self._max_margin)
        super().__init__(embedding_dim, num_classes, s, m)
        self.std = in_range("elasticface: std", std, 0.0)
        self.kind = kind
        self.plus = bool(plus)

    def margin(self, cosine: Tensor) -> Tensor:
        """Returns the curve of the mean margin; see `MarginSoftmax.margin`."""
        return self._add_margin(cosine, self.m * self.ramp)

    def target_margin(self, cosine: Tensor, embeddings: Tensor) -> Tensor:
        """Returns the curve with a random margin for each image, in training mode.

        See `MarginSoftmax.target_margin`.
        """
        if not self.training:
            return self.margin(cosine)
        return self._add_margin(cosine, self.sample_margins(cosine) * self.ramp)

    @torch.no_grad()
    def sample_margins(self, cosine: Tensor) -> Tensor:
        """Samples a margin for each image with torch's global random generator.

        Args:
            cosine: (N, 1) cosines to the target class centre.

        Returns:
            (N, 1) margins.
        """
        # Sampled in the default type first, so that every precision gets the same numbers.
        noise = torch.randn(cosine.shape, device=cosine.device).to(cosine.dtype)
        margins = (self.m + self.std * noise).clamp(0.0, self._max_margin)
        if not self.plus:
            return margins
        nearest_first = cosine.argsort(dim=0, descending=True, stable=True)
        return torch.empty_like(margins).scatter_(0, nearest_first, margins.sort(0).values)

    def extra_repr(self) -> str:
        """Returns the sizes and options for `repr`."""
        return f"{super().extra_repr()}, std={self.std:g}, kind={self.kind!r}, plus={self.plus}"

    def _add_margin(self, cosine: Tensor, m: float | Tensor) -> Tensor:
        return add_angle(cosine, m) if self.kind == "arc" else cosine - m
