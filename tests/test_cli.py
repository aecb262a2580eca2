"""The `workbench` command: its results, its error messages and its exit codes."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers import CommandResult, RunCommand, paint_people
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from workbench import __version__, faces, runs
from workbench.cli.dashboard import STREAMLIT_OPTIONS

COMMANDS = (
    "train",
    "evaluate",
    "import",
    "export",
    "embed",
    "compare",
    "app",
    "demo",
    "doctor",
    "backbones",
    "losses",
    "presets",
    "data",
    "data info",
    "data render",
    "data show",
)
SMALL = (
    "--data folder:people --image-size 16 --embedding-dim 8 --epochs 1 --batch-size 16 "
    "--loss softmax"
)


@pytest.fixture
def workbench(run_command: RunCommand) -> RunCommand:
    return run_command


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with people/ and damaged files of many kinds.

    The fixture `trained` adds the runs.
    """
    root = tmp_path_factory.mktemp("cli")
    paint_people(root / "people", 4, 8)
    (root / "one" / "a").mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(root / "one" / "a" / "0.png")
    for name, content in {
        "brackets.yaml": b"a: [1\nb: {",
        "list.yaml": b"- 1\n",
        "typo.yaml": b"data: folder:people\nepoch: 3\n",
        "range.yaml": b"data: folder:people\nepochs: 0\n",
        "latin.yaml": b"\xff\xfe\0",
        "date.yaml": b"lr: 2026-13-45\n",
        "half.bin": b"\x80\x04\x95 and so on",
        "half.txt": b"10 300\nann 1 2\n",
        "good.yaml": (
            f"{{data: 'folder:{root}/people', image_size: 16, embedding_dim: 8, epochs: 3, "
            "loss: cosface}"
        ).encode(),
    }.items():
        (root / name).write_bytes(content)
    return root


