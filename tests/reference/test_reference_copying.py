"""Copies of the reference runs: made once, brought up to date, and never at the user's expense."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from helpers import Complaint, RunCommand

import workbench as wb
from workbench import reference, runs
from workbench.reference.copying import MARK, copy_into


def make_original(root: Path, name: str, weights: bytes = b"first", accuracy: float = 0.9) -> Path:
    """Writes a run directory with weights and one evaluation."""
    run = runs.create(root, name, {"loss": name, "embedding_dim": 4})
    run.model_path.write_bytes(weights)
    run.save_evaluation("frontal", {"accuracy": accuracy}, {"scores": np.zeros(3)})
    return run.path


@pytest.fixture
def gallery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with two reference runs."""
    package = tmp_path / "package"
    lines = ["run,loss,dimension,seed,ships,figure,value"]
    for name, seed in (("softmax", 0), ("softmax", 1), ("arcface", 0)):
        if seed == 0:
            make_original(package / "runs", name)
        lines.append(f"{name},{name},128,{seed},{seed == 0},synthfaces-frontal,0.9{seed}")
    (package / "figures.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(reference, "SHIPPED", package / "runs")
    monkeypatch.setattr(reference, "FIGURES", package / "figures.csv")
    return package / "runs"


def snapshot_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Returns the time and content of each file."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_copies_are_made_once(gallery: Path, tmp_path: Path) -> None:
    first = wb.reference.runs(tmp_path / "runs")
    assert [run.path.relative_to(tmp_path / "runs").as_posix() for run in first] == [
        "softmax",
        "arcface",
    ]
    for run in first:
        original = gallery / run.name
        assert {
            file: content for file, (_, content) in snapshot_of(run.path).items() if file != MARK
        } == {file: content for file, (_, content) in snapshot_of(original).items()}
    before = snapshot_of(tmp_path / "runs")
    assert wb.reference.runs(tmp_path / "runs") == first
    assert snapshot_of(tmp_path / "runs") == before
    assert [run.name for run in runs.list(tmp_path / "runs")] == ["softmax", "arcface"]


def test_the_default_folder_is_in_the_cache(
    gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    (run,) = wb.reference.runs(only=["arcface"])
    assert run.path == tmp_path / "cache" / "reference" / "arcface"
    assert not (tmp_path / "cache" / "reference" / "softmax").exists()


def test_a_copy_can_be_evaluated_without_touching_the_package(
    gallery: Path, tmp_path: Path
) -> None:
    before = snapshot_of(gallery)
    (run,) = wb.reference.runs(tmp_path / "runs", ["arcface"])
    run.save_evaluation("own", {"accuracy": 0.5}, {})
    assert snapshot_of(gallery) == before
    (again,) = wb.reference.runs(tmp_path / "runs", ["arcface"])
    assert again.evaluations() == ["frontal", "own"]


def test_newer_figures_of_the_same_weights_keep_additions(gallery: Path, tmp_path: Path) -> None:
    (run,) = wb.reference.runs(tmp_path / "runs", ["arcface"])
    run.save_evaluation("own", {"accuracy": 0.5}, {})
    (run.path / "remarks.txt").write_text("mine")
    runs.open(gallery / "arcface").save_evaluation("frontal", {"accuracy": 0.95}, {})
    (again,) = wb.reference.runs(tmp_path / "runs", ["arcface"])
    assert again.path == run.path
    assert again.figures("frontal")["accuracy"] == 0.95
    assert again.figures("own")["accuracy"] == 0.5
    assert (again.path / "remarks.txt").read_text() == "mine"
    assert [path.name for path in (tmp_path / "runs").iterdir() if path.is_dir()] == ["arcface"]


def test_an_evaluation_that_the_user_repeated_stays(gallery: Path, tmp_path: Path) -> None:
    (run,) = wb.reference.runs(tmp_path / "runs", ["arcface"])
    run.save_evaluation("frontal", {"accuracy": 0.91}, {})
    runs.open(gallery / "arcface").save_evaluation("pose", {"accuracy": 0.7}, {})
    (again,) = wb.reference.runs(tmp_path / "runs", ["arcface"])
    assert again.figures("frontal")["accuracy"] == 0.91
    assert again.figures("pose")["accuracy"] == 0.7


def test_newer_weights_replace_a_copy_without_evaluations_of_its_own(
    gallery: Path, tmp_path: Path
) -> None:
    (run,) = wb.reference.runs(tmp_path / "runs", ["arcface"])
    (run.path / "remarks.txt").write_text("mine")
    (run.path / runs.CONFIG).write_text("loss: softmax\n")
    (gallery / "arcface" / runs.MODEL).write_bytes(b"second")
    (again,) = wb.reference.runs(tmp_path / "runs", ["arcface"])
    assert again.model_path.read_bytes() == b"second"
    assert again.config["loss"] == "arcface"
    assert (again.path / "remarks.txt").read_text() == "mine"


def test_calibrations_of_earlier_weights_stay_with_these_weights(
    gallery: Path, tmp_path: Path
) -> None:
    (run,) = wb.reference.runs(tmp_path / "runs", ["arcface"])
    run.save_calibration("own", {}, {"scores": np.zeros(3)})
    (gallery / "arcface" / runs.MODEL).write_bytes(b"second")
    (again,) = wb.reference.runs(tmp_path / "runs", ["arcface"])
    assert again.calibrations() == []
    assert runs.open(tmp_path / "runs" / "arcface-earlier").calibrations() == ["own"]


def test_evaluations_of_earlier_weights_stay_with_these_weights(
    gallery: Path, tmp_path: Path
) -> None:
    (run,) = wb.reference.runs(tmp_path / "runs", ["arcface"])
    run.save_evaluation("own", {"accuracy": 0.5}, {})
    (gallery / "arcface" / runs.MODEL).write_bytes(b"second")
    (again,) = wb.reference.runs(tmp_path / "runs", ["arcface"])
    earlier = runs.open(tmp_path / "runs" / "arcface-earlier")
    assert (again.name, again.evaluations()) == ("arcface", ["frontal"])
    assert again.model_path.read_bytes() == b"second"
    assert (earlier.evaluations(), earlier.model_path.read_bytes()) == (
        ["frontal", "own"],
        b"first",
    )
    assert wb.reference.runs(tmp_path / "runs", ["arcface"]) == [again]


def test_a_run_of_the_user_with_the_same_name_stays(gallery: Path, tmp_path: Path) -> None:
    own = make_original(tmp_path / "runs", "arcface", b"my own weights")
    before = snapshot_of(own)
    (copy,) = wb.reference.runs(tmp_path / "runs", ["arcface"])
    assert copy.name == "arcface-reference"
    assert snapshot_of(own) == before
    assert wb.reference.runs(tmp_path / "runs", ["arcface"]) == [copy]


def test_a_renamed_copy_is_found(gallery: Path, tmp_path: Path) -> None:
    (copy,) = wb.reference.runs(tmp_path / "runs", ["arcface"])
    copy.path.rename(tmp_path / "runs" / "margin")
    (again,) = wb.reference.runs(tmp_path / "runs", ["arcface"])
    assert again.name == "margin"


def test_a_file_that_is_missing_comes_back(gallery: Path, tmp_path: Path) -> None:
    (copy,) = wb.reference.runs(tmp_path / "runs", ["arcface"])
    copy.model_path.unlink()
    (again,) = wb.reference.runs(tmp_path / "runs", ["arcface"])
    assert again.model_path.read_bytes() == b"first"


def test_a_copy_with_a_damaged_mark_is_a_run_of_the_user(gallery: Path, tmp_path: Path) -> None:
    (copy,) = wb.reference.runs(tmp_path / "runs", ["arcface"])
    (copy.path / MARK).write_text(json.dumps({"name": "arcface", "files": [1]}))
    (again,) = wb.reference.runs(tmp_path / "runs", ["arcface"])
    assert again.name == "arcface-reference"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to(
    gallery: Path, tmp_path: Path, complaint: Complaint
) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    folder.chmod(0o500)
    with complaint(folder, "cannot be written"):
        wb.reference.runs(folder)


def test_a_file_in_place_of_the_folder(gallery: Path, tmp_path: Path, complaint: Complaint) -> None:
    (tmp_path / "runs").write_text("")
    with complaint(tmp_path / "runs", "expected a folder"):
        wb.reference.runs(tmp_path / "runs")


def test_current_copies_need_no_writing(
    gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = wb.reference.runs(tmp_path / "runs")

    def refuse(*_: object) -> None:
        raise AssertionError("nothing needs to be written")

    monkeypatch.setattr("workbench.reference.copying.check_writable", refuse)
    assert wb.reference.runs(tmp_path / "runs") == first


def test_a_failure_leaves_the_earlier_copy(
    gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: Complaint
) -> None:
    (copy,) = wb.reference.runs(tmp_path / "runs", ["arcface"])
    before = snapshot_of(copy.path)
    runs.open(gallery / "arcface").save_evaluation("frontal", {"accuracy": 0.95}, {})

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("workbench.reference.copying.shutil.copytree", full)
        with complaint(tmp_path / "runs", "cannot be written (No space left on device)"):
            wb.reference.runs(tmp_path / "runs", ["arcface"])
    assert snapshot_of(copy.path) == before
    assert [path.name for path in (tmp_path / "runs").iterdir() if path.is_dir()] == ["arcface"]


def test_an_unknown_name(gallery: Path, tmp_path: Path, complaint: Complaint) -> None:
    with complaint("unknown reference run 'arcfase'", "did you mean 'arcface'?"):
        wb.reference.runs(tmp_path / "runs", ["arcfase"])
    assert not (tmp_path / "runs").exists()


def test_nothing_to_copy(tmp_path: Path) -> None:
    assert copy_into(tmp_path / "runs", []) == []
    assert not (tmp_path / "runs").exists()


def test_the_commands(gallery: Path, tmp_path: Path, run_command: RunCommand) -> None:
    listed = run_command("reference list")
    assert (listed.code, len(listed.out.splitlines())) == (0, 3)
    assert listed.out.splitlines()[0].split() == [
        "run",
        "loss",
        "dimension",
        "benchmark",
        "accuracy",
    ]
    copied = run_command(f"reference copy {tmp_path / 'runs'} --only arcface")
    assert (copied.code, copied.out) == (0, f"{tmp_path / 'runs' / 'arcface'}\n")
    assert run_command(f"reference copy {tmp_path / 'runs'} --only arcfase").code == 2


def test_figures_of_a_package_without_reference_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: Complaint
) -> None:
    monkeypatch.setattr(reference, "SHIPPED", tmp_path / "runs")
    monkeypatch.setattr(reference, "FIGURES", tmp_path / "figures.csv")
    assert wb.reference.names() == []
    assert wb.reference.runs(tmp_path / "copies") == []
    with complaint(tmp_path / "figures.csv", "cannot be read"):
        wb.reference.figures()
