"""A model from elsewhere as a run directory, to be evaluated and shown beside those trained here."""

from __future__ import annotations

import hashlib
import math
import platform
import re
import shutil
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import torch
from safetensors.torch import save_file

from workbench import __version__, runs
from workbench.backbones.base import as_size
from workbench.data.batches import CHANNELS
from workbench.errors import WorkbenchError, unknown_name
from workbench.evaluation.onnx_network import OnnxNetwork, external_files, parse
from workbench.exchange.state_dict import fitting_backbone, read_state_dict
from workbench.files import atomic_path

SUFFIX = ".onnx"
_PASSED_ON = ("Cast", "Identity", "Transpose")


@dataclass(frozen=True)
class Scaling:
    """What a network's input is made with: `(x - mean) / std` of pixels 0..255, the colours in the order `channels`."""

    mean: float = 127.5
    std: float = 127.5
    channels: str = "rgb"

    def __post_init__(self) -> None:
        if not math.isfinite(self.mean):
            raise WorkbenchError(f"pixel_mean must be a number, got {self.mean}")
        if not (math.isfinite(self.std) and self.std > 0):
            raise WorkbenchError(f"pixel_std must be a positive number, got {self.std}")
        if self.channels not in CHANNELS:
            raise unknown_name("order of channels", self.channels, CHANNELS)


def import_model(
    path: str | Path,
    *,
    name: str | None = None,
    runs_dir: str | Path = "runs",
    backbone: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    pixel_mean: float | None = None,
    pixel_std: float | None = None,
    channels: str | None = None,
) -> runs.Run:
    """Make a run directory of a trained network; it can be evaluated and looked at as any other, but not trained.

    Args:
        path: a PyTorch file with a state_dict, such as arcface_torch's backbone.pth, model.pt and checkpoint_gpu_0.pt, or
            an ONNX file with one image input, (N, 3, H, W) or (N, H, W, 3), and one output, (N, D).
        name: of the run; by default "imported-" and the name of the backbone or the ONNX file.
        runs_dir: folder of the run directories.
        backbone: network of a state_dict; by default the registered one that it fits. Not for ONNX.
        image_size: height and width in pixels; an int means a square. By default what an ONNX file says, else 112.
        pixel_mean, pixel_std: input is `(x - mean) / std` of pixels 0..255. By default what `export_onnx` wrote into the
            file; 0 and 1 where an ONNX network begins with a subtraction and a multiplication, as insightface takes it;
            else 127.5 and 127.5.
        channels: "rgb", or "bgr" as AdaFace has it; by default what `export_onnx` wrote into the file, else "rgb".

    Returns:
        The run, finished.

    Raises:
        WorkbenchError: the file is damaged, holds more than tensors or fits no backbone; nothing is written then.
    """
    source = Path(path)
    if not source.is_file():
        raise WorkbenchError(f"{source}: no such file; give a PyTorch checkpoint (.pth, .pt) or an ONNX file (.onnx)")
    said: dict[str, Any] = {"mean": pixel_mean, "std": pixel_std, "channels": channels}
    given = {key: value for key, value in said.items() if value is not None}
    Scaling(**given)  # says what is wrong before minutes are spent on the file
    size = None if image_size is None else as_size(image_size)
    made = _of_onnx if source.suffix.lower() == SUFFIX else _of_state_dict
    network, content, scaling = made(source, backbone, size, given)
    height, width = network["image_size"]
    config = {
        "loss": runs.IMPORTED,
        **network,
        "image_size": height if height == width else [height, width],
        "pixel_mean": scaling.mean,
        "pixel_std": scaling.std,
        "channels": scaling.channels,
        "imported": source.name,
    }
    of = network["backbone"] if isinstance(content, dict) else re.sub(r"[^A-Za-z0-9._+-]+", "-", source.stem)[:100]
    run = runs.create(runs_dir, name or f"{runs.IMPORTED}-{of}", config)
    try:
        with atomic_path(run.model_path) as temporary:
            if isinstance(content, dict):
                save_file(content, temporary)
            else:
                temporary.write_bytes(content)
        runs.write_json(run.path / runs.ENVIRONMENT, _environment(source))
        run.set_status("finished", message=f"imported from {source.name}")
    except BaseException as error:
        shutil.rmtree(run.path, ignore_errors=True)  # made a moment ago, by this call
        if isinstance(error, OSError):
            raise WorkbenchError(f"{run.path}: cannot be written ({error.strerror})") from None
        raise
    return run


