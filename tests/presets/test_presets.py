"""The presets: each can be loaded, says where its numbers come from, and trains."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import paint_people

import workbench as wb
from workbench import augmentation, presets
from workbench.errors import WorkbenchError
from workbench.training.overriding import OPTIONS_OF, with_overrides
from workbench.training.schedules import create_schedule

FILES = sorted(Path(presets.__file__).parent.glob("*.yaml"))
SYNTHFACES = "synthfaces:8x5,size=64"
"""40 images with attributes: two batches of `BATCH_SIZE`."""
BATCH_SIZE = 20


def _given(name: str, **overrides: Any) -> dict[str, Any]:
    """Values for the settings that a preset leaves to the user."""
    return {"data": SYNTHFACES, **dict.fromkeys(presets.get(name).needs, "runs/other")} | overrides


# What the presets are


def test_every_preset_of_the_ancestors_and_peers_is_there() -> None:
    losses = ("softmax", "normface", "sphereface", "cosface", "arcface", "normface-ohem")
    losses += ("normface-focal", "contrastive", "triplet")
    losses += ("contrastive-finetuned", "triplet-finetuned")
    expected = {f"homework-seresnet{size}-{loss}" for size in (18, 34) for loss in losses}
    expected |= {"ammai-softmax", "ammai-softmax-center", "ammai-arcface", "multitask-resnet50"}
    expected |= {f"fashion-mnist-sphereface-m{m}" for m in (2, 4, 6)}
    expected |= {f"fashion-mnist-arcface-m{m}" for m in ("05", "2", "4")}
    expected |= {"fashion-mnist-softmax", "arcface-tf2", "arcface-tf2-kface"}
    expected |= {"casia-arcface-r50", "casia-adaface-r18", "casia-mobilefacenet"}
    expected |= {"ms1m-arcface-r50", "ms1m-arcface-r100", "glint360k-partial-fc-r100"}
    for loss in ("arcface", "cosface", "adaface"):
        expected |= {f"webface4m-{loss}-r50", f"webface4m-{loss}-r100"}
    expected |= {"synthfaces-cpu", "synthfaces-gpu"}  # of the workbench itself
    assert set(wb.presets.names()) == expected


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_gives_a_config_with_its_settings(name: str) -> None:
    config = wb.presets.load(name, **_given(name))
    assert isinstance(config, wb.TrainConfig)
    for setting, value in presets.get(name).settings.items():
        if setting == "tasks":
            for task, options in value.items():
                assert {key: getattr(config.tasks[task], key) for key in options} == options
        elif setting != "data":
            assert getattr(config, setting) == value, setting
    assert wb.TrainConfig(**config.plain()) == config


@pytest.mark.parametrize("name", presets.names())
def test_what_a_preset_names_can_be_created(name: str) -> None:
    config = wb.presets.load(name, **_given(name))
    loss = wb.losses.create(config.loss, embedding_dim=8, num_classes=5, **config.loss_options)
    assert loss.embedding_dim == 8
    assert config.backbone in wb.backbones.names()
    augmentation.create(config.augment)
    schedule = create_schedule(
        config.schedule,
        config.schedule_options,
        total=config.epochs * 100,
        warmup=round(config.warmup_epochs * 100),
        steps_per_epoch=100,
        peak_lr=config.lr,
    )
    assert schedule.lr(round(config.warmup_epochs * 100)) == pytest.approx(config.lr)
    lowest = schedule.lr(config.epochs * 100 - 1)
    assert 0 <= lowest <= config.lr
    if config.schedule == "multi-step":
        steps = len(config.schedule_options["epochs"])
        assert lowest == pytest.approx(config.lr * 0.1**steps)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_says_where_its_numbers_come_from(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    comments = " ".join(line for line in text.splitlines() if line.lstrip().startswith("#"))
    assert comments
    for line in text.splitlines():
        assert len(line) <= 100 or line.lstrip().startswith("data:"), line
    chain = presets.text(path.stem) if not path.stem.startswith("_") else text
    assert "# Source: " in chain


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        (
            "homework-seresnet34-arcface",
            {"backbone": "seresnet34", "batch_size": 128, "optimizer": "Adam", "lr": 1e-3}
            | {"epochs": 20, "schedule": "multi-step", "image_size": 112}
            | {"schedule_options": {"epochs": [4, 10, 18], "factor": 0.1}}
            | {"loss_options": {"s": 32, "m": 0.5}},
        ),
        ("homework-seresnet18-normface", {"batch_size": 256, "loss_options": {"s": 16}}),
        ("homework-seresnet18-contrastive", {"loss_options": {"m": 0.8}}),
        (
            "homework-seresnet18-normface-focal",
            {"loss_options": {"s": 16, "focal": {"gamma": 3, "alpha": 0.5}}},
        ),
        (
            "ammai-softmax-center",
            {"image_size": 160, "embedding_dim": 128, "batch_size": 64, "backbone": "resnet34"}
            | {"loss_options": {"center": {"weight": 0.007, "rate": 0.5}}},
        ),
        (
            "multitask-resnet50",
            {"image_size": 224, "batch_size": 50, "schedule": "auto", "backbone": "resnet50"},
        ),
        ("arcface-tf2-kface", {"epochs": 5, "lr": 0.01, "batch_size": 128}),
        ("glint360k-partial-fc-r100", {"backbone": "iresnet100", "accumulate": 8}),
    ],
)
def test_a_preset_has_the_published_numbers(name: str, settings: dict[str, Any]) -> None:
    config = wb.presets.load(name, **_given(name))
    assert {setting: getattr(config, setting) for setting in settings} == settings


# Loading


def test_overrides_replace_settings() -> None:
    config = wb.presets.load("casia-arcface-r50", data="synthfaces", epochs=3, lr=0.05)
    assert (config.data, config.epochs, config.lr) == ("synthfaces", 3, 0.05)
    assert config.backbone == "iresnet50"


def test_a_changed_config_leaves_the_preset_as_it_is() -> None:
    name = "homework-seresnet18-normface-focal"
    config = wb.presets.load(name, data="synthfaces")
    config.loss_options["focal"]["gamma"] = 9
    wb.presets.get(name).settings["loss_options"]["s"] = 9  # type: ignore[index]
    assert wb.presets.get(name).settings["loss_options"] == {
        "s": 16,
        "focal": {"gamma": 3, "alpha": 0.5},
    }


def test_another_loss_comes_without_the_options_of_the_former() -> None:
    config = wb.presets.load("casia-arcface-r50", data="synthfaces", loss="triplet")
    assert config.loss_options == {}
    config = wb.presets.load(
        "casia-arcface-r50", data="synthfaces", loss="cosface", loss_options={"m": 0.3}
    )
    assert config.loss_options == {"m": 0.3}
    same = wb.presets.load("casia-arcface-r50", data="synthfaces", loss="arcface")
    assert same.loss_options == {"s": 64, "m": 0.5}


@pytest.mark.parametrize("setting", OPTIONS_OF)
def test_overriding_a_name_removes_its_options_only(setting: str) -> None:
    settings: dict[str, Any] = dict.fromkeys(OPTIONS_OF, "one") | {
        options: {"a": 1} for options in OPTIONS_OF.values()
    }
    changed = with_overrides(settings, {setting: "two"})
    assert OPTIONS_OF[setting] not in changed
    assert len(changed) == len(settings) - 1
    assert with_overrides(settings, {}) == settings


def test_what_the_user_has_to_give_is_named_with_what_the_original_used() -> None:
    with pytest.raises(WorkbenchError, match=r"'data' to you.*CASIA-WebFace") as caught:
        wb.presets.load("casia-arcface-r50")
    assert "recordio:" in str(caught.value)
    name = "homework-seresnet34-triplet-finetuned"
    with pytest.raises(WorkbenchError, match=r"'init' to you.*homework-seresnet34-normface"):
        wb.presets.load(name, data="synthfaces")
    assert wb.presets.load(name, data="synthfaces", init="runs/a").init == "runs/a"


def test_bad_names_and_values_are_one_line() -> None:
    with pytest.raises(WorkbenchError, match=r"unknown preset 'casia-arcface-r5'.*did you mean"):
        wb.presets.load("casia-arcface-r5", data="synthfaces")
    with pytest.raises(WorkbenchError, match="unknown preset '_homework'"):
        wb.presets.load("_homework", data="synthfaces")
    with pytest.raises(WorkbenchError, match=r"unknown setting 'epoch'.*'epochs'"):
        wb.presets.load("casia-arcface-r50", data="synthfaces", epoch=3)
    with pytest.raises(WorkbenchError, match="'lr'"):
        wb.presets.load("casia-arcface-r50", data="synthfaces", lr=-1)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("- a list", "expected a mapping"),
        ("about: a\nsetting: {}\n", "unknown key in new.yaml 'setting'.*'settings'"),
        ("about: a\n", "'settings' is missing"),
        ("about: 3\nsettings: {}\n", "'about' is missing or has the wrong type"),
        ("about: a\nsettings: {epoch: 3}\n", "unknown setting in new.yaml 'epoch'.*'epochs'"),
        ("about: a\nneeds: {dato: b}\nsettings: {}\n", "unknown setting in new.yaml 'dato'"),
        ("about: a\nextends: _homewrk\nsettings: {}\n", "unknown preset to extend '_homewrk'"),
        ("about: a\nextends: new\nsettings: {}\n", "new.yaml: new extends new"),
    ],
)
def test_a_faulty_file_is_named(content: str, match: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {**presets._files(), "new": content}
    monkeypatch.setattr(presets, "_files", lambda: files)
    presets._read.cache_clear()
    with pytest.raises(WorkbenchError, match=match):
        wb.presets.load("new", data="synthfaces")
    presets._read.cache_clear()


def test_the_text_holds_the_files_in_their_order() -> None:
    text = wb.presets.text("webface4m-arcface-r50")
    order = ["# ---- webface4m-cosface-r50.yaml", "# ---- _arcface-torch.yaml"]
    assert [text.index(heading) for heading in order] == sorted(map(text.index, order))
    documents = text.split("# ----")
    assert yaml.safe_load(documents[0])["extends"] == "webface4m-cosface-r50"


def test_the_table_has_a_row_for_each_preset() -> None:
    table = wb.presets.table().set_index("name")
    assert list(table.index) == wb.presets.names()
    assert table.loc["casia-arcface-r50", "images"] == 512
    assert not table.isna().any().any()


# Training


def _tiny(name: str, folder: Path, **overrides: Any) -> wb.TrainConfig:
    """The config of a preset with two steps on 40 images of 32 pixels."""
    settings = presets.get(name).settings
    data = SYNTHFACES  # its images have a gender and an age
    if "tasks" not in settings:
        people = folder / "people"
        data = f"folder:{people if people.is_dir() else paint_people(people, 8, 5, size=32)}"
    tiny: dict[str, Any] = {
        "data": data,
        "epochs": 1,
        "batch_size": BATCH_SIZE,
        "accumulate": 1,
        "image_size": 32,
        "log_every": 1,
        "runs_dir": str(folder),
    }
    if settings.get("schedule") == "multi-step":
        tiny["schedule_options"] = {**settings["schedule_options"], "epochs": [0.5]}
    if "init" in presets.get(name).needs:
        original = re.search("homework-[a-z0-9]+-normface", presets.get(name).needs["init"])
        assert original is not None
        first = _tiny(original[0], folder / "init", **overrides)
        tiny["init"] = str(wb.train(first, progress=False).path)
    return wb.presets.load(name, **tiny | overrides)


def _assert_two_steps(config: wb.TrainConfig) -> None:
    run = wb.train(config, progress=False)
    assert run.state == "finished"
    assert len(run.metrics()) == 2
    assert run.metrics()["loss"].notna().all()


def _of_its_own() -> list[str]:
    """The first of all presets that differ in the backbone, its data or the length alone."""
    different: dict[str, str] = {}
    for name in presets.names():
        content = presets.get(name)
        rest = {
            setting: value
            for setting, value in content.settings.items()
            if setting in ("loss", "loss_options", "optimizer", "schedule", "augment", "tasks")
        }
        different.setdefault(f"{rest} {sorted(content.needs)}", name)
    return list(different.values())


@pytest.mark.parametrize("name", _of_its_own())
def test_two_steps_of_a_preset_with_a_small_backbone(name: str, tmp_path: Path) -> None:
    _assert_two_steps(_tiny(name, tmp_path, backbone="smallresnet"))


@pytest.mark.slow
@pytest.mark.parametrize("name", presets.names())
def test_two_steps_of_a_preset(name: str, tmp_path: Path) -> None:
    _assert_two_steps(_tiny(name, tmp_path))
    shutil.rmtree(tmp_path)  # the checkpoints of all presets together have several gigabytes
