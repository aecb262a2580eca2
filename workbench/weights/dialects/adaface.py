"""The names of the IR networks of AdaFace and CVLface."""

from __future__ import annotations

import torch

from workbench.weights.dialects.reading import Reading, Rule, prefix_before, renamed
from workbench.weights.state_dict import StateDict

_IR_LAYERS = {"0": "bn1", "1": "conv1", "2": "bn2", "3": "prelu", "4": "conv2", "5": "bn3"}
"""Layers of a residual block: AdaFace's numbers to names of `iresnet*`."""
_IR_STAGES = {64: 1, 128: 2, 256: 3, 512: 4}
"""Number of channels to number of the stage."""


def adaface_ir(state: StateDict) -> Reading | None:
    """Translates the IR networks of basic blocks of AdaFace and CVLface to `iresnet*`.

    These networks have two layers fewer, which are added with weights that do not change the
    output: the shortcut of their first block takes every second pixel, which is a convolution
    with the identity matrix; their last batch normalisation has no scale and shift, which is a
    scale of 1 and a shift of 0.

    Args:
        state: Tensors by the names in the file.

    Returns:
        The tensors under the names of `iresnet*`; None if the names are others.
    """
    prefix = prefix_before(state, "input_layer.0.weight")
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
    translated = renamed(state, prefix, rules)
    neutral = {
        f"{prefix}{key}": tensor
        for key, tensor in neutral.items()
        if f"{prefix}{key}" not in translated
    }
    return Reading(translated | neutral, "AdaFace's IR networks", added=len(neutral))


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
