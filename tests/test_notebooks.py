"""The notebooks run from top to bottom, with fewer epochs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
SYNTHETIC = (
    "contact_sheet(train_set",
    "contact_sheet(ten",
    "contact_sheet(wb.data.open(table)",
    "in found",
    "portraits[number]",
)
"""What is in the cells that show synthetic people; no other cell shows a picture."""


def _figures(notebook: nbformat.NotebookNode) -> int:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("application/vnd.plotly.v1+json" in output.get("data", {}) for output in outputs)


@pytest.mark.slow
def test_quick_start_trains_and_draws_every_figure(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOKS / "00-quick-start.ipynb", as_version=4)
    parameters = next(
        cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])
    )
    parameters.source += f"\ndata = 'synthfaces-mini'\nepochs = 2\nruns_dir = {str(tmp_path)!r}"

    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()

    assert _figures(notebook) == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{x}-quick-start" for x in ("arcface", "cosface", "softmax")
    ]


@pytest.mark.slow
def test_margins_trains_its_own_and_draws_every_figure(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOKS / "01-margins.ipynb", as_version=4)
    parameters = next(
        cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])
    )
    parameters.source += (
        f"\ndata = 'synthfaces-mini:4x20'\nepochs = 2\nruns_dir = {str(tmp_path)!r}"
    )

    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()

    assert _figures(notebook) == 8
    composed = ("normface+ohem", "softmax+center", "sphereface+mhe")
    flat = ("arcface", "arcface+mhe", "softmax", "softmax+center", "sphereface+mhe", "straight+mhe")
    expected = [f"{loss}-margins" for loss in composed] + [f"{loss}-plane" for loss in flat]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(expected)


@pytest.mark.slow
def test_data_and_protocols_evaluates_one_run_and_draws_every_figure(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOKS / "02-data-and-protocols.ipynb", as_version=4)
    parameters = next(
        cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])
    )
    smaller = (
        "data = 'synthfaces:45x2'\nothers = 'synthfaces:42x4,seed=1'\nepochs = 1\nresamples = 20"
    )
    parameters.source += f"\n{smaller}\nruns_dir = {str(tmp_path / 'runs')!r}\nfolder = Path({str(tmp_path / 'written')!r})"

    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()

    assert _figures(notebook) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    evaluated = {
        path.stem
        for path in (tmp_path / "runs" / "cosface-protocols" / "evaluation").glob("*.json")
    }
    assert {
        f"synthfaces-42x4-seed1{suffix}" for suffix in ("", "+arcface_torch", "+sphereface")
    } <= evaluated
    assert {"table", "table-cropped", "table-aligned"} <= evaluated


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_committed_notebooks_are_small_and_show_no_photo(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stat().st_size < 900_000
    assert "widgets" not in notebook.metadata
    pictures = [
        cell.source
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/jpeg" in output.get("data", {})
    ]
    assert all(any(name in source for name in SYNTHETIC) for source in pictures)
    assert not pictures or any('data = "synthfaces' in cell.source for cell in notebook.cells)
    assert not any(
        output.output_type == "error"
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    )
