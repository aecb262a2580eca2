"""Minimum hyperspherical energy: class centres repel each other. A part, as in `sphereface+mhe`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from workbench.errors import WorkbenchError
from workbench.losses.base import ClassificationLoss, Loss, Term, angle
from workbench.losses.head import MAX_PLAIN_LOGITS, unit
from workbench.losses.registry import register_part

MIN_ANGLE = 0.05
"""Angle in radians (3 degrees) below which the energy is replaced by its tangent, so that class
centres that nearly coincide do not dominate the gradient."""


@register_part("mhe")
class MHE(Term):
    """Energy of the class centres on the sphere: the mean of theta^-power over pairs of centres.

    Liu et al., "Learning towards minimum hyperspherical energy", NeurIPS 2018, eq. 1 with the angle
    as the distance (A-MHE, section 3.4). With power 0 the energy is ln(1 / theta). Added to
    SphereFace it gives SphereFace+.

    The mean over all pairs of classes is approximated: it runs over the pairs of a target class of
    the batch with any other class. The paper's own approximation is its mini-batch MHE (section
    3.6 in the authors' numbering). OpenSphere uses only the pairs of target classes of the batch.

    If there are many classes, they are processed in chunks. Each chunk is computed a second time
    in the backward pass, so that the memory needed does not grow with (target classes) x C.

    Args:
        weight: Factor of the term in the total loss, >= 0. The authors' code for faces (SphereFace+
            in OpenSphere) has a default of 1, and 0.1 in its configuration, for the mean of
            theta^-2. Their code for CIFAR-100 uses 10.
        power: Exponent of the energy: 0, 1 or 2.

    Raises:
        WorkbenchError: If an option is out of range.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> term = wb.losses.MHE(power=2)
        >>> term.energy(torch.tensor([0.5, 1.0, 2.0]))
        tensor([4.0000, 1.0000, 0.2500])
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
        """Returns the mean energy of the loss's class centres; see `Term.forward`."""
        assert isinstance(loss, ClassificationLoss)
        centres = loss.centres.to(embeddings.dtype)
        classes = torch.unique(labels)
        target_centres = unit(centres[classes])
        step = max(MAX_PLAIN_LOGITS // len(classes), 1)
        total = centres.new_zeros(())
        for number, chunk in enumerate(torch.split(centres, step)):
            arguments = (target_centres, chunk, classes - number * step)
            if step >= len(centres):
                total = self._chunk_energy(*arguments)
            else:
                total = total + checkpoint(
                    self._chunk_energy, *arguments, use_reentrant=False, preserve_rng_state=False
                )
        return total / (len(classes) * max(len(centres) - 1, 1))

    def energy(self, theta: Tensor) -> Tensor:
        """Returns the energy of pairs of class centres.

        Args:
            theta: Angles between them in radians, any shape.

        Returns:
            Energies of the same shape.
        """
        clamped = theta.clamp_min(MIN_ANGLE)
        energy = clamped.pow(-self.power) if self.power else -clamped.log()
        slope = -max(self.power, 1) * MIN_ANGLE ** -(self.power + 1)
        return energy + slope * (theta - MIN_ANGLE).clamp_max(0.0)

    def _chunk_energy(self, target_centres: Tensor, chunk: Tensor, column: Tensor) -> Tensor:
        """Returns the sum of the energies between target centres and a chunk of all centres.

        `target_centres` are (B, D) unit vectors, `chunk` are (K, D) class centres, and `column` is
        the (B,) position of each target class in the chunk, out of range if it is not there.
        """
        cosines = (target_centres @ unit(chunk).T).clamp(-1.0, 1.0)
        same_class = column[:, None] == torch.arange(len(chunk), device=chunk.device)
        return torch.where(same_class, 0.0, self.energy(angle(cosines))).sum()

    def extra_repr(self) -> str:
        """Returns the options for `repr`."""
        return f"{super().extra_repr()}, power={self.power}"
