"""Pages with imported models, as weights and as an ONNX file, next to a trained run."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

import workbench as wb
from workbench import runs

NAMES = ("theirs", "theirs-onnx")


@pytest.fixture(scope="module")
def with_imported(
    tiny_runs: Path,
    tmp_path_factory: pytest.TempPathFactory,
    tiny_onnx: Callable[..., onnx.ModelProto],
) -> Path:
    root = tmp_path_factory.mktemp("imported")
    folder = Path(shutil.copytree(tiny_runs, root / "runs"))
    torch.manual_seed(0)
    net = wb.backbones.create("smallresnet", embedding_dim=8, image_size=16)
    torch.save(net.state_dict(), root / "net.pth")
    (root / "net.onnx").write_bytes(tiny_onnx().SerializeToString())
    data = runs.open(folder / "tiny-arcface").config["data"]
    for name, path in zip(NAMES, ("net.pth", "net.onnx"), strict=True):
        run = wb.import_model(
            root / path, runs_dir=folder, name=name, image_size=16, channels="bgr"
        )
        wb.evaluate(run, data, bootstrap=20, with_projection=False, progress=False)
    return folder


def _texts(app: AppTest) -> str:
    assert [error.message for error in app.exception] == []
    assert [warning.value for warning in app.warning] == []
    return "\n".join(
        element.value for group in (app.markdown, app.caption, app.info) for element in group
    )


@pytest.mark.parametrize(
    "page", ["", "roc", "identification", "invariance", "angles", "map", "training", "photos"]
)
@pytest.mark.parametrize(
    "chosen", [NAMES, ("tiny-arcface", *NAMES)], ids=["alone", "beside another"]
)
def test_every_page_opens(
    open_page: Callable[..., AppTest], with_imported: Path, page: str, chosen: tuple[str, ...]
) -> None:
    _texts(open_page(page, folder=with_imported, run=list(chosen), benchmark="people"))


def test_the_leaderboard_lists_them(open_page: Callable[..., AppTest], with_imported: Path) -> None:
    app = open_page("", folder=with_imported, run=["tiny-arcface", *NAMES], benchmark="people")
    _texts(app)
    figures, states = (element.value for element in app.dataframe)
    for name in NAMES:
        assert name in figures.iloc[:, 0].tolist()
    rows = {row["Run"]: row for _, row in states.iterrows()}
    for name, backbone, file in zip(
        NAMES, ("smallresnet", "onnx"), ("net.pth", "net.onnx"), strict=True
    ):
        row = rows[name]
        assert (row["State"], row["Loss"], row["Backbone"]) == ("finished", "imported", backbone)
        assert (row["Data"], row["Epochs"], row["Steps"]) == ("", "", "")
        assert row["Message"] == f"imported from {file}"


def test_two_photos_are_compared_as_their_networks_see_them(
    open_page: Callable[..., AppTest], with_imported: Path
) -> None:
    pictures = list(np.random.default_rng(0).integers(0, 256, (2, 30, 30, 3), dtype=np.uint8))
    app = open_page("photos", folder=with_imported, run=list(NAMES), benchmark="people")
    for uploader, picture in zip(app.file_uploader, pictures, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, format="PNG")
        uploader.upload("a.png", buffer.getvalue(), "image/png")
    app.run()
    assert "at the threshold" in _texts(app)
    shown = dict(
        zip(
            [heading.value for heading in app.main.subheader],
            [float(metric.value) for metric in app.metric],
            strict=True,
        )
    )
    for name in NAMES:
        model = wb.evaluation.load_model(runs.open(with_imported / name), "cpu")
        first, second = model.embed(pictures)[:, None]
        assert shown[name] == pytest.approx(wb.evaluation.similarity(first, second)[0], abs=5.1e-4)


def test_a_damaged_onnx_file_is_a_warning_beside_the_others(
    open_page: Callable[..., AppTest], with_imported: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(with_imported, tmp_path / "runs"))
    (folder / "theirs-onnx" / "model.onnx").write_bytes(b"nothing of the kind")
    app = open_page(
        "photos",
        folder=folder,
        run=list(NAMES),
        benchmark="people",
        photos="Pick a pair from the benchmark",
    )
    assert [error.message for error in app.exception] == []
    assert len(app.metric) == 1
    (warning,) = app.warning
    assert "model.onnx: not" in warning.value
