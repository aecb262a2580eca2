"""Which device, which precision, and a record of both."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from workbench import __version__
from workbench.data import Dataset
from workbench.errors import WorkbenchError


def resolve_precision(name: str, device: torch.device) -> str:
    """`auto` -> "bf16" on GPUs and CPUs with bfloat16 matrix or vector units, where it is 1.5 to 3 times as fast, else "fp32".

    Raises:
        WorkbenchError: bf16 asked of a GPU without it.
    """
    if device.type == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        # PyTorch has no public name for these tests yet.
        has_bf16 = any(
            getattr(torch.cpu, test, lambda: False)()
            for test in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        )
    else:
        has_bf16 = False
    if name == "bf16" and device.type == "cuda" and not has_bf16:
        raise WorkbenchError(
            f"precision 'bf16': {torch.cuda.get_device_name(device)} does not have it; use 'fp32' or 'auto'"
        )
    return name if name != "auto" else "bf16" if has_bf16 else "fp32"


def loader_workers(wanted: int | None, device: torch.device) -> int:
    """Decoding processes: as wanted, else none beside a CPU that is busy training, up to 8 for a GPU."""
    if wanted is not None:
        return wanted
    return 0 if device.type == "cpu" else min(8, max((os.cpu_count() or 1) - 1, 1))


def environment(
    device: torch.device, precision: str, data: Dataset, without_partner: int | None = None
) -> dict[str, Any]:
    """What environment.json records.

    Args:
        without_partner: identities with one image, where the loss compares images of one identity; None where it does not.
    """
    partners = {} if without_partner is None else {"identities_without_partner": without_partner}
    return {
        "workbench": __version__,
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{device.type} ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "precision": precision,
        "data": {
            "name": data.name,
            "images": len(data),
            "identities": data.num_identities,
            **partners,
            "fingerprint": data.fingerprint(),
            "folder": str(Path.cwd()),  # from which a relative path in config.yaml is meant
        },
    }


def _git_commit() -> str | None:
    """Commit of the checkout this package is in; None for an installed package."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        asked = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return asked.stdout.strip() or None