Made = tuple[dict[str, Any], dict[str, torch.Tensor] | bytes, Scaling]
"""Settings of the network, what is stored of it, and the scaling of its input."""


def _of_state_dict(source: Path, backbone: str | None, size: tuple[int, int] | None, given: dict[str, Any]) -> Made:
    name, net = fitting_backbone(read_state_dict(source), str(source), backbone, size or (112, 112))
    tensors = {f"backbone.{key}": value.detach().contiguous() for key, value in net.state_dict().items()}
    settings = {"backbone": name, "embedding_dim": net.embedding_dim, "image_size": net.image_size}
    return settings, tensors, Scaling(**given)


def _of_onnx(source: Path, backbone: str | None, size: tuple[int, int] | None, given: dict[str, Any]) -> Made:
    if backbone is not None:
        raise WorkbenchError(f"{source}: an ONNX file is a whole network; --backbone is for PyTorch checkpoints")
    try:
        content = source.read_bytes()
    except OSError as error:
        raise WorkbenchError(f"{source}: cannot be read ({error.strerror})") from None
    model = parse(content, str(source))
    if external_files(model):
        content = _in_one(model, source)
    scaling = replace(_scaling_of(model, source), **given)
    net = OnnxNetwork(content, str(source), size)
    return {"backbone": runs.ONNX, "embedding_dim": net.embedding_dim, "image_size": net.image_size}, content, scaling


def _in_one(model: onnx.ModelProto, source: Path) -> bytes:
    """The file with the weights in it that lie in files beside it."""
    folder = source.resolve().parent
    for name in external_files(model):
        beside = (folder / name).resolve()
        if not name or not beside.is_relative_to(folder):
            raise WorkbenchError(f"{source}: refused: its weights are in {name!r}, outside of its folder")
        if not beside.is_file():
            raise WorkbenchError(f"{source}: its weights are in {name!r}, which is not beside it")
    try:
        onnx.load_external_data_for_model(model, str(folder))
        whole: bytes = model.SerializeToString()
    except Exception as error:  # a file too short raises ValueError, links ValidationError, more than 2 GB EncodeError, ...
        raise WorkbenchError(f"{source}: its weights cannot be read ({' '.join(str(error).split())[:160]})") from None
    return whole


def _scaling_of(model: onnx.ModelProto, source: Path) -> Scaling:
    """What the file itself says of its input, else the usual."""
    said = {entry.key: entry.value for entry in model.metadata_props}
    usual = Scaling(0.0, 1.0) if _scales_itself(model.graph) else Scaling()
    try:
        return Scaling(
            float(said.get("pixel_mean", usual.mean)), float(said.get("pixel_std", usual.std)), said.get("channels", usual.channels)
        )
    except ValueError as error:  # WorkbenchError is one
        raise WorkbenchError(f"{source}: in its metadata, {error}") from None


def _scales_itself(graph: onnx.GraphProto) -> bool:
    """Does the network begin by subtracting and multiplying? insightface's exports from MXNet do and take pixels 0..255."""
    weights = {tensor.name for tensor in graph.initializer}
    value = next((one.name for one in graph.input if one.name not in weights), "")
    kinds: list[str] = []
    for _ in range(len(_PASSED_ON) + 2):
        node = next((node for node in graph.node if value in node.input), None)
        if node is None or not node.output:
            break
        kinds += [] if node.op_type in _PASSED_ON else [node.op_type]
        value = node.output[0]
    return kinds[:2] in (["Sub", "Mul"], ["Sub", "Div"])


def _environment(source: Path) -> dict[str, Any]:
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "workbench": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnxruntime": version("onnxruntime"),
        "platform": platform.platform(),
        "imported": {"file": source.name, "bytes": source.stat().st_size, "sha256": digest},
    }
