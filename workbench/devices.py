"""Choosing a device by a name such as `auto`, `cpu` or `cuda:1`, and the name of the CPU."""

from __future__ import annotations

import platform
from pathlib import Path

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
        >>> from workbench.devices import resolve_device
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


def cpu_name() -> str:
    """Returns the model of the CPU, or its architecture where the system does not say the model.

    Example:
        >>> from workbench.devices import cpu_name
        >>> len(cpu_name()) > 0
        True
    """
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text(encoding="utf-8").splitlines() if cpus.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
