"""Estimates of tasks on the pages: the leaderboard, the training curves and two photos."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

import workbench as wb
from workbench.dashboard.views.estimates import class_error, number_error
from workbench.evaluation import AttributesResult, class_estimates, number_estimates

Opened = Callable[..., AppTest]


@pytest.fixture(scope="module")
def with_tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs with the tasks gender and age; only the first was evaluated."""
    root, rng = tmp_path_factory.mktemp("tasks"), np.random.default_rng(0)
    chips = root / "chips"
    chips.mkdir()
    for number in range(40):
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        name = f"{20 + number}_{number % 2}_0_{20170116000000000 + number}.jpg.chip.png"
        Image.fromarray(pixels).save(chips / name)
    for name in ("evaluated", "new"):
        run = wb.train(
            {
                "data": f"utkface:{chips}",
                "image_size": 16,
                "embedding_dim": 8,
                "epochs": 1,
                "batch_size": 16,
                "log_every": 1,
                "runs_dir": str(root / "runs"),
                "name": name,
                "tasks": {"gender": {"kind": "classes"}, "age": {"kind": "regression"}},
            },
            progress=False,
        )
        if name == "evaluated":
            wb.evaluate(run, f"utkface:{chips}", progress=False, with_projection=False)
    return root / "runs"


def test_the_leaderboard_draws_confusion_and_calibration(
    with_tasks: Path, open_page: Opened
) -> None:
    app = open_page("", with_tasks, run=["evaluated"])
    assert [error.message for error in app.exception] == []
    assert len(app.get("plotly_chart")) == 2
    texts = " ".join(text.value for text in [*app.markdown, *app.caption])
    assert "gender accuracy" in texts
    assert "age MAE" in texts
    assert "always answering the median" in texts


def test_curves_of_tasks_can_be_chosen(with_tasks: Path, open_page: Opened) -> None:
    app = open_page("training", with_tasks, run=["evaluated"], curve="Gender: training accuracy")
    assert [error.message for error in app.exception] == []
    assert "Gender: training accuracy" in app.get("plotly_chart")[0].proto.spec


def test_estimates_of_two_photos_have_their_errors(with_tasks: Path, open_page: Opened) -> None:
    app = open_page("photos", with_tasks, run=["evaluated", "new"], prepare="as it is")
    for number, uploader in enumerate(app.file_uploader):
        buffer = io.BytesIO()
        pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer, "PNG")
        uploader.upload(f"{number}.png", buffer.getvalue(), "image/png")
    app.run()
    assert [error.message for error in app.exception] == []
    tables = {tuple(one.value["Task"]): one.value for one in app.table}
    table = tables["gender", "age"]
    assert "probability" in table["Estimate, first"].iloc[0]
    assert len(app.table) == 2
    captions = " ".join(caption.value for caption in app.caption)
    assert "95 % intervals" in captions
    assert "evaluate the run on a benchmark of attributes" in captions


def test_errors_in_words() -> None:
    result = AttributesResult(
        {"gender": class_estimates([0, 1, 1, 1], [0, 1, 1, 0], ["female", "male"])},
        {"age": number_estimates([20, 30, 40], [33, 31, 45])},
        {"gender": "gender", "age": "age"},
    )
    assert class_error(result, "gender", "female").startswith(
        "wrong in 50% of the images estimated as female ["
    )
    assert class_error(result, "gender", "other") == "not known"
    assert number_error(result, "age", 35.0) == (
        "off by 7.0 years on average where 30 to 40 is estimated (2 images; on average 7.0 too "
        "high)"
    )
    assert number_error(result, "age", 80.0) == (
        "off by 6.3 years on average; no estimate there was in this range"
    )
