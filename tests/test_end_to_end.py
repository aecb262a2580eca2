"""From a folder of pictures to every page of the dashboard, with nothing replaced."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import paint_people
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

import workbench as wb
from workbench import experiments

APP = Path(__file__).parents[1] / "app.py"


@pytest.mark.slow
def test_pictures_to_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint_people(tmp_path / "people", 4, 8)
    data, folder = f"folder:{tmp_path}/people", tmp_path / "runs"
    configs = [
        wb.TrainConfig(
            data=data,
            loss=loss,
            image_size=16,
            embedding_dim=8,
            epochs=10,
            batch_size=16,
            runs_dir=str(folder),
            name=f"my-{loss}",
        )
        for loss in ("softmax", "cosface")
    ]

    done = experiments.sweep(configs, [data, "train"], progress=False)

    assert [run.state for run in done] == ["finished", "finished"]
    assert experiments.sweep(configs, [data, "train"], progress=False) == done
    assert sorted(run.name for run in wb.runs.list(folder)) == ["my-cosface", "my-softmax"]
    table = wb.evaluation.leaderboard(done)
    assert len(table) == 4
    assert table["accuracy"].min() > 0.7  # four people of four shades are easy to tell apart
    projection, names = wb.evaluation.load_projection(done[0], "people") or pytest.fail(
        "no projection is stored"
    )
    assert projection.umap is not None
    assert projection.umap.shape == (32, 2)
    assert np.isfinite(projection.umap).all()
    assert names == ["p0", "p1", "p2", "p3"]

    monkeypatch.setenv("WORKBENCH_RUNS", str(folder))
    for benchmark in ("people", "train"):
        for page in ("", "roc", "angles", "map", "training", "photos"):
            app = AppTest.from_file(str(APP), default_timeout=60)
            app._page_hash = calc_hash(page) if page else ""
            app.query_params["benchmark"] = benchmark
            app.run()
            assert [error.message for error in app.exception] == []
            assert [warning.value for warning in app.warning] == []
            assert set(app.multiselect(key="run").value) == {"my-softmax", "my-cosface"}
