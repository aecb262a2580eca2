"""`workbench import` and `workbench export`: what they print, and how they refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers import CommandResult, RunCommand, paint_people

import workbench as wb
from workbench import runs


@pytest.fixture
def workbench(run_command: RunCommand) -> RunCommand:
    return run_command


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_onnx: Callable[..., onnx.ModelProto]
) -> Path:
    """A folder with people/, small.pth (a smallresnet for 16 pixels), tiny.onnx and bad.pth."""
    paint_people(tmp_path / "people", 4, 4)
    torch.manual_seed(0)
    net = wb.backbones.create("smallresnet", embedding_dim=8, image_size=16)
    torch.save(
        {f"module.{key}": value for key, value in net.state_dict().items()}, tmp_path / "small.pth"
    )
    (tmp_path / "tiny.onnx").write_bytes(tiny_onnx().SerializeToString())
    (tmp_path / "bad.pth").write_bytes(b"\x80\x04cposix\nsystem\n(S'true'\ntR.")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _refused(said: CommandResult, *texts: str) -> None:
    assert said.code == 2
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert said.out == ""
    for text in texts:
        assert text in said.err


def test_there_evaluated_compared_and_back(workbench: RunCommand, here: Path) -> None:
    said = workbench("import small.pth --image-size 16 --channels bgr --name theirs")
    assert said == (
        0,
        "runs/theirs: smallresnet, 8-d embeddings of 16 x 16 bgr images, (x - 127.5) / 127.5. "
        "Next: workbench evaluate runs/theirs synthfaces-wild\n"
        "note: 125 tensors were loaded under 'module.'\n"
        "note: the scaling (x - 127.5) / 127.5 is assumed, because the file does not state it; "
        "set another one with --pixel-mean and --pixel-std\n",
        "",
    )
    said = workbench("export runs/theirs --onnx out/theirs.onnx")
    size = Path("out/theirs.onnx").stat().st_size
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(
        f"out/theirs.onnx: {size / 1e6:.1f} MB, largest difference to PyTorch "
    )
    assert float(said.out.split()[-1]) < 1e-5
    assert [path.name for path in Path("out").iterdir()] == ["theirs.onnx"]

    said = workbench("import out/theirs.onnx")
    assert said.out.startswith(
        "runs/imported-theirs: onnx, 8-d embeddings of 16 x 16 bgr images, (x - 127.5) / 127.5."
    )
    said = workbench(
        "evaluate runs/theirs runs/imported-theirs folder:people --bootstrap 20 --no-projection"
    )
    assert said.code == 0
    first, second = (line.partition(" on ") for line in said.out.splitlines())
    assert (first[0], second[0]) == ("theirs", "imported-theirs")
    one, two = (
        runs.open(f"runs/{name}").evaluation("people")[1]["scores"]
        for name in ("theirs", "imported-theirs")
    )
    np.testing.assert_allclose(two, one, atol=1e-4)
    lines = workbench("compare").out.splitlines()
    assert sorted(line.split()[0] for line in lines[1:]) == ["imported-theirs", "theirs"]


def test_an_onnx_file_says_what_it_needs(workbench: RunCommand, here: Path) -> None:
    said = workbench("import tiny.onnx --pixel-mean 0 --pixel-std 255 --runs-dir others")
    assert said.code == 0
    assert said.out.startswith(
        "others/imported-tiny: onnx, 5-d embeddings of 16 x 16 rgb images, (x - 0) / 255."
    )


def test_one_number_a_channel(workbench: RunCommand, here: Path) -> None:
    said = workbench(
        "import small.pth --image-size 16 "
        "--pixel-mean 123.675,116.28,103.53 --pixel-std 58.395,57.12,57.375"
    )
    assert (
        "16 x 16 rgb images, (x - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]. Next"
        in said.out
    )
    assert "note: the channel order RGB is assumed; AdaFace's" in said.out
    assert "scaling" not in said.out


def test_a_folder_that_cannot_be_written_to(workbench: RunCommand, here: Path) -> None:
    workbench("import small.pth --image-size 16 --name small")
    (here / "file").write_text("")
    before = sorted(here.rglob("*"))
    _refused(
        workbench("export runs/small file/a.onnx"),
        "file: is a file, expected a folder to write into",
    )
    _refused(
        workbench("import tiny.onnx --runs-dir /proc/nowhere"), "/proc/nowhere: cannot be written"
    )
    assert sorted(here.rglob("*")) == before


def test_an_oblong_input(workbench: RunCommand, here: Path) -> None:
    net = wb.backbones.create("smallresnet", embedding_dim=8, image_size=(32, 16))
    torch.save(net.state_dict(), "oblong.pth")
    assert (
        "embeddings of 32 x 16 rgb images" in workbench("import oblong.pth --image-size 32x16").out
    )


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("import", "Missing argument"),
        ("import nope.pth", "nope.pth: no such file"),
        ("import people", "people: no such file"),
        ("import bad.pth", "bad.pth: refused: it contains the Python object posix.system"),
        ("import people/p0/0.png", "0.png: not a PyTorch checkpoint"),
        ("import small.pth", "of another shape head.0.weight 128x1x2x2 instead of 128x1x7x7"),
        ("import small.pth --image-size 16 --backbone smalresnet", "did you mean 'smallresnet'"),
        (
            "import small.pth --image-size 16 --backbone iresnet18",
            "does not fit 'iresnet18', but 'smallresnet'",
        ),
        ("import small.pth --image-size 16x", "--image-size '16x'"),
        ("import small.pth --image-size 16x16x16", "such as 112x96"),
        ("import small.pth --image-size -16", "--image-size '-16'"),
        ("import small.pth --image-size 16x99999", "16 x 99999: a side is at most 4096"),
        ("import small.pth --image-size 16 --channels gbr", "--channels"),
        ("import small.pth --image-size 16 --pixel-std 0", "pixel-std must be a positive number"),
        ("import small.pth --image-size 16 --pixel-mean nan", "pixel-mean must be a number"),
        (
            "import small.pth --image-size 16 --pixel-mean 1,2",
            "expected a number such as 127.5, or three such as",
        ),
        ("import tiny.onnx --output embedding", "did you mean 'embeddings'"),
        ("import small.pth --image-size 16 --name a/b", "run name 'a/b'"),
        (
            "import small.pth --image-size 16 --runs-dir small.pth",
            "small.pth: is a file, expected a folder to write into",
        ),
        ("import tiny.onnx --image-size 112", "takes images of 16 x 16"),
        ("import tiny.onnx --backbone iresnet50", "a whole network"),
        ("export", "Missing argument"),
        ("export runs/nope", "unknown run 'runs/nope'"),
        ("export people --onnx", "not a run directory"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    workbench: RunCommand, here: Path, arguments: str, hint: str
) -> None:
    before = sorted(here.rglob("*"))
    _refused(workbench(arguments), hint)
    assert sorted(here.rglob("*")) == before


def test_what_cannot_be_exported(workbench: RunCommand, here: Path) -> None:
    workbench("import tiny.onnx --name tiny")
    workbench("import small.pth --image-size 16 --name small")
    _refused(
        workbench("export runs/tiny --onnx"),
        "runs/tiny: is an ONNX file already, runs/tiny/model.onnx",
    )
    _refused(workbench("export runs/small --onnx small.pt"), "ends in .onnx")
    Path("runs/small/model.safetensors").unlink()
    _refused(workbench("export runs/small"), "has saved no model yet")
    assert not list(here.glob("small*.onnx"))


def test_an_imported_run_is_not_resumed(workbench: RunCommand, here: Path) -> None:
    workbench("import tiny.onnx --name tiny")
    for arguments in ("train --resume runs/tiny", "train --config runs/tiny/config.yaml"):
        _refused(workbench(arguments), "means that the model was imported")
    _refused(workbench("evaluate runs/tiny train"), "what it was trained on is not known")
