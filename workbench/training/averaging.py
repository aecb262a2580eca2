"""Interim."""

from __future__ import annotations
import copy
from typing import Any
import torch
from torch import nn


class Average:
    def __init__(self, net: nn.Module, decay: float) -> None:
        self.net, self.decay = net, decay
        self.averaged = copy.deepcopy(net)

    @torch.no_grad()
    def update(self) -> None:
        for a, b in zip(
            self.averaged.state_dict().values(), self.net.state_dict().values(), strict=True
        ):
            if a.is_floating_point():
                a.lerp_(b, 1 - self.decay)
            else:
                a.copy_(b)

    def state_dict(self) -> dict[str, Any]:
        return self.averaged.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.averaged.load_state_dict(state)
