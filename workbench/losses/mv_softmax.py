"""MV-softmax: a margin, and raised logits of classes that an image is misclassified as."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from workbench.errors import WorkbenchError, unknown_name
from workbench.losses.angular import add_angle, add_angle_unbounded
from workbench.losses.base import MarginSoftmax, in_range
from workbench.losses.registry import register

Kind = Literal["am", "arc"]
Weighting = Literal["adaptive", "fixed"]


@register("mv_softmax")
class MVSoftmax(MarginSoftmax):
    """Mis-classified vector guided softmax: raises the logits of hard non-target classes.

    Wang et al., "Mis-classified vector guided softmax loss for face recognition", AAAI 2020. The
    target logit is s psi(theta_y). With the kind "am", psi = cos theta_y - m. With "arc",
    psi = cos(theta_y + m), continued as in ArcFace where theta_y + m exceeds pi.

    A non-target class is hard if cos theta_j > psi(theta_y), i.e. if its cosine exceeds the target
    cosine with margin. (With "arc" the threshold is cos(theta_y + m) also where theta_y + m exceeds
    pi, as in the authors' code.) The exponential of its logit is multiplied by
    h = exp(s t (cos theta_j + 1)) with the weighting "adaptive", or by exp(s t) with "fixed". Its
    logit is therefore s ((1 + t) cos theta_j + t) or s (cos theta_j + t).

    With the weighting "adaptive" the increase vanishes towards cos theta_j = -1. Training from
    scratch at full size, especially with "arc", can therefore converge to embeddings that are
    opposite to all class centres. Starting with a small margin avoids this: `ramp` (the training
    setting `margin_ramp_epochs`) scales m and t. So does `easy_margin`, which applies the margin to
    the target logit only where cos theta_y > 0, while the threshold keeps the margin. The code of
    the authors' institute (JDAI-CV/FaceX-Zoo, head/MV_Softmax.py) always does this, although the
    paper does not; for "am", that code applies the margin where cos theta_y > m.

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        num_classes: Number C of classes, >= 1.
        s: Scale of the logits, > 0.
        m: Margin: on the cosine and 0..2 with "am" (0.35 in the paper), in radians and
            0 <= m < pi with "arc" (0.5 in the paper).
        t: Size of the increase, >= 0. With 0 the loss is CosFace or ArcFace.
        kind: "am" for a margin on the cosine, "arc" for a margin on the angle.
        weighting: "adaptive" or "fixed".
        easy_margin: Whether to apply the margin only where cos theta_y > 0.

    Raises:
        WorkbenchError: If an option is out of range or unknown.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> loss = wb.losses.create("mv_softmax", embedding_dim=8, num_classes=10)
        >>> loss.non_target(torch.tensor([[0.1, 0.4]]), target=torch.tensor([[0.5]]))
        tensor([[0.1000, 0.6800]])
    """

    formula = (
        "s (cos(theta) - m); non-target s ((1 + t) cos(theta_j) + t) "
        "where cos(theta_j) > cos(theta) - m"
    )
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
        """Returns psi, without margin where `easy_margin` says so; see `MarginSoftmax.margin`."""
        psi = self._psi(cosine)
        return torch.where(cosine > 0, psi, cosine) if self.easy_margin else psi

    def non_target(self, cosine: Tensor, target: Tensor) -> Tensor:
        """Returns the raised cosines of hard classes; see `MarginSoftmax.non_target`."""
        t = self.t * self.ramp
        raised = cosine + t if self.weighting == "fixed" else (1.0 + t) * cosine + t
        return torch.where(cosine > self._threshold(target), raised, cosine)

    def extra_repr(self) -> str:
        """Returns the sizes and options for `repr`."""
        choices = f"kind={self.kind!r}, weighting={self.weighting!r}"
        return f"{super().extra_repr()}, t={self.t:g}, {choices}, easy_margin={self.easy_margin}"

    def _threshold(self, target: Tensor) -> Tensor:
        """Returns the cosine above which a non-target class is hard."""
        m = self.m * self.ramp
        return target - m if self.kind == "am" else add_angle_unbounded(target, m)

    def _psi(self, cosine: Tensor) -> Tensor:
        m = self.m * self.ramp
        return cosine - m if self.kind == "am" else add_angle(cosine, m)