@pytest.fixture
def here(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    return made


@pytest.fixture(scope="module")
def trained(made: Path) -> Path:
    """runs/a (softmax) and runs/b (arcface), both evaluated, and runs/empty, which has no model."""
    import workbench as wb

    common = {
        "image_size": 16,
        "embedding_dim": 8,
        "epochs": 1,
        "batch_size": 16,
        "runs_dir": str(made / "runs"),
    }
    for name, loss in (("a", "softmax"), ("b", "arcface")):
        run = wb.train(
            {"data": f"folder:{made}/people", "loss": loss, "name": name, **common}, progress=False
        )
        for benchmark in (f"folder:{made}/people", "train"):
            wb.evaluate(run, benchmark, bootstrap=20, with_projection=False, progress=False)
    runs.create(
        made / "runs",
        "empty",
        {"data": f"folder:{made}/people", "loss": "softmax", "backbone": "smallresnet"},
    )
    return made / "runs"


def listing(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in root.rglob("*")}


def assert_refused(said: CommandResult, *texts: str) -> None:
    assert said.code == 2
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert said.err.endswith("\n")
    assert "Traceback" not in said.out + said.err
    assert len(said.err) < 700
    for text in texts:
        assert text in said.err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(workbench: RunCommand, command: str) -> None:
    said = workbench(f"{command} --help")
    assert said.code == 0
    assert "Usage: workbench" in said.out
    assert said.err == ""


def test_help_lists_every_command(workbench: RunCommand) -> None:
    said = workbench("--help")
    for command in COMMANDS:
        assert command.split()[0] in said.out


def test_no_command_shows_the_help(workbench: RunCommand) -> None:
    assert "Usage: workbench" in workbench("").out


def test_version(workbench: RunCommand) -> None:
    assert workbench("--version") == (0, f"{__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("trian", "Did you mean 'train'"),
        ("--bogus", "--bogus"),
        ("data inf", "Did you mean 'info'"),
        ("train --dat x", "--data"),
        ("train --epoch 3 --data folder:people", "--epochs"),
        ("train extra", "extra"),
        ("evaluate", "Missing argument"),
        ("data info", "Missing argument"),
        ("doctor extra", "extra"),
        ("compare --format html", "'latex'"),
        ("app --port 0", "--port"),
        ("app --port 65536", "--port"),
        ("app --port high", "--port"),
        ("app extra", "extra"),
        ("demo --port 0", "--port"),
        ("demo --no-ap", "--no-app"),
    ],
)
def test_misspelt_command_line(
    workbench: RunCommand, here: Path, arguments: str, hint: str
) -> None:
    before = listing(here)
    assert_refused(workbench(arguments), hint)
    assert listing(here) == before


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("", "--data folder:DIR"),
        ("--data folder:nope", "folder:nope: no such folder"),
        ("--data folder:", "folder:FOLDER"),
        ("--data foldr:people", "did you mean 'folder'"),
        ("--data people", "folder:people"),
        ("--data bin:half.bin", "is a benchmark"),
        ("--data recordio:people", "train.rec is missing"),
        ("--data folder:one", "two of each"),
        (f"{SMALL} --loss arcfac", "did you mean 'arcface'"),
        (f"{SMALL} --backbone smalresnet", "did you mean 'smallresnet'"),
        (f"{SMALL} --epochs x", "'epochs' is 'x'"),
        (f"{SMALL} --epochs 0", "epochs"),
        (f"{SMALL} --epochs -1", "epochs"),
        (f"{SMALL} --batch-size 1", "batch_size"),
        (f"{SMALL} --image-size 0", "image_size"),
        (f"{SMALL} --image-size 100000", "less than or equal to 4096"),
        (f"{SMALL} --embedding-dim 0", "embedding_dim"),
        (f"{SMALL} --lr 0", "lr"),
        (f"{SMALL} --lr nan", "lr"),
        (f"{SMALL} --device cud", "cud"),
        (f"{SMALL} --device cuda:99", "cuda:99"),
        (f"{SMALL} --precision fp8", "precision"),
        (f"{SMALL} --seed -1", "seed"),
        (f"{SMALL} --name a/b", "a/b"),
        (f"{SMALL} --runs-dir list.yaml", "list.yaml"),
        (f"{SMALL} --set momentum", "NAME=VALUE"),
        (f"{SMALL} --set =3", "NAME=VALUE"),
        (f"{SMALL} --set lr=[1", "lr=[1"),
        (f"{SMALL} --set lr=fast", "lr"),
        (f"{SMALL} --set lr=2026-13-45", "lr=2026-13-45"),
        (f"{SMALL} --set lr={'[' * 5000}", "lr=["),
        (f"{SMALL} --set momentun=0.5", "did you mean 'momentum'"),
        (f"{SMALL} --set momentum=1", "momentum"),
        (f"{SMALL} --set loss_options=3", "loss_options"),
        (f"{SMALL} --set runs_dir=", "runs_dir"),
        (f"{SMALL} --loss-option m", "NAME=VALUE"),
        (f"{SMALL} --loss-option biass=true", "did you mean 'bias'"),
        (f"{SMALL} --loss arcface --loss-option m=9", "0 <= m < pi"),
        (f"{SMALL} --loss arcface --loss-option m=abc", "arcface"),
        (f"{SMALL} --loss arcface --loss-option m=2026-13-45", "m=2026-13-45"),
        ("--config nope.yaml", "nope.yaml: cannot be read"),
        ("--config .", "cannot be read"),
        ("--config brackets.yaml", "not valid YAML"),
        ("--config list.yaml", "name: value"),
        ("--config typo.yaml", "did you mean 'epochs'"),
        ("--config range.yaml", "epochs"),
        ("--config latin.yaml", "not valid YAML"),
        ("--config date.yaml", "not valid YAML"),
        ("--resume nope", "unknown run 'nope'"),
        ("--resume people", "not a run directory"),
        ("--resume runs/a --lr 1", "cannot be resumed with lr from"),
        ("--resume runs/a --set momentum=0.5", "cannot be resumed with momentum from"),
        ("--resume runs/a --loss-option bias=false", "cannot be resumed with loss_options from"),
        ("--resume runs/a --name b", "name cannot be set"),
        ("--resume runs/a --epochs x", "'epochs' is 'x'"),
        ("--resume runs/a --config good.yaml", "--config and --resume cannot be combined"),
        (
            f"{SMALL} --loss arcface --loss-option m=half",
            "option 'm' is 'half', expected a finite number",
        ),
        (f"{SMALL} --loss arcface --loss-option m=.nan", "m"),
        (
            f"{SMALL} --loss arcface --loss-option easy_margin=nope",
            "option 'easy_margin' is 'nope', expected true or false",
        ),
        (f"{SMALL} --loss-option bias=true --loss-option bias=false", "is given twice"),
        (f"{SMALL} --set epochs=true", "epochs"),
    ],
)
@pytest.mark.usefixtures("trained")
def test_train_refuses_bad_input_and_writes_nothing(
    workbench: RunCommand, here: Path, arguments: str, hint: str
) -> None:
    before = listing(here)
    assert_refused(workbench(f"train {arguments}"), hint)
    assert listing(here) == before


