"""Importing a model of another program as a run directory."""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from workbench import __version__, runs
from workbench.backbones.base import as_size
from workbench.errors import WorkbenchError
from workbench.exchange.imported_network import (
    ImportedNetwork,
    Scaling,
    note_on_size,
    notes_on_scaling,
)
from workbench.exchange.packaged import PACKAGED
from workbench.files import atomic_path, check_writable
from workbench.scaling import PerChannel
from workbench.weights import fitting_backbone, read_checkpoint

SUFFIX = ".onnx"


def import_model(
    path: str | Path,
    *,
    name: str | None = None,
    runs_dir: str | Path = "runs",
    backbone: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    pixel_mean: PerChannel | None = None,
    pixel_std: PerChannel | None = None,
    channels: str | None = None,
    output: str | None = None,
) -> runs.Run:
    """Makes a run directory of a network that was trained by another program.

    The run can be evaluated and shown like every other run, and a new training can begin with its
    weights (`init`), unless they come from an ONNX file.
    `run.environment["imported"]["notes"]` lists what was understood, left out and assumed.

    Args:
        path: A PyTorch or safetensors file with a state_dict, such as `backbone.pth`, `model.pt`
            and `checkpoint_gpu_0.pt` of arcface_torch or a `.ckpt` of AdaFace; or an ONNX file
            with one image input, (N, 3, H, W) or (N, H, W, 3), and embeddings (N, D) among its
            outputs. ONNX files need the extra `onnx`. The text "dlib" stands for dlib's face
            recognition network, which is read from an installed package and needs the extra
            `reference`.
        name: Name of the run; by default "imported-" and the name of the backbone, of the ONNX
            file, or of the packaged model.
        runs_dir: Folder of the run directories.
        backbone: Name of the backbone of a state_dict; by default the registered one that its
            weights fit. Not allowed for ONNX files.
        image_size: Height and width of the images in pixels; an int means a square. By default
            the size that an ONNX file states; for a state_dict 112, or 112 x 96 if its weights
            fit only that size; else 112.
        pixel_mean: Mean that is subtracted from pixel values 0..255: one number, or three in the
            order of `channels`. By default what `export_onnx` wrote into the file; else 0 if an
            ONNX network takes integers or begins with a subtraction and a multiplication, as
            those of insightface do; else 127.5.
        pixel_std: Standard deviation by which the result is divided. The defaults are those of
            `pixel_mean`, with 1 instead of 0.
        channels: Order of the colour channels: "rgb", or "bgr" as in AdaFace. By default what
            `export_onnx` wrote into the file, else "rgb".
        output: Name of the output of an ONNX file that holds the embeddings; by default the only
            output of shape (N, D).

    Returns:
        The run, in state "finished".

    Raises:
        WorkbenchError: if the file is damaged, contains code or fits no backbone, or if the disk
            has no room for it. No run directory remains then.

    Example:
        >>> import tempfile, torch, workbench as wb
        >>> net = wb.backbones.create("smallresnet", embedding_dim=16, image_size=32)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(net.state_dict(), f"{folder}/net.pth")
        ...     run = wb.import_model(
        ...         f"{folder}/net.pth", backbone="smallresnet", image_size=32, runs_dir=folder
        ...     )
        ...     print(run.name, run.state, run.config["embedding_dim"])
        imported-smallresnet finished 16
    """
    if isinstance(path, str) and path in PACKAGED.names():
        options = {
            "backbone": backbone,
            "image_size": image_size,
            "pixel_mean": pixel_mean,
            "pixel_std": pixel_std,
            "channels": channels,
            "output": output,
        }
        network, stem = _read_packaged(path, options), path
    else:
        scaling = {"mean": pixel_mean, "std": pixel_std, "channels": channels}
        network, stem = _read_file(Path(path), backbone, image_size, scaling, output)
    check_writable(Path(runs_dir), network.size)
    run = runs.create(runs_dir, name or f"{runs.IMPORTED}-{stem}", _config(network))
    _store(network, run)
    return run


def _read_packaged(name: str, options: dict[str, Any]) -> ImportedNetwork:
    """Reads a model of an installed package, which allows no options."""
    if chosen := [option for option, value in options.items() if value is not None]:
        raise WorkbenchError(
            f"{name}: everything about this network is known; leave out {', '.join(chosen)}"
        )
    return PACKAGED.create(name)


def _read_file(
    source: Path,
    backbone: str | None,
    image_size: int | tuple[int, int] | None,
    scaling: dict[str, Any],
    output: str | None,
) -> tuple[ImportedNetwork, str]:
    """Reads a file, and returns the network and its part of the default name of the run."""
    if not source.is_file():
        raise WorkbenchError(
            f"{source}: no such file; give a PyTorch checkpoint (.pth, .pt, .ckpt, .safetensors), "
            f"an ONNX file, or the name of a packaged model ({', '.join(PACKAGED.names())})"
        )
    scaling_options = {key: value for key, value in scaling.items() if value is not None}
    Scaling(**scaling_options)  # raises the error of a wrong option before the file is read
    size = None if image_size is None else as_size(image_size)

    if source.suffix.lower() == SUFFIX:
        if backbone is not None:
            raise WorkbenchError(
                f"{source}: an ONNX file is a whole network; --backbone is for PyTorch checkpoints"
            )
        from workbench.exchange.onnx_files import read_onnx  # needs the extra `onnx`

        network = read_onnx(source, size, scaling_options, output)
        return network, re.sub(r"[^A-Za-z0-9._+-]+", "-", source.stem)[:100]
    if output is not None:
        raise WorkbenchError(
            f"{source}: a state_dict has no named outputs; --output is for ONNX files"
        )
    network = _read_state_dict(source, backbone, size, scaling_options)
    return network, network.settings["backbone"]


def _read_state_dict(
    source: Path,
    backbone: str | None,
    size: tuple[int, int] | None,
    scaling_options: dict[str, Any],
) -> ImportedNetwork:
    """Reads a state_dict and finds the registered backbone that its weights fit."""
    fit = fitting_backbone(read_checkpoint(source), str(source), backbone, size)
    net = fit.net
    tensors = {
        f"backbone.{key}": value.detach().contiguous() for key, value in net.state_dict().items()
    }
    settings: dict[str, Any] = {
        "backbone": fit.name,
        "embedding_dim": net.embedding_dim,
        "image_size": net.image_size,
    }
    if fit.options:
        settings["backbone_options"] = fit.options
    scaling = Scaling(**scaling_options)
    notes = list(fit.notes)
    if size is None:
        notes.append(note_on_size(net.image_size))
    notes += notes_on_scaling(scaling, scaling_options)
    return ImportedNetwork(settings, tensors, scaling, notes, source)


def _config(network: ImportedNetwork) -> dict[str, Any]:
    """Returns the config.yaml of the run."""
    height, width = network.settings["image_size"]
    return {
        "loss": runs.IMPORTED,
        **network.settings,
        "image_size": height if height == width else [height, width],
        "pixel_mean": _plain(network.scaling.mean),
        "pixel_std": _plain(network.scaling.std),
        "channels": network.scaling.channels,
        "imported": network.source.name,
    }


def _store(network: ImportedNetwork, run: runs.Run) -> None:
    """Writes the network and environment.json into a new run; removes the run if that fails."""
    try:
        with atomic_path(run.model_path) as temporary:
            if isinstance(network.content, dict):
                save_file(network.content, temporary)
            else:
                temporary.write_bytes(network.content)
        runs.write_json(run.path / runs.ENVIRONMENT, _environment(network))
        run.set_status("finished", message=f"imported from {network.source.name}")
    except BaseException as error:
        shutil.rmtree(run.path, ignore_errors=True)
        if isinstance(error, OSError):
            raise WorkbenchError(f"{run.path}: cannot be written ({error.strerror})") from None
        raise


def _plain(value: PerChannel) -> float | list[float]:
    """Returns a mean or standard deviation as YAML stores it."""
    return [float(one) for one in value] if isinstance(value, tuple | list) else float(value)


def _environment(network: ImportedNetwork) -> dict[str, Any]:
    """Returns the environment.json of the run."""
    source = network.source
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "workbench": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnxruntime": version("onnxruntime"),
        "platform": platform.platform(),
        "imported": {
            "file": source.name,
            "bytes": source.stat().st_size,
            "sha256": digest,
            "notes": network.notes,
        },
    }
