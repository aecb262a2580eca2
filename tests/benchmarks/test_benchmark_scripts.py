"""The scripts of benchmarks/ run, on a few small pictures, and are described; what they measure is left to them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(FOLDER.glob("[!_]*.py"))


def _run(script: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_described_and_does_nothing_when_it_is_imported(script: Path) -> None:
    assert f"`{script.name}`" in (FOLDER / "README.md").read_text(encoding="utf-8")
    code = f"import sys; sys.path.insert(0, {str(FOLDER)!r}); import {script.stem}; print({script.stem}.__doc__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"python benchmarks/{script.name}" in done.stdout


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of two people with two small pictures each."""
    pytest.importorskip("anny")
    out = tmp_path_factory.mktemp("benchmark") / "figures.json"
    arguments = [
        "--people",
        "2",
        "--images",
        "2",
        "--size",
        "64",
        "--workers",
        "1",
        "--parts",
        "speed",
        "stages",
        "memory",
        "--out",
    ]
    done = _run(FOLDER / "synthfaces.py", *arguments, out)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    assert found["machine"]["cpu"] in done.stdout
    for stage in found["stages"]:
        assert stage in done.stdout
    return found


@pytest.mark.slow
def test_the_stages_add_up_and_each_took_time(figures: dict[str, Any]) -> None:
    stages = dict(figures["stages"])
    whole = stages.pop("all")
    assert whole["share"] == 1
    assert sum(row["ms_per_image"] for row in stages.values()) == pytest.approx(
        whole["ms_per_image"]
    )
    assert min(row["ms_per_image"] for row in stages.values()) > 0


@pytest.mark.slow
def test_the_speed_is_of_all_images(figures: dict[str, Any]) -> None:
    (row,) = figures["speed"]
    assert (row["workers"], row["images"]) == (1, 4)
    assert row["images_per_second"] == pytest.approx(4 / row["seconds"])
    assert row["start_seconds"] > 0


@pytest.mark.slow
def test_a_worker_needs_no_more_memory_for_more_people(figures: dict[str, Any]) -> None:
    if not Path("/proc/self/status").is_file():
        assert figures["memory"] == []
        return
    few, many = figures["memory"]
    assert (few["people"], many["people"]) == (2, 8)
    assert 30 < few["peak_mb"] <= many["peak_mb"] < 1.2 * few["peak_mb"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--people", "0"], "from 1 to"),
        (["--size", "8"], "from 32 to 512"),
        (["--workers", "two"], "whole number"),
        (["--parts", "all"], "invalid choice"),
        (["--out", "no/such/folder/figures.json"], "no such folder"),
    ],
)
def test_bad_options_are_refused_before_anything_is_measured(
    arguments: list[str], said: str
) -> None:
    done = _run(FOLDER / "synthfaces.py", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.slow
def test_heads_are_measured_beside_their_limit_and_a_peer(tmp_path: Path) -> None:
    sizes = {
        "--batch": 4,
        "--dim": 8,
        "--classes": 3000,
        "--step-classes": 5000,
        "--rounds": 1,
        "--threads": 1,
    }
    out = tmp_path / "heads.json"
    done = _run(
        FOLDER / "heads.py", *(part for pair in sizes.items() for part in pair), "--out", out
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    names = ["three products", "plain", "streamed", "sampled", "pytorch-metric-learning"]
    assert list(found["speed_ms"]) == names
    assert list(found["memory_mib"]) == names[1:]
    assert min(found["speed_ms"].values()) > 0
    assert found["step"]["seconds"] > 0
    assert found["step"]["peak_mib"] > 50  # the whole process
    assert all(name in done.stdout for name in names)
    assert "5,000 classes" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--classes", "1"], "from 2 to"),
        (["--only", "fast"], "invalid choice"),
        (["--device", "cuda:99"], "cuda"),
        (["--out", "no/such/folder/figures.json"], "no such folder"),
    ],
)
def test_heads_that_cannot_be_measured_are_one_line(arguments: list[str], said: str) -> None:
    done = _run(FOLDER / "heads.py", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_verification_is_measured_beside_arcface_torch_and_agrees_with_it(tmp_path: Path) -> None:
    sizes = {"--pairs": 200, "--dim": 8, "--scores": 30_000, "--genuine": 50, "--rounds": 1}
    out = tmp_path / "verification.json"
    done = _run(
        FOLDER / "verification.py", *(part for pair in sizes.items() for part in pair), "--out", out
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["arcface_torch"]["equal"] is True
    assert found["arcface_torch"]["times_as_fast"] > 0
    assert found["intervals"]["with_seconds"] > 0
    assert 0 <= found["stream"]["tar_at_1e-6"] <= 1
    assert "30,000 impostor scores" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pairs", "3"], "from 20 to"),
        (["--parts", "fast"], "invalid choice"),
        (["--out", "no/such/folder/figures.json"], "no such folder"),
    ],
)
def test_verification_that_cannot_be_measured_is_one_line(arguments: list[str], said: str) -> None:
    done = _run(FOLDER / "verification.py", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.slow
def test_coverage_is_counted_for_every_method_and_figure(tmp_path: Path) -> None:
    out = tmp_path / "coverage.json"
    done = _run(
        FOLDER / "interval_coverage.py",
        "--datasets",
        2,
        "--resamples",
        3,
        "--settings",
        "independent-50",
        "--out",
        out,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    row = found["intervals"]["independent-50"]
    assert list(row["truth"]) == ["accuracy", "auc", "eer", "tar@0.1", "tar@0.01", "tar@0.001"]
    for method in (
        "workbench",
        "folds, t",
        "people",
        "subsets",
        "pairs",
    ):  # 150 people are too many to leave out one by one
        assert list(row["covered"][method]) == list(row["truth"])
        assert all(share in (0.0, 0.5, 1.0) for share in row["covered"][method].values())
    assert list(row["covered"]["DeLong"]) == ["auc"]
    for rates in (*found["paired"].values(), found["many"]):
        assert all(0 <= rate <= 1 for rate in rates.values())
    assert "six equally good models" in done.stdout


@pytest.mark.slow
def test_reading_is_measured_beside_the_decoder_and_the_usual_way(tmp_path: Path) -> None:
    sizes = {"--images": 20, "--rounds": 1, "--index": 2000, "--identities": 50}
    out = tmp_path / "data.json"
    done = _run(
        FOLDER / "data.py", *(part for pair in sizes.items() for part in pair), "--out", out
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    assert list(found["speed"]["images_per_second"]) == ["decoder", "usual", "recordio", "pack"]
    assert min(found["speed"]["images_per_second"].values()) > 0
    for kind in ("recordio", "shuffled", "pack"):
        assert found["open"][kind]["images"] == 2000
        assert found["open"][kind]["seconds"] > 0
        assert kind in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--images", "0"], "from 2 to"),
        (["--index", "1000", "--identities", "600"], "at most half"),
        (["--parts", "speed", "--source", "folder:no/such/folder"], "no such folder"),
        (["--out", "no/such/folder/figures.json"], "no such folder"),
    ],
)
def test_reading_that_cannot_be_measured_is_one_line(arguments: list[str], said: str) -> None:
    done = _run(FOLDER / "data.py", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
