"""ONNX files as runs: scaling, weights beside the file, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import workbench as wb
from workbench import runs
from workbench.evaluation import load_model

Make = Callable[..., onnx.ModelProto]
IMAGES = list(np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8))


def _stored(tmp_path: Path, model: onnx.ModelProto, name: str = "their net.onnx") -> Path:
    (tmp_path / name).write_bytes(model.SerializeToString())
    return tmp_path / name


def _imported(path: Path, **options: Any) -> runs.Run:
    return wb.import_model(path, runs_dir=path.parent / "runs", **options)


def _refused(path: Path, complaint: Any, *texts: str, **options: Any) -> None:
    with complaint(path.name, *texts):
        _imported(path, **options)
    assert not (path.parent / "runs").exists()


def test_the_file_becomes_a_finished_run_unchanged(tmp_path: Path, tiny_onnx: Make) -> None:
    path = _stored(tmp_path, tiny_onnx())
    run = _imported(path)
    assert (run.name, run.state) == ("imported-their-net", "finished")
    assert run.config == {
        "loss": "imported",
        "backbone": "onnx",
        "embedding_dim": 5,
        "image_size": 16,
        "pixel_mean": 127.5,
        "pixel_std": 127.5,
        "channels": "rgb",
        "imported": "their net.onnx",
    }
    assert run.model_path == run.path / "model.onnx"
    assert run.model_path.read_bytes() == path.read_bytes()
    assert not (run.path / runs.MODEL).exists()


def test_embeddings_are_those_of_the_scaled_images(tmp_path: Path, tiny_onnx: Make) -> None:
    model = load_model(_imported(_stored(tmp_path, tiny_onnx())), "cpu")
    weights = np.random.default_rng(0).normal(size=(48, 5)).astype(np.float32)
    scaled = (np.stack(IMAGES).transpose(0, 3, 1, 2) - 127.5) / 127.5
    expected = scaled.reshape(5, 3, 4, 4, 4, 4).mean((3, 5)).reshape(5, 48) @ weights
    np.testing.assert_allclose(model.embed(IMAGES, flip="none"), expected, atol=1e-4)
    assert (model.loss, model.centres, model.step) == (None, None, None)


@pytest.mark.parametrize(
    "shape", [(1, 16, 16, 3), (1, 3, 16, 16), (4, 3, 16, 16), ("n", 16, 16, 3)]
)
def test_layout_and_batch_make_no_difference(
    tmp_path: Path, tiny_onnx: Make, shape: tuple[Any, ...]
) -> None:
    for name, model in (("usual.onnx", tiny_onnx()), ("other.onnx", tiny_onnx(shape))):
        _stored(tmp_path, model, name)
    usual, other = (
        load_model(_imported(tmp_path / name), "cpu") for name in ("usual.onnx", "other.onnx")
    )
    np.testing.assert_allclose(other.embed(IMAGES, batch_size=3), usual.embed(IMAGES), atol=1e-5)


def test_an_open_size_is_given_or_112(tmp_path: Path, tiny_onnx: Make, complaint: Any) -> None:
    path = _stored(tmp_path, tiny_onnx(("n", 3, "h", "w")))
    _refused(path, complaint, "cannot be run")  # 112 pixels are more than its weights are for
    run = _imported(path, image_size=16)
    assert run.config["image_size"] == 16
    assert load_model(run, "cpu").net.image_size == (16, 16)


@pytest.mark.parametrize(
    "before", [("Sub", "Mul"), ("Transpose", "Sub", "Mul"), ("Identity", "Sub", "Mul")]
)
def test_a_network_that_scales_its_input_itself_gets_pixels(
    tmp_path: Path, tiny_onnx: Make, before: tuple[str, ...]
) -> None:
    plain = load_model(_imported(_stored(tmp_path, tiny_onnx(), "plain.onnx")), "cpu")
    shape = ("n", 16, 16, 3) if "Transpose" in before else ("n", 3, 16, 16)
    model = tiny_onnx(shape, before)
    if "Transpose" in before:
        model.graph.node.pop(3)  # the one that this layout would put there
        model.graph.node[3].input[0] = "value2"
    run = _imported(_stored(tmp_path, model, "itself.onnx"))
    assert (run.config["pixel_mean"], run.config["pixel_std"]) == (0.0, 1.0)
    np.testing.assert_allclose(load_model(run, "cpu").embed(IMAGES), plain.embed(IMAGES), atol=1e-4)
    given = _imported(tmp_path / "itself.onnx", pixel_mean=1.0, name="given").config
    assert (given["pixel_mean"], given["pixel_std"]) == (1.0, 1.0)


@pytest.mark.parametrize("before", [(), ("Mul",), ("Sub",), ("Mul", "Sub")])
def test_other_networks_get_the_usual_scaling(
    tmp_path: Path, tiny_onnx: Make, before: tuple[str, ...]
) -> None:
    run = _imported(_stored(tmp_path, tiny_onnx(before=before)))
    assert (run.config["pixel_mean"], run.config["pixel_std"]) == (127.5, 127.5)


def test_scaling_in_the_metadata_is_taken_and_what_is_given_goes_before(
    tmp_path: Path, tiny_onnx: Make, complaint: Any
) -> None:
    model = tiny_onnx(before=("Sub", "Mul"))
    helper.set_model_props(
        model, {"pixel_mean": "3.5", "pixel_std": "64.0", "channels": "bgr", "author": "somebody"}
    )
    path = _stored(tmp_path, model)
    said = _imported(path).config
    assert (said["pixel_mean"], said["pixel_std"], said["channels"]) == (3.5, 64.0, "bgr")
    said = _imported(path, pixel_std=1.0, channels="rgb").config
    assert (said["pixel_mean"], said["pixel_std"], said["channels"]) == (3.5, 1.0, "rgb")
    for key, value in (("pixel_std", "0"), ("pixel_mean", "much"), ("channels", "cmyk")):
        helper.set_model_props(model, {key: value})
        with complaint("their net.onnx: in its metadata"):
            _imported(_stored(tmp_path, model))


def test_weights_beside_the_file_are_taken_in(tmp_path: Path, tiny_onnx: Make) -> None:
    usual = load_model(_imported(_stored(tmp_path, tiny_onnx(), "usual.onnx")), "cpu")
    path = tmp_path / "big.onnx"
    onnx.save_model(
        tiny_onnx(), path, save_as_external_data=True, location="big.data", size_threshold=0
    )
    run = _imported(path)
    (tmp_path / "big.data").unlink()
    np.testing.assert_array_equal(load_model(run, "cpu").embed(IMAGES), usual.embed(IMAGES))
    assert sorted(
        found.name for found in run.path.iterdir() if found.suffix in (".onnx", ".data")
    ) == ["model.onnx"]


def _elsewhere(model: onnx.ModelProto, location: str, length: int = 960) -> onnx.ModelProto:
    tensor = model.graph.initializer[2]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(length))):
        tensor.external_data.append(onnx.StringStringEntryProto(key=key, value=value))
    return model


@pytest.mark.parametrize(
    "location", ["../secret.bin", "/etc/hostname", "sub/../../secret.bin", "link.bin", ""]
)
def test_weights_outside_of_the_folder_are_not_read(
    tmp_path: Path, tiny_onnx: Make, location: str, complaint: Any
) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(960))
    (tmp_path / "here" / "sub").mkdir(parents=True)
    (tmp_path / "here" / "link.bin").symlink_to(tmp_path / "secret.bin")
    _refused(
        _stored(tmp_path / "here", _elsewhere(tiny_onnx(), location)),
        complaint,
        "outside its own folder",
    )


def test_weights_that_are_missing_or_cut_off_are_one_line(
    tmp_path: Path, tiny_onnx: Make, complaint: Any
) -> None:
    path = _stored(tmp_path, _elsewhere(tiny_onnx(), "w.bin"))
    _refused(path, complaint, "'w.bin', which is missing")
    (tmp_path / "w.bin").write_bytes(bytes(400))
    _refused(path, complaint)
    _refused(_stored(tmp_path, _elsewhere(tiny_onnx(), "w.bin", 10**15)), complaint)


def test_a_truncated_file_is_one_line(tmp_path: Path, tiny_onnx: Make, complaint: Any) -> None:
    path = _stored(tmp_path, tiny_onnx())
    whole = path.read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        _refused(path, complaint)


def test_the_output_that_is_taken_is_the_runs(
    tmp_path: Path, tiny_onnx: Make, complaint: Any
) -> None:
    model = tiny_onnx()
    model.graph.node.append(helper.make_node("Neg", ["embeddings"], ["negative"]))
    model.graph.output.append(
        helper.make_tensor_value_info("negative", TensorProto.FLOAT, (None, 5))
    )
    path = _stored(tmp_path, model)
    _refused(
        path,
        complaint,
        "'embeddings' with shape (1, 5), 'negative' with shape (1, 5)",
        "--output NAME",
    )
    plain, negative = (_imported(path, output=name) for name in ("embeddings", "negative"))
    assert (plain.config["output"], negative.config["output"]) == ("embeddings", "negative")
    assert (
        "the embeddings are output 'negative'; not used: embeddings"
        in negative.environment["imported"]["notes"]
    )
    one, two = (load_model(run, "cpu").embed(IMAGES) for run in (plain, negative))
    np.testing.assert_array_equal(two, -one)


def test_bytes_are_not_scaled(tmp_path: Path, tiny_onnx: Make, complaint: Any) -> None:
    model = tiny_onnx()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    model.graph.node[0].input[0] = "wide"
    model.graph.node.insert(0, helper.make_node("Cast", ["images"], ["wide"], to=TensorProto.FLOAT))
    path = _stored(tmp_path, model)
    _refused(path, complaint, "pixel_mean must be 0 and pixel_std 1", pixel_std=255.0)
    run = _imported(path)
    assert (run.config["pixel_mean"], run.config["pixel_std"]) == (0.0, 1.0)
    weights = np.random.default_rng(0).normal(size=(48, 5)).astype(np.float32)
    squares = (
        np.stack(IMAGES)
        .transpose(0, 3, 1, 2)
        .astype(np.float32)
        .reshape(5, 3, 4, 4, 4, 4)
        .mean((3, 5))
    )
    expected = squares.reshape(5, 48) @ weights
    np.testing.assert_allclose(
        load_model(run, "cpu").embed(IMAGES, flip="none"), expected, rtol=1e-4, atol=1e-2
    )
    config = run.path / runs.CONFIG
    config.write_text(config.read_text().replace("pixel_std: 1.0", "pixel_std: 127.5"))
    with complaint(config, "whole numbers 0..255"):
        load_model(runs.open(run.path), "cpu")


def test_weights_that_are_no_numbers_are_named(
    tmp_path: Path, tiny_onnx: Make, complaint: Any
) -> None:
    model = tiny_onnx()
    weights = numpy_helper.to_array(model.graph.initializer[2]).copy()
    weights[3, 2] = np.inf
    model.graph.initializer[2].CopyFrom(numpy_helper.from_array(weights, "weights"))
    _refused(_stored(tmp_path, model), complaint, "NaN or infinity (weights)")


@pytest.mark.parametrize("known", [True, False])
def test_what_is_assumed_is_said(tmp_path: Path, tiny_onnx: Make, known: bool) -> None:
    model = tiny_onnx()
    if known:
        helper.set_model_props(
            model, {"pixel_mean": "1.0,2.0,3.0", "pixel_std": "64.0", "channels": "bgr"}
        )
    run = _imported(_stored(tmp_path, model))
    notes = run.environment["imported"]["notes"]
    if known:
        assert notes == []
        assert (run.config["pixel_mean"], run.config["pixel_std"]) == ([1.0, 2.0, 3.0], 64.0)
    else:
        assert notes[0].startswith(
            "the scaling (x - 127.5) / 127.5 is assumed, because the file does not state it"
        )
        assert notes[1].startswith("the channel order RGB is assumed")


def test_a_backbone_is_not_given_with_it(tmp_path: Path, tiny_onnx: Make, complaint: Any) -> None:
    _refused(_stored(tmp_path, tiny_onnx()), complaint, "a whole network", backbone="iresnet50")


@pytest.mark.parametrize("damage", ["missing", "cut off", "outside", "size", "scaling", "order"])
def test_a_damaged_run_is_one_line(
    tmp_path: Path, tiny_onnx: Make, damage: str, complaint: Any
) -> None:
    run = _imported(_stored(tmp_path, tiny_onnx()))
    config, model = run.path / runs.CONFIG, run.model_path
    changes: dict[str, Callable[[], Any]] = {
        "missing": model.unlink,
        "cut off": lambda: model.write_bytes(model.read_bytes()[:300]),
        "outside": lambda: model.write_bytes(
            _elsewhere(tiny_onnx(), "/etc/hostname").SerializeToString()
        ),
        "size": lambda: config.write_text(
            config.read_text().replace("image_size: 16", "image_size: much")
        ),
        "scaling": lambda: config.write_text(config.read_text().replace("pixel_std: 127.5", "")),
        "order": lambda: config.write_text(
            config.read_text().replace("channels: rgb", "channels: rbg")
        ),
    }
    changes[damage]()
    with complaint(config if damage in ("size", "scaling", "order") else model):
        load_model(runs.open(run.path), "cpu")


def test_it_cannot_be_exported_again(tmp_path: Path, tiny_onnx: Make, complaint: Any) -> None:
    run = _imported(_stored(tmp_path, tiny_onnx()))
    with complaint("is an ONNX file already", run.model_path):
        wb.export_onnx(run, tmp_path / "b.onnx")
    assert not (tmp_path / "b.onnx").exists()


def test_without_the_extra_only_onnx_files_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"")
    code = """
import sys
sys.modules["onnx"] = sys.modules["onnxscript"] = None
import torch, workbench as wb
net = wb.backbones.create("smallresnet", embedding_dim=16, image_size=32)
torch.save(net.state_dict(), "net.pth")
print(wb.import_model("net.pth", backbone="smallresnet", image_size=32).state)
try:
    wb.import_model("a.onnx")
except wb.WorkbenchError as error:
    print(error)
"""
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert printed.splitlines() == [
        "finished",
        "a model in an ONNX file needs onnx: pip install 'margin-workbench[onnx]'",
    ]
