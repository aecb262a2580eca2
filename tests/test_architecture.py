"""Who may import whom, what an import costs, and that what is public is described:
docs/ARCHITECTURE.md, held to.
"""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
import tomllib
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
LAYERS = (
    {"errors"},
    {"registry", "images", "devices", "cache", "files", "finite", "scaling", "arrays", "geometry"},
    {"runs", "losses", "backbones", "augmentation", "tasks", "plots", "synthfaces", "faces"},
    {"data", "catalogue", "weights", "reference", "activity"},
    {"training", "evaluation"},
    {"presets"},
    {"experiments", "exchange"},
    {"dashboard", "cli"},
    {"__main__"},
)
"""From the ground up. A room imports from the layers below its own, and nothing else."""
DATA_LAYERS = (
    {"dataset"},
    {"benchmark", "templates"},
    {"io"},
    {"joining", "batches", "leaving_out"},
    {"registry"},
    {"stored", "sources", "jobs"},
    {"writers"},
    {"benchmarks", "rendered", "inspect"},
)
"""The same inside `workbench/data/`."""
FORBIDDEN = {"dashboard": {"training", "experiments", "exchange"}}
"""Beyond that: looking at runs knows nothing of making them."""
FLOOR = {room: floor for floor, rooms in enumerate(LAYERS) for room in rooms}
DATA_FLOOR = {room: floor for floor, rooms in enumerate(DATA_LAYERS) for room in rooms}


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _modules() -> dict[str, Path]:
    return {_module(path): path for path in sorted((ROOT / "workbench").rglob("*.py"))}


def _imports(path: Path) -> set[str]:
    """Modules of workbench that a file imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import in line {node.lineno}"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in _modules() else str(node.module))
    return {name for name in found if name.split(".")[0] == "workbench"}


def _room(module: str) -> str:
    """ "" for workbench itself, which holds the version and imports a room when it is first asked
    for.
    """
    return module.split(".")[1] if "." in module else ""


IMPORTS = {
    "workbench": ("torch", "streamlit", "umap", "pandas", "sklearn", "plotly", "numpy"),
    "workbench.runs": ("torch", "streamlit", "umap"),
    "workbench.reference": ("torch", "streamlit", "umap", "pandas"),
    "workbench.plots": ("torch", "streamlit", "umap"),
    "workbench.evaluation": ("torch", "streamlit", "umap"),
    "the dashboard": (
        "torch",
        "torchvision",
        "umap",
        "workbench.training",
        "workbench.experiments",
    ),
    "workbench.backbones": ("torchvision", "timm", "umap"),
}
"""What is imported, in this order in one process, and the modules that must not be loaded by it."""


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    """The names of all modules that are loaded after each of IMPORTS."""
    pages = [name for name in _modules() if name.startswith("workbench.dashboard.")]
    imports = {
        name: [
            page for page in pages if not page.endswith(".entry")
        ]  # entry draws the page at once
        if name == "the dashboard"
        else [name]
        for name in IMPORTS
    }
    code = (
        "import json, sys\n"
        "from importlib import import_module\n"
        "loaded = {}\n"
        "for name, modules in json.loads(sys.argv[1]).items():\n"
        "    list(map(import_module, modules))\n"
        "    loaded[name] = sorted(sys.modules)\n"
        "print(json.dumps(loaded))"
    )
    command = [sys.executable, "-c", code, json.dumps(imports)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=200, check=True, cwd=ROOT
    )
    modules: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return modules


def test_every_room_has_its_place() -> None:
    assert {_room(module) for module in _modules()} - {""} == set(FLOOR)


@pytest.mark.parametrize("room", sorted(FLOOR))
def test_a_room_imports_only_from_below(room: str) -> None:
    wrong = [
        f"{module} imports {imported}"
        for module, path in _modules().items()
        if _room(module) == room
        for imported in sorted(_imports(path))
        if _room(imported) not in ("", room)
        and (FLOOR[_room(imported)] >= FLOOR[room] or _room(imported) in FORBIDDEN.get(room, set()))
    ]
    assert wrong == []


def _data_room(module: str) -> str:
    """The room of `workbench/data/` that a module is in; "" for the package itself and others."""
    parts = module.split(".")
    return parts[2] if parts[:2] == ["workbench", "data"] and len(parts) > 2 else ""


def test_every_room_of_data_has_its_place() -> None:
    assert {_data_room(module) for module in _modules()} - {""} == set(DATA_FLOOR)


@pytest.mark.parametrize("room", sorted(DATA_FLOOR))
def test_a_room_of_data_imports_only_from_below(room: str) -> None:
    wrong = [
        f"{module} imports {imported}"
        for module, path in _modules().items()
        if _data_room(module) == room
        for imported in sorted(_imports(path))
        if imported == "workbench.data"
        or (
            _data_room(imported) not in ("", room)
            and DATA_FLOOR[_data_room(imported)] >= DATA_FLOOR[room]
        )
    ]
    assert wrong == []


def test_no_two_files_import_each_other() -> None:
    graph = {
        module: _imports(path) - {"workbench"}
        for module, path in _modules().items()
        if module != "workbench"
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def test_the_faces_hold_no_logic() -> None:
    assert _imports(ROOT / "app.py") <= {"workbench.dashboard.main", "workbench.dashboard.entry"}


@pytest.mark.parametrize("name", IMPORTS)
def test_an_import_loads_nothing_heavy(name: str, loaded: dict[str, list[str]]) -> None:
    assert {*IMPORTS[name]} & {*loaded[name]} == set()


def test_the_dashboard_loads_streamlit(loaded: dict[str, list[str]]) -> None:
    assert "streamlit" in loaded["the dashboard"]


def test_everything_of_the_package_is_there_when_asked_for() -> None:
    import workbench

    for name in workbench.__all__:
        assert getattr(workbench, name) is not None
        assert name in dir(workbench)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = workbench.nonsense


@pytest.mark.parametrize(
    "room",
    [
        "losses",
        "backbones",
        "augmentation",
        "data",
        "training",
        "evaluation",
        "exchange",
        "experiments",
        "plots",
        "faces",
        "reference",
    ],
)
def test_what_is_public_is_described(room: str) -> None:
    module = import_module(f"workbench.{room}")
    assert module.__doc__
    assert sorted(set(module.__all__)) == sorted(module.__all__)
    public = {name: getattr(module, name) for name in module.__all__}
    assert [
        name for name, value in public.items() if callable(value) and not inspect.getdoc(value)
    ] == []


def test_every_file_says_what_it_is_for() -> None:
    assert [
        name
        for name, path in _modules().items()
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ] == []


def test_the_conda_environment_agrees_with_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"]
    assert environment["channels"] == ["conda-forge"]
    python, pip, installed = environment["dependencies"]
    assert python == f"python{project['requires-python']}"
    assert pip == "pip"
    (package,) = installed["pip"]
    assert package.startswith("-e .[")
    assert set(package.removeprefix("-e .[").rstrip("]").split(",")) <= set(
        project["optional-dependencies"]
    )
