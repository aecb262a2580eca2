"""MagFace: a margin that grows with the length of the embedding, which measures image quality."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.losses.angular import add_angle
from workbench.losses.base import HeadScale, MarginSoftmax, at_least_float32, in_range
from workbench.losses.guessing import Guess
from workbench.losses.registry import register


@register("magface")
class MagFace(MarginSoftmax):
    """Margin by length: the target logit is s * cos(theta_y + m(a)), where a = ||x||.

    Meng et al., "MagFace: A universal representation for face recognition and quality assessment",
    CVPR 2021. The margin m(a) is linear, from `l_margin` at length `l_a` to `u_margin` at `u_a`.
    The term lambda_g * g(a) with g(a) = a / u_a^2 + 1 / a is added to the cross-entropy of each
    image; it favours long embeddings. Both are differentiated with respect to a, so that an image
    far from its class centre tends towards a short embedding with a small margin. As in the
    authors' code, lengths are first clipped to [l_a, u_a], so they get no gradient from this loss
    outside that range.

    A reweighting (`magface+ohem`) acts on the cross-entropy alone, and g is averaged over the whole
    batch. Where theta_y + m(a) exceeds pi, the curve continues as that of ArcFace. `ramp` scales
    m(a), but not g.

    With `easy_margin`, the default in the authors' code, the margin is applied only where
    cos theta_y > 0. Elsewhere the target logit is s * cos theta_y, and the length gets no gradient
    from it. Training starts near there, since all angles are then close to 90 degrees. At
    90 degrees the curve jumps from -sin m to 0.

    The lengths of the embeddings must be able to grow, so the last batch normalisation of the
    network needs a trained scale (`head_scale`).

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        num_classes: Number C of classes, >= 1.
        s: Scale of the logits, > 0.
        l_a: Smallest length, > 0.
        u_a: Largest length, > l_a.
        l_margin: Margin at the smallest length in radians, 0..pi.
        u_margin: Margin at the largest length in radians, l_margin..pi.
        lambda_g: Weight of g, >= 0. The paper gives a lower bound above which each image has a
            unique optimal length.
        easy_margin: Whether to apply the margin only where cos theta_y > 0.

    Raises:
        WorkbenchError: If an option is out of range.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> loss = wb.losses.create("magface", embedding_dim=8, num_classes=10)
        >>> loss.margin_at(torch.tensor([10.0, 60.0, 110.0]))
        tensor([0.4500, 0.6250, 0.8000])
    """

    formula = "s cos(theta + m(a)), a = |x|; + lambda_g (a / u_a^2 + 1 / a)"
    paper = (
        "Meng et al., MagFace: A universal representation for face recognition and quality "
        "assessment, CVPR 2021"
    )
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
        self.l_a = in_range("magface: length l_a", l_a, 0.0)
        self.u_a = in_range("magface: length u_a", u_a, 0.0)
        if not 0 < l_a < u_a:
            raise WorkbenchError(
                f"magface: lengths must be numbers with 0 < l_a < u_a, got {l_a} and {u_a}"
            )
        self.l_margin, self.u_margin = l_margin, u_margin
        self.lambda_g = in_range("magface: lambda_g", lambda_g, 0.0)
        self.easy_margin = bool(easy_margin)

    def margin(self, cosine: Tensor) -> Tensor:
        """Returns the curve of the length (l_a + u_a) / 2; see `MarginSoftmax.margin`."""
        return self._add_margin(cosine, self.m * self.ramp)

    def margin_at(self, lengths: Tensor) -> Tensor:
        """Returns the margins m(a).

        Args:
            lengths: Lengths of embeddings, any shape.

        Returns:
            Margins in radians, of the same shape.
        """
        slope = (self.u_margin - self.l_margin) / (self.u_a - self.l_a)
        return (self.l_margin + slope * (lengths.clamp(self.l_a, self.u_a) - self.l_a)) * self.ramp

    def target_margin(self, cosine: Tensor, embeddings: Tensor) -> Tensor:
        """Returns the curve of each image by its length; see `MarginSoftmax.target_margin`."""
        return self._add_margin(cosine, self.margin_at(_lengths(embeddings)))

    def target_logit(self, cosine: Tensor, norm: float | None = None) -> Tensor:
        """Returns the target logit for embeddings of one length.

        Args:
            cosine: Cosines of any shape, in [-1, 1].
            norm: Length of the embeddings, >= 0; by default (l_a + u_a) / 2.

        Returns:
            Logits of the same shape.
        """
        cosine = at_least_float32(cosine)
        if norm is None:
            return self.s * self.margin(cosine)
        return self.s * self._add_margin(cosine, self.margin_at(cosine.new_tensor(norm)))

    def regulariser(self, lengths: Tensor) -> Tensor:
        """Returns g(a) = a / u_a^2 + 1 / a.

        Args:
            lengths: Lengths of embeddings, any shape.

        Returns:
            Values of the same shape.
        """
        lengths = lengths.clamp(self.l_a, self.u_a)
        return lengths / self.u_a**2 + lengths.reciprocal()

    def value(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Returns the mean cross-entropy plus the mean regulariser; see `Loss.value`."""
        cross_entropy = super().value(embeddings, labels)
        return cross_entropy + self.lambda_g * self.regulariser(_lengths(embeddings)).mean()

    def guess(self, embeddings: Tensor, labels: Tensor) -> Guess | None:
        """Returns the values of a guess, with the regulariser; see `Loss.guess`."""
        guess = super().guess(embeddings, labels)
        added = self.lambda_g * self.regulariser(_lengths(embeddings)).mean().item()
        return None if guess is None else Guess(guess.random + added, guess.uniform + added)

    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """Adds the mean length of the embeddings; see `MarginSoftmax.measure`."""
        return super().measure(embeddings, labels) | {
            "length_mean": _lengths(embeddings.float()).mean().item()
        }

    def extra_repr(self) -> str:
        """Returns the sizes and options for `repr`."""
        margins = f"l_margin={self.l_margin:g}, u_margin={self.u_margin:g}"
        bounds = f"l_a={self.l_a:g}, u_a={self.u_a:g}, {margins}, lambda_g={self.lambda_g:g}"
        return f"{super().extra_repr()}, {bounds}, easy_margin={self.easy_margin}"

    def _add_margin(self, cosine: Tensor, m: float | Tensor) -> Tensor:
        shifted = add_angle(cosine, m)
        return torch.where(cosine > 0, shifted, cosine) if self.easy_margin else shifted


def _lengths(embeddings: Tensor) -> Tensor:
    """Returns the (N, 1) lengths of (N, D) embeddings."""
    lengths: Tensor = torch.linalg.vector_norm(embeddings, dim=1, keepdim=True)
    return lengths
