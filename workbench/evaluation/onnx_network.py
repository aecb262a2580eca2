"""Runs the network of an ONNX file with onnxruntime, as a backbone that cannot be trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.backbones import Backbone
from workbench.errors import WorkbenchError, missing_extra, unknown_name
from workbench.finite import check_tensors
from workbench.scaling import PerChannel, formula

try:
    import onnx
    from onnx import numpy_helper
except ImportError:
    raise missing_extra("onnx", "onnx", "a model in an ONNX file") from None

_TYPES: dict[str, type[np.number[Any]]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}
DEFAULT_SIZE = 112
"""Height and width of images, if the file does not specify them."""
_SILENT = 4
"""onnxruntime's log level "fatal", as errors are raised anyway."""
_CHECKED_TYPES = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
_CHANNEL_NAMES, _HEIGHT_NAMES = ("c", "ch", "channel", "channels"), ("h", "height", "rows")


class OnnxNetwork(Backbone):
    """Network of an ONNX file with one image input and embeddings (N, D) among its outputs.

    The input is (N, 3, H, W) or (N, H, W, 3). The network is run once on noise, to find D and
    whether it takes several images at once; if not, it gets them one by one. Axes of length 1
    before or after D, as in (N, D, 1, 1), are removed.

    Args:
        content: the bytes of the file, which must hold all its weights.
        where: name of the file for errors.
        image_size: height and width in pixels; by default those of the file, or 112 where it does
            not specify them.
        device: a GPU is used if onnxruntime was built for CUDA; otherwise the CPU. Images and
            embeddings stay on the caller's device.
        output: name of the output with the embeddings; by default the only one of shape (N, D) with
            D > 1.

    Attributes:
        output: name of the output that is used.
        outputs: names of all outputs.
        takes_bytes: whether the input consists of integers 0..255, so that pixels cannot be scaled.
        open_size: whether the file does not specify height or width.
        channels_last: whether the input is (N, H, W, 3).
        guessed_axes: whether the file does not specify the order of the axes, so that both were
            tried.

    Raises:
        WorkbenchError: if the file is damaged, if weights are in other files or not finite, or if
            inputs, outputs or the image size are not supported.
    """

    def __init__(
        self,
        content: bytes,
        where: str,
        image_size: tuple[int, int] | None = None,
        device: torch.device | None = None,
        output: str | None = None,
    ) -> None:
        model = parse(content, where)
        if elsewhere := external_files(model):
            raise WorkbenchError(
                f"{where}: has weights in another file, {elsewhere[0]!r}; a run's model.onnx must "
                "hold all its weights"
            )
        _check_weights(model, where)
        session = _session(content, where, device or torch.device("cpu"))
        image_input = _only_input(session, where)
        orders = _possible_orders(image_input, where)
        graph, size, outputs = _tried(session, image_input, orders, where, image_size)
        graph = replace(graph, output=_chosen(outputs, output, where))
        noise = _noise(graph, 2, size)
        single = graph(noise[:1])
        if not np.isfinite(single).all():
            raise WorkbenchError(
                f"{where}: returns NaN or infinite values for noise; it is damaged"
            )
        if graph.batch is None and not _same(graph, noise):
            graph = replace(graph, batch=1)
        super().__init__(single.shape[1], size, smallest=1)
        self._graph = graph
        self.output, self.outputs = graph.output, list(outputs)
        self.takes_bytes = graph.dtype is np.uint8
        self.channels_last = graph.channels_last
        self.guessed_axes = len(orders) > 1
        self.open_size = None in _sides(image_input.shape, graph.channels_last)

    def embed(self, images: Tensor) -> Tensor:
        """Embed prepared images: (N, 3, H, W) -> (N, D)."""
        embeddings = self._graph(images.detach().float().cpu().numpy())
        return torch.from_numpy(embeddings).to(images.device)

    def check_scaling(self, mean: PerChannel, std: PerChannel, where: str) -> None:
        """Check that the network can be used with a scaling of pixels.

        Args:
            mean: mean that is subtracted from pixels.
            std: standard deviation by which they are divided.
            where: name of the file with the scaling, for the error.

        Raises:
            WorkbenchError: if pixels would be scaled, but the input consists of integers 0..255.
        """
        if self.takes_bytes and (mean, std) != (0.0, 1.0):
            raise WorkbenchError(
                f"{where}: its input is of whole numbers 0..255 (uint8), so pixel_mean must be 0 "
                f"and pixel_std 1, got {formula(mean, std)}"
            )


def parse(content: bytes, where: str) -> onnx.ModelProto:
    """Parse an ONNX file, without reading other files that it names.

    Args:
        content: the bytes of the file.
        where: name of the file for errors.

    Returns:
        The parsed file.

    Raises:
        WorkbenchError: if it is damaged or not an ONNX file.
    """
    try:
        model = onnx.load_model_from_string(content)
    # protobuf raises DecodeError or, depending on its implementation, other errors.
    except Exception as error:
        raise WorkbenchError(f"{where}: not a whole ONNX file ({_short(error)})") from None
    if not model.graph.node:
        raise WorkbenchError(f"{where}: not an ONNX file, it has no layers")
    return model


