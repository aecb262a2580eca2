"""What is saved during training: last.ckpt to go on from, model.safetensors to look at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.files import atomic_path, check_writable
from workbench.finite import check_tensors
from workbench.losses import Loss
from workbench.runs import CHECKPOINT, MADE_WITH, MODEL, Run, made_with
from workbench.training.clipping import Clipper


def save(
    run: Run,
    config: Mapping[str, Any],
    net: nn.Module,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    clipper: Clipper,
    step: int,
    metrics_bytes: int,
    remedy: str,
) -> None:
    """Write both files, if all numbers in them are finite.

    Args:
        config: the settings in force, which a resumed run is compared with.
        step: number of steps done; order, augmentation and schedule follow from it.
        metrics_bytes: length of metrics.jsonl, to which a resumed run cuts it back.
        remedy: what to do about numbers that are not finite, to end the message with.

    Raises:
        WorkbenchError: a weight, a buffer or the optimiser holds a NaN or an infinity, or the files cannot be written; what
            was there before is still there.
    """
    tensors = _tensors(net, loss)
    check_tensors(tensors | _moments(net, loss, optimizer), f"the model at step {step}", remedy)
    state = {
        "config": dict(config),
        "step": step,
        "metrics_bytes": metrics_bytes,
        "backbone": net.state_dict(),
        "loss": loss.state_dict(),
        "optimizer": optimizer.state_dict(),
        "clipped": clipper.state_dict(),
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    weights = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {
        "step": str(step),
        "num_classes": str(loss.num_classes),
        MADE_WITH: json.dumps(made_with(config)),
    }
    # Both are written before either takes the place of the one before, so that they are of the same step.
    with (
        atomic_path(run.path / CHECKPOINT) as new_checkpoint,
        atomic_path(run.path / MODEL) as new_model,
    ):
        torch.save(state, new_checkpoint)
        save_file(weights, new_model, metadata=metadata)


def read(run: Run) -> dict[str, Any]:
    """What `save` put into last.ckpt, as it is.

    The file is read with PyTorch's allow-list of tensors and plain containers; it cannot run code.

    Raises:
        WorkbenchError: no checkpoint yet, or it is damaged.
    """
    path = run.path / CHECKPOINT
    if not path.is_file():
        raise WorkbenchError(
            f"{path}: missing; the run stopped before its first checkpoint, start it anew"
        )
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return dict(state) | {
            "step": int(state["step"]),
            "metrics_bytes": int(state["metrics_bytes"]),
        }
    except Exception as error:  # a damaged file raises OSError, RuntimeError, UnpicklingError, struct.error, AttributeError, ...
        raise _not_of_this_run(run, error) from None


def restore(
    run: Run,
    state: Mapping[str, Any],
    net: nn.Module,
    loss: nn.Module,
    optimizer: torch.optim.Optimizer,
    clipper: Clipper,
) -> None:
    """Put what `read` gave into place, random states included.

    Raises:
        WorkbenchError: it is of another model, or holds a NaN or an infinity.
    """
    try:
        net.load_state_dict(state["backbone"])
        loss.load_state_dict(state["loss"])
        optimizer.load_state_dict(state["optimizer"])
        if "clipped" in state:  # older checkpoints did not count
            clipper.load_state_dict(state["clipped"])
        torch.set_rng_state(state["rng"])
        if torch.cuda.is_available() and len(state["cuda_rng"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda_rng"])
    except Exception as error:
        raise _not_of_this_run(run, error) from None
    tensors = _tensors(net, loss) | _moments(net, loss, optimizer)
    check_tensors(
        tensors,
        str(run.path / CHECKPOINT),
        "nothing can be trained on from there; start a new run with a lower lr",
    )


def check_space(folder: Path, net: nn.Module, loss: nn.Module) -> None:
    """Check, before training, that the files can be written and that the disk has room for them.

    The old files stay until the new ones are there, so there must be room for two of each.

    Args:
        folder: the run directory, or the folder in which it will be made.

    Raises:
        WorkbenchError: no permission, or not enough room.
    """
    weights = sum(tensor.nbytes for tensor in _tensors(net, loss).values())
    momentum = sum(parameter.nbytes for parameter in [*net.parameters(), *loss.parameters()])
    there = sum(
        path.stat().st_size for name in (CHECKPOINT, MODEL) if (path := folder / name).is_file()
    )
    check_writable(folder, max(2 * (2 * weights + momentum) - there, 0))


def _tensors(net: nn.Module, loss: nn.Module) -> dict[str, Tensor]:
    """Weights and buffers, called as in model.safetensors."""
    modules = {"backbone": net, "loss": loss}
    return {
        f"{prefix}.{key}": value
        for prefix, module in modules.items()
        for key, value in module.state_dict().items()
    }


def _moments(
    net: nn.Module, loss: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """What the optimiser remembers of each parameter."""
    named = [
        (f"{prefix}.{name}", parameter)
        for prefix, module in (("backbone", net), ("loss", loss))
        for name, parameter in module.named_parameters()
    ]
    return {
        f"{name} ({what})": value
        for name, parameter in named
        for what, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def _not_of_this_run(run: Run, error: Exception) -> WorkbenchError:
    reason = " ".join(str(error).split())[:160]
    return WorkbenchError(f"{run.path / CHECKPOINT}: not a checkpoint of this run ({reason})")
