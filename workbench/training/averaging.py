"""The exponential moving average of the weights of a network (EMA)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


class Average:
    """A copy of a network whose weights are the moving average of its weights during training.

    After each update of the weights, average = d * average + (1 - d) * weights with

        d = min(decay, (1 + t) / (10 + t))

    at update t = 0, 1, 2, ... The decay is smaller at first, so that the random initial weights do
    not remain in the average of a short training (as in `ExponentialMovingAverage` of TensorFlow).
    Running statistics of batch normalisation are averaged as well. Counters are copied.

    Args:
        net: The network that is trained.
        decay: Decay d, between 0 and 1. The average covers about the last 1 / (1 - decay) updates.

    Attributes:
        averaged: The network with the averaged weights, in evaluation mode and without gradients.
        updates: Number of updates t so far.

    Example:
        >>> import torch
        >>> from workbench.training.averaging import Average
        >>> net = torch.nn.Linear(1, 1, bias=False)
        >>> _ = torch.nn.init.constant_(net.weight, 1.0)
        >>> average = Average(net, decay=0.999)
        >>> _ = torch.nn.init.constant_(net.weight, 2.0)
        >>> average.update()
        >>> round(average.averaged.weight.item(), 6)  # 0.1 * 1 + 0.9 * 2
        1.9
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.net = net
        self.decay = decay
        self.updates = 0
        self.averaged = copy.deepcopy(net).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self) -> None:
        """Moves the average towards the present weights of the network."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages, weights = [], []
        state = self.net.state_dict()
        for name, average in self.averaged.state_dict().items():
            if average.is_floating_point():
                averages.append(average)
                weights.append(state[name])
            else:
                average.copy_(state[name])
        torch._foreach_lerp_(averages, weights, 1.0 - decay)
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        """Returns the averaged weights and the number of updates, for a checkpoint."""
        return {"updates": self.updates, "weights": self.averaged.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the state from a `state_dict`.

        Args:
            state: The state.
        """
        self.updates = int(state["updates"])
        self.averaged.load_state_dict(state["weights"])