def test_broken_image_fails_the_run_with_the_reason(
    workbench: RunCommand, here: Path, tmp_path: Path
) -> None:
    for person in ("a", "b"):
        (tmp_path / "set" / person).mkdir(parents=True)
        for number in range(4):
            whole = (here / "people" / "p0" / f"{number}.png").read_bytes()
            (tmp_path / "set" / person / f"{number}.png").write_bytes(
                whole[:200] if number == 3 else whole
            )
    said = workbench(
        f"train {SMALL} --data folder:{tmp_path}/set --runs-dir {tmp_path}/runs --name broken"
    )
    assert said.code == 2
    assert said.err.splitlines()[-1].startswith("error: ")
    assert "3.png" in said.err.splitlines()[-1]
    assert "Traceback" not in said.err
    assert runs.open(tmp_path / "runs" / "broken").state == "failed"
    assert "3.png" in runs.open(tmp_path / "runs" / "broken").status["message"]


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("nope train", "unknown run 'nope'"),
        ("runs/emtpy train", "did you mean 'runs/empty'"),
        ("runs train", "did you mean runs/"),
        ("runs/a", "no benchmark is given"),
        ("runs/a foldr:people", "did you mean 'folder'"),
        ("runs/a nope", "unknown benchmark 'nope'"),
        ("runs/a folder:nope", "no such folder"),
        ("runs/a bin:nope.bin", "nope.bin"),
        ("runs/a bin:half.bin", "half.bin"),
        ("runs/a bin:people", "people"),
        ("runs/a pairs:half.txt@people", "half.txt"),
        ("runs/a folder:one", "at least 4"),
        ("runs/empty folder:people", "has saved no model yet"),
        ("runs/a train --batch-size 0", "--batch-size"),
        ("runs/a train --bootstrap -1", "--bootstrap"),
        ("runs/a train --flip sideways", "--flip"),
        ("runs/a train --protocol arcface", "did you mean 'arcface_torch'"),
        ("runs/a train --protocol arcface_torch", "is for benchmarks of pairs"),
        (
            "runs/a folder:people --distance euclidean-raw --threshold grid",
            "takes threshold 'exact'",
        ),
        ("runs/a train --device cud", "cud"),
    ],
)
@pytest.mark.usefixtures("trained")
def test_evaluate_refuses_bad_input_and_writes_nothing(
    workbench: RunCommand, here: Path, arguments: str, hint: str
) -> None:
    before = listing(here)
    assert_refused(workbench(f"evaluate {arguments}"), hint)
    assert listing(here) == before


