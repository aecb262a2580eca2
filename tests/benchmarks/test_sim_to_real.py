"""The study of faces that carry over: its rows, and a study of two tiny trainings."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CommandResult, paint_people

import workbench as wb
from workbench.backbones import create

TOGETHER = {"epochs": "margin_ramp_epochs", "loss": "loss_options"}
"""Settings that are one thing, although they are two names."""


@pytest.fixture
def script(import_script: Callable[[str], Any]) -> Any:
    return import_script("sim_to_real.py")


@pytest.fixture
def rows(script: Any) -> Any:
    return sys.modules["_sim_to_real_rows"]


def test_rows_are_valid_and_differ_from_another_in_one_thing(rows: Any, tmp_path: Path) -> None:
    assert len({row.name for row in rows.ROWS}) == len(rows.ROWS)
    assert not {row.name for row in rows.ROWS[1:]} & {row.group for row in rows.ROWS}
    for row in rows.ROWS:
        if row.needs:
            assert not row.changes
            continue
        plain = row.config(tmp_path).plain()
        base = rows.row_named(row.reference).config(tmp_path).plain()
        different = {key for key in plain if plain[key] != base[key]} - {"name"}
        different -= {TOGETHER[key] for key in different & set(TOGETHER)}
        if row.group not in ("base", "preset"):
            assert len(different) == 1, row.name
    with_digiface = rows.row_named("digiface-64-px").config(tmp_path)
    assert (with_digiface.augment, with_digiface.image_size) == ("digiface", 64)


def test_the_estimate_follows_the_images_the_epochs_and_the_network(rows: Any) -> None:
    small, long = (
        wb.TrainConfig(**{**rows.BASE, "data": f"synthfaces:{size}", "epochs": epochs})
        for size, epochs in (("200x40", 16), ("400x40", 32))
    )
    first, second = rows.estimate(small), rows.estimate(long)
    net = create("smallresnet", embedding_dim=128, image_size=48)
    assert (first.images, second.images) == (8000, 16000)
    assert first.parameters == sum(weight.numel() for weight in net.parameters())
    assert 0.05 < first.hours < 0.5
    assert 3 < second.hours / first.hours < 4


Study = Callable[..., CommandResult]


@pytest.fixture
def study(
    script: Any,
    rows: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> Study:
    """Runs the script with two rows of a few steps on painted people."""
    people = paint_people(tmp_path / "people", 8, 5, size=32)
    tiny = {"data": f"folder:{people}", "image_size": 32, "epochs": 2, "batch_size": 20}
    monkeypatch.setattr(rows, "BASE", {**rows.BASE, **tiny, "margin_ramp_epochs": 1.0})
    monkeypatch.setattr(script, "ROWS", rows.ROWS[:2])
    monkeypatch.setattr(script, "estimate", lambda config: rows.Estimate(40, 1000, 0.1))
    monkeypatch.setattr(script, "BENCHMARKS", {"wild": f"folder:{people}", "ORL": "folder:other"})
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WORKBENCH_DATA", raising=False)
    paint_people(tmp_path / "other", 8, 5, size=32)

    def run(*arguments: object) -> CommandResult:
        places = ["--runs-dir", "runs", "--out", "results.json"]
        capfd.readouterr()
        try:
            code = script.main([*map(str, arguments), *places])
        except SystemExit as ended:
            code = ended.code
        return CommandResult(code, *capfd.readouterr())

    return run


def test_rows_are_trained_once_and_written_into_a_page(study: Study, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- sim_to_real.py: begin -->\nold\n<!-- sim_to_real.py: end -->\nafter"
    )
    done = study("--rows", "base", "--page", page)
    assert done.code == 0, done.err
    assert "`mild`" in page.read_text().partition("not run: needs 0.1 hours")[0]
    done = study("--rows", "base", "mild", "--page", page)
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["rows"]
    assert [one["row"] for one in found] == ["base", "mild"]
    for one in found:
        assert one["cpu_minutes"] > 0
        run = wb.runs.open(tmp_path / "runs" / f"{one['row']}-v{one['renderer']}")
        stored = wb.evaluation.load_result(run, "other")
        assert one["benchmarks"]["ORL"]["accuracy"] == stored.accuracy
        assert tuple(one["benchmarks"]["ORL"]["interval"]) == stored.intervals["accuracy"]
    assert found[0]["differences"] == found[0]["earlier"] == found[1]["earlier"] == {}
    accuracy = [one["benchmarks"]["ORL"]["accuracy"] for one in found]
    difference = found[1]["differences"]["ORL"]
    assert difference[0] == pytest.approx(accuracy[1] - accuracy[0])
    assert difference[1] <= difference[0] <= difference[2]
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter")
    assert "old" not in text
    assert "not run" not in text

    weights = tmp_path / "runs" / f"base-v{found[0]['renderer']}" / "model.safetensors"
    changed = weights.stat().st_mtime_ns
    assert study("--rows", "finished", "--page", page).code == 0
    assert weights.stat().st_mtime_ns == changed
    assert page.read_text() == text


def test_a_row_is_compared_with_itself_under_an_earlier_renderer(
    study: Study, script: Any, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert study("--rows", "base").code == 0
    first = script.VERSION
    for module in (script, rows):
        monkeypatch.setattr(module, "VERSION", str(int(first) + 1))
    done = study("--rows", "base")
    assert done.code == 0, done.err
    found = json.loads(Path("results.json").read_text(encoding="utf-8"))["rows"]
    assert [one["renderer"] for one in found] == [first, str(int(first) + 1)]
    assert found[1]["earlier"]["renderer"] == first
    assert found[1]["earlier"]["differences"]["ORL"][0] == 0  # the same training
    assert f"`base`, renderer {first}" in done.out


def test_the_list_has_the_state_and_the_cost(study: Study) -> None:
    done = study("--dry-run")
    assert done.code == 0
    assert done.out.count("not run") == 2
    assert "about 0.2 hours on one thread" in done.out
    assert not Path("runs").exists()


def test_a_training_is_stopped_when_the_time_is_over_and_continued(
    study: Study, script: Any, rows: Any, tmp_path: Path
) -> None:
    config = rows.ROWS[0].config(tmp_path / "runs")
    with pytest.raises(KeyboardInterrupt):
        wb.train(config, callbacks=[script.Watch(time.monotonic())], progress=False)
    run = wb.runs.open(tmp_path / "runs" / config.name)
    assert (run.state, run.status["step"]) == ("stopped", 1)
    seconds = json.loads((run.path / "cpu_time.json").read_text())["seconds"]
    assert study("--rows", "base").code == 0
    assert run.state == "finished"
    assert json.loads((run.path / "cpu_time.json").read_text())["seconds"] > seconds > 0
    whole = wb.train(config.model_copy(update={"name": "whole"}), progress=False)
    assert (run.path / "model.safetensors").stat().st_size > 0
    for column in ("loss", "accuracy"):
        assert np.array_equal(run.metrics()[column], whole.metrics()[column])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "mald"], "did you mean 'mild'"),
        (["--rows", "base", "--page", "no.md"], "no.md: No such file"),
        (["--rows", "base", "--page", "results.txt"], "has no lines"),
        (["--rows", "base", "--lfw", "pairs:no.txt@no.zip"], "no.txt"),
        (["--minutes", "0"], "from 1 to"),
    ],
)
def test_bad_options_are_refused_before_anything_is_trained(
    study: Study, arguments: list[str], message: str
) -> None:
    Path("results.txt").write_text("a page without tables")
    done = study(*arguments)
    assert done.code == 2
    assert message in done.err
    assert not Path("runs").exists()


def test_a_row_that_cannot_be_run_is_refused(script: Any, tmp_path: Path) -> None:
    with pytest.raises(wb.WorkbenchError, match="'yaw' cannot be run: the renderer has no switch"):
        script.selected(["yaw"], tmp_path)
    assert [row.name for row in script.selected(["stem"], tmp_path)] == [
        "stem-ibn",
        "stem-instance",
        "stem-mixstyle",
        "stem-standardised",
    ]


def test_results_of_another_renderer_are_kept(script: Any) -> None:
    old = {"row": "base", "renderer": "1", "value": 1}
    new = {"row": "base", "renderer": "2", "value": 2}
    assert script.with_row([old], new) == [old, new]
    assert script.with_row([old, new], {**new, "value": 3}) == [old, {**new, "value": 3}]
