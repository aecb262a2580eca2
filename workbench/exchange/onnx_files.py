"""Reading an ONNX file of another program. This module needs the extra `onnx`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import runs
from workbench.errors import WorkbenchError
from workbench.evaluation.onnx_network import OnnxNetwork, external_files, parse
from workbench.exchange.imported_network import (
    ImportedNetwork,
    Scaling,
    note_on_size,
    notes_on_scaling,
)
from workbench.scaling import read_per_channel
from workbench.weights.state_dict import few

if TYPE_CHECKING:
    import onnx

_IGNORED_LAYERS = ("Cast", "Identity", "Transpose")
"""Layers that may stand before the subtraction of an input that the network scales itself."""


def read_onnx(
    source: Path,
    size: tuple[int, int] | None,
    scaling_options: dict[str, Any],
    output: str | None,
) -> ImportedNetwork:
    """Reads an ONNX file with one image input and embeddings among its outputs.

    Args:
        source: The file.
        size: Height and width of the images in pixels; None for what the file states, or 112.
        scaling_options: Fields of `Scaling` that the caller sets. Fields left out are taken from
            the metadata that `export_onnx` writes, else the defaults of `Scaling` hold, or
            mean 0 and standard deviation 1 if the network scales its input itself.
        output: Name of the output with the embeddings; None for the only one of shape (N, D).

    Returns:
        The network, with the weights of external files included in its content.

    Raises:
        WorkbenchError: if the file is damaged or is not the file of an embedding network, if an
            external file is missing or outside the file's folder, or if an option does not fit.
    """
    try:
        content = source.read_bytes()
    except OSError as error:
        raise WorkbenchError(f"{source}: cannot be read ({error.strerror})") from None
    model = parse(content, str(source))
    if external_files(model):
        content = _with_external_data(model, source)
    net = OnnxNetwork(content, str(source), size, output=output)
    stated = _scaling_in_file(model, net, source) | scaling_options
    scaling = Scaling(**stated)
    net.check_scaling(scaling.mean, scaling.std, str(source))

    settings: dict[str, Any] = {
        "backbone": runs.ONNX,
        "embedding_dim": net.embedding_dim,
        "image_size": net.image_size,
    }
    notes = []
    if len(net.outputs) > 1:
        settings["output"] = net.output
        unused = [name for name in net.outputs if name != net.output]
        notes.append(f"the embeddings are output {net.output!r}; not used: {few(unused)}")
    if net.channels_last:
        notes.append("the input has the shape (N, H, W, 3)")
    if net.guessed_axes:
        notes.append(
            "the file does not name the axes of its input; their order was found by running it"
        )
    if size is None and net.open_size:
        notes.append(note_on_size(net.image_size))
    notes += notes_on_scaling(scaling, stated)
    return ImportedNetwork(settings, content, scaling, notes, source)


def _with_external_data(model: onnx.ModelProto, source: Path) -> bytes:
    """Returns the model as one file that includes the weights stored in external files."""
    import onnx

    folder = source.resolve().parent
    for name in external_files(model):
        external = (folder / name).resolve()
        if not name or not external.is_relative_to(folder):
            raise WorkbenchError(
                f"{source}: refused: its weights are in {name!r}, outside its own folder"
            )
        if not external.is_file():
            raise WorkbenchError(
                f"{source}: its weights are in {name!r}, which is missing; put that file into the "
                "same folder"
            )
    try:
        onnx.load_external_data_for_model(model, str(folder))
        whole: bytes = model.SerializeToString()
    except Exception as error:
        # A short file raises ValueError, a link ValidationError, more than 2 GB EncodeError, ...
        reason = " ".join(str(error).split())[:160]
        raise WorkbenchError(f"{source}: its weights cannot be read ({reason})") from None
    return whole


def _scaling_in_file(model: onnx.ModelProto, net: OnnxNetwork, source: Path) -> dict[str, Any]:
    """Returns those fields of `Scaling` that the file itself states."""
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    stated: dict[str, Any] = {}
    if net.takes_bytes or _scales_itself(model.graph):
        stated = {"mean": 0.0, "std": 1.0}
    try:
        if "pixel_mean" in metadata:
            stated["mean"] = read_per_channel(metadata["pixel_mean"], "pixel_mean")
        if "pixel_std" in metadata:
            stated["std"] = read_per_channel(metadata["pixel_std"], "pixel_std", positive=True)
        if "channels" in metadata:
            stated["channels"] = metadata["channels"]
        Scaling(**stated)
    except WorkbenchError as error:
        raise WorkbenchError(f"{source}: in its metadata, {error}") from None
    return stated


def _scales_itself(graph: onnx.GraphProto) -> bool:
    """Whether the network begins with a subtraction and a multiplication or division.

    The exports of insightface from MXNet do so; their input is pixel values 0..255.
    """
    weights = {tensor.name for tensor in graph.initializer}
    value = next((one.name for one in graph.input if one.name not in weights), "")
    layers: list[str] = []
    for _ in range(len(_IGNORED_LAYERS) + 2):
        node = next((node for node in graph.node if value in node.input), None)
        if node is None or not node.output:
            break
        if node.op_type not in _IGNORED_LAYERS:
            layers.append(node.op_type)
        value = node.output[0]
    return layers[:2] in (["Sub", "Mul"], ["Sub", "Div"])
