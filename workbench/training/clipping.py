"""Limiting the norm of gradients, separately for the backbone and for the loss."""

from __future__ import annotations

from math import inf

from torch import Tensor, nn, zeros
from torch.nn.utils import clip_grad_norm_

from workbench.tasks import Heads


class Clipper:
    """Scales long gradients down to a maximal norm, and counts how often this happens.

    The gradients of the backbone and of the loss (mainly its class centres) are clipped
    separately. The norm of the gradient of the class centres grows with their number: with one
    common norm, the learning rate of the backbone would in effect depend on the number of classes.
    The gradient of the head of each task is clipped separately too, to the norm of the backbone's.

    Args:
        net: The backbone.
        loss: The loss.
        max_norm: Largest norm of the gradient of the backbone; None means no limit.
        max_norm_loss: Largest norm of the gradient of the loss; None means no limit.
        heads: The heads of the tasks by name; None if there are none.
    """

    def __init__(
        self,
        net: nn.Module,
        loss: nn.Module,
        max_norm: float | None,
        max_norm_loss: float | None,
        heads: Heads | None = None,
    ) -> None:
        device = next(net.parameters()).device
        # Without a limit, the norm is still computed, because it shows whether training diverges.
        self.limits = {"clipped": inf if max_norm is None else max_norm}
        if max_norm_loss is not None:
            self.limits["clipped_loss"] = max_norm_loss
        self.parameters = {
            "clipped": list(net.parameters()),
            "clipped_loss": list(loss.parameters()),
        }
        self.heads = [list(head.parameters()) for head in (heads or {}).values()]
        self.updates = 0
        self.counts = {name: zeros((), device=device) for name in self.limits}

    def clip(self) -> Tensor:
        """Clips the gradients of this step.

        Returns:
            The norm of the gradient of the backbone before it was clipped.
        """
        norms = {
            name: clip_grad_norm_(self.parameters[name], limit)
            for name, limit in self.limits.items()
        }
        for parameters in self.heads:
            clip_grad_norm_(parameters, self.limits["clipped"])
        self.updates += 1
        for name, norm in norms.items():
            # The counts stay on the device, so that the CPU does not wait for a GPU.
            self.counts[name] += norm > self.limits[name]
        return norms["clipped"]

    def shares(self) -> dict[str, float]:
        """Returns the share of the steps since the last call in which gradients were clipped.

        Returns:
            "clipped" for the backbone and, if it has a limit, "clipped_loss" for the loss.
        """
        shares = {name: count.item() / max(self.updates, 1) for name, count in self.counts.items()}
        self.updates = 0
        for count in self.counts.values():
            count.zero_()
        return shares

    def state_dict(self) -> dict[str, float]:
        """Returns the counts since the last call of `shares`, for a checkpoint."""
        return {"updates": self.updates} | {
            name: count.item() for name, count in self.counts.items()
        }

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restores the counts from a `state_dict`."""
        self.updates = int(state["updates"])
        for name, count in self.counts.items():
            count.fill_(state[name])
