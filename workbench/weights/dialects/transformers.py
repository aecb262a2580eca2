"""The names of the vision transformers of arcface_torch and CVLface."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from workbench.weights.dialects.reading import Reading, Rule, prefix_before, renamed
from workbench.weights.state_dict import StateDict

_NAMES = {
    (256, 12): "vit_tiny",
    (512, 12): "vit_small",
    (512, 24): "vit_base",
    (768, 24): "vit_large",
}
"""Names of backbones by their default width and depth."""
_HEADS, _HEADS_OF_CVLFACE_BASE = 8, 16
"""Numbers of attention heads, on which the shapes of the weights do not depend."""
_EPSILON_DIFFERENCE = 2e-5 - 1e-5
"""Epsilon of the last two batch normalisations there, minus that of PyTorch."""


def face_vit(state: StateDict) -> Reading | None:
    """Translates `vit_*` of arcface_torch, and the ViTs of CVLface without position encodings.

    Two differences do not change the output. There, the first layer of the head takes the numbers
    of the tokens token by token, and here channel by channel; its columns are reordered. There, two
    batch normalisations add 2e-5 to the variance, and here 1e-5; the difference is added to their
    variances.

    Args:
        state: Tensors by the names in the file.

    Returns:
        The tensors under the names of `vit_*`; None if the names are others.
    """
    prefix = prefix_before(state, "patch_embed.proj.weight")
    patches = None if prefix is None else state[f"{prefix}patch_embed.proj.weight"]
    positions = None if prefix is None else state.get(f"{prefix}pos_embed")
    hidden = None if prefix is None else state.get(f"{prefix}blocks.0.mlp.fc1.weight")
    if prefix is None or patches is None or positions is None or hidden is None:
        return None
    if (patches.ndim, positions.ndim, hidden.ndim) != (4, 3, 2):
        return None
    rules: list[Rule] = [
        (r"patch_embed\.proj\.", lambda m: "patches."),
        (r"pos_embed$", lambda m: "positions"),
        (r"blocks\.(\d+)\.norm1\.", lambda m: f"blocks.{m[1]}.attention.0."),
        (r"blocks\.(\d+)\.attn\.qkv\.", lambda m: f"blocks.{m[1]}.attention.1.qkv."),
        (r"blocks\.(\d+)\.attn\.proj\.", lambda m: f"blocks.{m[1]}.attention.1.out."),
        (r"blocks\.(\d+)\.norm2\.", lambda m: f"blocks.{m[1]}.mlp.0."),
        (r"blocks\.(\d+)\.mlp\.fc1\.", lambda m: f"blocks.{m[1]}.mlp.1."),
        (r"blocks\.(\d+)\.mlp\.fc2\.", lambda m: f"blocks.{m[1]}.mlp.3."),
        (r"feature\.([0-3])\.", lambda m: f"head.{int(m[1]) + 2}."),
    ]
    tensors = renamed(state, prefix, rules)
    width = patches.shape[0]
    _reorder_columns(tensors, f"{prefix}head.2.weight", width)
    added = 0
    if f"{prefix}head.2.weight" in tensors:  # there, the layer has no bias
        tensors.setdefault(f"{prefix}head.2.bias", torch.zeros(width))
        added = 1
    for norm in ("head.3", "head.5"):
        key = f"{prefix}{norm}.running_var"
        if key in tensors:
            tensors[key] = tensors[key] + _EPSILON_DIFFERENCE
    unused = [f"{prefix}mask_token"] if tensors.pop(f"{prefix}mask_token", None) is not None else []
    name, options = _backbone(state, prefix, patches, hidden)
    return Reading(tensors, "the ViTs of arcface_torch", name, options, added=added, unused=unused)


def _backbone(
    state: StateDict, prefix: str, patches: Tensor, hidden: Tensor
) -> tuple[str, dict[str, Any]]:
    """Returns the name of the backbone and those of its options that differ from the defaults."""
    block = re.compile(rf"{re.escape(prefix)}blocks\.(\d{{1,3}})\.")
    depth = len({match[1] for key in state if (match := block.match(key))})
    width, patch = patches.shape[0], patches.shape[2]
    expansion = hidden.shape[0] // max(width, 1)
    options: dict[str, Any] = {"patch": patch}
    if 112 % max(patch, 1):
        options["cover"] = False
    if expansion != 4:
        options["expansion"] = expansion
    if expansion == 3 and depth == 24:
        options["heads"] = _HEADS_OF_CVLFACE_BASE
    name = _NAMES.get((width, depth))
    if name is None:
        name = "vit_small"
        options |= {"width": width, "depth": depth}
    return name, options


def _reorder_columns(tensors: StateDict, key: str, width: int) -> None:
    """Reorders the columns of a layer from token by token to channel by channel."""
    weight = tensors.get(key)
    if weight is not None and weight.ndim == 2 and width and weight.shape[1] % width == 0:
        tokens = weight.shape[1] // width
        by_token = weight.reshape(len(weight), tokens, width)
        tensors[key] = by_token.transpose(1, 2).reshape(weight.shape)