@pytest.mark.parametrize(
    "content", [b"", b"\x10\0\0\0\0\0\0\0{}", None], ids=["empty", "short", "cut off"]
)
def test_evaluate_refuses_a_damaged_model(
    workbench: RunCommand, here: Path, trained: Path, content: bytes | None
) -> None:
    model = trained / "b" / runs.MODEL
    whole = model.read_bytes()
    try:
        model.write_bytes(whole[: len(whole) // 2] if content is None else content)
        assert_refused(workbench("evaluate runs/b train"), str(Path("runs") / "b" / runs.MODEL))
    finally:
        model.write_bytes(whole)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("--runs-dir people", "no runs"),
        ("--runs-dir nope", "nope: no runs"),
        ("--runs-dir list.yaml", "no runs"),
        ("runs/emtpy", "did you mean 'runs/empty'"),
        ("runs/empty", "none of the runs has been evaluated"),
        ("--benchmark peopel", "did you mean 'people'"),
    ],
)
@pytest.mark.usefixtures("trained")
def test_compare_refuses_bad_input(
    workbench: RunCommand, here: Path, arguments: str, hint: str
) -> None:
    before = listing(here)
    assert_refused(workbench(f"compare {arguments}"), hint)
    assert listing(here) == before


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("foldr:people", "did you mean 'folder'"),
        ("nope", "unknown"),
        ("people", "folder:people"),
        ("folder:nope", "no such folder"),
        ("bin:half.bin", "half.bin"),
        ("pairs:half.txt@people", "half.txt"),
        ("recordio:people", "train.rec"),
    ],
)
@pytest.mark.usefixtures("here")
def test_data_info_refuses_bad_input(workbench: RunCommand, spec: str, hint: str) -> None:
    assert_refused(workbench(["data", "info", spec]), hint)


def test_data_info_of_a_folder(workbench: RunCommand, here: Path) -> None:
    said = workbench("data info folder:people")
    assert said.code == 0
    assert "32 images of 4 identities, the first 16 x 16" in said.out
    assert "8 to 8" in said.out


