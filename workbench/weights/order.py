"""Assigning weights to the layers of a backbone by their order and shapes, whatever their names.

A state_dict lists its tensors in the order in which the layers were defined, and the layers of a
sequential network are defined in the order in which they are computed. If a file has the same
sequence of shapes as a backbone, and if the same tensors belong together in layers, then the names
do not matter.
"""

from __future__ import annotations

from torch import Tensor

from workbench.weights.state_dict import StateDict

COUNTER = "num_batches_tracked"
"""Name of the batch counters of batch normalisation, which old files do not contain."""
LAYER_TENSORS = ("weight", "bias", "running_mean", "running_var")
"""Names that PyTorch's layers give to their tensors. Other names are those of single parameters."""


def in_order(state: StateDict, expected: StateDict) -> StateDict | None:
    """Gives the tensors of a file the names of a backbone, by their order.

    The following must hold, otherwise the file is of another network:

    - The numbers of tensors are equal, without batch counters.
    - Each tensor has the expected shape. Axes of length 1 at the end do not count, so that a 1x1
      convolution can take the place of a linear layer.
    - Each tensor has the same name in its layer, such as "weight" or "running_mean".
    - Two tensors belong to the same layer in the file if they do in the backbone, and vice versa.

    Args:
        state: Tensors by the names in the file, in its order.
        expected: Tensors by the names of the backbone, in its order.

    Returns:
        The tensors by the names of the backbone, in the expected shapes; None if the file is of
        another network.

    Example:
        >>> import torch
        >>> state = {"last.weight": torch.ones(2, 3, 1, 1), "last.bias": torch.zeros(2)}
        >>> expected = {"fc.weight": torch.zeros(2, 3), "fc.bias": torch.zeros(2)}
        >>> {name: tuple(tensor.shape) for name, tensor in in_order(state, expected).items()}
        {'fc.weight': (2, 3), 'fc.bias': (2,)}
    """
    theirs, ours = _without_counters(state), _without_counters(expected)
    if len(theirs) != len(ours):
        return None
    layers: dict[str, str] = {}
    weights: StateDict = {}
    for (their_name, tensor), (name, wanted) in zip(theirs.items(), ours.items(), strict=True):
        their_layer, _, their_kind = their_name.rpartition(".")
        layer, _, kind = name.rpartition(".")
        is_same_kind = their_kind == kind or not {their_kind, kind} & {*LAYER_TENSORS}
        if not is_same_kind or layers.setdefault(layer, their_layer) != their_layer:
            return None
        if _without_ones(tensor) != _without_ones(wanted):
            return None
        weights[name] = tensor.reshape(wanted.shape)
    if len({*layers.values()}) != len(layers):
        return None
    return weights


def _without_counters(state: StateDict) -> StateDict:
    return {name: tensor for name, tensor in state.items() if not name.endswith(COUNTER)}


def _without_ones(tensor: Tensor) -> tuple[int, ...]:
    """Returns the shape without axes of length 1 at the end."""
    shape = tuple(tensor.shape)
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape
