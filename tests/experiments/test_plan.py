"""A plan is read and checked before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import Complaint

from workbench import experiments, presets
from workbench.experiments import read_plan

BASE = {"data": "synthfaces", "epochs": 8}


def _plan(**changes: Any) -> experiments.Plan:
    plan = {"base": BASE, "vary": {"loss": ["softmax", "arcface"]}, "benchmarks": ["orl"]}
    return read_plan(plan | changes)


def test_the_grid_has_all_combinations() -> None:
    varied = {"seed": [3, 4], "backbone": ["smallresnet", "iresnet18"], "loss": ["softmax"]}
    cells = _plan(vary=varied).cells
    assert [cell.title for cell in cells] == [
        f"softmax, {backbone}, seed {seed}"
        for backbone in ("smallresnet", "iresnet18")
        for seed in (3, 4)
    ]
    assert [(cell.config.backbone, cell.config.seed) for cell in cells] == [
        ("smallresnet", 3),
        ("smallresnet", 4),
        ("iresnet18", 3),
        ("iresnet18", 4),
    ]
    assert cells[0].name == "sweep-softmax-smallresnet-seed3"
    assert all(cell.config.epochs == 8 for cell in cells)


def test_an_entry_may_set_several_settings_under_a_label() -> None:
    entry = {"label": "ArcFace .35", "loss": "arcface", "loss_options": {"m": 0.35}}
    unlabelled = {"loss": "cosface", "loss_options": {"m": 0.2}, "lr": 0.2}
    cells = _plan(vary={"loss": [entry, unlabelled]}).cells
    assert [cell.row for cell in cells] == ["ArcFace .35", "cosface (m 0.2, lr 0.2)"]
    assert cells[0].config.loss_options == {"m": 0.35}
    assert (cells[1].config.loss, cells[1].config.lr) == ("cosface", 0.2)


def test_a_mapping_is_the_value_of_a_setting_that_is_a_mapping() -> None:
    plan = _plan(vary={"loss_options": [{"m": 0.3}, {"m": 0.5}]})
    assert [cell.row for cell in plan.cells] == ["m 0.3", "m 0.5"]
    assert [cell.config.loss_options for cell in plan.cells] == [{"m": 0.3}, {"m": 0.5}]


def test_a_factor_of_any_name_has_labelled_entries() -> None:
    recipe = [{"label": "short", "epochs": 2}, {"label": "long", "epochs": 20, "lr": 0.05}]
    plan = _plan(vary={"recipe": recipe, "loss": ["softmax", "arcface"]})
    assert plan.rows_title == "loss, recipe"
    assert [cell.row for cell in plan.cells] == [
        f"{loss}, recipe {length}"
        for loss in ("softmax", "arcface")
        for length in ("short", "long")
    ]


@pytest.mark.parametrize(
    ("vary", "rows", "columns", "cell"),
    [
        ({"loss": ["softmax"]}, "loss", "backbone", ("softmax", "smallresnet")),
        ({"backbone": ["iresnet18"]}, "backbone", "loss", ("iresnet18", "arcface")),
        ({"seed": [0, 1]}, "loss", "backbone", ("arcface", "smallresnet")),
        ({"lr": [0.1]}, "lr", "backbone", ("0.1", "smallresnet")),
    ],
)
def test_what_rows_and_columns_are(
    vary: dict[str, Any], rows: str, columns: str, cell: tuple[str, str]
) -> None:
    plan = _plan(vary=vary)
    assert (plan.rows_title, plan.columns_title) == (rows, columns)
    assert (plan.cells[0].row, plan.cells[0].column) == cell


def test_options_of_the_base_are_kept_unless_they_belong_to_another_loss() -> None:
    for_all = _plan(base={**BASE, "loss_options": {"s": 20}})
    assert [cell.config.loss_options for cell in for_all.cells] == [{"s": 20}] * 2
    of_arcface = _plan(base={**BASE, "loss": "arcface", "loss_options": {"m": 0.2}})
    assert [cell.config.loss_options for cell in of_arcface.cells] == [{}, {"m": 0.2}]


def test_the_base_may_be_a_preset_or_a_config(tmp_path: Path) -> None:
    name = "homework-seresnet18-arcface"
    for content in ({"preset": name, "base": BASE}, {"base": {**BASE, "preset": name}}):
        cells = _plan(**content).cells
        loaded = presets.load(name, **BASE)
        assert cells[1].config.plain() == loaded.plain() | {"name": cells[1].name}
        assert cells[0].config.loss_options == {}
    (tmp_path / "own.yaml").write_text("{data: orl, lr: 0.25}")
    (tmp_path / "grid.yaml").write_text(
        yaml.safe_dump({"base": {"config": "own.yaml", "epochs": 3}, "vary": {"seed": [7]}})
    )
    (cell,) = read_plan(tmp_path / "grid.yaml").cells
    assert (cell.config.data, cell.config.lr, cell.config.epochs) == ("orl", 0.25, 3)
    assert cell.name == "grid-seed7"


def test_arguments_replace_keys(tmp_path: Path) -> None:
    content = {"base": {**BASE, "runs_dir": "elsewhere"}, "vary": {"seed": [0]}}
    plan = read_plan(content, directory=tmp_path / "out", runs_dir=tmp_path / "runs")
    assert plan.directory == tmp_path / "out"
    assert plan.cells[0].config.runs_dir == str(tmp_path / "runs")
    assert read_plan(content, directory=None).directory == Path("sweeps/sweep")


def test_long_labels_give_short_names_that_differ() -> None:
    entries = [
        {"label": "x" * 200 + end, "loss": "arcface", "lr": lr} for end, lr in (("a", 1), ("b", 2))
    ]
    names = [cell.name for cell in _plan(vary={"loss": entries}).cells]
    assert len(set(names)) == 2
    assert all(len(name) <= 100 for name in names)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"benchmark": ["orl"]}, ["unknown key of a sweep 'benchmark'", "'benchmarks'"]),
        ({"epochs": 3}, ["'epochs' is a setting", "under base"]),
        ({"base": {"data": "orl", "epoch": 3}}, ["unknown setting 'epoch'", "'epochs'"]),
        ({"base": {"data": "orl", "name": "a"}}, ["'name' cannot be set"]),
        ({"base": {**BASE, "epochs": 0}}, ["loss softmax", "'epochs' is 0"]),
        ({"base": []}, ["base: is []"]),
        ({"preset": "a", "config": "b"}, ["either a preset or a config"]),
        ({"preset": "homework-seresnet18-arcfase"}, ["homework-seresnet18-arcface"]),
        ({"vary": {"loss": "arcface"}}, ["vary, loss: is 'arcface'", "list"]),
        ({"vary": {"loss": []}}, ["vary, loss: is []"]),
        ({"vary": {"looss": ["arcface"]}}, ["vary, looss", "'loss'"]),
        ({"vary": {"a": [{"label": "x", "looss": "arcface"}]}}, ["'looss'", "'loss'"]),
        ({"vary": {"loss": ["softmax", "softmax"]}}, ["two entries are called 'softmax'"]),
        ({"vary": {"lr": [0.1], "a": [{"label": "x", "lr": 1}]}}, ["both determine", "'lr'"]),
        ({"vary": {"a": [{"label": "x", "seed": 1}]}}, ["seed must be varied by itself"]),
        ({"vary": {"runs_dir": ["a", "b"]}}, ["'runs_dir' cannot be varied"]),
        (
            {"vary": {"a": [{"label": "x", "lr": 0.1}, {"label": "y", "lr": 0.1}]}},
            ["x, smallresnet", "same settings"],
        ),
        ({"benchmarks": "orl"}, ["benchmarks: is 'orl'"]),
        ({"benchmarks": ["orl", "orl"]}, ["'orl' is listed twice"]),
        ({"objective": "orl"}, ["'objective' belongs to a search"]),
        ({"search": {"lr": [0.1]}}, ["either search or vary"]),
        ({"stop_losers": {"benchmark": "orl"}}, ["orl is also among the reported"]),
        ({"stop_losers": {"benchmark": "x", "keep": 2}}, ["keep is 2"]),
        ({"stop_losers": {"benchmark": "x", "after": [8]}}, ["after is [8]", "1 to 7"]),
        ({"stop_losers": {"benchmark": "x", "at": [2]}}, ["unknown option of stop_losers 'at'"]),
        ({"stop_losers": {}}, ["needs the benchmark"]),
        ({"name": "a b"}, ["run name 'a b'"]),
    ],
)
def test_mistakes_are_named(
    changes: dict[str, Any], words: list[str], complaint: Complaint
) -> None:
    with complaint("sweep: ", *words):
        _plan(**changes)


def test_a_file_is_named_in_the_error(tmp_path: Path, complaint: Complaint) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text("{base: {data: orl}, vary: {losss: [a]}}")
    with complaint(f"{path}: vary, losss"):
        read_plan(path)
    with complaint("missing.yaml: cannot be read"):
        read_plan(tmp_path / "missing.yaml")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"search": {}}, ["search: is empty"]),
        ({"search": {"lr": 3}}, ["search, lr: is 3"]),
        ({"search": {"lr": {"low": 1, "high": 0}}}, ["low is 1 and high is 0"]),
        ({"search": {"lr": {"low": 0, "high": 1, "log": True}}}, ["log is True"]),
        ({"search": {"lr": {"low": 0, "high": 1, "step": 3}}}, ["step is 3"]),
        ({"search": {"lr": {"low": 0, "hihg": 1}}}, ["'hihg'", "'high'"]),
        ({"search": {"lrr": [1]}}, ["unknown setting 'lrr'"]),
        ({"search": {"lr": [1]}, "objective": None}, ["needs an objective"]),
        ({"search": {"lr": [1]}, "objective": "orl"}, ["orl is also among the benchmarks"]),
        ({"search": {"lr": [1]}, "trials": 0}, ["trials: is 0"]),
    ],
)
def test_mistakes_of_a_search_are_named(
    changes: dict[str, Any], words: list[str], complaint: Complaint
) -> None:
    content = {"base": BASE, "objective": "lfw", "benchmarks": ["orl"]}
    with complaint(*words):
        read_plan(content | changes)
