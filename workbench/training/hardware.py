"""The precision and the worker processes for a device, and the record of the environment."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from workbench import __version__
from workbench.data import Dataset
from workbench.devices import cpu_name
from workbench.errors import WorkbenchError


def resolve_precision(name: str, device: torch.device) -> str:
    """Returns the number format of the backbone.

    Args:
        name: The setting `precision`. "auto" means "bf16" on GPUs and CPUs that compute in
            bfloat16, where it is 1.5 to 3 times as fast, else "fp32".
        device: The device of the training.

    Returns:
        "fp32" or "bf16".

    Raises:
        WorkbenchError: if "bf16" is requested on a GPU without it.
    """
    if device.type == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        # PyTorch has no public functions for these tests yet.
        has_bf16 = any(
            getattr(torch.cpu, test, lambda: False)()
            for test in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        )
    else:
        has_bf16 = False
    if name == "bf16" and device.type == "cuda" and not has_bf16:
        raise WorkbenchError(
            f"precision 'bf16': {torch.cuda.get_device_name(device)} does not have it; use 'fp32' "
            "or 'auto'"
        )
    if name != "auto":
        return name
    return "bf16" if has_bf16 else "fp32"


def loader_workers(workers: int | None, device: torch.device) -> int:
    """Returns the number of worker processes that decode images.

    Args:
        workers: The setting `workers`. None means 0 on a CPU, whose cores are busy with training,
            and all cores but one, at least 1 and at most 8, for a GPU.
        device: The device of the training.
    """
    if workers is not None:
        return workers
    if device.type == "cpu":
        return 0
    return min(8, max((os.cpu_count() or 1) - 1, 1))


def environment(
    device: torch.device, precision: str, data: Dataset, without_partner: int | None = None
) -> dict[str, Any]:
    """Returns the contents of environment.json.

    Args:
        device: The device of the training.
        precision: The number format from `resolve_precision`.
        data: The training set.
        without_partner: Number of identities with a single image, for a loss that compares images
            of one identity; None for other losses.

    Returns:
        Versions, hardware, git commit, and name, size, fingerprint and folder of the data.
    """
    partners = {} if without_partner is None else {"identities_without_partner": without_partner}
    device_name = f"{device.type} ({platform.machine()})"
    if device.type == "cuda":
        device_name = torch.cuda.get_device_name(device)
    return {
        "workbench": __version__,
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": device_name,
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "precision": precision,
        "data": {
            "name": data.name,
            "images": len(data),
            "identities": data.num_identities,
            **partners,
            "fingerprint": data.fingerprint(),
            "folder": str(Path.cwd()),  # relative paths in config.yaml refer to this folder
        },
    }


def _git_commit() -> str | None:
    """Returns the commit of the git checkout of this package; None for an installed package."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        result = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
