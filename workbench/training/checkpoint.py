"""Saving and restoring a training: last.ckpt to resume it, model.safetensors to use its model."""

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
    """Writes last.ckpt and model.safetensors, after checking that all values are finite.

    Args:
        run: The run.
        config: The current settings; a resumed run compares its own with them.
        net: The backbone.
        loss: The loss.
        optimizer: The optimiser, with its momentum.
        clipper: The clipper, with its counts.
        step: Number of steps done. The order of the images, the augmentation and the schedules
            follow from it and need no state of their own.
        metrics_bytes: Length of metrics.jsonl, to which a resumed run truncates it.
        remedy: What to do about values that are not finite, for the end of the message.

    Raises:
        WorkbenchError: if a weight, a buffer or the state of the optimiser is NaN or infinite, or
            if the files cannot be written. The previous files are unchanged then.
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
    # Both files are complete before either is renamed, so that they are always of the same step.
    with (
        atomic_path(run.path / CHECKPOINT) as new_checkpoint,
        atomic_path(run.path / MODEL) as new_model,
    ):
        torch.save(state, new_checkpoint)
        save_file(weights, new_model, metadata=metadata)


def read(run: Run) -> dict[str, Any]:
    """Reads last.ckpt with PyTorch's allow-list of tensors and plain containers.

    Args:
        run: The run.

    Returns:
        The state that `save` wrote.

    Raises:
        WorkbenchError: if there is no checkpoint yet, or if it is damaged.
    """
    path = run.path / CHECKPOINT
    if not path.is_file():
        raise WorkbenchError(
            f"{path}: missing; the run stopped before its first checkpoint, start a new run"
        )
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return dict(state) | {
            "step": int(state["step"]),
            "metrics_bytes": int(state["metrics_bytes"]),
        }
    except Exception as error:
        # A damaged file raises OSError, RuntimeError, UnpicklingError, struct.error, ...
        raise _not_of_this_run(run, error) from None


def restore(
    run: Run,
    state: Mapping[str, Any],
    net: nn.Module,
    loss: nn.Module,
    optimizer: torch.optim.Optimizer,
    clipper: Clipper,
) -> None:
    """Loads a state from `read` into the objects of a training, and sets the random state.

    Args:
        run: The run, for messages.
        state: The state.
        net: The backbone.
        loss: The loss.
        optimizer: The optimiser.
        clipper: The clipper.

    Raises:
        WorkbenchError: if the state is of another model, or contains NaN or infinite values.
    """
    try:
        net.load_state_dict(state["backbone"])
        loss.load_state_dict(state["loss"])
        optimizer.load_state_dict(state["optimizer"])
        if "clipped" in state:  # checkpoints of earlier versions have no counts
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
        "it cannot be resumed; start a new run with a lower lr",
    )


def check_space(folder: Path, net: nn.Module, loss: nn.Module) -> None:
    """Checks, before training, that the files can be written and that the disk has room for them.

    As the old files are kept until the new ones are complete, there must be room for two of each.

    Args:
        folder: The run directory, or the folder in which it will be created.
        net: The backbone.
        loss: The loss.

    Raises:
        WorkbenchError: if the folder cannot be written to, or the room is too small.
    """
    weights = sum(tensor.nbytes for tensor in _tensors(net, loss).values())
    momentum = sum(parameter.nbytes for parameter in [*net.parameters(), *loss.parameters()])
    existing = sum(
        path.stat().st_size for name in (CHECKPOINT, MODEL) if (path := folder / name).is_file()
    )
    # last.ckpt holds weights and momentum, model.safetensors the weights again.
    check_writable(folder, max(2 * (2 * weights + momentum) - existing, 0))


def _tensors(net: nn.Module, loss: nn.Module) -> dict[str, Tensor]:
    """Returns weights and buffers by their names in model.safetensors."""
    modules = {"backbone": net, "loss": loss}
    return {
        f"{prefix}.{key}": value
        for prefix, module in modules.items()
        for key, value in module.state_dict().items()
    }


def _moments(
    net: nn.Module, loss: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """Returns the state of the optimiser by the names of the parameters."""
    parameters = [
        (f"{prefix}.{name}", parameter)
        for prefix, module in (("backbone", net), ("loss", loss))
        for name, parameter in module.named_parameters()
    ]
    return {
        f"{name} ({key})": value
        for name, parameter in parameters
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def _not_of_this_run(run: Run, error: Exception) -> WorkbenchError:
    reason = " ".join(str(error).split())[:160]
    return WorkbenchError(f"{run.path / CHECKPOINT}: not a checkpoint of this run ({reason})")
