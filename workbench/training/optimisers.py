"""Interim."""

from __future__ import annotations
from typing import Any
import torch
from torch import nn


def parameter_groups(
    net: nn.Module,
    loss: nn.Module,
    *,
    weight_decay: float,
    decay_norm_and_bias: bool,
    lr_factor_loss: float,
    layer_decay: float,
    extra: nn.Module | None = None,
) -> list[dict[str, Any]]:
    groups = []
    for name, module, factor in (("backbone", net, 1.0), ("loss", loss, lr_factor_loss)):
        if list(module.parameters()):
            groups.append(
                {
                    "params": list(module.parameters()),
                    "weight_decay": weight_decay,
                    "lr_factor": factor,
                    "name": name,
                }
            )
    return groups


def create_optimizer(
    name: str,
    groups: list[dict[str, Any]],
    lr: float,
    momentum: float,
    options: dict[str, Any],
    device: torch.device,
) -> torch.optim.Optimizer:
    if name == "SGD":
        options = {"momentum": momentum, **options}
    return getattr(torch.optim, name)(
        groups, lr=lr, fused=device.type in ("cpu", "cuda"), **options
    )
