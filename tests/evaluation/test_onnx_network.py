"""Networks in ONNX files: their embeddings, supported inputs, and errors for all others."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from workbench.evaluation.onnx_network import OnnxNetwork, external_files

Make = Callable[..., onnx.ModelProto]


def _opened(model: onnx.ModelProto, size: tuple[int, int] | None = None) -> OnnxNetwork:
    return OnnxNetwork(model.SerializeToString(), "a.onnx", size)


def _images(count: int, size: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _expected(images: torch.Tensor, seed: int = 0) -> NDArray[np.float64]:
    weights = np.random.default_rng(seed).normal(size=(48, 5)).astype(np.float32)
    squares = images.numpy().reshape(len(images), 3, 4, 4, 4, 4).mean((3, 5))
    return squares.reshape(len(images), 48) @ weights


SHAPES = {
    "any batch": ("n", 3, 16, 16),
    "one image": (1, 3, 16, 16),
    "four images": (4, 3, 16, 16),
    "any size": ("n", 3, "h", "w"),
    "all open": ("n", "c", "h", "w"),
    "channels last": ("n", 16, 16, 3),
    "one image, channels last": (1, 16, 16, 3),
    "any size, channels last": ("n", "h", "w", 3),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_embeddings_are_those_of_the_file_for_any_layout_and_batch(
    tiny_onnx: Make, shape: tuple[Any, ...]
) -> None:
    net = _opened(tiny_onnx(shape), (16, 16))
    assert (net.embedding_dim, net.image_size) == (5, (16, 16))
    for count in (0, 1, 3, 9):
        images = _images(count)
        found = net(images)
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found.numpy(), _expected(images), atol=1e-5)
        np.testing.assert_allclose(
            net(images.contiguous(memory_format=torch.channels_last)).numpy(),
            found.numpy(),
            atol=1e-6,
        )


def test_it_is_a_backbone_without_weights_to_train(tiny_onnx: Make) -> None:
    net = _opened(tiny_onnx()).to("cpu").to(memory_format=torch.channels_last).eval()
    assert list(net.parameters()) == []
    assert not net(_images(2).requires_grad_()).requires_grad


def test_size_is_what_the_file_says_or_else_112(tiny_onnx: Make) -> None:
    assert _opened(tiny_onnx()).image_size == (16, 16)
    pooled = tiny_onnx(("n", 3, "h", "w"))
    pooled.graph.node[0].op_type = "GlobalAveragePool"
    del pooled.graph.node[0].attribute[:]
    pooled.graph.initializer[2].CopyFrom(
        numpy_helper.from_array(np.ones((3, 5), np.float32), "weights")
    )
    pooled.graph.initializer[3].CopyFrom(numpy_helper.from_array(np.array([0, 3]), "flat"))
    assert _opened(pooled).image_size == (112, 112)
    assert _opened(pooled, (20, 10)).image_size == (20, 10)


def test_another_size_than_the_files_is_one_line(tiny_onnx: Make, complaint: Any) -> None:
    with complaint("a.onnx", "16 x 16", "image_size is 112 x 112"):
        _opened(tiny_onnx(), (112, 112))
    with complaint("0 x 0"):
        _opened(tiny_onnx(("n", 3, "h", "w")), (0, 0))
    with complaint("cannot be run"):
        _opened(tiny_onnx(("n", 3, "h", "w")), (20, 20))


def test_images_of_another_size_are_refused(tiny_onnx: Make, complaint: Any) -> None:
    with complaint("expected (N, 3, 16, 16)"):
        _opened(tiny_onnx())(_images(1, 20))


def test_a_file_that_mixes_the_images_of_a_batch_gets_them_one_by_one(tiny_onnx: Make) -> None:
    model = tiny_onnx()
    model.graph.node[2].output[0] = "whole"
    model.graph.node.extend(
        [
            helper.make_node("ReduceMean", ["whole"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["whole", "mean"], ["apart"]),
            helper.make_node("Sub", ["apart", "whole"], ["embeddings"]),
        ]
    )
    images = _images(4)
    np.testing.assert_allclose(_opened(model)(images).numpy(), -_expected(images), atol=1e-5)


def test_a_file_whose_batch_is_open_but_takes_one_image_gets_them_one_by_one(
    tiny_onnx: Make,
) -> None:
    images = _images(4)
    np.testing.assert_allclose(
        _opened(tiny_onnx(flat=(1, 48)))(images).numpy(), _expected(images), atol=1e-5
    )


@pytest.mark.parametrize(
    ("kind", "tolerance"), [(TensorProto.FLOAT16, 1e-2), (TensorProto.DOUBLE, 1e-5)]
)
def test_half_and_double_precision_are_taken(tiny_onnx: Make, kind: int, tolerance: float) -> None:
    model = tiny_onnx()
    _other_input(model, kind)
    images = _images(3)
    np.testing.assert_allclose(_opened(model)(images).numpy(), _expected(images), atol=tolerance)


def test_an_input_of_bytes_gets_the_pixels_as_they_are(tiny_onnx: Make, complaint: Any) -> None:
    model = tiny_onnx()
    _other_input(model, TensorProto.UINT8)
    net = _opened(model)
    pixels = torch.randint(
        0, 256, (3, 3, 16, 16), generator=torch.Generator().manual_seed(0)
    ).float()
    np.testing.assert_allclose(net(pixels).numpy(), _expected(pixels), rtol=1e-5, atol=1e-3)
    net.check_scaling(0.0, 1.0, "config.yaml")
    for mean, std in ((127.5, 127.5), (0.0, 255.0), ((0.0, 0.0, 0.0), 1.0)):
        with complaint(
            "config.yaml", "whole numbers 0..255 (uint8)", "pixel_mean must be 0 and pixel_std 1"
        ):
            net.check_scaling(mean, std, "config.yaml")


def _with_output(
    model: onnx.ModelProto, kind: str, name: str, shape: tuple[Any, ...], **options: Any
) -> onnx.ModelProto:
    """With a further output, made of the embeddings by one layer."""
    model.graph.node.append(helper.make_node(kind, ["embeddings"], [name], **options))
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    return model


def test_of_several_outputs_the_embedding_is_known_by_its_shape(tiny_onnx: Make) -> None:
    images = _images(3)
    for first in (False, True):  # the norm of AdaFace's and MagFace's exports
        model = _with_output(tiny_onnx(), "ReduceL2", "norm", (None, 1), axes=[1], keepdims=1)
        _second_output(model)
        if first:
            model.graph.output.insert(0, model.graph.output.pop())
        net = _opened(model)
        assert (net.output, sorted(net.outputs)) == ("embeddings", ["embeddings", "norm", "pooled"])
        np.testing.assert_allclose(net(images).numpy(), _expected(images), atol=1e-5)


def test_two_outputs_that_may_be_it_are_asked_about(tiny_onnx: Make, complaint: Any) -> None:
    content = _with_output(tiny_onnx(), "Neg", "negative", (None, 5)).SerializeToString()
    with complaint(
        "2 of its 2 outputs",
        "'embeddings' with shape (1, 5)",
        "'negative' with shape (1, 5)",
        "--output NAME",
    ):
        OnnxNetwork(content, "a.onnx")
    images = _images(3)
    np.testing.assert_allclose(
        OnnxNetwork(content, "a.onnx", output="negative")(images).numpy(),
        -_expected(images),
        atol=1e-5,
    )
    with complaint("unknown output of a.onnx 'embedings'", "did you mean 'embeddings'"):
        OnnxNetwork(content, "a.onnx", output="embedings")


@pytest.mark.parametrize("axes", [(2, 3), (1, 2), (1,)])
def test_axes_of_length_one_around_the_embedding_are_dropped(
    tiny_onnx: Make, axes: tuple[int, ...]
) -> None:
    model = tiny_onnx()
    model.graph.node[2].output[0] = "vectors"
    model.graph.initializer.append(numpy_helper.from_array(np.array(axes), "axes"))
    model.graph.node.append(helper.make_node("Unsqueeze", ["vectors", "axes"], ["embeddings"]))
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, None)
    )
    for batch in ("n", 1, 4):
        model.graph.input[0].CopyFrom(
            helper.make_tensor_value_info("images", TensorProto.FLOAT, (batch, 3, 16, 16))
        )
        net, images = _opened(model), _images(6)
        assert net.embedding_dim == 5
        np.testing.assert_allclose(net(images).numpy(), _expected(images), atol=1e-5)


@pytest.mark.parametrize(
    "names",
    [
        ("batch", "height", "width", "channels"),
        ("N", "H", "W", "C"),
        ("a", "b", "c", "d"),
        (None,) * 4,
    ],
)
def test_channels_last_is_known_by_the_names_of_the_axes_or_by_trying(
    tiny_onnx: Make, names: tuple[Any, ...]
) -> None:
    model = tiny_onnx(("n", 16, 16, 3))
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("images", TensorProto.FLOAT, names))
    net, images = _opened(model, (16, 16)), _images(3)
    assert (net.channels_last, net.guessed_axes) == (True, names[0] in ("a", None))
    np.testing.assert_allclose(net(images).numpy(), _expected(images), atol=1e-5)


def test_an_open_size_that_is_wrong_is_to_be_said(tiny_onnx: Make, complaint: Any) -> None:
    with complaint(
        "a.onnx: cannot be run on 1 image(s) of 112 x 112", "give the right one with --image-size"
    ):
        _opened(tiny_onnx(("n", 3, "h", "w")))


def test_what_is_tried_leaves_no_line_of_onnxruntime_behind(
    tiny_onnx: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    images = _images(4)
    np.testing.assert_allclose(
        _opened(tiny_onnx(flat=(1, 48)))(images).numpy(), _expected(images), atol=1e-5
    )
    _opened(tiny_onnx((1, 3, 16, 16)))(images)
    assert capfd.readouterr() == ("", "")


def test_one_infinite_number_may_be_the_limit_of_a_layer(tiny_onnx: Make) -> None:
    model = tiny_onnx(before=("Sub",))
    model.graph.initializer.append(numpy_helper.from_array(np.array(np.inf, np.float32), "limit"))
    model.graph.node[0].CopyFrom(helper.make_node("Min", ["images", "limit"], ["value0"]))
    images = _images(3)
    np.testing.assert_allclose(_opened(model)(images).numpy(), _expected(images), atol=1e-5)


def _second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, (None, 5)))
    model.graph.node[2].output[0] = "whole"
    model.graph.node.append(helper.make_node("Add", ["whole", "mask"], ["embeddings"]))


def _second_output(model: onnx.ModelProto) -> None:
    model.graph.output.append(
        helper.make_tensor_value_info("pooled", TensorProto.FLOAT, (None, 3, 4, 4))
    )


def _map_as_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("pooled", TensorProto.FLOAT, (None, 3, 4, 4))
    )


def _long_as_input(model: onnx.ModelProto) -> None:
    _other_input(model, TensorProto.INT64)


def _other_input(model: onnx.ModelProto, kind: int) -> None:
    model.graph.input[0].type.tensor_type.elem_type = kind
    model.graph.node[0].input[0] = "wide"
    model.graph.node.insert(0, helper.make_node("Cast", ["images"], ["wide"], to=TensorProto.FLOAT))


def _shape(*shape: Any) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.input[0].CopyFrom(
            helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)
        )
        model.graph.ClearField("node")
        model.graph.node.append(helper.make_node("Flatten", ["images"], ["embeddings"]))
        model.graph.output[0].CopyFrom(
            helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, (None, None))
        )

    return change


def _weights(values: NDArray[Any]) -> Callable[[onnx.ModelProto], None]:
    return lambda model: model.graph.initializer[2].CopyFrom(
        numpy_helper.from_array(values.astype(np.float32), "weights")
    )


def _external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[2]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.append(
        onnx.StringStringEntryProto(key="location", value="../../secret.bin")
    )


def _external_without_name(model: onnx.ModelProto) -> None:
    model.graph.initializer[2].data_location = TensorProto.EXTERNAL


def _unknown_layer(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "AveragePolo"


DAMAGE: dict[str, tuple[Callable[[onnx.ModelProto], Any], str]] = {
    "two inputs": (_second_input, "has 2 inputs (images, mask)"),
    "a map": (_map_as_output, "gives shape (1, 3, 4, 4) for 1 image(s), expected (1, D)"),
    "whole numbers": (_long_as_input, "tensor(int64), expected one of tensor(float)"),
    "grey": (_shape("n", 1, 16, 16), "expected (N, 3, H, W)"),
    "three axes": (_shape(3, 16, 16), "has shape (3, 16, 16)"),
    "five axes": (_shape(1, 1, 3, 16, 16), "expected (N, 3, H, W)"),
    "NaN": (_weights(np.full((48, 5), np.nan)), "1 of 1 tensors hold NaN or infinity (weights)"),
    "infinity": (
        _weights(np.full((48, 5), np.inf)),
        "1 of 1 tensors hold NaN or infinity (weights)",
    ),
    "no embedding": (_weights(np.ones((48, 0))), "expected (1, D)"),
    "wrong weights": (_weights(np.ones((40, 5))), "onnxruntime cannot"),
    "weights elsewhere": (_external, "secret.bin"),
    "weights nowhere": (_external_without_name, "has weights in another file"),
    "unknown layer": (_unknown_layer, "AveragePolo"),
    "no layers": (lambda model: model.graph.ClearField("node"), "has no layers"),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGE.values(), ids=list(DAMAGE))
def test_what_is_no_embedder_is_one_readable_line(
    tiny_onnx: Make, damage: Callable[[Any], Any], said: str, complaint: Any
) -> None:
    model = tiny_onnx()
    damage(model)
    with complaint("a.onnx", said):
        _opened(model)


def test_damaged_bytes_are_one_readable_line(
    tiny_onnx: Make, mutate: Callable[[bytes, int], bytes], at_worst_complaint: Any, complaint: Any
) -> None:
    whole = tiny_onnx().SerializeToString()
    for content in (
        b"",
        b"Dear Sir or Madam",
        b"\x80\x04}q\x00.",
        whole[: len(whole) // 2],
        whole[:-100],
    ):
        with complaint("a.onnx"):
            OnnxNetwork(content, "a.onnx")
    for seed in range(60):
        with at_worst_complaint("a.onnx"):
            OnnxNetwork(mutate(whole, seed), "a.onnx")


def test_weights_in_other_files_are_found_wherever_they_hide(tiny_onnx: Make) -> None:
    tensor = numpy_helper.from_array(np.ones(3, np.float32), "t")
    tensor.data_location = TensorProto.EXTERNAL
    names = itertools.count()

    def elsewhere() -> onnx.TensorProto:
        copy = onnx.TensorProto()
        copy.CopyFrom(tensor)
        copy.external_data.append(
            onnx.StringStringEntryProto(key="location", value=f"file{next(names)}")
        )
        return copy

    model = tiny_onnx()
    assert external_files(model) == []
    constant = helper.make_node("Constant", [], ["c"], value=elsewhere())
    branch = helper.make_graph(
        [constant],
        "branch",
        [],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, (3,))],
        [elsewhere()],
    )
    model.graph.node.append(
        helper.make_node("If", ["condition"], ["d"], then_branch=branch, else_branch=branch)
    )
    model.graph.initializer.append(elsewhere())
    model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=elsewhere()))
    function = helper.make_function(
        "own",
        "f",
        [],
        ["e"],
        [helper.make_node("Constant", [], ["e"], value=elsewhere())],
        [helper.make_opsetid("", 17)],
    )
    model.functions.append(function)
    assert external_files(model) == [f"file{number}" for number in range(5)]
