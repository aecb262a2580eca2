"""The cost of a backbone: its parameters, and the multiply-adds for one image."""

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

FACE_SIZE = 112
"""Side in pixels of the aligned crops for which papers state costs."""


@dataclass(frozen=True)
class Cost:
    """The cost of storing a network and of embedding one image.

    Attributes:
        parameters: Number of weights, trained or fixed, without running statistics.
        multiply_adds: Number of multiply-adds of a forward pass of one image in convolutions,
            linear layers and attention. Activations, normalisation, pooling and additions are not
            counted, as in papers.
    """

    parameters: int
    multiply_adds: int


def cost(
    name: str,
    embedding_dim: int = 512,
    image_size: int | tuple[int, int] | None = None,
    **options: Any,
) -> Cost:
    """Computes the cost of a backbone without allocating its weights.

    Args:
        name: Name of a backbone, as in `backbones.create`.
        embedding_dim: Length D of an embedding, >= 1.
        image_size: Height and width in pixels; an int means a square. By default it is the default
            of the backbone.
        **options: Options of the backbone.

    Returns:
        The cost.

    Raises:
        WorkbenchError: As in `backbones.create`.

    Example:
        >>> round(cost("mobilefacenet").parameters / 1e6, 2)
        2.06
    """
    size = default_size(name) if image_size is None else image_size
    with torch.device("meta"):
        net = create(name, embedding_dim=embedding_dim, image_size=size, **options)
    return module_cost(net, size)


def default_size(name: str) -> int | tuple[int, int]:
    """Returns the default image size of a backbone, or 112 if it has none.

    Args:
        name: Name of a backbone, as in `backbones.create`.

    Returns:
        The side of a square in pixels, or (height, width).

    Raises:
        WorkbenchError: If the backbone is unknown.

    Example:
        >>> default_size("smallresnet")
        64
    """
    if ":" in name:
        return FACE_SIZE
    parameter = inspect.signature(BACKBONES.get(name)).parameters.get("image_size")
    if parameter is None or parameter.default is parameter.empty:
        return FACE_SIZE
    default: int | tuple[int, int] = parameter.default
    return default


def module_cost(net: nn.Module, image_size: int | tuple[int, int]) -> Cost:
    """Computes the cost of any network that accepts (N, 3, H, W) images.

    On torch's device "meta" nothing is computed or allocated.

    Args:
        net: The network.
        image_size: Height and width in pixels; an int means a square.

    Returns:
        The cost.

    Example:
        >>> from torch import nn
        >>> module_cost(nn.Conv2d(3, 4, 1), image_size=10)
        Cost(parameters=16, multiply_adds=1200)
    """
    parameters = list(net.parameters())
    images = torch.zeros(1, 3, *as_size(image_size), device=parameters[0].device)
    training = net.training
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net.eval()(images)
    net.train(training)
    # The counter counts a multiply-add as two operations.
    multiply_adds = counter.get_total_flops() // 2
    return Cost(sum(parameter.numel() for parameter in parameters), multiply_adds)