@pytest.mark.parametrize("command", ["app", "demo"])
def test_port_in_use(workbench: RunCommand, here: Path, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert_refused(workbench(f"{command} --port {port}"), f"port {port} is in use")


@pytest.mark.parametrize("option", ["", "--full"])
def test_demo_without_the_dashboard_ends_with_a_table(
    workbench: RunCommand, here: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    rows = [
        ("softmax-live", "synthfaces-pose", 0.8),
        ("softmax-live", "synthfaces-id", 0.3),
        ("arcface-live", "synthfaces-pose", 0.84512),
    ]
    table = pd.DataFrame(rows, columns=["run", "benchmark", "accuracy"])
    trained = [SimpleNamespace(name="softmax-live"), SimpleNamespace(name="arcface-live")]
    monkeypatch.setattr("workbench.cli.live_process.train", lambda *args, **options: trained)
    monkeypatch.setattr("workbench.evaluation.leaderboard", lambda *args: table)
    result = workbench(f"demo --no-app {option}")
    assert result.code == 0
    lines = [line.split() for line in result.out.splitlines()]
    assert ["benchmark", "id", "pose"] in lines
    assert lines[-2:] == [["softmax-live", "0.3", "0.800"], ["arcface-live", "NaN", "0.845"]]
    assert "training set" not in result.out


def test_the_table_of_the_demo_has_the_training_set_apart(
    workbench: RunCommand, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [("arcface-live", "synthfaces-pose", 0.84512), ("arcface-live", "train", 0.99)]
    table = pd.DataFrame(rows, columns=["run", "benchmark", "accuracy"])
    trained = [SimpleNamespace(name="arcface-live")]
    monkeypatch.setattr("workbench.cli.live_process.train", lambda *args, **options: trained)
    monkeypatch.setattr("workbench.evaluation.leaderboard", lambda *args: table)
    result = workbench("demo --no-app --full")
    assert result.code == 0
    benchmarks, training_set = result.out.split("accuracy on the training set")
    assert benchmarks.split()[-3:] == ["run", "arcface-live", "0.845"]
    assert "train" not in benchmarks.replace("training", "")
    assert training_set.split()[-2:] == ["arcface-live", "0.99"]


def test_the_demo_prints_no_table_without_results(
    workbench: RunCommand, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.cli.live_process.train", lambda *args, **options: [])
    result = workbench("demo --no-app")
    assert (result.code, result.out) == (0, "")


def test_app_starts_streamlit_for_this_machine_alone(
    workbench: RunCommand, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    def call(command: list[str], env: dict[str, str]) -> int:
        started.append((command, env))
        return 0

    monkeypatch.setattr(subprocess, "call", call)
    said = workbench("app --runs-dir somewhere")
    assert said.code == 0
    assert "http://localhost:" in said.out
    (command, env), options = started[0], " ".join(started[0][0])
    assert env["WORKBENCH_RUNS"] == "somewhere"
    assert command[:3] == [sys.executable, "-m", "workbench.dashboard.serve"]
    assert "--server.address localhost" in options
    assert "--browser.gatherUsageStats false" in options


def test_streamlit_options_are_those_of_the_checkout() -> None:
    import tomllib

    config = tomllib.loads((Path(__file__).parents[1] / ".streamlit" / "config.toml").read_text())
    flat = {
        f"{section}.{key}": value
        for section, values in config.items()
        for key, value in values.items()
    }
    assert {key: str(value).lower() for key, value in flat.items()} == {
        key: value.lower() for key, value in STREAMLIT_OPTIONS.items()
    }


def test_doctor(workbench: RunCommand) -> None:
    said = workbench("doctor")
    assert said.code == 0
    for word in ("torch", "device", "precision", "arcface", "smallresnet"):
        assert word in said.out
    lines = [line.split(maxsplit=1) for line in said.out.splitlines()]
    for name, reason in faces.detectors().items():
        assert [name, reason or "available"] in lines


def test_train_evaluate_compare(workbench: RunCommand, here: Path, tmp_path: Path) -> None:
    said = workbench(
        f"train {SMALL} --loss arcface --loss-option m=0.3 --loss-option easy_margin=true "
        f"--set momentum=0.5 --set image_size=[16,16] --runs-dir {tmp_path} --name mine"
    )
    assert said.code == 0
    assert f"workbench evaluate {tmp_path}/mine" in said.out
    run = runs.open(tmp_path / "mine")
    assert run.state == "finished"
    assert run.config["loss_options"] == {"m": 0.3, "easy_margin": True}
    assert (run.config["momentum"], run.config["image_size"], run.config["epochs"]) == (
        0.5,
        [16, 16],
        1,
    )

    said = workbench(
        f"evaluate {run.path} folder:people train --bootstrap 20 --no-projection --flip none"
    )
    assert said.code == 0
    assert [line.split(":")[0] for line in said.out.splitlines()] == [
        "mine on people+flip-none",
        "mine on train+flip-none",
    ]
    assert run.evaluations() == ["people+flip-none", "train+flip-none"]

    said = workbench(f"compare --runs-dir {tmp_path} --benchmark people+flip-none")
    assert said.code == 0
    assert said.out.splitlines()[0].split()[:3] == ["run", "benchmark", "accuracy"]
    assert said.out.splitlines()[1].split()[:2] == ["mine", "people+flip-none"]


def test_a_protocol_is_chosen_by_name_and_by_options(
    workbench: RunCommand, here: Path, trained: Path, tmp_path: Path
) -> None:
    run = runs.open(shutil.copytree(trained / "a", tmp_path / "a"))
    people, options = run.evaluation("people")[0]["benchmark"], "--bootstrap 20 --no-projection"
    for protocol in (
        "arcface_torch",
        "sphereface --distance euclidean",
        "workbench --mean subtract --threshold grid --flip none",
    ):
        assert workbench(f"evaluate {run.path} {people} --protocol {protocol} {options}").code == 0
    assert run.evaluations() == [
        "people",
        "people+arcface_torch",
        "people+flip-none+mean-subtract+threshold-grid",
        "people+sphereface+distance-euclidean",
        "train",
    ]
    said = workbench(f"compare {run.path}")
    assert said.out.splitlines()[0].split()[:4] == ["run", "benchmark", "protocol", "accuracy"]
    assert said.out.splitlines()[2].split()[:3] == ["a", "people+arcface_torch", "arcface_torch"]


def test_embeddings_are_written_for_other_programs(
    workbench: RunCommand, here: Path, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.npz"
    said = workbench(f"embed runs/a folder:people {out} --flip concatenate")
    assert said.code == 0
    with np.load(out, allow_pickle=False) as archive:
        count, length = archive["embeddings"].shape
        assert len(archive["identities"]) == count
        made = json.loads(str(archive["made"]))
    assert f"{count} embeddings of length {length}, not normalised" in said.out
    assert (made["run"], made["source"]) == ("a", "folder:people")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("runs/a folder:people out.csv", "out.npz"),
        ("nope foldr:people out.csv", "out.npz"),
        ("runs/a folder:people no/such/out.npz", "no such folder"),
        ("runs/a foldr:people out.npz", "did you mean 'folder'"),
        ("nope folder:people out.npz", "unknown run 'nope'"),
        ("runs/empty folder:people out.npz", "has saved no model yet"),
        ("runs/a folder:people out.npz --flip sideways", "--flip"),
        ("runs/a folder:people", "out"),
    ],
)
@pytest.mark.usefixtures("trained")
def test_embed_refuses_bad_input_and_writes_nothing(
    workbench: RunCommand, here: Path, arguments: str, hint: str
) -> None:
    before = listing(here)
    assert_refused(workbench(f"embed {arguments}"), hint)
    assert listing(here) == before


def test_options_go_before_the_config_file(
    workbench: RunCommand, here: Path, tmp_path: Path
) -> None:
    said = workbench(f"train --config good.yaml --epochs 1 --runs-dir {tmp_path} --name mine")
    assert said.code == 0
    config = runs.open(tmp_path / "mine").config
    assert (config["epochs"], config["loss"], config["image_size"]) == (1, "cosface", 16)


def test_compare_gives_the_stored_figures_in_each_format(
    workbench: RunCommand, here: Path, trained: Path
) -> None:
    table = list(csv.DictReader(io.StringIO(workbench("compare --format csv").out)))
    assert {(row["run"], row["benchmark"]) for row in table} == {
        (run, name) for run in "ab" for name in ("people", "train")
    }
    for row in table:
        assert (
            float(row["accuracy"])
            == runs.open(trained / row["run"]).evaluation(row["benchmark"])[0]["accuracy"]
        )
    latex = workbench("compare --format latex --benchmark people runs/a runs/b").out
    assert latex.startswith("\\begin{tabular}")
    text = workbench("compare runs/b").out
    assert [line.split()[:2] for line in text.splitlines()[1:]] == [["b", "people"], ["b", "train"]]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("backbones", marks=pytest.mark.slow),
        "backbones --image-size 12x10",
        "losses",
    ],
)
def test_tables_of_what_there_is(workbench: RunCommand, command: str) -> None:
    from workbench import backbones, losses

    known = backbones.names() if command.startswith("backbones") else losses.names()
    table = pd.read_csv(io.StringIO(workbench(f"{command} --format csv").out))
    assert sorted(table["name"]) == known
    said = workbench(command)
    assert said.code == 0
    first_words = [line.split()[0] for line in said.out.splitlines() if line]
    assert all(first_words.count(name) == 1 for name in known)
    assert workbench(f"{command} --format latex").out.startswith("\\begin{tabular}")


def test_a_table_of_chosen_backbones(workbench: RunCommand) -> None:
    header, row, *caption = workbench(
        "backbones mobilefacenet --embedding-dim 512"
    ).out.splitlines()
    assert header.split()[:4] == ["name", "size", "parameters", "(M)"]
    assert row.split()[:4] == ["mobilefacenet", "112x112", "2.060", "0.438"]
    assert "multiply-adds" in caption[0]
    (row,) = csv.DictReader(
        io.StringIO(workbench("backbones mobilefacenet --format csv --image-size 112x96").out)
    )
    assert (row["size"], int(row["parameters"])) == (
        "112x96",
        2_059_520 - 512 * 7,
    )  # the depthwise head has 7 x 6 places
    assert "mobile" not in workbench("backbones vit_tiny").out
    assert "vit\\_tiny & 112x112" in workbench("backbones vit_tiny --format latex").out


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("backbones smalresnet", "did you mean 'smallresnet'"),
        ("backbones tim:x", "did you mean 'timm'"),
        ("backbones smallresnet --image-size 8", "at least 16 x 16"),
        ("backbones --image-size 112x", "112x96"),
        ("backbones --image-size 0", "at least"),
        ("backbones --embedding-dim 0", "--embedding-dim"),
        ("backbones --format html", "error: Invalid value for '--format': 'html' is not one of"),
        ("losses arcface", "arcface"),
    ],
)
def test_tables_that_cannot_be(workbench: RunCommand, arguments: str, hint: str) -> None:
    assert_refused(workbench(arguments), hint)


