"""SphereFace-R: a stable variant of SphereFace on normalised embeddings, in three versions."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.losses.angular import falling_cosine
from workbench.losses.base import MarginSoftmax, angle
from workbench.losses.registry import register

Version = Literal[0, 1, 2]


@register("sphereface_r")
class SphereFaceR(MarginSoftmax):
    """Multiplicative angular margin on normalised embeddings, without annealing.

    Liu et al., "SphereFace revived: Unifying hyperspherical face recognition", TPAMI 2022, with its
    hard normalisation of the embeddings. The logits of the target class y and of a non-target
    class j are:

    - version 0: s psi(theta_y) with the curve psi of SphereFace, and s cos theta_j.
    - version 1: s cos(min(m theta_y, pi)), constant where m theta_y exceeds pi, and s cos theta_j.
    - version 2: s cos theta_y and s cos(theta_j / m). The margin is on the non-target classes, so
      `target_logit` is s cos theta.

    With `detach` (the paper's "characteristic gradient detachment", with which its authors train)
    the curves give the value, but the derivative with respect to the cosine is that of the plain
    cosine, 1. It therefore does not vanish at the ends of the intervals and on the constant part,
    where an embedding would get no gradient, and it does not grow with m. It is part of the method
    and on by default. Without it the derivative is the true one.

    The authors' code multiplies the whole loss by 50 / s, and its default is version 0. `ramp`
    increases m from 1 to its full size.

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        num_classes: Number C of classes, >= 1.
        s: Scale of the logits, > 0.
        m: Factor on the angle, >= 1, where 1 is no margin. The paper uses 1.4 to 1.5.
        version: 0, 1 or 2.
        detach: Whether to use the derivative of the plain cosine.

    Raises:
        WorkbenchError: If an option is out of range.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> loss = wb.losses.create("sphereface_r", embedding_dim=8, num_classes=10, m=2.0)
        >>> loss.target_logit(torch.tensor([0.5, -1.0]))  # 30 cos(120 degrees) and 30 cos(pi)
        tensor([-15., -30.])
    """

    formula = "s cos(min(m theta, pi)) (version 1)"
    paper = "Liu et al., SphereFace revived: Unifying hyperspherical face recognition, TPAMI 2022"

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        s: float = 30.0,
        m: float = 1.5,
        version: Version = 1,
        detach: bool = True,
    ) -> None:
        super().__init__(embedding_dim, num_classes, s, m)
        if m < 1:
            raise WorkbenchError(
                f"sphereface_r: margin m is a factor on the angle, m >= 1, got {m}"
            )
        if version not in (0, 1, 2):
            raise WorkbenchError(f"sphereface_r: version is 0, 1 or 2, got {version!r}")
        self.version = int(version)
        self.detach = bool(detach)

    def margin(self, cosine: Tensor) -> Tensor:
        """Returns the curve of the version; see `MarginSoftmax.margin`."""
        if self.version == 2:
            return cosine
        theta = self._factor() * angle(cosine)
        if self.version == 0:
            return self._with_value_of(falling_cosine(theta), cosine)
        return self._with_value_of(theta.clamp_max(math.pi).cos(), cosine)

    def non_target(self, cosine: Tensor, target: Tensor) -> Tensor:
        """Returns cos(theta_j / m) in version 2; see `MarginSoftmax.non_target`."""
        if self.version != 2:
            return cosine
        return self._with_value_of((angle(cosine) / self._factor()).cos(), cosine)

    def extra_repr(self) -> str:
        """Returns the sizes and options for `repr`."""
        return f"{super().extra_repr()}, version={self.version}, detach={self.detach}"

    def _factor(self) -> float:
        return 1.0 + (self.m - 1.0) * self.ramp

    def _with_value_of(self, curve: Tensor, cosine: Tensor) -> Tensor:
        """Returns the curve; with `detach`, with the derivative of the plain cosine."""
        return cosine + (curve - cosine).detach() if self.detach else curve
