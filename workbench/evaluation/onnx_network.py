"""A network in an ONNX file, run by onnxruntime: it embeds as a backbone does, and cannot be trained."""

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
"""Side of images where a file leaves it open."""
_SILENT = 4  # onnxruntime's level "fatal": what is wrong is raised as well, and a trial that fails is no news for the user
_CHECKED_TYPES = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
_CHANNEL_NAMES, _HEIGHT_NAMES = ("c", "ch", "channel", "channels"), ("h", "height", "rows")


class OnnxNetwork(Backbone):
    """The network of an ONNX file with one image input, (N, 3, H, W) or (N, H, W, 3), and embeddings (N, D) among its outputs.

    On loading it is tried on noise, which shows D and whether it embeds several images at once; else it gets them one by one.
    Axes of length 1 behind or before D, as in (N, D, 1, 1), are dropped.

    Args:
        content: the bytes of the file, which must hold all its weights.
        where: what to call it in an error.
        image_size: height and width in pixels; by default what the file says, or 112 where it leaves them open.
        device: runs on CUDA where this is a GPU and onnxruntime was built for it, else on the CPU. Images and embeddings are
            where the caller has them.
        output: name of the output with the embeddings; by default the only one of the shape (N, D) with D > 1.

    Attributes:
        output: name of the output that is taken.
        outputs: names of all outputs.
        takes_bytes: whether the input is of whole numbers 0..255, so that no scaling but (x - 0) / 1 is possible.
        open_size: whether the file leaves height or width open.
        channels_last: whether the input is (N, H, W, 3).
        guessed_axes: whether the file leaves the order of the input's axes open, so that it was found out by trying.

    Raises:
        WorkbenchError: damaged, weights in other files or not finite, other inputs or outputs, or another size.
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
                f"{where}: has weights in another file, {elsewhere[0]!r}; a run's model.onnx must hold them all"
            )
        _check_weights(model, where)
        session = _session(content, where, device or torch.device("cpu"))
        taken = _only_input(session, where)
        orders = _possible_orders(taken, where)
        graph, size, found = _tried(session, taken, orders, where, image_size)
        graph = replace(graph, output=_chosen(found, output, where))
        noise = _noise(graph, 2, size)
        single = graph(noise[:1])
        if not np.isfinite(single).all():
            raise WorkbenchError(f"{where}: gives NaN or infinite values for noise; it is damaged")
        if graph.batch is None and not _same(graph, noise):
            graph = replace(graph, batch=1)
        super().__init__(single.shape[1], size, smallest=1)
        self._graph = graph
        self.output, self.outputs = graph.output, list(found)
        self.takes_bytes = graph.dtype is np.uint8
        self.channels_last = graph.channels_last
        self.guessed_axes = len(orders) > 1
        self.open_size = None in _sides(taken.shape, graph.channels_last)

    def embed(self, images: Tensor) -> Tensor:
        found = self._graph(images.detach().float().cpu().numpy())
        return torch.from_numpy(found).to(images.device)

    def check_scaling(self, mean: PerChannel, std: PerChannel, where: str) -> None:
        """Check that a scaling is possible.

        Raises:
            WorkbenchError: pixels would be scaled, and the network takes them as whole numbers 0..255.
        """
        if self.takes_bytes and (mean, std) != (0.0, 1.0):
            raise WorkbenchError(
                f"{where}: its input is of whole numbers 0..255 (uint8), so pixel_mean must be 0 and pixel_std 1, "
                f"got {formula(mean, std)}"
            )


def parse(content: bytes, where: str) -> onnx.ModelProto:
    """The parsed file, without files that it names. Raises WorkbenchError where it is damaged or no ONNX."""
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's DecodeError, and others by its implementation
        raise WorkbenchError(f"{where}: not a whole ONNX file ({_short(error)})") from None
    if not model.graph.node:
        raise WorkbenchError(f"{where}: not an ONNX file, it has no layers")
    return model


def external_files(model: onnx.ModelProto) -> list[str]:
    """Names of other files that the model's tensors are in, sorted."""
    graphs = _tensors(model.graph), *(_of_nodes(function.node) for function in model.functions)
    external = [
        tensor
        for part in graphs
        for tensor in part
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    ]
    return sorted(
        {
            entry.value
            for tensor in external
            for entry in tensor.external_data
            if entry.key == "location"
        }
        | _unnamed(external)
    )


