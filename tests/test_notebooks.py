"""The notebooks run from top to bottom, with fewer images and epochs."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
every_notebook = pytest.mark.parametrize(
    "path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem
)
SYNTHETIC = (
    "contact_sheet(train_set",
    "contact_sheet(ten",
    "contact_sheet(wb.data.open(table)",
    "in found",
    "portraits[number]",
)
"""The cells that contain one of these texts show synthetic people; no other cell shows an image."""
SECONDS = 900
"""Time limit of a cell."""
WITHOUT_UMAP = """
from workbench.evaluation import projection as _projections
_projections._umap = lambda unit, seed: _projections.pca(unit)[0]
"""
"""UMAP compiles for 20 s and is tested on its own."""


def _read(path: Path) -> dict[str, Any]:
    """The notebook as JSON. Importing nbformat takes ten seconds, which slow tests alone spend."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"])
    return notebook


def _figures(notebook: Any) -> int:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("application/vnd.plotly.v1+json" in output.get("data", {}) for output in outputs)


def _run(name: str, parameters: str, folder: Path) -> Any:
    """Executes a notebook with other parameters, and with a PCA in place of UMAP."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    cell.source += f"\n{parameters}\n{WITHOUT_UMAP}"
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=SECONDS, resources=where).execute()
    return notebook


@pytest.mark.slow
def test_quick_start_trains_and_draws_every_figure(tmp_path: Path) -> None:
    parameters = f"data = 'synthfaces-mini'\nepochs = 2\nruns_dir = {str(tmp_path)!r}"
    assert _figures(_run("00-quick-start", parameters, tmp_path)) == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{x}-quick-start" for x in ("arcface", "cosface", "softmax")
    ]


@pytest.mark.slow
def test_margins_trains_its_own_and_draws_every_figure(tmp_path: Path) -> None:
    parameters = f"data = 'synthfaces-mini:4x20'\nepochs = 2\nruns_dir = {str(tmp_path)!r}"
    assert _figures(_run("01-margins", parameters, tmp_path)) == 8
    composed = ("normface+ohem", "softmax+center", "sphereface+mhe")
    flat = ("arcface", "arcface+mhe", "softmax", "softmax+center", "sphereface+mhe", "straight+mhe")
    expected = [f"{loss}-margins" for loss in composed] + [f"{loss}-plane" for loss in flat]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(expected)


@pytest.mark.slow
def test_data_and_protocols_evaluates_one_run_and_draws_every_figure(tmp_path: Path) -> None:
    parameters = (
        "data = 'synthfaces:45x2'\nothers = 'synthfaces:42x4,seed=1'\n"
        f"epochs = 1\nresamples = 20\nruns_dir = {str(tmp_path / 'runs')!r}\n"
        f"folder = Path({str(tmp_path / 'written')!r})"
    )
    assert _figures(_run("02-data-and-protocols", parameters, tmp_path)) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    evaluated = {
        path.stem
        for path in (tmp_path / "runs" / "cosface-protocols" / "evaluation").glob("*.json")
    }
    assert {
        f"synthfaces-42x4-seed1{suffix}" for suffix in ("", "+arcface_torch", "+sphereface")
    } <= evaluated
    assert {"table", "table-cropped", "table-aligned"} <= evaluated


@every_notebook
def test_what_a_notebook_uses_of_the_package_is_there(path: Path) -> None:
    """A short version of running it: its code parses, its imports work, and `wb.a.b` exists."""
    cells = _read(path)["cells"]
    trees = [ast.parse(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    namespace: dict[str, Any] = {}
    for node in imports:
        exec(ast.unparse(node), namespace)
    used = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
    names = {text for text in used if re.fullmatch(r"wb(\.[A-Za-z_]+)+", text)}
    assert names
    for name in names:
        eval(name, namespace)


@every_notebook
def test_committed_notebooks_are_small_and_show_no_photo(path: Path) -> None:
    notebook = _read(path)
    cells = notebook["cells"]
    assert path.stat().st_size < 900_000
    assert "widgets" not in notebook["metadata"]
    outputs = [(cell["source"], out) for cell in cells for out in cell.get("outputs", [])]
    shown = [source for source, output in outputs if "image/jpeg" in output.get("data", {})]
    assert all(any(name in source for name in SYNTHETIC) for source in shown)
    assert not shown or any('data = "synthfaces' in cell["source"] for cell in cells)
    assert not any(output["output_type"] == "error" for _, output in outputs)


@pytest.mark.slow
@every_notebook
def test_committed_notebooks_are_valid(path: Path) -> None:
    import nbformat

    nbformat.validate(nbformat.read(path, as_version=4))