def test_damaged_evaluation_can_be_made_again(
    workbench: RunCommand, here: Path, trained: Path
) -> None:
    stored = trained / "a" / runs.EVALUATION / "people.npz"
    whole = stored.read_bytes()
    try:
        stored.write_bytes(whole[:100])
        said = workbench("evaluate runs/a folder:people --bootstrap 20 --no-projection")
        assert said.code == 0, said.err
        assert runs.open(trained / "a").evaluation("people")
    finally:
        stored.write_bytes(whole)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-c", "from workbench.cli import main; main()", *map(str, arguments)]


def test_bad_input_in_a_process_of_its_own(here: Path) -> None:
    done = subprocess.run(
        command("train", "--data", "foldr:people"), capture_output=True, text=True, timeout=120
    )
    assert_refused(
        CommandResult(done.returncode, done.stdout, done.stderr), "did you mean 'folder'"
    )


def test_ctrl_c_stops_a_run_that_can_be_resumed(
    workbench: RunCommand, here: Path, tmp_path: Path
) -> None:
    arguments = (
        f"train {SMALL} --epochs 100 --set log_every=1 --runs-dir {tmp_path} --name long".split()
    )
    process = subprocess.Popen(command(*arguments), stderr=subprocess.PIPE, text=True)
    run = runs.Run(tmp_path / "long")
    end = time.monotonic() + 120
    while not list(runs.read_metrics(run.path / runs.METRICS)) and time.monotonic() < end:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "stopped"
    assert "Traceback" not in err
    assert run.state == "stopped"
    assert "--resume" in run.status["message"]
    steps = [row["step"] for row in runs.read_metrics(run.path / runs.METRICS)]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) < 200

    said = workbench(f"train --resume {run.path}")
    assert said.code == 0
    assert run.state == "finished"
    assert [row["step"] for row in runs.read_metrics(run.path / runs.METRICS)] == list(
        range(1, 201)
    )


