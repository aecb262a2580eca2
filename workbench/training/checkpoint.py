"""What is saved during training: last.ckpt to go on from, model.safetensors to look at."""

from __future__ import annotations

import json
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.files import atomic_path
from workbench.losses import Loss
from workbench.runs import CHECKPOINT, MADE_WITH, MODEL, Run, made_with


def save(run: Run, net: nn.Module, loss: Loss, optimizer: torch.optim.Optimizer, step: int, metrics_bytes: int) -> None:
    """Write both files.

    Args:
        step: number of steps done; order, augmentation and schedule follow from it.
        metrics_bytes: length of metrics.jsonl, to which a resumed run cuts it back.
    """
    state = {
        "step": step,
        "metrics_bytes": metrics_bytes,
        "backbone": net.state_dict(),
        "loss": loss.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    with atomic_path(run.path / CHECKPOINT) as temporary:
        torch.save(state, temporary)
    tensors: dict[str, Tensor] = {}
    for prefix, module in (("backbone", net), ("loss", loss)):
        for key, value in module.state_dict().items():
            tensors[f"{prefix}.{key}"] = value.detach().cpu().contiguous()
    metadata = {"step": str(step), "num_classes": str(loss.num_classes), MADE_WITH: json.dumps(made_with(run.config))}
    with atomic_path(run.path / MODEL) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def load(run: Run, net: nn.Module, loss: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, int]:
    """Restore what `save` saved, random states included; gives back (step, metrics_bytes).

    The file is read with PyTorch's allow-list of tensors and plain containers; it cannot run code.

    Raises:
        WorkbenchError: no checkpoint yet, damaged, or of another model.
    """
    path = run.path / CHECKPOINT
    if not path.is_file():
        raise WorkbenchError(f"{path}: missing; the run stopped before its first checkpoint, start it anew")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        net.load_state_dict(state["backbone"])
        loss.load_state_dict(state["loss"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        if torch.cuda.is_available() and len(state["cuda_rng"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda_rng"])
        return int(state["step"]), int(state["metrics_bytes"])
    except Exception as error:  # a damaged file raises OSError, RuntimeError, UnpicklingError, struct.error, AttributeError, ...
        reason = " ".join(str(error).split())[:160]
        raise WorkbenchError(f"{path}: not a checkpoint of this run ({reason})") from None
