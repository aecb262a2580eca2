"""Choosing a device by a name such as `auto`, `cpu` or `cuda:1`."""

from __future__ import annotations

import torch

from workbench.errors import WorkbenchError


def resolve_device(name: str) -> torch.device:
    """Returns the device with a name, after checking that this machine has it.

    Args:
        name: "cpu", "cuda", "cuda:N", "mps", or "auto" for the first of these that exists: a
            CUDA GPU, Apple's GPU, the CPU.

    Returns:
        The device.

    Raises:
        WorkbenchError: if the name is invalid, or if this machine has no such device.

    Example:
        >>> resolve_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise WorkbenchError(f"device {name!r}: expected auto, cpu, cuda, cuda:N or mps") from None
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(device.type, False):
        raise WorkbenchError(
            f"device {name!r} is not on this machine, which has cpu and "
            f"{torch.cuda.device_count()} CUDA device(s); use 'auto'"
        )
    return device
