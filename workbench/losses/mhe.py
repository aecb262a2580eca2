"""Minimum hyperspherical energy: class centres repel each other. To be added to a loss, as in `sphereface+mhe`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from workbench.errors import WorkbenchError
from workbench.losses.base import ClassificationLoss, Loss, Term, angle
from workbench.losses.head import PLAIN_LOGITS, unit
from workbench.losses.registry import register_part

NEAR = 0.05
"""In radians, 3 degrees. Nearer than that the energy goes on along its tangent, so that centres that (nearly) coincide do not
swamp the gradient of all others."""


@register_part("mhe")
class MHE(Term):
    """Energy of the class centres on the sphere: mean of theta^-power (of ln(1 / theta) for power 0) over pairs of centres.

    Liu et al., "Learning towards minimum hyperspherical energy", NeurIPS 2018, eq. 1 with the angle as the distance (A-MHE,
    section 3.4); with SphereFace it is SphereFace+. The mean goes over the batch's classes and for each over all other
    classes, a stand-in for all pairs of classes. The paper's own stand-in is its mini-batch MHE (section 3.6, by its authors'
    numbering); OpenSphere's takes the pairs among the batch's classes alone.

    With many classes they are gone through in chunks, each computed a second time in backward, so that the memory needed does
    not grow with (classes of the batch) x C.

    Args:
        weight: of the term, >= 0. The authors' code for faces (OpenSphere's SphereFace+) has 1 by default and 0.1 in its
            configuration, on the mean of theta^-2; their code for CIFAR-100 has 10.
        power: 2, 1 or 0.
    """

    needs_centres = True
    formula = "theta_jk^-power between class centres"
    paper = "Liu et al., Learning towards minimum hyperspherical energy, NeurIPS 2018"

    def __init__(self, weight: float = 1.0, power: int = 2) -> None:
        super().__init__(weight)
        if power not in (0, 1, 2):
            raise WorkbenchError(f"mhe: power must be 0, 1 or 2, got {power!r}")
        self.power = int(power)

    def forward(self, embeddings: Tensor, labels: Tensor, loss: Loss) -> Tensor:
        assert isinstance(loss, ClassificationLoss)
        centres = loss.centres.to(embeddings.dtype)
        classes = torch.unique(labels)
        own = unit(centres[classes])
        step = max(PLAIN_LOGITS // len(classes), 1)
        total = centres.new_zeros(())
        for number, part in enumerate(torch.split(centres, step)):
            arguments = (own, part, classes - number * step)
            if step >= len(centres):
                total = self._energy(*arguments)
            else:
                total = total + checkpoint(
                    self._energy, *arguments, use_reentrant=False, preserve_rng_state=False
                )
        return total / (len(classes) * max(len(centres) - 1, 1))

    def curve(self, theta: Tensor) -> Tensor:
        """Angles in radians, any shape -> energies."""
        away = theta.clamp_min(NEAR)
        energy = away.pow(-self.power) if self.power else -away.log()
        slope = -max(self.power, 1) * NEAR ** -(self.power + 1)
        return energy + slope * (theta - NEAR).clamp_max(0.0)

    def _energy(self, own: Tensor, part: Tensor, column: Tensor) -> Tensor:
        """(B, D) unit class centres, (K, D) class centres, (B,) where in the latter each of the former is, if it is -> sum."""
        cosines = (own @ unit(part).T).clamp(-1.0, 1.0)
        itself = column[:, None] == torch.arange(len(part), device=part.device)
        return torch.where(itself, 0.0, self.curve(angle(cosines))).sum()

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, power={self.power}"
