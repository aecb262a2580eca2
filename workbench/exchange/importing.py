"""A model from elsewhere as a run directory, to be evaluated and shown beside those trained here."""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
from dataclasses import dataclass
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
from workbench.evaluation.onnx_network import DEFAULT_SIZE, OnnxNetwork, external_files, parse
from workbench.exchange.fitting import fitting_backbone
from workbench.exchange.state_dict import few, read_checkpoint
from workbench.files import atomic_path, check_writable
from workbench.scaling import PerChannel, formula, per_channel, read_per_channel

SUFFIX = ".onnx"
_PASSED_ON = ("Cast", "Identity", "Transpose")


@dataclass(frozen=True)
class Scaling:
    """What a network's input is made with: `(x - mean) / std` of pixels 0..255, the colours in the order `channels`."""

    mean: PerChannel = 127.5
    std: PerChannel = 127.5
    channels: str = "rgb"

    def __post_init__(self) -> None:
        per_channel(self.mean, "pixel_mean")
        per_channel(self.std, "pixel_std", positive=True)
        if self.channels not in CHANNELS:
            raise unknown_name("order of channels", self.channels, CHANNELS)


@dataclass(frozen=True)
class _Network:
    """What was understood of a file: settings of the network, what is stored of it, and the scaling of its input."""

    settings: dict[str, Any]
    content: dict[str, torch.Tensor] | bytes
    scaling: Scaling
    notes: list[str]

    @property
    def size(self) -> int:
        """Bytes to be written."""
        if isinstance(self.content, bytes):
            return len(self.content)
        return sum(tensor.numel() * tensor.element_size() for tensor in self.content.values())


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
    """Make a run directory of a trained network; it can be evaluated and looked at as any other, but not trained.

    What was understood of the file, left out of it and assumed about it is in the run's `environment["imported"]["notes"]`.

    Args:
        path: a PyTorch or safetensors file with a state_dict, such as arcface_torch's backbone.pth, model.pt and
            checkpoint_gpu_0.pt or AdaFace's .ckpt, or an ONNX file with one image input, (N, 3, H, W) or (N, H, W, 3), and
            embeddings (N, D) among its outputs.
        name: of the run; by default "imported-" and the name of the backbone or the ONNX file.
        runs_dir: folder of the run directories.
        backbone: network of a state_dict; by default the registered one that it fits. Not for ONNX.
        image_size: height and width in pixels; an int means a square. By default what an ONNX file says, else 112.
        pixel_mean, pixel_std: input is `(x - mean) / std` of pixels 0..255. One number, or one for each channel in the order of
            `channels`. By default what `export_onnx` wrote into the file; 0 and 1 where an ONNX network takes whole numbers, or
            begins with a subtraction and a multiplication, as insightface takes it; else 127.5 and 127.5.
        channels: "rgb", or "bgr" as AdaFace has it; by default what `export_onnx` wrote into the file, else "rgb".
        output: name of the output of an ONNX file with the embeddings; by default the only one of the shape (N, D).

    Returns:
        The run, finished.

    Raises:
        WorkbenchError: the file is damaged, holds code or fits no backbone, or there is no room for it; no run is left then.
    """
    source = Path(path)
    if not source.is_file():
        raise WorkbenchError(
            f"{source}: no such file; give a PyTorch checkpoint (.pth, .pt, .ckpt, .safetensors) or an ONNX file"
        )
    said: dict[str, Any] = {"mean": pixel_mean, "std": pixel_std, "channels": channels}
    given = {key: value for key, value in said.items() if value is not None}
    Scaling(**given)  # says what is wrong before minutes are spent on the file
    size = None if image_size is None else as_size(image_size)
    is_onnx = source.suffix.lower() == SUFFIX
    network = (
        _of_onnx(source, backbone, size, given, output)
        if is_onnx
        else _of_state_dict(source, backbone, size, given, output)
    )
    height, width = network.settings["image_size"]
    config = {
        "loss": runs.IMPORTED,
        **network.settings,
        "image_size": height if height == width else [height, width],
        "pixel_mean": _plain(network.scaling.mean),
        "pixel_std": _plain(network.scaling.std),
        "channels": network.scaling.channels,
        "imported": source.name,
    }
    stem = re.sub(r"[^A-Za-z0-9._+-]+", "-", source.stem)[:100]
    check_writable(Path(runs_dir), network.size)
    run = runs.create(
        runs_dir,
        name or f"{runs.IMPORTED}-{stem if is_onnx else network.settings['backbone']}",
        config,
    )
    try:
        with atomic_path(run.model_path) as temporary:
            if isinstance(network.content, dict):
                save_file(network.content, temporary)
            else:
                temporary.write_bytes(network.content)
        runs.write_json(run.path / runs.ENVIRONMENT, _environment(source, network.notes))
        run.set_status("finished", message=f"imported from {source.name}")
    except BaseException as error:
        shutil.rmtree(run.path, ignore_errors=True)  # made a moment ago, by this call
        if isinstance(error, OSError):
            raise WorkbenchError(f"{run.path}: cannot be written ({error.strerror})") from None
        raise
    return run


def _plain(value: PerChannel) -> float | list[float]:
    """As YAML has it."""
    return [float(one) for one in value] if isinstance(value, tuple | list) else float(value)


