"""`auto`, `cpu`, `cuda:1` -> a device that is there."""

from __future__ import annotations

import torch

from workbench.errors import WorkbenchError


def resolve_device(name: str) -> torch.device:
    """`auto` is the first GPU, else Apple's, else the CPU.

    Raises:
        WorkbenchError: no such device on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise WorkbenchError(f"device {name!r}: expected auto, cpu, cuda, cuda:N or mps") from None
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(device.type, False):
        there = f"cpu and {torch.cuda.device_count()} CUDA device(s)"
        raise WorkbenchError(
            f"device {name!r} is not on this machine, which has {there}; use 'auto'"
        )
    return device
