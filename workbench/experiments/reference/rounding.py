"""Rounds the weights of a run to float16, which halves the size of the file."""

from __future__ import annotations

from workbench import runs
from workbench.errors import WorkbenchError
from workbench.files import atomic_path


def round_weights(run: runs.Run) -> None:
    """Rounds the matrices in the model.safetensors of a run to float16.

    Vectors, such as biases and the statistics of batch normalisation, stay in float32: they are
    few, and a small variance has no exact enough value in float16. Reading the file gives float32
    again, with the rounded values. A file that is rounded already is not written again.

    Args:
        run: A finished run.

    Raises:
        WorkbenchError: if the run has no model.safetensors or a weight is too large for float16.
    """
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    path = run.path / runs.MODEL
    if not path.is_file():
        raise WorkbenchError(f"{path}: missing; only trained runs can be rounded")
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    wide = [
        name
        for name, tensor in tensors.items()
        if tensor.ndim > 1 and tensor.dtype == torch.float32
    ]
    if not wide:
        return
    for name in wide:
        rounded = tensors[name].half()
        if not rounded.isfinite().all():
            raise WorkbenchError(f"{path}: {name} has a weight that is too large for float16")
        tensors[name] = rounded
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)
