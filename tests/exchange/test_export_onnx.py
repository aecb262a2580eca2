"""Exporting a backbone as an ONNX file, with the same embeddings, and importing it again."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from helpers import paint_people
from safetensors.torch import load_file, save_file
from torch import Tensor

import workbench as wb
from workbench import backbones, runs
from workbench.backbones.registry import BACKBONES
from workbench.evaluation import load_model
from workbench.evaluation.onnx_network import OnnxNetwork
from workbench.exchange import exporting

QUICK = ("smallresnet",)
EVERY = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in wb.backbones.names()
]


def _made(
    tmp_path: Path, name: str = "smallresnet", size: int | tuple[int, int] = 16, **options: Any
) -> runs.Run:
    """A run of a network with random weights whose running statistics have moved."""
    torch.manual_seed(0)
    net = wb.backbones.create(name, embedding_dim=8, image_size=size)
    net(torch.randn(4, 3, *net.image_size))
    torch.save(net.state_dict(), tmp_path / "net.pth")
    return wb.import_model(
        tmp_path / "net.pth",
        runs_dir=tmp_path / "runs",
        name=name,
        backbone=name,
        image_size=size,
        **options,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    return _made(tmp_path_factory.mktemp("made"), channels="bgr", pixel_mean=100.5, pixel_std=64.0)


@pytest.fixture(scope="module")
def written(made: runs.Run) -> wb.exchange.Exported:
    return wb.export_onnx(made, made.path.parent / "small.onnx")


def _pictures(count: int, size: int = 16) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    return list(np.random.default_rng(1).integers(0, 256, (count, size, size, 3), dtype=np.uint8))


def test_the_file_gives_the_embeddings_of_the_run_for_any_batch(
    made: runs.Run, written: wb.exchange.Exported
) -> None:
    assert written.size == written.path.stat().st_size
    assert 0 <= written.difference < 1e-5
    session = ort.InferenceSession(written.path, providers=["CPUExecutionProvider"])
    model = load_model(made, "cpu")
    for count in (1, 2, 3, 7):
        pictures = _pictures(count)
        scaled = (
            np.stack(pictures)[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32) - 100.5
        ) / 64.0
        (found,) = session.run(
            ["embeddings"], {"images": np.ascontiguousarray(scaled, dtype=np.float32)}
        )
        np.testing.assert_allclose(found, model.embed(pictures, flip="none"), atol=1e-4)


def test_what_the_file_says_of_itself(made: runs.Run, written: wb.exchange.Exported) -> None:
    model = onnx.load(written.path)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "workbench": wb.__version__,
        "run": made.name,
        "backbone": "smallresnet",
        "loss": "imported",
        "image_size": "16x16",
        "pixel_mean": "100.5",
        "pixel_std": "64.0",
        "channels": "bgr",
    }
    sides = {
        value.name: [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert sides == {"images": ["batch", 3, 16, 16], "embeddings": ["batch", 8]}


def test_the_file_names_no_folder_of_this_machine(written: wb.exchange.Exported) -> None:
    content = written.path.read_bytes()
    for text in (b".py", b"/workbench", b"site-packages", str(Path.home()).encode() + b"/"):
        assert text not in content


@pytest.mark.parametrize("name", EVERY)
def test_every_backbone_goes_out_and_comes_back(tmp_path: Path, name: str) -> None:
    size = 32
    run = _made(tmp_path, name, size)
    written = wb.export_onnx(run, tmp_path / f"{name}.onnx")
    assert written.difference < 1e-5
    again = wb.import_model(written.path, runs_dir=tmp_path / "runs")
    assert again.config | {"backbone": name, "imported": "net.pth"} == run.config
    one, two = (load_model(found, "cpu").embed(_pictures(3, size)) for found in (run, again))
    np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-4 * np.abs(one).max())


def test_the_scaling_of_each_channel_and_an_oblong_input_go_out_and_come_back(
    tmp_path: Path,
) -> None:
    mean, std = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)
    run = _made(tmp_path, size=(32, 16), channels="bgr", pixel_mean=mean, pixel_std=std)
    written = wb.export_onnx(run, tmp_path / "a.onnx")
    said = {entry.key: entry.value for entry in onnx.load(written.path).metadata_props}
    assert (said["pixel_mean"], said["pixel_std"]) == (
        "103.53,116.28,123.675",
        "57.375,57.12,58.395",
    )
    again = wb.import_model(written.path, runs_dir=tmp_path / "runs")
    assert (again.config["pixel_mean"], again.config["pixel_std"], again.config["channels"]) == (
        [*mean],
        [*std],
        "bgr",
    )
    assert again.config["image_size"] == [32, 16]
    pictures = list(np.random.default_rng(1).integers(0, 256, (3, 32, 16, 3), dtype=np.uint8))
    scaled = (np.stack(pictures)[..., ::-1] - np.array(mean)) / np.array(std)
    session = ort.InferenceSession(written.path, providers=["CPUExecutionProvider"])
    (found,) = session.run(
        ["embeddings"], {"images": scaled.transpose(0, 3, 1, 2).astype(np.float32)}
    )
    for model in (load_model(run, "cpu"), load_model(again, "cpu")):
        np.testing.assert_allclose(model.embed(pictures, flip="none"), found, atol=1e-4)


@pytest.mark.slow
def test_a_trained_run_and_its_file_get_the_same_scores(tmp_path: Path) -> None:
    paint_people(tmp_path / "people", 6, 6, shade=40, noise=(0, 56))
    data = f"folder:{tmp_path}/people"
    run = wb.train(
        {
            "data": data,
            "loss": "cosface",
            "image_size": 16,
            "embedding_dim": 8,
            "epochs": 3,
            "batch_size": 12,
            "channels": "bgr",
            "pixel_std": 255.0,
            "device": "cpu",
            "runs_dir": str(tmp_path / "runs"),
        },
        progress=False,
    )
    assert load_model(run, "cpu").channels == "bgr"
    again = wb.import_model(
        wb.export_onnx(run, tmp_path / "a.onnx").path, runs_dir=tmp_path / "runs"
    )
    options: dict[str, Any] = {
        "bootstrap": 20,
        "with_projection": False,
        "device": "cpu",
        "progress": False,
    }
    one, two = (wb.evaluate(found, data, **options) for found in (run, again))
    np.testing.assert_allclose(two.scores, one.scores, atol=1e-4)
    assert two.accuracy == pytest.approx(one.accuracy, abs=0.02)
    assert two.auc == pytest.approx(one.auc, abs=1e-3)


def test_the_same_run_gives_the_same_file_and_stays_as_it_was(
    made: runs.Run, written: wb.exchange.Exported, tmp_path: Path
) -> None:
    before = made.model_path.read_bytes()
    wb.export_onnx(made, tmp_path / "a.onnx")
    assert made.model_path.read_bytes() == before
    assert (tmp_path / "a.onnx").read_bytes() == written.path.read_bytes()


@pytest.fixture
def quick(written: wb.exchange.Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uses the file that was exported before, which saves seconds."""
    content = written.path.read_bytes()
    monkeypatch.setattr(exporting, "_to_onnx", lambda model, run: content)


