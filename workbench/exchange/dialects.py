"""Translating the names that other programs give to the weights of registered backbones."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from workbench.exchange.state_dict import StateDict

Rule = tuple[str, Callable[[re.Match[str]], str]]
"""A pattern for the beginning of a name, and the function that makes the new beginning."""

_MBF_BLOCKS, _MBF_WIDTH = (1, 4, 6, 2), 2
"""Default options of the backbone `mobilefacenet`."""
_IR_LAYERS = {"0": "bn1", "1": "conv1", "2": "bn2", "3": "prelu", "4": "conv2", "5": "bn3"}
"""Layers of a residual block: AdaFace's numbers to names of `iresnet*`."""
_IR_STAGES = {64: 1, 128: 2, 256: 3, 512: 4}
"""Number of channels to number of the stage."""


@dataclass(frozen=True)
class Reading:
    """A state_dict under the names of a backbone of this package.

    Attributes:
        state: The tensors by name.
        origin: The program whose names were translated; empty if the names are as in the file.
        options: Options of the backbone that follow from the names and shapes.
        added: Number of tensors that are not from the file; they take the place of layers that
            have no weights in the other program.
    """

    state: StateDict
    origin: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    added: int = 0


def readings(state: StateDict) -> Iterator[Reading]:
    """Yields the state_dict unchanged, and translated if its names are of a known program.

    Args:
        state: Tensors by the names in the file.

    Yields:
        The possible readings, first the one with the names of the file.
    """
    yield Reading(state)
    for translate in (_arcface_torch_mobilefacenet, _adaface_ir):
        reading = translate(state)
        if reading is not None:
            yield reading


def _arcface_torch_mobilefacenet(state: StateDict) -> Reading | None:
    """Translates `mbf` and `mbf_large` of arcface_torch, whose layers are in nested modules."""
    prefix = _prefix(state, "conv_sep.layers.0.weight")
    first = None if prefix is None else state.get(f"{prefix}layers.0.layers.0.weight")
    if prefix is None or first is None or not first.ndim:
        return None
    unit = re.compile(rf"{re.escape(prefix)}layers\.([1357])\.layers\.(\d+)\.layers\.")
    units = {match.groups() for key in state if (match := unit.match(key))}
    # A first stage of one unit is a single convolution, for which the pattern finds no unit.
    blocks = tuple(max(sum(stage == place for stage, _ in units), 1) for place in "1357")
    starts = {0: 0, 1: 1}
    for place in range(2, 9):
        starts[place] = starts[place - 1] + (1 if place % 2 else blocks[place // 2 - 1])
    rules: list[Rule] = [
        (
            r"layers\.([1357])\.layers\.(\d+)\.layers\.(\d)\.layers\.",
            lambda m: f"features.{starts[int(m[1])] + int(m[2])}.body.{m[3]}.",
        ),
        (
            r"layers\.([246])\.layers\.(\d)\.layers\.",
            lambda m: f"features.{starts[int(m[1])]}.body.{m[2]}.",
        ),
        (r"layers\.([01])\.layers\.", lambda m: f"features.{m[1]}."),
        (r"conv_sep\.layers\.", lambda m: f"features.{starts[8]}."),
        (r"features\.layers\.0\.layers\.", lambda m: "head."),
        (r"features\.layers\.([23])\.", lambda m: f"head.{int(m[1]) + 1}."),
    ]
    width = first.shape[0] // 64
    options: dict[str, Any] = {}
    if width != _MBF_WIDTH:
        options["width"] = width
    if blocks != _MBF_BLOCKS:
        options["blocks"] = list(blocks)
    return Reading(_renamed(state, prefix, rules), "arcface_torch's mobilefacenet", options)


def _adaface_ir(state: StateDict) -> Reading | None:
    """Translates the IR networks of basic blocks of AdaFace and CVLface to `iresnet*`.

    These networks have two layers fewer, which are added with weights that do not change the
    output: the shortcut of their first block takes every second pixel, which is a convolution
    with the identity matrix; their last batch normalisation has no scale and shift, which is a
    scale of 1 and a shift of 0.
    """
    prefix = _prefix(state, "input_layer.0.weight")
    if prefix is None or f"{prefix}body.0.res_layer.5.weight" not in state:
        return None
    places = _places(state, prefix)
    rules: list[Rule] = [
        (r"input_layer\.([012])\.", lambda m: f"{('conv1', 'bn1', 'prelu')[int(m[1])]}."),
        (
            r"body\.(\d+)\.res_layer\.([0-5])\.",
            lambda m: f"{places.get(m[1], 'body.' + m[1])}.{_IR_LAYERS[m[2]]}.",
        ),
        (
            r"body\.(\d+)\.shortcut_layer\.",
            lambda m: f"{places.get(m[1], 'body.' + m[1])}.downsample.",
        ),
        (r"output_layer\.0\.", lambda m: "bn2."),
        (r"output_layer\.3\.", lambda m: "fc."),
        (r"output_layer\.4\.", lambda m: "features."),
    ]
    neutral = {
        "layer1.0.downsample.0.weight": torch.eye(64)[:, :, None, None],
        "layer1.0.downsample.1.weight": torch.ones(64),
        "layer1.0.downsample.1.bias": torch.zeros(64),
        "layer1.0.downsample.1.running_mean": torch.zeros(64),
        # Batch normalisation adds its epsilon of 1e-5 to the variance.
        "layer1.0.downsample.1.running_var": torch.full((64,), 1 - 1e-5),
    }
    closing = state.get(f"{prefix}output_layer.4.running_mean", torch.zeros(0))
    neutral |= {
        "features.weight": torch.ones_like(closing),
        "features.bias": torch.zeros_like(closing),
    }
    renamed = _renamed(state, prefix, rules)
    neutral = {
        f"{prefix}{key}": tensor
        for key, tensor in neutral.items()
        if f"{prefix}{key}" not in renamed
    }
    return Reading(renamed | neutral, "AdaFace's IR networks", added=len(neutral))


def _places(state: StateDict, prefix: str) -> dict[str, str]:
    """Maps the number of a block in `body` to its stage and its number in that stage.

    The stage follows from the number of channels.
    """
    places: dict[str, str] = {}
    counts = dict.fromkeys(_IR_STAGES.values(), 0)
    for number in range(len(state)):
        weight = state.get(f"{prefix}body.{number}.res_layer.4.weight")
        stage = None if weight is None or not weight.ndim else _IR_STAGES.get(weight.shape[0])
        if stage is None:
            break
        places[str(number)] = f"layer{stage}.{counts[stage]}"
        counts[stage] += 1
    return places


def _prefix(state: StateDict, name: str) -> str | None:
    """Returns the prefix of the first name that ends in `name`, or None if there is no such."""
    for key in state:
        if key == name or key.endswith(f".{name}"):
            return key.removesuffix(name)
    return None


def _renamed(state: StateDict, prefix: str, rules: list[Rule]) -> StateDict:
    """Applies to each name, after the prefix, the first rule that matches; the prefix stays."""

    def name_of(key: str) -> str:
        if not key.startswith(prefix):
            return key
        rest = key.removeprefix(prefix)
        for pattern, renamed in rules:
            if match := re.match(pattern, rest):
                return f"{prefix}{renamed(match)}{rest[match.end() :]}"
        return key

    return {name_of(key): tensor for key, tensor in state.items()}