def _unnamed(external: list[onnx.TensorProto]) -> set[str]:
    return {
        "" for tensor in external if all(entry.key != "location" for entry in tensor.external_data)
    }


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Any) -> Iterator[onnx.TensorProto]:
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in (attribute.g, *attribute.graphs):
            yield from _tensors(graph)


def _check_weights(model: onnx.ModelProto, where: str) -> None:
    """Single numbers are left out: the limit of a Clip may be infinite."""
    tensors = [
        one
        for one in _tensors(model.graph)
        if one.data_type in _CHECKED_TYPES and prod(one.dims) > 1
    ]
    try:
        weights = {
            tensor.name or f"a constant of shape {tuple(tensor.dims)}": torch.from_numpy(
                numpy_helper.to_array(tensor).copy()
            )
            for tensor in tensors
        }
    except (
        Exception
    ) as error:  # a shape that its bytes are too few for, or bytes that are no numbers
        raise WorkbenchError(
            f"{where}: not a whole ONNX file, its weights cannot be read ({_short(error)})"
        ) from None
    check_tensors(weights, where, "the file is damaged, or its training went wrong")


@dataclass(frozen=True)
class _Graph:
    """An opened file: (N, 3, H, W) float32 in, (N, D) float32 out."""

    session: Any
    where: str
    name: str
    dtype: type[np.number[Any]]
    channels_last: bool
    batch: int | None
    """Images that it takes at once; None for any number."""
    output: str = ""

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        step = self.batch or max(len(images), 1)
        return np.concatenate(
            [self._embedded(images[at : at + step]) for at in range(0, max(len(images), 1), step)]
        )

    def _embedded(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        count = max(self.batch or 0, len(images))
        found = self.run(images, [self.output])[self.output]
        embeddings = _flat(found, count)
        if embeddings is None:
            raise WorkbenchError(
                f"{self.where}: output {self.output!r} gives {_shape_of(found)} for {count} image(s), expected ({count}, D)"
            )
        return embeddings[: len(images)].astype(np.float32)

    def run(self, images: NDArray[np.float32], outputs: list[str] | None = None) -> dict[str, Any]:
        """What these outputs give, all by default; a batch of fixed size is filled up with black images."""
        missing = (self.batch or 0) - len(images)
        batch = (
            np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)])
            if missing > 0
            else images
        )
        given = batch.transpose(0, 2, 3, 1) if self.channels_last else batch
        if self.dtype is np.uint8:
            given = np.rint(given)
        names = outputs or [value.name for value in self.session.get_outputs()]
        try:
            found = self.session.run(
                names, {self.name: np.ascontiguousarray(given, dtype=self.dtype)}
            )
        except Exception as error:  # onnxruntime's own classes, which have no public base
            height, width = images.shape[2:]
            what = f"{len(batch)} image(s) of {height} x {width}"
            raise WorkbenchError(
                f"{self.where}: cannot be run on {what} ({_short(error)})"
            ) from None
        return dict(zip(names, found, strict=True))


def _flat(found: Any, count: int) -> NDArray[Any] | None:
    """(N, D), (N, D, 1, 1), (N, 1, 1, D), ... -> (N, D); None for what holds no one vector an image."""
    if not isinstance(found, np.ndarray) or found.ndim < 2 or len(found) != count:
        return None
    length = prod(found.shape[1:])
    return found.reshape(count, length) if length and max(found.shape[1:]) == length else None


def _chosen(found: dict[str, Any], wanted: str | None, where: str) -> str:
    """Name of the output with the embeddings, from what each output gave for one image or a fixed batch."""
    if wanted is not None:
        if wanted not in found:
            raise unknown_name(f"output of {where}", wanted, found)
        return wanted
    if len(found) == 1:
        return next(iter(found))
    vectors = {
        name: _flat(value, len(value))
        for name, value in found.items()
        if isinstance(value, np.ndarray) and value.ndim
    }
    fitting = [
        name for name, vector in vectors.items() if vector is not None and vector.shape[1] > 1
    ]
    if len(fitting) != 1:
        listed = ", ".join(f"{name!r} with {_shape_of(value)}" for name, value in found.items())
        raise WorkbenchError(
            f"{where}: {len(fitting)} of its {len(found)} outputs look like embeddings (N, D): {listed}; "
            "say which one holds them with --output NAME"
        )
    return fitting[0]


