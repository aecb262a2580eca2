"""The command `workbench sweep`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from workbench import cli, experiments

Result = tuple[int, str, str]


@pytest.fixture
def workbench(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    def command(*words: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["workbench", "sweep", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        code = ended.value.code
        return code if isinstance(code, int) else 0, printed.out, printed.err

    return command


@pytest.fixture
def file(plan: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(plan))
    return path


def test_the_check_prints_the_runs_and_trains_none(
    workbench: Callable[..., Result], file: Path, tmp_path: Path
) -> None:
    code, out, _ = workbench(str(file), "--check", "--runs-dir", str(tmp_path / "elsewhere"))
    assert code == 0
    assert out.splitlines()[:2] == ["softmax, smallresnet, seed 0", "softmax, smallresnet, seed 1"]
    assert "4 runs, of which 0 are finished" in out
    assert not (tmp_path / "elsewhere").exists()


def test_it_prints_the_tables_and_says_where_the_report_is(
    workbench: Callable[..., Result],
    file: Path,
    plan: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan["vary"] = {"seed": [0]}
    file.write_text(yaml.safe_dump(plan))
    out_folder = tmp_path / "tables"
    code, out, _ = workbench(str(file), "--jobs", "0", "--out", str(out_folder))
    assert code == 0
    assert "Accuracy on test, in %" in out
    assert "| loss" in out
    assert f"report: {out_folder / 'report.md'}" in out
    assert (out_folder / "report.md").is_file()


def test_failures_give_another_exit_code(
    workbench: Callable[..., Result],
    file: Path,
    plan: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cell = experiments.read_plan(plan).cells[0]
    outcome = experiments.CellOutcome(cell, None, "out of memory", None, {})
    result = experiments.SweepResult(experiments.read_plan(plan), (outcome,))
    monkeypatch.setattr(experiments, "sweep", lambda *args, **options: result)
    code, out, _ = workbench(str(file))
    assert code == 1
    assert "failed: softmax, smallresnet, seed 0: out of memory" in out


def test_mistakes_are_one_line(workbench: Callable[..., Result], file: Path) -> None:
    file.write_text("{base: {data: orl}, vary: {loss: [a]}, benchmrks: []}")
    code, _, err = workbench(str(file))
    assert code == 2
    assert err.startswith(f"error: {file}: unknown key of a sweep 'benchmrks'")
    assert len(err.splitlines()) == 1
    code, _, err = workbench(str(file.parent / "no.yaml"))
    assert (code, len(err.splitlines())) == (2, 1)
