"""A network in an ONNX file, run by onnxruntime: it embeds as a backbone does, and cannot be trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.backbones import Backbone
from workbench.errors import WorkbenchError

_FLOATS: dict[str, type[np.floating]] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_DEFAULT_SIZE = 112
_ERRORS_ONLY = 3  # onnxruntime's level; it warns where a file says a batch of 1 and takes any, as insightface's do


class OnnxNetwork(Backbone):
    """The network of an ONNX file with one image input, (N, 3, H, W) or (N, H, W, 3), and one output, (N, D).

    On loading it is tried on noise, which shows D and whether it embeds several images at once; else it gets them one by one.

    Args:
        content: the bytes of the file, which must hold all its weights.
        where: what to call it in an error.
        image_size: height and width in pixels; by default what the file says, or 112 where it leaves them open.
        device: runs on CUDA where this is a GPU and onnxruntime was built for it, else on the CPU. Images and embeddings are
            where the caller has them.

    Raises:
        WorkbenchError: damaged, weights in other files, other inputs or outputs, or another size.
    """

    def __init__(
        self, content: bytes, where: str, image_size: tuple[int, int] | None = None, device: torch.device | None = None
    ) -> None:
        if elsewhere := external_files(parse(content, where)):
            raise WorkbenchError(f"{where}: has weights in another file, {elsewhere[0]!r}; a run's model.onnx must hold them all")
        graph, size = _open(content, where, image_size, device or torch.device("cpu"))
        noise = np.random.default_rng(0).uniform(-1, 1, (2, 3, *size)).astype(np.float32)
        single = graph(noise[:1])
        if not np.isfinite(single).all():
            raise WorkbenchError(f"{where}: gives NaN or infinite values for noise; it is damaged")
        if graph.batch is None and not _same(graph, noise):
            graph = replace(graph, batch=1)
        super().__init__(single.shape[1], size, smallest=1)
        self._graph = graph

    def embed(self, images: Tensor) -> Tensor:
        found = self._graph(images.detach().float().cpu().numpy())
        return torch.from_numpy(found).to(images.device)


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
    external = [tensor for part in graphs for tensor in part if tensor.data_location == onnx.TensorProto.EXTERNAL]
    return sorted(
        {entry.value for tensor in external for entry in tensor.external_data if entry.key == "location"} | _unnamed(external)
    )


def _unnamed(external: list[onnx.TensorProto]) -> set[str]:
    return {"" for tensor in external if all(entry.key != "location" for entry in tensor.external_data)}


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


@dataclass(frozen=True)
class _Graph:
    """An opened file: (N, 3, H, W) float32 in, (N, D) float32 out."""

    session: Any
    where: str
    name: str
    dtype: type[np.floating]
    channels_last: bool
    batch: int | None
    """Images that it takes at once; None for any number."""

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        step = self.batch or max(len(images), 1)
        return np.concatenate([self._run(images[at : at + step]) for at in range(0, max(len(images), 1), step)])

    def _run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        missing = (self.batch or 0) - len(images)
        batch = np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)]) if missing > 0 else images
        given = batch.transpose(0, 2, 3, 1) if self.channels_last else batch
        try:
            (found,) = self.session.run(None, {self.name: np.ascontiguousarray(given, dtype=self.dtype)})
        except Exception as error:  # onnxruntime's own classes, which have no public base
            raise WorkbenchError(f"{self.where}: cannot be run on {len(batch)} image(s) ({_short(error)})") from None
        if not isinstance(found, np.ndarray) or found.ndim != 2 or len(found) != len(batch) or not found.shape[1]:
            raise WorkbenchError(f"{self.where}: gives {_shape_of(found)} for {len(batch)} image(s), expected ({len(batch)}, D)")
        return found[: len(images)].astype(np.float32)


def _same(graph: _Graph, images: NDArray[np.float32]) -> bool:
    """Does it embed several images at once as it does each alone? Some files leave the batch open and then take one image."""
    alone = np.concatenate([graph(images[:1]), graph(images[1:])])
    try:
        together = graph(images)
    except WorkbenchError:
        return False
    return bool(np.allclose(together, alone, rtol=1e-3, atol=1e-3 * np.abs(alone).max()))


def _open(content: bytes, where: str, image_size: tuple[int, int] | None, device: torch.device) -> tuple[_Graph, tuple[int, int]]:
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = torch.get_num_threads()
    wanted = ["CPUExecutionProvider"] if device.type != "cuda" else ["CUDAExecutionProvider", "CPUExecutionProvider"]
    try:
        session = ort.InferenceSession(content, options, [name for name in wanted if name in ort.get_available_providers()])
    except Exception as error:
        raise WorkbenchError(f"{where}: onnxruntime cannot open it ({_short(error)})") from None
    inputs, outputs = session.get_inputs(), session.get_outputs()
    for values, what in ((inputs, "input"), (outputs, "output")):
        if len(values) != 1:
            raise WorkbenchError(f"{where}: has {len(values)} {what}s ({_names(values)}), expected one: images in, embeddings out")
    (taken,) = inputs
    shape = [side if isinstance(side, int) and side > 0 else None for side in taken.shape]
    if len(shape) != 4 or (3 not in (shape[1], shape[3]) and shape[1] is not None):
        raise WorkbenchError(
            f"{where}: input {taken.name!r} has shape {_written(taken.shape)}, expected (N, 3, H, W) or (N, H, W, 3)"
        )
    if taken.type not in _FLOATS:
        raise WorkbenchError(f"{where}: input {taken.name!r} is {taken.type}, expected tensor(float)")
    channels_last = shape[1] != 3 and shape[3] == 3
    sides = shape[1:3] if channels_last else shape[2:]
    default = image_size or (_DEFAULT_SIZE, _DEFAULT_SIZE)
    size = sides[0] or default[0], sides[1] or default[1]
    if min(size) < 1:
        raise WorkbenchError(f"{where}: images of {size[0]} x {size[1]} pixels are none")
    if image_size not in (None, size):
        raise WorkbenchError(f"{where}: takes images of {size[0]} x {size[1]}, but image_size says {default[0]} x {default[1]}")
    return _Graph(session, where, taken.name, _FLOATS[taken.type], channels_last, shape[0]), size


def _names(values: Any) -> str:
    return ", ".join(value.name for value in values[:4]) + (", ..." if len(values) > 4 else "")


def _written(shape: Any) -> str:
    return f"({', '.join(str(side) for side in shape)})"


def _shape_of(found: Any) -> str:
    return f"shape {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
