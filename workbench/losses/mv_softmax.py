"""MV-softmax: a margin, and more weight for the classes that an image is taken for."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from workbench.errors import WorkbenchError, unknown_name
from workbench.losses.angular import add_angle, turned
from workbench.losses.base import MarginSoftmax, in_range
from workbench.losses.registry import register

Kind = Literal["am", "arc"]
Weighting = Literal["adaptive", "fixed"]


@register("mv_softmax")
class MVSoftmax(MarginSoftmax):
    """Mis-classified vector guided softmax: where another class comes out ahead of the own one less its margin, i.e.
    cos theta_j > psi(theta_y), its logit is raised, so that training attends to it (of kind `arc`: cos theta_j > cos(theta_y + m),
    also past pi, as in the authors' code).

    Wang et al., "Mis-classified vector guided softmax loss for face recognition", AAAI 2020: an other class's factor
    h = exp(s t (cos theta_j + 1)) with `adaptive`, exp(s t) with `fixed`, that is, the logit s ((1 + t) cos theta_j + t) or
    s (cos theta_j + t). The own logit is s psi(theta_y), psi = cos theta_y - m with kind `am`, cos(theta_y + m) with `arc`,
    which goes on as ArcFace does past pi.

    What is added fades towards cos theta_j = -1, so training from scratch at full size, `arc` above all, can settle with all
    embeddings opposite to all class centres. Easing in avoids that: `ramp` (the setting margin_ramp_epochs) scales m and t.
    So does `easy_margin`, which is always on in the authors' institute's code (JDAI-CV/FaceX-Zoo, head/MV_Softmax.py) though not
    in the paper: the own logit has its margin only where cos theta_y > 0 (with kind `am`, that code: where it is > m), while
    other classes are still compared with the margin.

    Args:
        embedding_dim: D.
        num_classes: C.
        s: scale of the logits, > 0.
        m: margin: on the cosine and 0..2 with `am` (paper: 0.35), in radians and < pi with `arc` (paper: 0.5).
        t: how much is added, >= 0 (0: CosFace or ArcFace).
        kind: "am" or "arc".
        weighting: "adaptive" or "fixed".
        easy_margin: see above.
    """

    formula = "s (cos(theta) - m); others s ((1 + t) cos(theta_j) + t) where cos(theta_j) > cos(theta) - m"
    paper = "Wang et al., Mis-classified vector guided softmax loss for face recognition, AAAI 2020"

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        s: float = 32.0,
        m: float = 0.35,
        t: float = 0.2,
        kind: Kind = "am",
        weighting: Weighting = "adaptive",
        easy_margin: bool = False,
    ) -> None:
        super().__init__(embedding_dim, num_classes, s, m)
        if kind not in get_args(Kind):
            raise unknown_name("kind of loss 'mv_softmax'", kind, get_args(Kind))
        if weighting not in get_args(Weighting):
            raise unknown_name("weighting of loss 'mv_softmax'", weighting, get_args(Weighting))
        if kind == "arc" and m >= math.pi:
            raise WorkbenchError(
                f"mv_softmax: margin m of kind 'arc' is an angle in radians, 0 <= m < pi, got {m}"
            )
        if kind == "am":
            in_range("mv_softmax: margin m of kind 'am', on the cosine,", m, 0.0, 2.0)
        self.t = in_range("mv_softmax: t", t, 0.0)
        self.kind = kind
        self.weighting = weighting
        self.easy_margin = bool(easy_margin)

    def margin(self, cosine: Tensor) -> Tensor:
        psi = self._psi(cosine)
        return torch.where(cosine > 0, psi, cosine) if self.easy_margin else psi

    def others(self, cosine: Tensor, own: Tensor) -> Tensor:
        t = self.t * self.ramp
        raised = cosine + t if self.weighting == "fixed" else (1.0 + t) * cosine + t
        return torch.where(cosine > self._bar(own), raised, cosine)

    def extra_repr(self) -> str:
        chosen = f"kind={self.kind!r}, weighting={self.weighting!r}, easy_margin={self.easy_margin}"
        return f"{super().extra_repr()}, t={self.t:g}, {chosen}"

    def _bar(self, own: Tensor) -> Tensor:
        """What another class's cosine must exceed for its logit to be raised."""
        m = self.m * self.ramp
        return own - m if self.kind == "am" else turned(own, m)

    def _psi(self, cosine: Tensor) -> Tensor:
        m = self.m * self.ramp
        return cosine - m if self.kind == "am" else add_angle(cosine, m)