def test_an_identification_is_evaluated_compared_and_described(
    workbench: RunCommand,
    here: Path,
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from workbench import data

    people = data.open(f"folder:{here}/people")
    numbers = np.arange(32).reshape(4, 8)
    parts = (numbers[:2, 0], numbers[:2, 1:].ravel(), numbers[2:].ravel())
    search = data.Identification(
        "search", people.images, people.identities, *parts, note="two of four"
    )
    monkeypatch.setattr(
        data.BENCHMARKS,
        "_factories",
        data.BENCHMARKS._factories | {"search": lambda path="": search},
    )
    for run in "ab":
        shutil.copytree(trained / run, tmp_path / run)

    said = workbench(f"evaluate {tmp_path}/a {tmp_path}/b search --bootstrap 20 --no-projection")
    assert said.code == 0
    for run, line in zip("ab", said.out.splitlines(), strict=True):
        figures = runs.open(tmp_path / run).evaluation("search")[0]
        low, high = figures["interval"]
        assert line.startswith(
            f"{run} on search: rank-1 {figures['accuracy']:.2%} [{low:.2%}, {high:.2%}] "
            "among 16 distractors"
        )
        assert "TAR at FAR" not in line  # 2 people and 16 strangers support none of these rates
        assert "FNIR" not in line

    lines = workbench(f"compare {tmp_path}/a {tmp_path}/b --benchmark search").out.splitlines()
    assert [(line.split()[1], line.split()[-1]) for line in lines[1:3]] == [
        ("search", "identification")
    ] * 2
    assert lines[3:] == ["accuracy of an identification: rank-1"]

    described = workbench("data info search").out
    assert "14 probes, 2 people enrolled with 2 images, 16 distractors" in described
    assert "two of four" in described


# Images that cannot be read, and models that were trained on


@pytest.fixture
def partly_broken(made: Path, tmp_path: Path) -> Path:
    """The people, of whom one picture cannot be read."""
    copy = Path(shutil.copytree(made / "people", tmp_path / "partly"))
    (copy / "p1" / "3.png").write_bytes(b"GIF89a")
    return copy


def test_evaluate_and_embed_leave_out_what_cannot_be_read(
    workbench: RunCommand, here: Path, trained: Path, partly_broken: Path, tmp_path: Path
) -> None:
    run, spec = shutil.copytree(trained / "a", tmp_path / "a"), f"folder:{partly_broken}"
    refused = workbench(["evaluate", str(run), spec])
    assert refused.code == 2
    assert "p1/3.png" in refused.err
    assert "--broken skip" in refused.err
    said = workbench(
        ["evaluate", str(run), spec, "--broken", "skip", "--no-projection", "--bootstrap", "20"]
    )
    assert said.code == 0
    told = f"left out: 1 of 32 images, which cannot be read ({partly_broken}/p1/3.png), "
    assert said.out.splitlines()[1].startswith(told)
    assert "evaluation/partly.json lists every image" in said.out
    assert (
        told.removeprefix("left out: ")
        in workbench(["compare", str(run), "--benchmark", "partly"]).err
    )
    said = workbench(["embed", str(run), spec, str(tmp_path / "out.npz"), "--broken", "skip"])
    assert "31 embeddings" in said.out
    assert f"left out: 1 images, which cannot be read ({partly_broken}/p1/3.png)" in said.out


def test_compare_says_which_evaluations_are_stale(
    workbench: RunCommand, here: Path, trained: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(trained / "a", tmp_path / "a")
    assert "stale" not in workbench(["compare", str(run)]).err
    with safe_open(run / "model.safetensors", "np") as file:
        metadata = file.metadata() | {"step": "9999"}
    save_file(load_file(run / "model.safetensors"), run / "model.safetensors", metadata=metadata)
    assert (
        "stale: a was trained on since it was evaluated on" in workbench(["compare", str(run)]).err
    )


def test_a_new_place_of_the_training_set_is_for_the_benchmark_train(
    workbench: RunCommand, here: Path, trained: Path
) -> None:
    said = workbench(["evaluate", str(trained / "a"), "folder:people", "--data", "folder:people"])
    assert said.code == 2
    assert "workbench evaluate RUN train" in said.err
