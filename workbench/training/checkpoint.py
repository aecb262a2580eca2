"""Saving and restoring a training: last.ckpt to resume it, model.safetensors to use its model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.files import atomic_path, check_writable
from workbench.finite import check_tensors
from workbench.runs import AVERAGED_MODEL, CHECKPOINT, MADE_WITH, MODEL, TASKS, Run, made_with
from workbench.training.setup import Setup

MOMENTS: dict[type[torch.optim.Optimizer], int] = {
    torch.optim.SGD: 1,
    torch.optim.Adam: 2,
    torch.optim.AdamW: 2,
}
"""The number of tensors that an optimiser keeps for each parameter, such as its momentum."""


def save(
    run: Run,
    config: Mapping[str, Any],
    setup: Setup,
    step: int,
    metrics_bytes: int,
    remedy: str,
) -> None:
    """Writes last.ckpt and model.safetensors, after checking that all values are finite.

    Args:
        run: The run.
        config: The current settings; a resumed run compares its own with them.
        setup: The objects of the training whose state is saved.
        step: Number of steps done. The order of the images, the augmentation and the schedules
            follow from it and need no state of their own.
        metrics_bytes: Length of metrics.jsonl, to which a resumed run truncates it.
        remedy: What to do about values that are not finite, for the end of the message.

    Raises:
        WorkbenchError: if a weight, a buffer or the state of the optimiser is NaN or infinite, or
            if the files cannot be written. The previous files are unchanged then.
    """
    tensors = _tensors(setup)
    check_tensors(tensors | _moments(setup), f"the model at step {step}", remedy)
    state = {
        "config": dict(config),
        "step": step,
        "metrics_bytes": metrics_bytes,
        **{name: module.state_dict() for name, module in setup.modules.items()},
        **{name: holder.state_dict() for name, holder in setup.state_holders.items()},
        "optimizer": {"by_name": _optimizer_state(setup)},
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    metadata = {
        "step": str(step),
        "num_classes": str(setup.loss.num_classes),
        MADE_WITH: json.dumps(made_with(config)),
    }
    if setup.objective.heads is not None:
        metadata[TASKS] = setup.objective.heads.described()
    files: dict[str, Callable[[Path], None]] = {CHECKPOINT: lambda path: torch.save(state, path)}
    files[MODEL] = lambda path: save_file(_on_cpu(tensors), path, metadata=metadata)
    if setup.average is not None:
        averaged = _named({"backbone": setup.average.averaged})
        files[AVERAGED_MODEL] = lambda path: save_file(_on_cpu(averaged), path, metadata=metadata)
    # All files are complete before one of them is renamed, so that they are of the same step.
    with ExitStack() as stack:
        for name, write in files.items():
            write(stack.enter_context(atomic_path(run.path / name)))


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


def restore(run: Run, state: Mapping[str, Any], setup: Setup) -> None:
    """Loads a state from `read` into the objects of a training, and sets the random state.

    Args:
        run: The run, for messages.
        state: The state.
        setup: The objects of the training.

    Raises:
        WorkbenchError: if the state is of another model, or contains NaN or infinite values.
    """
    try:
        for name, module in setup.modules.items():
            module.load_state_dict(state[name])
        _restore_optimizer(setup, state["optimizer"])
        for name, holder in setup.state_holders.items():
            if name in state:  # checkpoints of earlier versions lack some
                holder.load_state_dict(state[name])
        torch.set_rng_state(state["rng"])
        if torch.cuda.is_available() and len(state["cuda_rng"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda_rng"])
    except Exception as error:
        raise _not_of_this_run(run, error) from None
    check_tensors(
        _tensors(setup) | _moments(setup),
        str(run.path / CHECKPOINT),
        "it cannot be resumed; start a new run with a lower lr",
    )


def check_space(folder: Path, setup: Setup) -> None:
    """Checks, before training, that the files can be written and that the disk has room for them.

    As the old files are kept until the new ones are complete, there must be room for two of each.

    Args:
        folder: The run directory, or the folder in which it will be created.
        setup: The objects of the training.

    Raises:
        WorkbenchError: if the folder cannot be written to, or the room is too small.
    """
    weights = sum(tensor.nbytes for tensor in _tensors(setup).values())
    trained = sum(
        parameter.nbytes for module in setup.modules.values() for parameter in module.parameters()
    )
    existing = sum(
        path.stat().st_size
        for name in (CHECKPOINT, MODEL, AVERAGED_MODEL)
        if (path := folder / name).is_file()
    )
    # last.ckpt holds the weights and the state of the optimiser, model.safetensors the weights
    # again, and an average is stored in a file of its own and in last.ckpt.
    needed = 2 * weights + MOMENTS[type(setup.optimizer)] * trained
    if setup.average is not None:
        needed += 2 * sum(tensor.nbytes for tensor in setup.net.state_dict().values())
    check_writable(folder, max(2 * needed - existing, 0))


def _named(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Returns weights and buffers of modules by their names in model.safetensors."""
    return {
        f"{prefix}.{key}": value
        for prefix, module in modules.items()
        for key, value in module.state_dict().items()
    }


def _tensors(setup: Setup) -> dict[str, Tensor]:
    """Returns all weights and buffers by their names in model.safetensors."""
    return _named(setup.modules)


def _moments(setup: Setup) -> dict[str, Tensor]:
    """Returns the state of the optimiser by the names of the parameters."""
    return {
        f"{name} ({key})": value
        for name, moments in _optimizer_state(setup).items()
        for key, value in moments.items()
        if isinstance(value, Tensor)
    }


def _parameters(setup: Setup) -> dict[str, nn.Parameter]:
    """Returns the trained parameters by their names in model.safetensors."""
    return {
        f"{prefix}.{name}": parameter
        for prefix, module in setup.modules.items()
        for name, parameter in module.named_parameters()
    }


def _optimizer_state(setup: Setup) -> dict[str, dict[str, Any]]:
    """Returns the state of the optimiser by the names of the parameters.

    PyTorch's own `state_dict` has it by the positions of the parameters, which change with the
    settings that group them.
    """
    state = setup.optimizer.state
    return {
        name: dict(state[parameter])
        for name, parameter in _parameters(setup).items()
        if parameter in state
    }


def _restore_optimizer(setup: Setup, saved: Mapping[str, Any]) -> None:
    """Loads the state of the optimiser that `_optimizer_state` returned."""
    parameters = _parameters(setup)
    if "param_groups" in saved:  # checkpoints of earlier versions have positions
        names = list(parameters)
        by_name = {names[position]: one for position, one in saved["state"].items()}
    else:
        by_name = saved["by_name"]
    unknown = sorted(by_name.keys() - parameters.keys())
    if unknown:
        raise ValueError(f"its optimiser has a state for {unknown[0]}, which the model lacks")
    position_of = {
        id(parameter): position
        for position, parameter in enumerate(
            parameter for group in setup.optimizer.param_groups for parameter in group["params"]
        )
    }
    state = setup.optimizer.state_dict()
    state["state"] = {position_of[id(parameters[name])]: one for name, one in by_name.items()}
    setup.optimizer.load_state_dict(state)


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def _not_of_this_run(run: Run, error: Exception) -> WorkbenchError:
    reason = " ".join(str(error).split())[:160]
    return WorkbenchError(f"{run.path / CHECKPOINT}: not a checkpoint of this run ({reason})")
