"""Numbers that are no numbers: NaN and infinity in weights, buffers and embeddings are errors that name their place."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from workbench.errors import WorkbenchError

MOST_NAMED = 3


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that hold a NaN or an infinity; those of whole numbers cannot."""
    return [
        name
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    ]


def check_tensors(tensors: Mapping[str, Tensor], where: str, remedy: str) -> None:
    """Check that all tensors hold finite numbers.

    Args:
        tensors: by name, as a state_dict has them: weights and buffers.
        where: what they belong to, to begin the message with: a path, or "the model at step 300".
        remedy: what the reader can do about it, to end the message with.

    Raises:
        WorkbenchError: some hold a NaN or an infinity.
    """
    wrong = not_finite(tensors)
    if wrong:
        rest = f" and {len(wrong) - MOST_NAMED} more" if len(wrong) > MOST_NAMED else ""
        named = ", ".join(wrong[:MOST_NAMED]) + rest
        raise WorkbenchError(
            f"{where}: {len(wrong)} of {len(tensors)} tensors hold NaN or infinity ({named}); {remedy}"
        )
