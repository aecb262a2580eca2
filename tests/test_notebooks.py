"""The notebooks run from top to bottom, with fewer epochs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def _figures(notebook: nbformat.NotebookNode) -> int:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("application/vnd.plotly.v1+json" in output.get("data", {}) for output in outputs)


@pytest.mark.slow
def test_quick_start_trains_and_draws_every_figure(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOKS / "00-quick-start.ipynb", as_version=4)
    parameters = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    parameters.source += f"\ndata = 'synthfaces-mini'\nepochs = 2\nruns_dir = {str(tmp_path)!r}"

    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()

    assert _figures(notebook) == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{x}-quick-start" for x in ("arcface", "cosface", "softmax")]


@pytest.mark.slow
def test_margins_trains_its_own_and_draws_every_figure(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOKS / "01-margins.ipynb", as_version=4)
    parameters = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    parameters.source += f"\ndata = 'synthfaces-mini:4x20'\nepochs = 2\nruns_dir = {str(tmp_path)!r}"

    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()

    assert _figures(notebook) == 8
    composed = ("normface+ohem", "softmax+center", "sphereface+mhe")
    flat = ("arcface", "arcface+mhe", "softmax", "softmax+center", "sphereface+mhe", "straight+mhe")
    expected = [f"{loss}-margins" for loss in composed] + [f"{loss}-plane" for loss in flat]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(expected)


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_committed_notebooks_are_small_and_show_no_photo(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stat().st_size < 900_000
    assert "widgets" not in notebook.metadata
    pictures = [
        cell.source for cell in notebook.cells for output in cell.get("outputs", []) if "image/jpeg" in output.get("data", {})
    ]
    assert all("contact_sheet(train_set" in source for source in pictures)  # of synthetic people
    assert not pictures or any('data = "synthfaces"' in cell.source for cell in notebook.cells)
    assert not any(output.output_type == "error" for cell in notebook.cells for output in cell.get("outputs", []))