def external_files(model: onnx.ModelProto) -> list[str]:
    """Return the names of other files that hold the model's tensors, sorted.

    An empty name stands for tensors whose file is not named.
    """
    parts = [_tensors(model.graph), *(_of_nodes(function.node) for function in model.functions)]
    names: set[str] = set()
    for tensor in (tensor for part in parts for tensor in part):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            locations = [one.value for one in tensor.external_data if one.key == "location"]
            names.update(locations or [""])
    return sorted(names)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield all tensors of a graph, including those of its nodes and nested graphs."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Any) -> Iterator[onnx.TensorProto]:
    """Yield the tensors in the attributes of nodes."""
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in (attribute.g, *attribute.graphs):
            yield from _tensors(graph)


def _check_weights(model: onnx.ModelProto, where: str) -> None:
    """Check that weights are finite, except scalars: the limit of a Clip may be infinite."""
    tensors = [
        tensor
        for tensor in _tensors(model.graph)
        if tensor.data_type in _CHECKED_TYPES and prod(tensor.dims) > 1
    ]
    weights = {}
    try:
        for tensor in tensors:
            name = tensor.name or f"a constant of shape {tuple(tensor.dims)}"
            weights[name] = torch.from_numpy(numpy_helper.to_array(tensor).copy())
    # The shape may not match the number of bytes, or the bytes may not be numbers.
    except Exception as error:
        raise WorkbenchError(
            f"{where}: not a whole ONNX file, its weights cannot be read ({_short(error)})"
        ) from None
    check_tensors(weights, where, "the file is damaged, or its training went wrong")