@pytest.mark.usefixtures("quick")
def test_by_default_the_file_has_the_name_of_the_run(
    made: runs.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert wb.export_onnx(made).path == Path(f"{made.name}.onnx")
    assert [path.name for path in tmp_path.iterdir()] == [f"{made.name}.onnx"]


# What goes wrong


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "change",
    [
        lambda found: found + 3e-4 * np.abs(found).max(),
        lambda found: found * 1.001,
        lambda found: found * np.nan,
    ],
)
def test_embeddings_that_differ_are_an_error_and_leave_the_old_file(
    made: runs.Run,
    tmp_path: Path,
    change: Callable[[Any], Any],
    monkeypatch: pytest.MonkeyPatch,
    complaint: Any,
) -> None:
    real, calls = exporting._embed, []

    def wrong(net: backbones.Backbone, pixels: Tensor) -> Any:
        calls.append(len(pixels))
        found = real(net, pixels)
        return change(found) if isinstance(net, OnnxNetwork) else found

    target = tmp_path / "a.onnx"
    target.write_text("what was there")
    monkeypatch.setattr(exporting, "_embed", wrong)
    with complaint("a.onnx: not written", "batch of 1", "more than 0.0001"):
        wb.export_onnx(made, target)
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]
    assert target.read_text() == "what was there"
    assert set(calls) == {1}


