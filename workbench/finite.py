"""Finding NaN and infinite values in weights and buffers, by name."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from workbench.errors import WorkbenchError

MAX_NAMED = 3
"""Number of tensors that an error lists by name."""


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Returns the names of the tensors that contain a NaN or infinite value.

    Args:
        tensors: Tensors by name. Integer tensors are never listed.

    Returns:
        The names, in the order of `tensors`.

    Example:
        >>> not_finite({"a": torch.zeros(2), "b": torch.tensor([1.0, float("nan")])})
        ['b']
    """
    return [
        name
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    ]


def check_tensors(tensors: Mapping[str, Tensor], where: str, remedy: str) -> None:
    """Checks that all values of all tensors are finite.

    Args:
        tensors: Tensors by name, such as the weights and buffers in a state_dict.
        where: What contains the tensors, for the beginning of the message: a path, or "the model
            at step 300".
        remedy: What the reader can do, for the end of the message.

    Raises:
        WorkbenchError: if a tensor contains a NaN or infinite value.
    """
    wrong = not_finite(tensors)
    if wrong:
        more = f" and {len(wrong) - MAX_NAMED} more" if len(wrong) > MAX_NAMED else ""
        raise WorkbenchError(
            f"{where}: {len(wrong)} of {len(tensors)} tensors hold NaN or infinity "
            f"({', '.join(wrong[:MAX_NAMED])}{more}); {remedy}"
        )