@dataclass(frozen=True)
class _Graph:
    """An opened file: the input is (N, 3, H, W) float32, the output (N, D) float32."""

    session: Any
    where: str
    name: str
    dtype: type[np.number[Any]]
    channels_last: bool
    batch: int | None
    """images that it takes at once; None for any number"""
    output: str = ""

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        step = self.batch or max(len(images), 1)
        return np.concatenate(
            [self._embedded(images[at : at + step]) for at in range(0, max(len(images), 1), step)]
        )

    def _embedded(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        count = max(self.batch or 0, len(images))
        values = self.run(images, [self.output])[self.output]
        embeddings = _flat(values, count)
        if embeddings is None:
            raise WorkbenchError(
                f"{self.where}: output {self.output!r} gives {_shape_of(values)} for {count} "
                f"image(s), expected ({count}, D)"
            )
        return embeddings[: len(images)].astype(np.float32)

    def run(self, images: NDArray[np.float32], outputs: list[str] | None = None) -> dict[str, Any]:
        """Run the network; a batch of fixed size is filled with black images.

        Args:
            images: (N, 3, H, W) images.
            outputs: names of the outputs to compute; by default all.

        Returns:
            {name: output}.
        """
        batch = images
        if (missing := (self.batch or 0) - len(images)) > 0:
            black = np.zeros((missing, *images.shape[1:]), images.dtype)
            batch = np.concatenate([images, black])
        values = batch.transpose(0, 2, 3, 1) if self.channels_last else batch
        if self.dtype is np.uint8:
            values = np.rint(values)
        names = outputs or [output.name for output in self.session.get_outputs()]
        inputs = {self.name: np.ascontiguousarray(values, dtype=self.dtype)}
        try:
            results = self.session.run(names, inputs)
        # onnxruntime's own error classes have no public base class.
        except Exception as error:
            height, width = images.shape[2:]
            raise WorkbenchError(
                f"{self.where}: cannot be run on {len(batch)} image(s) of {height} x {width} "
                f"({_short(error)})"
            ) from None
        return dict(zip(names, results, strict=True))


def _flat(values: Any, count: int) -> NDArray[Any] | None:
    """Reshape (N, D), (N, D, 1, 1), (N, 1, 1, D), ... to (N, D); None for any other shape."""
    if not isinstance(values, np.ndarray) or values.ndim < 2 or len(values) != count:
        return None
    length = prod(values.shape[1:])
    is_vector = length > 0 and max(values.shape[1:]) == length
    return values.reshape(count, length) if is_vector else None


def _chosen(outputs: dict[str, Any], wanted: str | None, where: str) -> str:
    """Return the name of the output with the embeddings.

    Args:
        outputs: {name: what the output gave for one image or a fixed batch}.
        wanted: name that the user chose; None if none was chosen.
        where: name of the file for errors.
    """
    if wanted is not None:
        if wanted not in outputs:
            raise unknown_name(f"output of {where}", wanted, outputs)
        return wanted
    if len(outputs) == 1:
        return next(iter(outputs))
    vectors = {
        name: _flat(values, len(values))
        for name, values in outputs.items()
        if isinstance(values, np.ndarray) and values.ndim
    }
    fitting = [
        name for name, vector in vectors.items() if vector is not None and vector.shape[1] > 1
    ]
    if len(fitting) != 1:
        listed = ", ".join(f"{name!r} with {_shape_of(values)}" for name, values in outputs.items())
        raise WorkbenchError(
            f"{where}: {len(fitting)} of its {len(outputs)} outputs look like embeddings (N, D): "
            f"{listed}; choose the right one with --output NAME"
        )
    return fitting[0]


def _same(graph: _Graph, images: NDArray[np.float32]) -> bool:
    """Return whether a batch gives the same embeddings as single images; not all files do."""
    single = np.concatenate([graph(images[:1]), graph(images[1:])])
    try:
        together = graph(images)
    except WorkbenchError:
        return False
    return bool(np.allclose(together, single, rtol=1e-3, atol=1e-3 * np.abs(single).max()))


def _noise(graph: _Graph, count: int, size: tuple[int, int]) -> NDArray[np.float32]:
    noise = np.random.default_rng(0).uniform(-1, 1, (count, 3, *size)).astype(np.float32)
    return 127.5 + 127.5 * noise if graph.dtype is np.uint8 else noise


def _session(content: bytes, where: str, device: torch.device) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads = torch.get_num_threads()
    wanted = ["CPUExecutionProvider"]
    if device.type == "cuda":
        wanted.insert(0, "CUDAExecutionProvider")
    providers = [name for name in wanted if name in ort.get_available_providers()]
    try:
        return ort.InferenceSession(content, options, providers)
    except Exception as error:
        raise WorkbenchError(f"{where}: onnxruntime cannot open it ({_short(error)})") from None


def _only_input(session: Any, where: str) -> Any:
    """Return the image input, with its name, shape and type."""
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise WorkbenchError(
            f"{where}: has {len(inputs)} inputs ({_names(inputs)}), expected one: images; export "
            "it with the others fixed"
        )
    (image_input,) = inputs
    if image_input.type not in _TYPES:
        raise WorkbenchError(
            f"{where}: input {image_input.name!r} is {image_input.type}, expected one of "
            f"{', '.join(_TYPES)}"
        )
    return image_input


def _possible_orders(image_input: Any, where: str) -> list[bool]:
    """Return whether the channels are the last axis; both values if the file leaves it open."""
    shape = [_fixed(side) for side in image_input.shape]
    if len(shape) != 4 or not {3, None} & {shape[1], shape[3]}:
        raise WorkbenchError(
            f"{where}: input {image_input.name!r} has shape {_written(image_input.shape)}, "
            "expected (N, 3, H, W) or (N, H, W, 3)"
        )
    if shape[1] == 3 or shape[3] not in (3, None):
        return [False]
    if shape[3] == 3 or shape[1] is not None:
        return [True]
    first, last = (str(image_input.shape[axis]).lower() for axis in (1, 3))
    if first in _CHANNEL_NAMES:
        return [False]
    return [True] if last in _CHANNEL_NAMES or first in _HEIGHT_NAMES else [False, True]


def _tried(
    session: Any,
    image_input: Any,
    orders: list[bool],
    where: str,
    image_size: tuple[int, int] | None,
) -> tuple[_Graph, tuple[int, int], dict[str, Any]]:
    """Run the network on noise with each order of the axes, until one works.

    Returns:
        The graph, the size of its images, and its outputs for noise.
    """
    errors: list[WorkbenchError] = []
    for channels_last in orders:
        sides = _sides(image_input.shape, channels_last)
        size = _size(sides, where, image_size)
        dtype, batch = _TYPES[image_input.type], _fixed(image_input.shape[0])
        graph = _Graph(session, where, image_input.name, dtype, channels_last, batch)
        try:
            return graph, size, graph.run(_noise(graph, 1, size))
        except WorkbenchError as error:
            hint = ""
            if None in sides:
                hint = (
                    "; the file does not specify the size of its images, give the right one with "
                    "--image-size"
                )
            errors.append(WorkbenchError(f"{error}{hint}"))
    raise errors[0]


def _size(
    sides: list[int | None], where: str, image_size: tuple[int, int] | None
) -> tuple[int, int]:
    default = image_size or (DEFAULT_SIZE, DEFAULT_SIZE)
    size = sides[0] or default[0], sides[1] or default[1]
    if min(size) < 1:
        raise WorkbenchError(
            f"{where}: the image size {size[0]} x {size[1]} is not valid; both sides must be at "
            "least 1"
        )
    if image_size not in (None, size):
        raise WorkbenchError(
            f"{where}: takes images of {size[0]} x {size[1]}, but image_size is {default[0]} x "
            f"{default[1]}; leave it out"
        )
    return size


def _sides(shape: Any, channels_last: bool) -> list[int | None]:
    """Return height and width; None where the file does not specify them."""
    return [_fixed(side) for side in (shape[1:3] if channels_last else shape[2:4])]


def _fixed(side: Any) -> int | None:
    return side if isinstance(side, int) and side > 0 else None


def _names(values: Any) -> str:
    return ", ".join(value.name for value in values[:4]) + (", ..." if len(values) > 4 else "")


def _written(shape: Any) -> str:
    return f"({', '.join(str(side) for side in shape)})"


def _shape_of(values: Any) -> str:
    return f"shape {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