@pytest.mark.usefixtures("quick")
def test_batches_of_one_and_three_are_compared(
    made: runs.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = exporting._embed, []
    monkeypatch.setattr(
        exporting,
        "_embed",
        lambda net, pixels: (calls.append(len(pixels)), real(net, pixels))[1],
    )
    wb.export_onnx(made, tmp_path / "a.onnx")
    assert calls == [1, 1, 3, 3]


def test_a_backbone_that_cannot_be_written_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    complaint: Any,
    capfd: pytest.CaptureFixture[str],
) -> None:
    class Looping(backbones.Backbone):
        def __init__(self, embedding_dim: int, image_size: int | tuple[int, int]) -> None:
            super().__init__(embedding_dim, image_size, smallest=1)
            self.fc = torch.nn.Linear(3, embedding_dim)

        def embed(self, images: Tensor) -> Tensor:
            means = images.mean((2, 3))
            while means.sum() > 1:  # how often cannot be written down
                means = means / 2
            return self.fc(means)

    monkeypatch.setattr(BACKBONES, "_factories", BACKBONES._factories | {"looping": Looping})
    run = _made(tmp_path, "looping")
    with complaint("runs/looping: 'looping' cannot be written as ONNX"):
        wb.export_onnx(run, tmp_path / "a.onnx")
    assert not (tmp_path / "a.onnx").exists()
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("quick")
def test_places_that_cannot_be_written_are_one_line(
    made: runs.Run, tmp_path: Path, complaint: Any
) -> None:
    with complaint("ends in .onnx"):
        wb.export_onnx(made, tmp_path / "a.txt")
    (tmp_path / "file").write_text("")
    with complaint("file: is a file, expected a folder"):
        wb.export_onnx(made, tmp_path / "file" / "a.onnx")
    (tmp_path / "folder.onnx").mkdir()
    with complaint("cannot be written"):
        wb.export_onnx(made, tmp_path / "folder.onnx")


def test_a_network_of_no_numbers_is_not_exported(
    made: runs.Run, tmp_path: Path, complaint: Any
) -> None:
    run = runs.open(shutil.copytree(made.path, tmp_path / "a"))
    tensors = load_file(run.model_path)
    tensors["backbone.head.4.running_mean"][0] = float("nan")
    save_file(tensors, run.model_path)
    with complaint("model.safetensors", "NaN or infinity"):
        wb.export_onnx(run, tmp_path / "a.onnx")
    assert not (tmp_path / "a.onnx").exists()


@pytest.mark.usefixtures("quick")
def test_a_full_disk_is_found_out_before_and_leaves_nothing(
    made: runs.Run, tmp_path: Path, complaint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.files.free_bytes", lambda folder: 2**20 + 1000)
    monkeypatch.setattr(
        exporting, "_to_onnx", lambda model, run: pytest.fail("the network was written for nothing")
    )
    with complaint("MiB are free on this disk"):
        wb.export_onnx(made, tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_a_model_is_one_line(made: runs.Run, tmp_path: Path, complaint: Any) -> None:
    run = runs.open(shutil.copytree(made.path, tmp_path / "a"))
    run.model_path.unlink()
    with complaint("has saved no model yet"):
        wb.export_onnx(run, tmp_path / "a.onnx")
    with complaint("unknown run"):
        wb.export_onnx(tmp_path / "nope", tmp_path / "a.onnx")


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_without_the_extra_the_error_names_it(
    made: runs.Run,
    tmp_path: Path,
    package: str,
    monkeypatch: pytest.MonkeyPatch,
    complaint: Any,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with complaint(f"exporting to ONNX needs {package}: pip install 'margin-workbench[onnx]'"):
        wb.export_onnx(made, tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []
