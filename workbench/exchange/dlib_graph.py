"""dlib's face recognition network as an ONNX graph. This module needs the package onnx."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

from workbench.exchange.dlib_file import STAGES, DlibWeights, Weights

CHIP = 150
"""Height and width of the crop that dlib's network takes, which dlib calls a face chip."""
CROP = 112
"""Height and width of ArcFace's crop."""
CENTRE, SIDE = (56.9, 73.0), 100.6
"""Centre (x, y) and side of dlib's face chip in ArcFace's crop, in pixels from its top left corner.

They are the averages over 206 photos of UTKFace. Each photo was aligned to ArcFace's template, and
dlib computed the chip from its own five landmarks. The chip extends 11 pixels below the crop.
`benchmarks/dlib_crop.py` measures the place again. The 206 photos are not recorded, so the figures
are not exactly the same: on 106 photos of adults in UTKFace, they are (56.8, 72.9) and 99.8,
with standard errors of (0.1, 0.1) and 0.5. On 300 portraits of ORL they
are (56.5, 72.9) and 104.4: the side depends on the photos more than its standard error says.
"""
PIXEL_MEAN, PIXEL_STD = (122.782, 117.001, 104.298), 256.0
"""Scaling of RGB pixels in dlib's `input_rgb_image`."""
INPUT, OUTPUT = "images", "embeddings"
_OPSET, _IR_VERSION = 17, 8


class _Graph:
    """Collects the layers of a graph. Each method adds one and returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []

    def add(self, kind: str, *inputs: str, **options: Any) -> str:
        """Adds a layer."""
        output = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **options))
        return output

    def constant(self, values: NDArray[Any]) -> str:
        """Adds weights."""
        name = f"weights{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def pad(self, images: str, channels: int, pixels: int) -> str:
        """Adds zeros: channels at the end, rows at the bottom and columns on the right."""
        if not channels and not pixels:
            return images
        ends = np.array([0, 0, 0, 0, 0, channels, pixels, pixels], dtype=np.int64)
        return self.add("Pad", images, self.constant(ends))


def network(weights: DlibWeights, *, takes_chips: bool = False) -> ModelProto:
    """Builds the network.

    The input is (N, 3, H, W) float32 in RGB, scaled with `PIXEL_MEAN` and `PIXEL_STD`. The output
    is (N, 128) float32, dlib's face descriptors.

    Args:
        weights: weights of dlib's network.
        takes_chips: whether the input consists of dlib's 150 x 150 face chips. By default it
            consists of ArcFace's 112 x 112 crops, from which the network cuts the chips.

    Returns:
        The ONNX model.
    """
    graph = _Graph()
    images = INPUT
    if not takes_chips:
        rows, columns = (graph.constant(resampling(centre)) for centre in reversed(CENTRE))
        images = graph.add("MatMul", rows, images)
        images = graph.add("MatMul", images, graph.add("Transpose", columns, perm=(1, 0)))
    convolutions = iter(weights.convolutions)

    def convolve(inputs: str, stride: int, padding: int) -> str:
        layer = next(convolutions)
        parts = graph.constant(layer.weight), graph.constant(layer.bias)
        return graph.add("Conv", inputs, *parts, strides=[stride] * 2, pads=[padding] * 4)

    features = graph.add("Relu", convolve(images, 2, 0))
    features = graph.add("MaxPool", features, kernel_shape=(3, 3), strides=(2, 2))
    side, channels = 35, 32  # of the features after the pooling
    for stage, (width, blocks) in enumerate(STAGES):
        for block in range(blocks):
            halves = stage > 0 and block == 0
            inside = graph.add("Relu", convolve(features, *((2, 0) if halves else (1, 1))))
            inside = convolve(inside, 1, 1)
            if halves:
                # dlib adds tensors of different sizes as if the smaller one were filled with zeros.
                features = graph.add("AveragePool", features, kernel_shape=(2, 2), strides=(2, 2))
                side, inside_side = side // 2, (side - 1) // 2
                inside = graph.pad(inside, 0, side - inside_side)
                features = graph.pad(features, width - channels, 0)
                channels = width
            features = graph.add("Relu", graph.add("Add", features, inside))
    pooled = graph.add("Flatten", graph.add("GlobalAveragePool", features))
    projection = graph.constant(weights.projection)
    graph.nodes.append(helper.make_node("MatMul", [pooled, projection], [OUTPUT]))

    side = CHIP if takes_chips else CROP
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "dlib",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ("n", 3, side, side))],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ("n", 128))],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    checker.check_model(model)
    return model


def resampling(centre: float) -> Weights:
    """Returns the matrix that resamples one axis of ArcFace's crop to that of dlib's face chip.

    The interpolation is linear. Places outside the crop become 0, which is the mean colour of the
    scaled input. On 137 photos of UTKFace, the embeddings are then at an average distance of 0.19
    from those of dlib's own chips. The distance is 0.21 if the last row is repeated instead, and
    0.15 if the chip is cut from the photo itself.

    Args:
        centre: centre of the chip on this axis, in pixels of the crop.

    Returns:
        (150, 112) float32; each row has the weights of the pixels for one pixel of the chip.

    Example:
        >>> matrix = resampling(CENTRE[1])
        >>> matrix.shape, float(matrix[0].sum().round(3)), float(matrix[-1].sum())
        ((150, 112), 1.0, 0.0)
    """
    # The centre of pixel k is at k, so an axis of n pixels extends from -0.5 to n - 0.5.
    places = centre - 0.5 + SIDE * ((np.arange(CHIP) + 0.5) / CHIP - 0.5)
    distances = np.abs(places[:, None] - np.arange(CROP))
    return (1 - distances).clip(0, None).astype(np.float32)
