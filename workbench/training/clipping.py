"""Gradients that are too long are shortened, those of the backbone and those of the loss each by themselves."""

from __future__ import annotations

from torch import Tensor, nn, zeros
from torch.nn.utils import clip_grad_norm_


class Clipper:
    """Shortens gradients and counts how often it had to.

    The backbone and the loss (its class centres above all) are clipped apart, as the gradient of the centres grows with their
    number: clipped together, the backbone's share would depend on how many classes there are.

    Args:
        net, loss: whose gradients.
        longest: largest norm of the backbone's gradient.
        longest_of_loss: largest norm of the loss's gradient; None leaves it as it is.
    """

    def __init__(
        self, net: nn.Module, loss: nn.Module, longest: float, longest_of_loss: float | None
    ) -> None:
        device = next(net.parameters()).device
        self.limits = {"clipped": longest} | (
            {} if longest_of_loss is None else {"clipped_loss": longest_of_loss}
        )
        self.parameters = {
            "clipped": list(net.parameters()),
            "clipped_loss": list(loss.parameters()),
        }
        self.updates = 0
        self.counts = {name: zeros((), device=device) for name in self.limits}

    def clip(self) -> Tensor:
        """Shorten the gradients of this step; gives back the norm that the backbone's had."""
        norms = {
            name: clip_grad_norm_(self.parameters[name], limit)
            for name, limit in self.limits.items()
        }
        self.updates += 1
        for name, norm in norms.items():
            self.counts[name] += (
                norm > self.limits[name]
            )  # stays on the device: nothing waits for it
        return norms["clipped"]

    def shares(self) -> dict[str, float]:
        """Share of the steps since the last call whose gradient was shortened: `clipped` of the backbone, `clipped_loss`."""
        found = {name: count.item() / max(self.updates, 1) for name, count in self.counts.items()}
        self.updates = 0
        for count in self.counts.values():
            count.zero_()
        return found

    def state_dict(self) -> dict[str, float]:
        """What has been counted since the last `shares`, for a checkpoint."""
        return {"updates": self.updates} | {
            name: count.item() for name, count in self.counts.items()
        }

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on counting from a `state_dict`."""
        self.updates = int(state["updates"])
        for name, count in self.counts.items():
            count.fill_(state[name])
