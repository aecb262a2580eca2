"""MagFace: the margin grows with the length of the embedding, which so becomes a measure of quality."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.losses.angular import add_angle
from workbench.losses.base import HeadScale, MarginSoftmax, at_least_float32, in_range
from workbench.losses.registry import register


@register("magface")
class MagFace(MarginSoftmax):
    """Margin by length: the target logit is s * cos(theta_y + m(a)), a = ||x||, and long embeddings are rewarded with g(a).

    Meng et al., "MagFace: A universal representation for face recognition and quality assessment", CVPR 2021: m(a) is a
    straight line from `l_margin` at length `l_a` to `u_margin` at `u_a`, g(a) = a / u_a^2 + 1 / a, and lambda_g * g is added to
    each image's cross-entropy. Both are differentiated through a, so that an image far from its centre is drawn to a short
    embedding with a small margin. Lengths are clipped to [l_a, u_a] first, as in the authors' code: outside they have no
    gradient from this.

    What reweighs the samples (`magface+ohem`) sees their cross-entropy alone; g is averaged over the whole batch. Past
    theta_y + m = pi the curve goes on as ArcFace's. `ramp` scales m(a), not g.

    With `easy_margin`, the default of the layers in the authors' code, there is no margin where cos theta_y <= 0: the logit is
    s * cos theta_y there, and the length has no gradient from it. That is where training starts, with all angles near 90
    degrees. The curve jumps at 90 degrees, from -sin m to 0.

    Lengths must be free to grow: the batch normalisation that closes the network needs a trained scale (`head_scale`).

    Args:
        embedding_dim: D.
        num_classes: C.
        s: scale of the logits, > 0.
        l_a, u_a: shortest and greatest length, 0 < l_a < u_a.
        l_margin, u_margin: margins in radians at these, 0 <= l_margin <= u_margin <= pi.
        lambda_g: weight of g, >= 0; the paper bounds it from below, so that there is one best length for an image.
        easy_margin: see above.
    """

    formula = "s cos(theta + m(a)), a = |x|; + lambda_g (a / u_a^2 + 1 / a)"
    paper = "Meng et al., MagFace: A universal representation for face recognition and quality assessment, CVPR 2021"
    head_scale: ClassVar[HeadScale | None] = "trained"

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        s: float = 64.0,
        l_a: float = 10.0,
        u_a: float = 110.0,
        l_margin: float = 0.45,
        u_margin: float = 0.8,
        lambda_g: float = 35.0,
        easy_margin: bool = True,
    ) -> None:
        l_margin = in_range("magface: margin l_margin", l_margin, 0.0, math.pi)
        u_margin = in_range("magface: margin u_margin", u_margin, l_margin, math.pi)
        super().__init__(embedding_dim, num_classes, s, m=(l_margin + u_margin) / 2.0)
        self.l_a, self.u_a = (
            in_range("magface: length l_a", l_a, 0.0),
            in_range("magface: length u_a", u_a, 0.0),
        )
        if not 0 < l_a < u_a:
            raise WorkbenchError(
                f"magface: lengths must be numbers with 0 < l_a < u_a, got {l_a} and {u_a}"
            )
        self.l_margin, self.u_margin = l_margin, u_margin
        self.lambda_g = in_range("magface: lambda_g", lambda_g, 0.0)
        self.easy_margin = bool(easy_margin)

    def margin(self, cosine: Tensor) -> Tensor:
        """The curve in the middle between shortest and greatest length."""
        return self._bent(cosine, self.m * self.ramp)

    def margin_at(self, lengths: Tensor) -> Tensor:
        """Lengths of any shape -> margins m(a) in radians."""
        slope = (self.u_margin - self.l_margin) / (self.u_a - self.l_a)
        return (self.l_margin + slope * (lengths.clamp(self.l_a, self.u_a) - self.l_a)) * self.ramp

    def own_margin(self, cosine: Tensor, embeddings: Tensor) -> Tensor:
        return self._bent(cosine, self.margin_at(_lengths(embeddings)))

    def target_logit(self, cosine: Tensor, norm: float | None = None) -> Tensor:
        """The curve for an embedding of one length, by default the middle one, (l_a + u_a) / 2.

        Args:
            cosine: any shape, in [-1, 1].
            norm: another length, >= 0.
        """
        cosine = at_least_float32(cosine)
        return self.s * (
            self.margin(cosine)
            if norm is None
            else self._bent(cosine, self.margin_at(cosine.new_tensor(norm)))
        )

    def regulariser(self, lengths: Tensor) -> Tensor:
        """g(a): lengths of any shape -> values."""
        lengths = lengths.clamp(self.l_a, self.u_a)
        return lengths / self.u_a**2 + lengths.reciprocal()

    def value(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return (
            super().value(embeddings, labels)
            + self.lambda_g * self.regulariser(_lengths(embeddings)).mean()
        )

    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """As for every margin; and the mean length of the embeddings."""
        return super().measure(embeddings, labels) | {
            "length_mean": _lengths(embeddings.float()).mean().item()
        }

    def extra_repr(self) -> str:
        margins = f"l_margin={self.l_margin:g}, u_margin={self.u_margin:g}"
        bounds = f"l_a={self.l_a:g}, u_a={self.u_a:g}, {margins}, lambda_g={self.lambda_g:g}"
        return f"{super().extra_repr()}, {bounds}, easy_margin={self.easy_margin}"

    def _bent(self, cosine: Tensor, m: float | Tensor) -> Tensor:
        shifted = add_angle(cosine, m)
        return torch.where(cosine > 0, shifted, cosine) if self.easy_margin else shifted


def _lengths(embeddings: Tensor) -> Tensor:
    """(N, D) -> (N, 1)."""
    lengths: Tensor = torch.linalg.vector_norm(embeddings, dim=1, keepdim=True)
    return lengths
