"""Interim."""

from __future__ import annotations
from typing import Any
from torch import Tensor
from workbench.training.ordering import learning_rate


class Schedule:
    finished = False

    def __init__(self, total: int, warmup: int, peak: float) -> None:
        self.total, self.warmup, self.peak = total, warmup, peak

    def lr(self, step: int) -> float:
        return learning_rate(step, self.total, self.warmup, self.peak)

    def observe(self, loss: Tensor) -> None: ...
    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def create_schedule(
    name: str,
    options: dict[str, Any],
    *,
    total: int,
    warmup: int,
    steps_per_epoch: int,
    peak_lr: float,
) -> Schedule:
    return Schedule(total, warmup, peak_lr)
