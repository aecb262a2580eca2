"""The names of MobileFaceNets: arcface_torch's mbf and mbf_large, and foamliu's."""

from __future__ import annotations

import re
from typing import Any

import torch

from workbench.weights.dialects.reading import Reading, Rule, prefix_before, renamed
from workbench.weights.state_dict import StateDict

_BLOCKS, _WIDTH = (1, 4, 6, 2), 2
"""Default options of the backbone `mobilefacenet`."""


def arcface_torch(state: StateDict) -> Reading | None:
    """Translates `mbf` and `mbf_large` of arcface_torch, whose layers are in nested modules.

    Args:
        state: Tensors by the names in the file.

    Returns:
        The tensors under the names of `mobilefacenet`; None if the names are others.
    """
    prefix = prefix_before(state, "conv_sep.layers.0.weight")
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
    if width != _WIDTH:
        options["width"] = width
    if blocks != _BLOCKS:
        options["blocks"] = list(blocks)
    return Reading(
        renamed(state, prefix, rules), "arcface_torch's mobilefacenet", "mobilefacenet", options
    )


def foamliu(state: StateDict) -> Reading | None:
    """Translates the MobileFaceNet of the repository foamliu/MobileFaceNet.

    The bias of its last convolution is moved into the batch normalisation that follows, whose mean
    is reduced by it. The output does not change.

    Args:
        state: Tensors by the names in the file.

    Returns:
        The tensors under the names of `mobilefacenet`; None if the names are others.
    """
    prefix = prefix_before(state, "gdconv.depthwise.weight")
    if prefix is None or f"{prefix}dw_conv.pointwise.weight" not in state:
        return None
    place = re.compile(rf"{re.escape(prefix)}features\.(\d{{1,3}})\.")
    last = 2 + len({match[1] for key in state if (match := place.match(key))})
    rules: list[Rule] = [
        (r"conv1\.([01])\.", lambda m: f"features.0.{m[1]}."),
        (r"dw_conv\.depthwise\.", lambda m: "features.1.0.0."),
        (r"dw_conv\.bn1\.", lambda m: "features.1.0.1."),
        (r"dw_conv\.pointwise\.", lambda m: "features.1.1.0."),
        (r"dw_conv\.bn2\.", lambda m: "features.1.1.1."),
        (
            r"features\.(\d+)\.conv\.([01])\.([01])\.",
            lambda m: f"features.{int(m[1]) + 2}.body.{m[2]}.{m[3]}.",
        ),
        (
            r"features\.(\d+)\.conv\.([23])\.",
            lambda m: f"features.{int(m[1]) + 2}.body.2.{int(m[2]) - 2}.",
        ),
        (r"conv2\.([01])\.", lambda m: f"features.{last}.{m[1]}."),
        (r"gdconv\.depthwise\.", lambda m: "head.0."),
        (r"gdconv\.bn\.", lambda m: "head.1."),
        (r"conv3\.", lambda m: "head.3."),
        (r"bn\.", lambda m: "head.4."),
    ]
    tensors = renamed(state, prefix, rules)
    linear = tensors.get(f"{prefix}head.3.weight")
    if linear is not None and linear.shape[2:] == (1, 1):
        tensors[f"{prefix}head.3.weight"] = linear.flatten(1)
    bias = tensors.pop(f"{prefix}head.3.bias", None)
    mean = tensors.get(f"{prefix}head.4.running_mean")
    if bias is not None and mean is not None and bias.shape == mean.shape:
        tensors[f"{prefix}head.4.running_mean"] = torch.sub(mean, bias)
    return Reading(
        tensors,
        "foamliu's MobileFaceNet",
        "mobilefacenet",
        {"width": 1, "variant": "foamliu"},
        added=0 if bias is None else -1,
    )
