"""ElasticFace: ArcFace or CosFace with a margin drawn anew for every image."""

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
USUAL = {"arc": 0.5, "cos": 0.35}
"""The paper's mean margins."""


@register("elasticface")
class ElasticFace(MarginSoftmax):
    """Random margin: the target logit is s * cos(theta_y + m) or s * (cos theta_y - m), m drawn from N(m, std) for each image.

    Boutros et al., "ElasticFace: Elastic margin loss for deep face recognition", CVPR workshops 2022, eq. 6 (arc) and 7 (cos), by
    notes on the paper, not verified against its text.
    In evaluation mode, and for the curve, m is its mean.

    With `plus` (ElasticFace+, section 3.2) a batch's margins are handed out by distance: the image furthest from its own class
    centre gets the largest. (The authors' code looks the sorted margins up at the sorting order itself, where its inverse
    would do this; here is what the paper says.)

    A margin drawn below 0 counts as 0. Past theta_y + m = pi `arc` goes on as ArcFace does. `ramp` scales the drawn margin.

    Args:
        embedding_dim: D.
        num_classes: C.
        s: scale of the logits, > 0.
        m: mean margin, >= 0, with `arc` in radians and <= pi; None: the paper's, 0.5 with `arc`, 0.35 with `cos`.
        std: standard deviation of the margin, >= 0.
        kind: "arc" or "cos", see above.
        plus: see above; then std is 0.0175 with `arc`. With `cos` forks of the authors' code have 0.02, notes on the paper
            0.025; not verified.
    """

    formula = "s cos(theta + m) or s (cos(theta) - m), m ~ N(m, std)"
    paper = "Boutros et al., ElasticFace: Elastic margin loss for deep face recognition, CVPR workshops 2022"

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
        self._highest = math.pi if kind == "arc" else math.inf
        m = in_range("elasticface: margin m", USUAL[kind] if m is None else m, 0.0, self._highest)
        super().__init__(embedding_dim, num_classes, s, m)
        self.std = in_range("elasticface: std", std, 0.0)
        self.kind = kind
        self.plus = bool(plus)

    def margin(self, cosine: Tensor) -> Tensor:
        """The curve of the mean margin."""
        return self._bent(cosine, self.m * self.ramp)

    def own_margin(self, cosine: Tensor, embeddings: Tensor) -> Tensor:
        return (
            self._bent(cosine, self.draw(cosine) * self.ramp)
            if self.training
            else self.margin(cosine)
        )

    @torch.no_grad()
    def draw(self, cosine: Tensor) -> Tensor:
        """(N, 1) cosines to the own class -> (N, 1) margins, by torch's random state."""
        noise = torch.randn(cosine.shape, device=cosine.device).to(
            cosine.dtype
        )  # the same for every precision
        margins = (self.m + self.std * noise).clamp(0.0, self._highest)
        if not self.plus:
            return margins
        nearest_first = cosine.argsort(dim=0, descending=True, stable=True)
        return torch.empty_like(margins).scatter_(0, nearest_first, margins.sort(0).values)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, std={self.std:g}, kind={self.kind!r}, plus={self.plus}"

    def _bent(self, cosine: Tensor, m: float | Tensor) -> Tensor:
        return add_angle(cosine, m) if self.kind == "arc" else cosine - m
