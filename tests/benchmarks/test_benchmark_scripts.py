"""The scripts of benchmarks/ measure a few small images, and the README there describes them.

What the scripts measure is not tested here.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import CommandResult

from workbench import augmentation

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(FOLDER.glob("[!_]*.py"))
RunHere = Callable[..., CommandResult]
ImportScript = Callable[[str], Any]


def _run(script: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.fixture
def run_here(import_script: ImportScript, capfd: pytest.CaptureFixture[str]) -> RunHere:
    """`run_here("heads.py", "--classes", 1)` runs a script in this process, which is much
    faster.
    """

    def run(script: str, *arguments: object) -> CommandResult:
        module = import_script(script)
        capfd.readouterr()
        try:
            code = module.main([*map(str, arguments)])
        except SystemExit as ended:
            code = ended.code
        return CommandResult(code, *capfd.readouterr())

    return run


def _assert_refused(done: CommandResult, text: str) -> None:
    assert done.code == 2
    assert text in done.err
    assert "Traceback" not in done.err
    assert done.out == ""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_described_and_does_nothing_when_it_is_imported(
    script: Path, import_script: ImportScript, capfd: pytest.CaptureFixture[str]
) -> None:
    assert f"`{script.name}`" in (FOLDER / "README.md").read_text(encoding="utf-8")
    module = import_script(script.name)
    assert capfd.readouterr() == ("", "")
    assert f"python benchmarks/{script.name}" in module.__doc__


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_prints_its_help(script: Path, run_here: RunHere) -> None:
    done = run_here(script.name, "--help")
    assert (done.code, done.err) == (0, "")
    assert "--out" in done.out


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_runs_in_a_process_of_its_own(script: Path) -> None:
    done = _run(script, "--out", "no/such/folder/figures.json")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "no such folder" in done.stderr
    assert "Traceback" not in done.stderr


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
    ("script", "arguments", "message"),
    [
        ("synthfaces.py", ["--people", "0"], "from 1 to"),
        ("synthfaces.py", ["--size", "8"], "from 32 to 512"),
        ("synthfaces.py", ["--workers", "two"], "whole number"),
        ("synthfaces.py", ["--parts", "all"], "invalid choice"),
        ("synthfaces.py", ["--out", "no/such/folder/figures.json"], "no such folder"),
        ("heads.py", ["--classes", "1"], "from 2 to"),
        ("heads.py", ["--only", "fast"], "invalid choice"),
        ("heads.py", ["--device", "cuda:99"], "cuda"),
        ("heads.py", ["--out", "no/such/folder/figures.json"], "no such folder"),
        ("train.py", ["--size", "8"], "from 16 to"),
        ("train.py", ["--backbones", "smalresnet"], "did you mean 'smallresnet'"),
        ("train.py", ["--augment", "miror"], "did you mean 'mirror'"),
        ("train.py", ["--parts", "fast"], "invalid choice"),
        ("train.py", ["--device", "cuda:99"], "cuda"),
        ("train.py", ["--out", "no/such/folder/figures.json"], "no such folder"),
        ("verification.py", ["--pairs", "3"], "from 20 to"),
        ("verification.py", ["--parts", "fast"], "invalid choice"),
        ("verification.py", ["--out", "no/such/folder/figures.json"], "no such folder"),
        ("augmentation.py", ["--batch", "1"], "from 2 to"),
        ("augmentation.py", ["--backbone", "smalresnet"], "did you mean 'smallresnet'?"),
        ("augmentation.py", ["--out", "no/such/folder/figures.json"], "no such folder"),
        ("data.py", ["--images", "0"], "from 2 to"),
        ("data.py", ["--index", "1000", "--identities", "600"], "at most half"),
        ("data.py", ["--parts", "speed", "--source", "folder:no/such/folder"], "no such folder"),
        ("data.py", ["--out", "no/such/folder/figures.json"], "no such folder"),
    ],
)
def test_bad_options_are_refused_before_anything_is_measured(
    script: str, arguments: list[str], message: str, run_here: RunHere
) -> None:
    _assert_refused(run_here(script, *arguments), message)


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


def test_augmentation_is_measured_beside_a_step_and_kornia(
    tmp_path: Path, run_here: RunHere
) -> None:
    out = tmp_path / "augmentation.json"
    sizes = ("--size", 16, "--batch", 4, "--rounds", 1)
    done = run_here("augmentation.py", *sizes, "--out", out)
    assert done.code == 0, done.err
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert list(figures["presets_ms"]) == ["step", *augmentation.presets()]
    assert list(figures["alone_ms"]) == augmentation.names()
    assert min(figures["alone_ms"].values()) > 0
    if importlib.util.find_spec("kornia") is not None:
        assert len(figures["kornia_ms"]) == 18
        assert "kornia / workbench" in done.out
    assert "share of a step" in done.out


def test_verification_is_measured_beside_arcface_torch_and_agrees_with_it(
    tmp_path: Path, run_here: RunHere
) -> None:
    sizes = {"--pairs": 200, "--dim": 8, "--scores": 30_000, "--genuine": 50, "--rounds": 1}
    out = tmp_path / "verification.json"
    options = [part for pair in sizes.items() for part in pair]
    done = run_here("verification.py", *options, "--out", out)
    assert done.code == 0, done.err
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["arcface_torch"]["equal"] is True
    assert found["arcface_torch"]["times_as_fast"] > 0
    assert found["intervals"]["with_seconds"] > 0
    assert 0 <= found["stream"]["tar_at_1e-6"] <= 1
    assert "30,000 impostor scores" in done.out


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


def test_training_is_measured_beside_a_plain_loop_and_the_parts_of_a_step_add_up(
    tmp_path: Path, run_here: RunHere
) -> None:
    out = tmp_path / "train.json"
    options = ["--batch", 4, "--size", 16, "--steps", 2, "--rounds", 1]
    names = ["--backbones", "smallresnet", "--augment", "none", "mirror"]
    done = run_here("train.py", *options, *names, "--out", out)
    assert done.code == 0, done.err
    found = json.loads(out.read_text(encoding="utf-8"))
    speeds = found["images_per_second"]["smallresnet"]
    assert list(speeds) == ["plain", "none", "mirror"]
    assert min(speeds.values()) > 0
    for parts in found["step_ms"].values():
        assert min(parts.values()) >= 0
        assert parts["network"] > 0
        assert parts["backward"] > 0
        # The parts are those of the steps that count: none of them is measured twice.
        assert parts["rest"] < sum(parts.values())
    assert found["step_ms"]["mirror"]["augment"] > 0
    assert "smallresnet" in done.out
    assert "backward" in done.out


def test_every_backbone_that_a_cpu_can_train_is_measured(import_script: ImportScript) -> None:
    module = import_script("train.py")
    names = module.cpu_sized()
    assert names[0] == "smallresnet"
    assert {"mobilefacenet", "iresnet18", "seresnet18", "vit_tiny"} <= set(names)
    assert "iresnet100" not in names