def _of_state_dict(
    source: Path,
    backbone: str | None,
    size: tuple[int, int] | None,
    given: dict[str, Any],
    output: str | None,
) -> _Network:
    if output is not None:
        raise WorkbenchError(
            f"{source}: a state_dict has no outputs to choose from; --output is for ONNX files"
        )
    fit = fitting_backbone(
        read_checkpoint(source), str(source), backbone, size or (DEFAULT_SIZE, DEFAULT_SIZE)
    )
    net = fit.net
    tensors = {
        f"backbone.{key}": value.detach().contiguous() for key, value in net.state_dict().items()
    }
    settings = {
        "backbone": fit.name,
        "embedding_dim": net.embedding_dim,
        "image_size": net.image_size,
    }
    if fit.options:
        settings["backbone_options"] = fit.options
    scaling = Scaling(**given)
    notes = [
        *fit.notes,
        *_assumed_size(size is None, net.image_size),
        *_assumed_scaling(scaling, given, {}),
    ]
    return _Network(settings, tensors, scaling, notes)


def _of_onnx(
    source: Path,
    backbone: str | None,
    size: tuple[int, int] | None,
    given: dict[str, Any],
    output: str | None,
) -> _Network:
    if backbone is not None:
        raise WorkbenchError(
            f"{source}: an ONNX file is a whole network; --backbone is for PyTorch checkpoints"
        )
    try:
        content = source.read_bytes()
    except OSError as error:
        raise WorkbenchError(f"{source}: cannot be read ({error.strerror})") from None
    model = parse(content, str(source))
    if external_files(model):
        content = _in_one(model, source)
    net = OnnxNetwork(content, str(source), size, output=output)
    said = _said_by(model, net, source)
    scaling = Scaling(**said | given)
    net.check_scaling(scaling.mean, scaling.std, str(source))
    settings = {
        "backbone": runs.ONNX,
        "embedding_dim": net.embedding_dim,
        "image_size": net.image_size,
    }
    notes = []
    if len(net.outputs) > 1:
        settings["output"] = net.output
        others = [name for name in net.outputs if name != net.output]
        notes.append(f"embeddings are output {net.output!r}; not used: {few(others)}")
    if net.channels_last:
        notes.append("its input is (N, H, W, 3)")
    if net.guessed_axes:
        notes.append(
            "the file does not name the axes of its input; their order was found by running it"
        )
    notes += [
        *_assumed_size(size is None and net.open_size, net.image_size),
        *_assumed_scaling(scaling, given, said),
    ]
    return _Network(settings, content, scaling, notes)


def _assumed_size(assumed: bool, size: tuple[int, int]) -> list[str]:
    return (
        [f"images of {size[0]} x {size[1]} are assumed; another size is said with --image-size"]
        if assumed
        else []
    )


def _assumed_scaling(scaling: Scaling, given: dict[str, Any], said: dict[str, Any]) -> list[str]:
    """A sentence for the scaling and one for the colours, where neither the caller nor the file said them."""
    known = {**said, **given}
    notes = []
    if not {"mean", "std"} <= known.keys():
        notes.append(
            f"the scaling {formula(scaling.mean, scaling.std)} is assumed, as the file does not say it; "
            "another one is said with --pixel-mean and --pixel-std"
        )
    if "channels" not in known:
        notes.append(
            "the order of the colours, RGB, is assumed; AdaFace's networks and some others need --channels bgr"
        )
    return notes


def _in_one(model: onnx.ModelProto, source: Path) -> bytes:
    """The file with the weights in it that lie in files beside it."""
    folder = source.resolve().parent
    for name in external_files(model):
        beside = (folder / name).resolve()
        if not name or not beside.is_relative_to(folder):
            raise WorkbenchError(
                f"{source}: refused: its weights are in {name!r}, outside of its folder"
            )
        if not beside.is_file():
            raise WorkbenchError(
                f"{source}: its weights are in {name!r}, which is not beside it; put that file there"
            )
    try:
        onnx.load_external_data_for_model(model, str(folder))
        whole: bytes = model.SerializeToString()
    except Exception as error:  # a file too short raises ValueError, links ValidationError, more than 2 GB EncodeError, ...
        raise WorkbenchError(
            f"{source}: its weights cannot be read ({' '.join(str(error).split())[:160]})"
        ) from None
    return whole


def _said_by(model: onnx.ModelProto, net: OnnxNetwork, source: Path) -> dict[str, Any]:
    """What the file itself says of its input: settings of `Scaling`, those that it does not tell left out."""
    written = {entry.key: entry.value for entry in model.metadata_props}
    said: dict[str, Any] = (
        {"mean": 0.0, "std": 1.0} if net.takes_bytes or _scales_itself(model.graph) else {}
    )
    try:
        if "pixel_mean" in written:
            said["mean"] = read_per_channel(written["pixel_mean"], "pixel_mean")
        if "pixel_std" in written:
            said["std"] = read_per_channel(written["pixel_std"], "pixel_std", positive=True)
        if "channels" in written:
            said["channels"] = written["channels"]
        Scaling(**said)
    except WorkbenchError as error:
        raise WorkbenchError(f"{source}: in its metadata, {error}") from None
    return said


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


def _environment(source: Path, notes: list[str]) -> dict[str, Any]:
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
            "notes": notes,
        },
    }
