"""The stages of a network: groups of layers from input to output.

Layer-wise learning rates and freezing treat the layers of a stage alike.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from torch import nn

HEAD = "head"
"""Name of the last stage, which computes the embedding."""
CONTAINERS = (nn.Sequential, nn.ModuleList)
"""Modules whose children are layers or blocks that are applied one after the other."""
NETWORKS = ("trunk", "encoder")
"""Names of modules that contain a whole network: `trunk` in backbones of other libraries, and
`encoder` in transformers of torchvision."""
RESAMPLING = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
"""Layers that reduce the resolution if their stride is greater than 1."""


@dataclass
class Stage:
    """A group of consecutive layers of a network.

    Attributes:
        name: Name of the first layer of the stage in the network, such as "layer2". The last stage
            is always called "head".
        modules: Layers and blocks of the stage, in order.
        parameters: All weights of the stage, including those that belong to none of `modules`, such
            as the positions of a vision transformer. Each weight of a network is in exactly one
            stage.
    """

    name: str
    modules: list[nn.Module] = field(default_factory=list)
    parameters: list[nn.Parameter] = field(default_factory=list)


def split(net: nn.Module, head: Collection[str]) -> list[Stage]:
    """Splits a network into stages.

    The layers are visited in the order in which they were defined. A new stage begins

    - at a layer or block that reduces the resolution, such as the first block of each stage of a
      ResNet,
    - at each block with linear layers but without convolutions, such as a block of a vision
      transformer,
    - at the head, which is the last stage.

    Args:
        net: The network.
        head: Names of the direct children of `net` that belong to the head. If it has none of
            them, its last layer with weights is the head.

    Returns:
        The stages from input to output. It is empty for a network without weights.
    """
    units = list(_units(net, ""))
    begin = next(
        (number for number, (name, _) in enumerate(units) if name.partition(".")[0] in head), None
    )
    if begin is None:
        weighted = [number for number, (_, unit) in enumerate(units) if _has_weights(unit)]
        begin = max(weighted, default=0)
    stages = [Stage("")]
    waiting = False
    for name, unit in units[:begin]:
        # A pooling layer has no weights; the stage begins at the next layer that has some.
        waiting = waiting or _begins_stage(unit)
        if waiting and _has_weights(unit):
            if stages[-1].modules:
                stages.append(Stage(""))
            waiting = False
        _append(stages, name, unit)
    stages.append(Stage(HEAD))
    for name, unit in units[begin:]:
        _append(stages, name, unit)
    return [stage for stage in stages if stage.parameters]


def _append(stages: list[Stage], name: str, unit: nn.Module | nn.Parameter) -> None:
    """Adds a layer, a block or a weight to the last stage, except weights of earlier stages."""
    earlier = {parameter for stage in stages for parameter in stage.parameters}
    last = stages[-1]
    last.name = last.name or name
    if isinstance(unit, nn.Parameter):
        parameters = [unit]
    else:
        parameters = list(unit.parameters())
        last.modules.append(unit)
    last.parameters += [parameter for parameter in parameters if parameter not in earlier]


def _units(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module | nn.Parameter]]:
    """Yields the layers and blocks of a network, and weights that belong to none, by name."""
    for name, parameter in module.named_parameters(prefix=prefix, recurse=False):
        yield name, parameter
    for name, child in module.named_children():
        path = f"{prefix}.{name}" if prefix else name
        if isinstance(child, CONTAINERS) or name in NETWORKS:
            yield from _units(child, path)
        else:
            yield path, child


def _has_weights(unit: nn.Module | nn.Parameter) -> bool:
    return isinstance(unit, nn.Module) and any(True for _ in unit.parameters())


def _begins_stage(unit: nn.Module | nn.Parameter) -> bool:
    """Returns whether a layer or block reduces the resolution, or is a block of a transformer."""
    if isinstance(unit, nn.Parameter):
        return False
    layers = list(unit.modules())
    if any(_stride(layer) > 1 for layer in layers):
        return True
    has_linear_layers = any(isinstance(layer, nn.Linear) for layer in layers)
    has_convolutions = any(isinstance(layer, nn.Conv2d) for layer in layers)
    return len(layers) > 1 and has_linear_layers and not has_convolutions


def _stride(layer: nn.Module) -> int:
    """Returns the largest stride of a layer; 1 if it cannot reduce the resolution."""
    if not isinstance(layer, RESAMPLING):
        return 1
    stride = layer.stride
    return max(stride) if isinstance(stride, tuple) else int(stride)
