"""Live plots in a notebook."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from workbench.errors import WorkbenchError
from workbench.training import LivePlot

CELL = """
from pathlib import Path
import torch
from torch import nn
from workbench import losses, runs
from workbench.training import LivePlot, Training
from workbench.training.callbacks import Callbacks

run = runs.create("runs", "arcface", {})
loss = losses.create("normface", embedding_dim=2, num_classes=3)
training = Training(run, None, nn.Linear(1, 1), loss, torch.device("cpu"), 3, 1)
callbacks = Callbacks([LivePlot(["loss", "accuracy"], seconds=0.0)])
with callbacks.around(training):
    for step in (1, 2, 3):
        callbacks.on_log(training, {"step": step, "epoch": step, "loss": 4.0 / step})
        callbacks.check()
"""


def test_outside_a_notebook_it_says_what_to_do() -> None:
    with pytest.raises(WorkbenchError, match="LivePlot draws in a notebook; in a terminal, watch"):
        LivePlot()


@pytest.mark.slow
def test_a_notebook_shows_one_figure_with_all_rows(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    shown = [
        output["data"]["application/vnd.plotly.v1+json"]
        for output in notebook.cells[0].outputs
        if "application/vnd.plotly.v1+json" in output.get("data", {})
    ]
    assert len(shown) == 1  # the column accuracy is not logged, and updates replace the figure
    loss = next(trace for trace in shown[0]["data"] if trace.get("name") == "arcface")
    assert "Epoch" in str(shown[0]["layout"]["xaxis"])
    assert loss["mode"] == "lines"
