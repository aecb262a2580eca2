"""Optimisers by their names in `torch.optim`, and the groups of parameters that they update."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from workbench.backbones import Backbone
from workbench.errors import WorkbenchError, unknown_name

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "SGD": torch.optim.SGD,
    "Adam": torch.optim.Adam,
    "AdamW": torch.optim.AdamW,
}
"""Optimisers by name."""
SETTINGS = ("lr", "momentum", "weight_decay")
"""Options that are settings of their own."""


def parameter_groups(
    net: Backbone,
    loss: nn.Module,
    *,
    weight_decay: float,
    decay_norm_and_bias: bool,
    lr_factor_loss: float,
    layer_decay: float,
    extra: nn.Module | None = None,
) -> list[dict[str, Any]]:
    """Divides the weights into groups with the same learning rate and weight decay.

    By default, weights with at most one dimension do not decay. These are the scales and biases of
    normalisation layers, the biases of other layers, and the slopes of PReLU. He et al., "Bag of
    tricks for image classification with convolutional neural networks", CVPR 2019, section 3.1.

    The class centres do decay. They also do so in InsightFace's arcface_torch, where everything
    decays, normalisation and biases too, and in the authors' code of AdaFace, where everything but
    the layers of batch normalisation does.

    Args:
        net: The backbone.
        loss: The loss, with its class centres if it has any.
        weight_decay: Factor of the weight decay, >= 0.
        decay_norm_and_bias: Whether the weights with at most one dimension also decay.
        lr_factor_loss: Learning rate of the loss divided by that of the backbone, > 0.
        layer_decay: Factor of the learning rate from a stage of the backbone to the one before it,
            0 < layer_decay <= 1. The last stage, the head, has the full learning rate. Clark et
            al., "ELECTRA", ICLR 2020, and Bao et al., "BEiT", ICLR 2022, use it for transformers.
        extra: Further modules that are trained, such as the heads of tasks. They have the learning
            rate of the head of the backbone.

    Returns:
        The groups as `torch.optim` expects them. Each has `params`, `weight_decay`, `name`, and
        `lr_factor`, by which the learning rate of the schedule is multiplied.

    Example:
        >>> import workbench as wb
        >>> from workbench.training.optimisers import parameter_groups
        >>> net = wb.backbones.create("smallresnet", embedding_dim=8)
        >>> loss = wb.losses.create("arcface", embedding_dim=8, num_classes=10)
        >>> groups = parameter_groups(
        ...     net, loss, weight_decay=5e-4, decay_norm_and_bias=False, lr_factor_loss=1.0,
        ...     layer_decay=1.0,
        ... )
        >>> [(group["name"], group["weight_decay"]) for group in groups]
        [('backbone', 0.0005), ('backbone, no decay', 0.0), ('loss', 0.0005)]
    """
    parts: list[tuple[str, float, list[nn.Parameter]]] = []
    if layer_decay == 1:
        parts.append(("backbone", 1.0, list(net.parameters())))
    else:
        for distance, stage in enumerate(reversed(net.stages())):
            parts.append((f"backbone, {stage.name}", layer_decay**distance, stage.parameters))
        parts.reverse()
    parts.append(("loss", lr_factor_loss, list(loss.parameters())))
    if extra is not None:
        parts.append(("tasks", 1.0, list(extra.parameters())))
    groups = []
    for name, factor, parameters in parts:
        for suffix, decay, selected in _by_decay(parameters, weight_decay, decay_norm_and_bias):
            groups.append(
                {
                    "params": selected,
                    "weight_decay": decay,
                    "lr_factor": factor,
                    "name": name + suffix,
                }
            )
    return groups


def create_optimizer(
    name: str,
    groups: list[dict[str, Any]],
    lr: float,
    momentum: float,
    options: Mapping[str, Any],
    device: torch.device,
) -> torch.optim.Optimizer:
    """Creates an optimiser by name.

    Args:
        name: "SGD", "Adam" or "AdamW".
        groups: Groups of parameters, from `parameter_groups`.
        lr: Learning rate, > 0.
        momentum: Momentum of SGD, 0 <= momentum < 1. Adam and AdamW ignore it; their momentum is
            the first of the `betas`.
        options: Further keyword arguments of the class in `torch.optim`, such as
            {"nesterov": True} or {"betas": [0.9, 0.99]}.
        device: Device of the parameters.

    Returns:
        The optimiser. Where PyTorch has a fused implementation for the device, it is used: it needs
        no copies of the gradients, which are large for many classes.

    Raises:
        WorkbenchError: if the name or an option is unknown (the message suggests the nearest one),
            or a value is invalid.

    Example:
        >>> import torch
        >>> from workbench.training.optimisers import create_optimizer
        >>> groups = [{"params": [torch.nn.Parameter(torch.zeros(2))]}]
        >>> device = torch.device("cpu")
        >>> optimizer = create_optimizer("SGD", groups, 0.1, 0.9, {"nesterov": True}, device)
        >>> optimizer.param_groups[0]["nesterov"], optimizer.param_groups[0]["momentum"]
        (True, 0.9)
    """
    if name not in OPTIMIZERS:
        raise unknown_name("optimizer", name, OPTIMIZERS)
    make = OPTIMIZERS[name]
    known = [option for option in inspect.signature(make).parameters if option != "params"]
    arguments: dict[str, Any] = {"lr": lr, "fused": device.type in ("cpu", "cuda")}
    if name == "SGD":
        arguments["momentum"] = momentum
    for option, value in options.items():
        if option in SETTINGS:
            raise WorkbenchError(
                f"optimizer_options: {option!r} is not allowed here; it is a setting of its own"
            )
        if option not in known:
            raise unknown_name(
                f"option of optimizer {name!r}",
                option,
                [one for one in known if one not in SETTINGS],
            )
        arguments[option] = tuple(value) if isinstance(value, list) else value
    try:
        return make(groups, **arguments)
    except (ValueError, TypeError, IndexError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise WorkbenchError(f"optimizer_options {dict(options)}: {reason}") from None


def _by_decay(
    parameters: list[nn.Parameter], weight_decay: float, decay_norm_and_bias: bool
) -> Iterator[tuple[str, float, list[nn.Parameter]]]:
    """Yields the parameters that decay and those that do not, each if there are any.

    With each the suffix of the group's name and its weight decay are yielded.
    """
    if decay_norm_and_bias or weight_decay == 0:
        decaying, fixed = parameters, []
    else:
        decaying = [parameter for parameter in parameters if parameter.ndim > 1]
        fixed = [parameter for parameter in parameters if parameter.ndim <= 1]
    if decaying:
        yield "", weight_decay, decaying
    if fixed:
        yield ", no decay", 0.0, fixed
