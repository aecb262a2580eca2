"""The options of `workbench train`, which are made from the fields of `TrainConfig`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from helpers import RunCommand

from workbench.cli import app
from workbench.cli.settings import as_settings, parameters
from workbench.errors import WorkbenchError
from workbench.training import TrainConfig
from workbench.training.config import GROUPS

ROOT = Path(__file__).parents[1]


def _command() -> Any:
    return typer.main.get_command(app).commands["train"]


def test_every_setting_is_an_option_in_the_panel_of_its_group() -> None:
    named = {one.name: one for one in parameters()}
    assert list(named) == [name for names in GROUPS.values() for name in names]
    assert set(named) == set(TrainConfig.model_fields)
    command = _command()
    options = {one.name: one for one in command.get_params(typer.Context(command))}
    assert set(named) < set(options)
    for group, names in GROUPS.items():
        for name in names:
            assert options[name].rich_help_panel == group.capitalize()


def test_the_help_has_the_descriptions_and_defaults_of_the_settings(
    run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    text = " ".join(run_command("train --help").out.split())
    for name, field in TrainConfig.model_fields.items():
        option = name.replace("_", "-")
        assert f"--{option.removesuffix('s')}" in text
        first_words = " ".join((field.description or "").replace("`", "").split()[:5])
        assert first_words in text, name
    assert "[default: smallresnet]" in text
    assert "or [height, width]" in text
    assert "--no-init-centres" in text
    for group in GROUPS:
        assert f"─ {group.capitalize()} ─" in text


@pytest.mark.parametrize("arguments", ["--help", "train --help", "presets"])
def test_help_does_not_import_torch(arguments: str) -> None:
    code = (
        "import json, sys\n"
        "from workbench.cli import main\n"
        f"sys.argv = ['workbench', *{arguments.split()!r}]\n"
        "try:\n"
        "    main()\n"
        "except SystemExit:\n"
        "    pass\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert not {"torch", "torchvision", "sklearn", "streamlit"} & loaded
    if arguments == "--help":  # the settings are not read either
        assert "workbench.training.config" not in loaded


@pytest.mark.parametrize(
    ("values", "settings"),
    [
        ({"epochs": "3", "lr": "1e-2", "ema": None}, {"epochs": 3, "lr": 0.01}),
        ({"image_size": "112x96"}, {"image_size": (112, 96)}),
        ({"image_size": "64"}, {"image_size": 64}),
        ({"pixel_mean": "[1, 2, 3]"}, {"pixel_mean": [1, 2, 3]}),
        ({"clip_norm": "null", "init": "null"}, {"clip_norm": None, "init": None}),
        ({"name": "2026", "data": "folder:1e3"}, {"name": "2026", "data": "folder:1e3"}),
        ({"augment": "adaface"}, {"augment": "adaface"}),
        (
            {"augment": "[flip, {jpeg: {probability: 0.2}}]"},
            {"augment": ["flip", {"jpeg": {"probability": 0.2}}]},
        ),
        ({"trackers": "tensorboard, wandb"}, {"trackers": ["tensorboard", "wandb"]}),
        ({"trackers": "[tensorboard]"}, {"trackers": ["tensorboard"]}),
        ({"init_centres": False}, {"init_centres": False}),
        ({"tasks": "{gender: {kind: classes}}"}, {"tasks": {"gender": {"kind": "classes"}}}),
        ({"optimizer_options": ["nesterov=true"]}, {"optimizer_options": {"nesterov": True}}),
        (
            {"schedule_options": ["epochs=[4, 10]", "factor=0.1"]},
            {"schedule_options": {"epochs": [4, 10], "factor": 0.1}},
        ),
        (
            {"loss_options": ["s=32", "ohem.keep=0.5"]},
            {"loss_options": {"s": 32, "ohem": {"keep": 0.5}}},
        ),
    ],
)
def test_texts_become_settings(values: dict[str, Any], settings: dict[str, Any]) -> None:
    assert as_settings(values, {}) == settings
    TrainConfig(**{"data": "synthfaces", **settings})


def test_options_are_added_to_those_of_the_same_loss() -> None:
    base = {"loss": "normface+ohem", "loss_options": {"s": 16, "ohem": {"keep": 0.75}}}
    added = as_settings({"loss_options": ["ohem.keep=0.5"]}, base)
    assert added == {"loss_options": {"s": 16, "ohem": {"keep": 0.5}}}
    other = as_settings({"loss": "cosface", "loss_options": ["m=0.3"]}, base)
    assert other == {"loss": "cosface", "loss_options": {"m": 0.3}}
    same = as_settings({"loss": "normface+ohem", "loss_options": ["s=8"]}, base)
    assert same["loss_options"] == {"s": 8, "ohem": {"keep": 0.75}}
    assert base["loss_options"] == {"s": 16, "ohem": {"keep": 0.75}}


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"image_size": "large"}, "--image-size 'large'"),
        ({"lr": "[1"}, "--lr '\\[1': the value is not valid YAML"),
        ({"schedule_options": ["factor"]}, "--schedule-option 'factor': expected NAME=VALUE"),
        ({"loss_options": ["m=1", "m=2"]}, "--loss-option 'm' is given twice"),
    ],
)
def test_a_value_that_cannot_be_read_names_its_option(values: dict[str, Any], match: str) -> None:
    with pytest.raises(WorkbenchError, match=match):
        as_settings(values, {})


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("--epochs many --data synthfaces", "epochs"),
        ("--optimizer Adamm --data synthfaces", "'Adam'"),
        ("--precision fp64 --data synthfaces", "precision"),
        ("--preset casia-arcface-r5 --data synthfaces", "did you mean 'casia-arcface-r50'"),
        ("--preset casia-arcface-r50", "the original used CASIA-WebFace"),
        ("--preset casia-arcface-r50 --resume runs/a", "--preset and --resume cannot be combined"),
        ("--config a.yaml --resume runs/a", "--config and --resume cannot be combined"),
        ("--preset casia-arcface-r50 --config a.yaml", "--preset and --config cannot"),
        ("--loss arcface", "--preset NAME"),
        ("--batchsize 3 --data synthfaces", "--batch-size"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    run_command: RunCommand,
    arguments: str,
    hint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run_command(f"train {arguments}")
    assert result.code == 2
    assert hint in result.err
    assert result.err.count("\n") <= 1
    assert not (tmp_path / "runs").exists()


def test_a_preset_with_options_is_trained(
    run_command: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run_command(
        "train --preset fashion-mnist-arcface-m05 --data synthfaces:8x5,size=64 --epochs 1 "
        "--batch-size 16 --loss-option m=0.3 --name preset --log-every 1"
    )
    assert "finished" in result.out
    config = yaml.safe_load((tmp_path / "runs" / "preset" / "config.yaml").read_text())
    assert config["loss_options"] == {"s": 64, "m": 0.3}
    assert (config["backbone"], config["epochs"]) == ("fashion_cnn", 1)


def test_presets_are_listed_and_printed(run_command: RunCommand) -> None:
    listed = run_command("presets").out
    assert "casia-arcface-r50" in listed
    assert "_homework" not in listed
    printed = run_command("presets homework-seresnet18-arcface").out
    assert "# margin.py: ArcFace, s 32, m 0.5." in printed
    assert "# Source: ItchyHiker/Face_Recognition_Projects" in printed
    assert "did you mean" in run_command("presets homework-seresnet18-arcfac").err
    table = run_command("presets --format csv").out
    assert table.splitlines()[0].startswith("name,about,backbone,loss")
