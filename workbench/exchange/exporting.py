"""Writing the backbone of a run as an ONNX file, which is compared with PyTorch before."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from workbench import __version__, runs
from workbench.backbones import Backbone
from workbench.data.batches import to_network
from workbench.errors import WorkbenchError, missing_extra
from workbench.evaluation.angles import normalised
from workbench.evaluation.model import Model, load_model
from workbench.files import atomic_path, check_writable
from workbench.finite import check_tensors
from workbench.scaling import as_text

if TYPE_CHECKING:
    import onnx

INPUT, OUTPUT = "images", "embeddings"
"""Names of the input and the output in the ONNX file."""
TOLERANCE = 1e-4
"""Largest difference allowed between the embeddings of onnxruntime and those of PyTorch."""
CHECKED_BATCHES = (1, 3)
"""Batch sizes that are compared; two of them show whether the file takes any number of images."""


@dataclass(frozen=True)
class Exported:
    """The result of `export_onnx`.

    Attributes:
        path: Path of the ONNX file.
        size: Size of the file in bytes.
        difference: Largest absolute difference, over all coordinates, between the unit embeddings
            of onnxruntime and those of PyTorch.
    """

    path: Path
    size: int
    difference: float


def export_onnx(run: str | Path | runs.Run, path: str | Path | None = None) -> Exported:
    """Writes the backbone of a run as an ONNX file that takes any number of images.

    The input "images" is float32 (N, 3, H, W), scaled as in the run. The output "embeddings" is
    float32 (N, D), not normalised, of the images only (no mirror image is added).

    The metadata of the file state the scaling as text: `pixel_mean` and `pixel_std` (the input is
    `(x - mean) / std` of pixel values 0..255; one number, or three separated by commas in the
    channel order of the input), `channels` ("rgb" or "bgr") and `image_size` (HxW). They also
    contain `run`, `backbone`, `loss` and `workbench` (the version).

    Exporting needs the extra `onnx`.

    Args:
        run: Run directory.
        path: Path of the file, with the extension .onnx; by default the name of the run in the
            current folder.

    Returns:
        The path and size of the file, and its difference to PyTorch.

    Raises:
        WorkbenchError: if the run has no model or one with NaN or infinite weights, if its
            backbone cannot be written as ONNX, if the disk has no room, if the extra is not
            installed, or if embeddings differ by more than 1e-4 (unit embeddings: in any
            coordinate; raw embeddings: relative to the largest value). No file is written then.

    Example:
        >>> import workbench as wb
        >>> exported = wb.export_onnx("runs/arcface", "net.onnx")  # doctest: +SKIP
        >>> exported.difference  # doctest: +SKIP
        1.8e-07
    """
    for package in ("onnx", "onnxscript"):  # torch.onnx.export imports the second one
        if find_spec(package) is None:
            raise missing_extra(package, "onnx", "exporting to ONNX")
    opened = runs.open(run)
    target = Path(path) if path is not None else Path(f"{opened.name}.onnx")
    if target.suffix.lower() != ".onnx":
        raise WorkbenchError(f"{target}: give the file a name that ends in .onnx")
    model = load_model(opened, "cpu")
    if opened.config.get("backbone") == runs.ONNX:
        raise WorkbenchError(f"{opened.path}: is an ONNX file already, {opened.model_path}")
    weights = model.net.state_dict()
    check_tensors(
        weights, str(opened.model_path), "nothing was exported; train again with a lower lr"
    )
    needed = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    check_writable(target.parent, needed)
    content = _to_onnx(model, opened)
    difference = _difference(model, content, str(target))
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)
    return Exported(target, len(content), difference)


def _to_onnx(model: Model, run: runs.Run) -> bytes:
    """Returns the bytes of the ONNX file."""
    import onnx

    net = model.net.to(memory_format=torch.contiguous_format).eval()
    height, width = net.image_size
    example = torch.zeros(2, 3, height, width)  # a batch of 1 would be fixed
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
        _remove_traces(proto)
        onnx.helper.set_model_props(proto, _metadata(model, run))
        onnx.checker.check_model(proto)
        content: bytes = proto.SerializeToString()
    except Exception as error:  # torch.onnx raises many types, and user backbones any
        reason = " ".join(str(error).split())[:200]
        raise WorkbenchError(
            f"{run.path}: {run.config['backbone']!r} cannot be written as ONNX ({reason})"
        ) from None
    return content


def _metadata(model: Model, run: runs.Run) -> dict[str, str]:
    """Returns the metadata of the ONNX file."""
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


def _remove_traces(proto: onnx.ModelProto) -> None:
    """Removes the stack traces of all layers: they are long, and contain paths of this machine."""
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
    """Returns the largest difference between unit embeddings of onnxruntime and PyTorch.

    Raises:
        WorkbenchError: if this difference, or the relative one of raw embeddings, is too large.
    """
    from workbench.evaluation.onnx_network import OnnxNetwork

    exported = OnnxNetwork(content, where, model.net.image_size)
    rng = np.random.default_rng(0)
    largest = 0.0
    for count in CHECKED_BATCHES:
        noise = rng.integers(0, 256, (count, 3, *model.net.image_size), dtype=np.uint8)
        images = to_network(
            torch.from_numpy(noise), model.pixel_mean, model.pixel_std, model.channels
        )
        expected, actual = _embed(model.net, images), _embed(exported, images)
        unit = float(np.abs(normalised(actual) - normalised(expected)).max())
        largest_value = max(np.abs(expected).max(), np.finfo(np.float32).tiny)
        relative = float(np.abs(actual - expected).max() / largest_value)
        if not max(unit, relative) <= TOLERANCE:  # this is also true for NaN
            raise WorkbenchError(
                f"{where}: not written: for a batch of {count}, onnxruntime differs from PyTorch "
                f"by {unit:.1e} of unit length and {relative:.1e} of the largest value, more than "
                f"{TOLERANCE:g}"
            )
        largest = max(largest, unit)
    return largest


@torch.inference_mode()
def _embed(net: Backbone, images: torch.Tensor) -> NDArray[np.float32]:
    embeddings: NDArray[np.float32] = net(images).numpy()
    return embeddings


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses warnings, log messages and prints of the exporter about its own internals."""
    level_before = logging.root.manager.disable
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
        logging.disable(level_before)
