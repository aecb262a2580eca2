"""What a backbone costs: parameters, and multiply-adds for one image."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from workbench.backbones import create
from workbench.backbones.base import as_size
from workbench.backbones.registry import BACKBONES

FACE = 112
"""Side in pixels of the aligned crops that papers compare at."""


@dataclass(frozen=True)
class Cost:
    """What it takes to store a network, and to embed one image.

    Attributes:
        parameters: numbers that are stored as weights, trained or fixed; running statistics are not among them.
        multiply_adds: of one forward pass of one image, in convolutions, linear layers and attention; activations, norms,
            pooling and additions are left out, as in papers.
    """

    parameters: int
    multiply_adds: int


def cost(
    name: str,
    embedding_dim: int = 512,
    image_size: int | tuple[int, int] | None = None,
    **options: Any,
) -> Cost:
    """What a backbone costs, by name, without the memory or the time that it takes.

    Args:
        name: as in `backbones.create`.
        embedding_dim: D.
        image_size: pixels; by default the architecture's own.
        options: of the backbone.

    Raises:
        WorkbenchError: as `backbones.create`.
    """
    size = default_size(name) if image_size is None else image_size
    with torch.device("meta"):
        net = create(name, embedding_dim=embedding_dim, image_size=size, **options)
    return module_cost(net, size)


def default_size(name: str) -> int | tuple[int, int]:
    """The image size that a backbone takes unless told otherwise; 112 where its class says none."""
    if ":" in name:
        return FACE
    size = inspect.signature(BACKBONES.get(name)).parameters.get("image_size")
    default: int | tuple[int, int] = (
        FACE if size is None or size.default is size.empty else size.default
    )
    return default


def module_cost(net: nn.Module, image_size: int | tuple[int, int]) -> Cost:
    """What a network from (N, 3, H, W) costs. On torch's device "meta" nothing is computed or stored."""
    parameters = list(net.parameters())
    images = torch.zeros(1, 3, *as_size(image_size), device=parameters[0].device)
    training = net.training
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net.eval()(images)
    net.train(training)
    return Cost(
        sum(parameter.numel() for parameter in parameters), counter.get_total_flops() // 2
    )  # it counts both halves
