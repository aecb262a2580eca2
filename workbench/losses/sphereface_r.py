"""SphereFace-R: SphereFace made stable, on embeddings of one length, in three versions."""

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

    Liu et al., "SphereFace revived: Unifying hyperspherical face recognition", TPAMI 2022, with its hard normalisation of the
    embeddings. What takes the place of cos theta for the own class y and for another class j:

    - version 0: s psi(theta_y), the falling curve of SphereFace; s cos theta_j.
    - version 1: s cos(min(m theta_y, pi)); s cos theta_j. Flat where m theta_y passes pi.
    - version 2: s cos theta_y; s cos(theta_j / m). The margin is with the other classes, so `target_logit` is the plain cosine.

    With `detach` (the paper's "characteristic gradient detachment", which its authors train with) the curves give the value,
    but the derivative with respect to the cosine is that of the plain cosine, 1: it neither vanishes at the seams and on the
    flat part, from where an embedding would never be drawn back, nor grows with m. It is part of the method and on by default;
    off, the derivative is the true one.

    The authors' code multiplies the whole loss by 50 / s, and its first choice is version 0. `ramp` raises m from 1.

    Args:
        embedding_dim: D.
        num_classes: C.
        s: scale of the logits, > 0.
        m: factor on the angle, >= 1 (1: no margin); the paper uses 1.4 to 1.5.
        version: 0, 1 or 2, see above.
        detach: see above.
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
        if self.version == 2:
            return cosine
        theta = self._factor() * angle(cosine)
        return self._in_place_of(
            cosine, falling_cosine(theta) if self.version == 0 else theta.clamp_max(math.pi).cos()
        )

    def others(self, cosine: Tensor, own: Tensor) -> Tensor:
        if self.version != 2:
            return cosine
        return self._in_place_of(cosine, (angle(cosine) / self._factor()).cos())

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, version={self.version}, detach={self.detach}"

    def _factor(self) -> float:
        return 1.0 + (self.m - 1.0) * self.ramp

    def _in_place_of(self, cosine: Tensor, curve: Tensor) -> Tensor:
        return cosine + (curve - cosine).detach() if self.detach else curve
