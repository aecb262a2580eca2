"""A run's backbone as an ONNX file, checked against PyTorch before it is written."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from workbench import __version__, runs
from workbench.backbones import Backbone
from workbench.data.batches import to_network
from workbench.errors import WorkbenchError
from workbench.evaluation.angles import normalised
from workbench.evaluation.model import Model, load_model
from workbench.evaluation.onnx_network import OnnxNetwork
from workbench.files import atomic_path, check_writable
from workbench.finite import check_tensors
from workbench.scaling import as_text

INPUT, OUTPUT = "images", "embeddings"
TOLERANCE = 1e-4
CHECKED_BATCHES = (1, 3)


@dataclass(frozen=True)
class Exported:
    """An ONNX file that was written.

    Attributes:
        path: of the file.
        size: of it, in bytes.
        difference: largest one between the unit embeddings of onnxruntime and those of PyTorch, in any coordinate.
    """

    path: Path
    size: int
    difference: float


def export_onnx(run: str | Path | runs.Run, path: str | Path | None = None) -> Exported:
    """Write a run's backbone as an ONNX file with any number of images.

    Input "images": float32 (N, 3, H, W), scaled as the run scales them. How is in the file's metadata, as text: `pixel_mean`
    and `pixel_std` (input is `(x - mean) / std` of pixels 0..255; one number, or three with commas between them, one for each
    channel in the order of the input), `channels` ("rgb" or "bgr"), `image_size` (HxW), and `run`, `backbone`, `loss`,
    `workbench`. Output "embeddings": float32 (N, D), not normalised, the mirror image not added.

    Args:
        run: run directory.
        path: of the file; by default the run's name and ".onnx", in the current folder.

    Returns:
        Where it is, its size, and how far it is from PyTorch.

    Raises:
        WorkbenchError: no model or one with NaN or infinite weights, a backbone that cannot be written, no room for the file, or
            embeddings that differ by more than 1e-4 (of unit length: in any coordinate; as they are: of the largest); nothing is
            written then.
    """
    opened = runs.open(run)
    target = Path(path) if path is not None else Path(f"{opened.name}.onnx")
    if target.suffix.lower() != ".onnx":
        raise WorkbenchError(f"{target}: give the file a name that ends in .onnx")
    model = load_model(opened, "cpu")
    if isinstance(model.net, OnnxNetwork):
        raise WorkbenchError(f"{opened.path}: is an ONNX file already, {opened.model_path}")
    weights = model.net.state_dict()
    check_tensors(
        weights,
        str(opened.model_path),
        "nothing was exported; a training that went wrong is to be repeated",
    )
    check_writable(
        target.parent, sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    )
    content = _written(model, opened)
    difference = _difference(model, content, str(target))
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)
    return Exported(target, len(content), difference)


def _written(model: Model, run: runs.Run) -> bytes:
    net = model.net.to(memory_format=torch.contiguous_format).eval()
    height, width = net.image_size
    example = torch.zeros(2, 3, height, width)  # one image would be taken for "always one"
    try:
        with _quiet():
            program = torch.onnx.export(
                net,
                (example,),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                dynamo=True,
                verbose=False,
            )
        assert program is not None
        proto: onnx.ModelProto = program.model_proto
        _without_traces(proto)
        onnx.helper.set_model_props(proto, _metadata(model, run))
        onnx.checker.check_model(proto)
        content: bytes = proto.SerializeToString()
    except Exception as error:  # torch.onnx has many, and a backbone of a notebook may be anything
        reason = " ".join(str(error).split())[:200]
        raise WorkbenchError(
            f"{run.path}: {run.config['backbone']!r} cannot be written as ONNX ({reason})"
        ) from None
    return content


def _metadata(model: Model, run: runs.Run) -> dict[str, str]:
    height, width = model.net.image_size
    return {
        "workbench": __version__,
        "run": run.name,
        "backbone": str(run.config["backbone"]),
        "loss": str(run.config["loss"]),
        "image_size": f"{height}x{width}",
        "pixel_mean": as_text(model.pixel_mean),
        "pixel_std": as_text(model.pixel_std),
        "channels": model.channels,
    }


def _without_traces(proto: onnx.ModelProto) -> None:
    """Take out where in whose source files each layer was made: it is long, and names this machine's folders."""
    for nodes in (proto.graph.node, *(function.node for function in proto.functions)):
        for node in nodes:
            del node.metadata_props[:]
            node.doc_string = ""
    for value in (
        *proto.graph.value_info,
        *proto.graph.input,
        *proto.graph.output,
        *proto.graph.initializer,
    ):
        del value.metadata_props[:]
        value.doc_string = ""


def _difference(model: Model, content: bytes, where: str) -> float:
    """Largest difference of unit embeddings; raises WorkbenchError where it, or that of raw ones, is too large."""
    written = OnnxNetwork(content, where, model.net.image_size)
    draw = np.random.default_rng(0)
    largest = 0.0
    for count in CHECKED_BATCHES:
        noise = torch.from_numpy(
            draw.integers(0, 256, (count, 3, *model.net.image_size), dtype=np.uint8)
        )
        pixels = to_network(noise, model.pixel_mean, model.pixel_std, model.channels)
        expected, found = _embedded(model.net, pixels), _embedded(written, pixels)
        unit = float(np.abs(normalised(found) - normalised(expected)).max())
        raw = float(
            np.abs(found - expected).max() / max(np.abs(expected).max(), np.finfo(np.float32).tiny)
        )
        if not max(unit, raw) <= TOLERANCE:  # NaN is not
            raise WorkbenchError(
                f"{where}: not written: at a batch of {count} onnxruntime differs from PyTorch by {unit:.1e} of unit length and "
                f"{raw:.1e} of the largest value, more than {TOLERANCE:g}"
            )
        largest = max(largest, unit)
    return largest


@torch.inference_mode()
def _embedded(net: Backbone, pixels: torch.Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = net(pixels).numpy()
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on its own insides, some of which it prints."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