def _same(graph: _Graph, images: NDArray[np.float32]) -> bool:
    """Does it embed several images at once as it does each alone? Some files leave the batch open and then take one image."""
    alone = np.concatenate([graph(images[:1]), graph(images[1:])])
    try:
        together = graph(images)
    except WorkbenchError:
        return False
    return bool(np.allclose(together, alone, rtol=1e-3, atol=1e-3 * np.abs(alone).max()))


def _noise(graph: _Graph, count: int, size: tuple[int, int]) -> NDArray[np.float32]:
    noise = np.random.default_rng(0).uniform(-1, 1, (count, 3, *size)).astype(np.float32)
    return 127.5 + 127.5 * noise if graph.dtype is np.uint8 else noise


def _session(content: bytes, where: str, device: torch.device) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads = torch.get_num_threads()
    wanted = (
        ["CPUExecutionProvider"]
        if device.type != "cuda"
        else ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    try:
        return ort.InferenceSession(
            content, options, [name for name in wanted if name in ort.get_available_providers()]
        )
    except Exception as error:
        raise WorkbenchError(f"{where}: onnxruntime cannot open it ({_short(error)})") from None


def _only_input(session: Any, where: str) -> Any:
    """The image input: its name, shape and type as onnxruntime has them."""
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise WorkbenchError(
            f"{where}: has {len(inputs)} inputs ({_names(inputs)}), expected one: images; export it with the others fixed"
        )
    (taken,) = inputs
    if taken.type not in _TYPES:
        raise WorkbenchError(
            f"{where}: input {taken.name!r} is {taken.type}, expected one of {', '.join(_TYPES)}"
        )
    return taken


def _possible_orders(taken: Any, where: str) -> list[bool]:
    """Whether the channels are the last axis of the input: [False] or [True], or both where the file leaves it open."""
    shape = [_fixed(side) for side in taken.shape]
    if len(shape) != 4 or not {3, None} & {shape[1], shape[3]}:
        raise WorkbenchError(
            f"{where}: input {taken.name!r} has shape {_written(taken.shape)}, expected (N, 3, H, W) or (N, H, W, 3)"
        )
    if shape[1] == 3 or shape[3] not in (3, None):
        return [False]
    if shape[3] == 3 or shape[1] is not None:
        return [True]
    first, last = (str(taken.shape[axis]).lower() for axis in (1, 3))
    if first in _CHANNEL_NAMES:
        return [False]
    return [True] if last in _CHANNEL_NAMES or first in _HEIGHT_NAMES else [False, True]


def _tried(
    session: Any, taken: Any, orders: list[bool], where: str, image_size: tuple[int, int] | None
) -> tuple[_Graph, tuple[int, int], dict[str, Any]]:
    """The opened file with the first order of the axes that it runs with, its size of images, and what it gave for noise."""
    errors: list[WorkbenchError] = []
    for channels_last in orders:
        sides = _sides(taken.shape, channels_last)
        size = _size(sides, where, image_size)
        graph = _Graph(
            session, where, taken.name, _TYPES[taken.type], channels_last, _fixed(taken.shape[0])
        )
        try:
            return graph, size, graph.run(_noise(graph, 1, size))
        except WorkbenchError as error:
            hint = (
                "; the file leaves the size of its images open, say the right one with --image-size"
                if None in sides
                else ""
            )
            errors.append(WorkbenchError(f"{error}{hint}"))
    raise errors[0]


def _size(
    sides: list[int | None], where: str, image_size: tuple[int, int] | None
) -> tuple[int, int]:
    default = image_size or (DEFAULT_SIZE, DEFAULT_SIZE)
    size = sides[0] or default[0], sides[1] or default[1]
    if min(size) < 1:
        raise WorkbenchError(f"{where}: images of {size[0]} x {size[1]} pixels are none")
    if image_size not in (None, size):
        raise WorkbenchError(
            f"{where}: takes images of {size[0]} x {size[1]}, but image_size says {default[0]} x {default[1]}; leave it out"
        )
    return size


def _sides(shape: Any, channels_last: bool) -> list[int | None]:
    """Height and width; None where the file leaves them open."""
    return [_fixed(side) for side in (shape[1:3] if channels_last else shape[2:4])]


def _fixed(side: Any) -> int | None:
    return side if isinstance(side, int) and side > 0 else None


def _names(values: Any) -> str:
    return ", ".join(value.name for value in values[:4]) + (", ..." if len(values) > 4 else "")


def _written(shape: Any) -> str:
    return f"({', '.join(str(side) for side in shape)})"


def _shape_of(found: Any) -> str:
    return f"shape {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
