from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from workbench import TrainConfig, WorkbenchError, train
from workbench.training.config import GROUPS


def _refused(match: str, **settings: Any) -> None:
    with pytest.raises(WorkbenchError, match=match) as caught:
        TrainConfig(**{"data": "orl"} | settings)
    assert "\n" not in str(caught.value)


def test_only_the_data_must_be_named() -> None:
    assert TrainConfig(data="orl").loss == "arcface"
    with pytest.raises(WorkbenchError, match="setting 'data' is missing: training set"):
        TrainConfig()


def test_every_setting_is_described() -> None:
    assert [name for name, field in TrainConfig.model_fields.items() if not field.description] == []


def test_an_unknown_setting_is_an_error_with_a_suggestion() -> None:
    _refused("unknown setting 'epoch': did you mean 'epochs'", epoch=3)
    _refused("unknown setting 'qqqq': known: accumulate", qqqq=3)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epochs", 0),
        ("epochs", -1),
        ("epochs", 1.5),
        ("epochs", "many"),
        ("epochs", None),
        ("epochs", [1]),
        ("epochs", True),
        ("lr", True),
        ("clip_norm_loss", 0),
        ("batch_size", 1),
        ("images_per_identity", 0),
        ("images_per_identity", 2.5),
        ("embedding_dim", 0),
        ("image_size", 0),
        ("image_size", 100_000),
        ("image_size", (112, 4097)),
        ("image_size", (16, -1)),
        ("image_size", [16]),
        ("image_size", [16, 16, 16]),
        ("image_size", "big"),
        ("lr", 0),
        ("lr", -0.1),
        ("lr", math.nan),
        ("lr", math.inf),
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("weight_decay", -1e-4),
        ("clip_norm", 0),
        ("warmup_epochs", -1),
        ("margin_ramp_epochs", -1),
        ("pixel_std", 0),
        ("pixel_std", [1.0, 2.0, 0.0]),
        ("pixel_mean", [1.0, 2.0]),
        ("pixel_mean", math.nan),
        ("channels", "grb"),
        ("accumulate", 0),
        ("ema", 1.0),
        ("label_smoothing", 1.0),
        ("layer_decay", 0),
        ("lr_factor_loss", 0),
        ("freeze_stages", 0),
        ("batch_norm", "global"),
        ("augment", 3),
        ("tasks", ["age"]),
        ("trackers", 3),
        ("precision", "fp16"),
        ("seed", -1),
        ("seed", 2**64),
        ("workers", -1),
        ("log_every", 0),
        ("loss", 3),
        ("loss_options", [1]),
        ("loss_options", "m=0.5"),
        ("loss_options", {1: 2}),
        ("backbone_options", None),
        ("data", None),
    ],
)
def test_a_value_out_of_range_names_its_setting(setting: str, value: Any) -> None:
    _refused(f"'?{setting}'?", **{setting: value})


@pytest.mark.parametrize(
    ("value", "wrong"), [(4097, 4097), ([112, 4097], 4097), ([0, 112], 0), ([16], r"\[16\]")]
)
def test_of_an_image_size_the_side_that_is_wrong_is_named(value: Any, wrong: object) -> None:
    _refused(f"setting 'image_size' is {wrong}: input should be", image_size=value)
    assert TrainConfig(data="synthfaces", image_size=[4096, 1]).image_size == (4096, 1)


@pytest.mark.parametrize("where", ["loss_options", "backbone_options"])
@pytest.mark.parametrize("option", ["embedding_dim", "num_classes", "image_size", "name"])
def test_options_do_not_reach_past_the_settings(where: str, option: str, tmp_path: Path) -> None:
    for person in "ab":
        (tmp_path / person).mkdir()
        Image.new("RGB", (16, 16)).save(tmp_path / person / "1.png")
    with pytest.raises(WorkbenchError, match=option) as caught:
        train(
            {
                "data": f"folder:{tmp_path}",
                "image_size": 16,
                "runs_dir": str(tmp_path / "runs"),
                where: {option: 3},
            }
        )
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_colours_are_rgb_unless_said_otherwise() -> None:
    assert TrainConfig(data="orl").channels == "rgb"
    assert TrainConfig(data="orl", channels="bgr").plain()["channels"] == "bgr"


def test_an_imported_model_has_no_settings_to_train_with() -> None:
    _refused("loss 'imported' means that the model was imported", loss="imported")


def test_settings_cannot_be_changed_afterwards() -> None:
    config = TrainConfig(data="orl")
    with pytest.raises(Exception, match="frozen"):
        config.epochs = 3  # type: ignore[misc]


def test_plain_settings_survive_yaml(tmp_path: Path) -> None:
    config = TrainConfig(
        data="folder:größe", image_size=(112, 96), loss_options={"m": 0.4}, workers=2, name="a"
    )
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.plain(), allow_unicode=True), encoding="utf-8")
    assert TrainConfig.read(path) == config
    assert TrainConfig.read(str(path), epochs=7).epochs == 7


def test_numbers_that_yaml_takes_for_text_are_read_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("data: orl\nlr: 1e-3\n")
    assert TrainConfig.read(path).lr == 0.001


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"- a",
        b"text",
        b"a: [",
        b"\xff\xfe\x00",
        b"data: orl\nepochs: 2026-13-45",
        b"1: 2",
        b"[a]: 1",
        b"data: !!python/name:os.system",
    ],
)
def test_a_file_that_is_no_settings_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(WorkbenchError) as caught:
        TrainConfig.read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("where", ["missing.yaml", "."])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, where: str) -> None:
    with pytest.raises(WorkbenchError, match="cannot be read"):
        TrainConfig.read(tmp_path / where)


@pytest.mark.parametrize(
    ("setting", "value", "suggestion"),
    [("optimizer", "adamm", "Adam"), ("schedule", "multistep", "multi-step")],
)
def test_an_unknown_name_is_an_error_with_a_suggestion(
    setting: str, value: str, suggestion: str
) -> None:
    _refused(
        f"setting '{setting}': unknown {setting} '{value}': did you mean '{suggestion}'",
        **{setting: value},
    )


def test_names_may_be_written_in_small_letters() -> None:
    assert TrainConfig(data="orl", optimizer="adamw").optimizer == "AdamW"


def test_every_setting_is_in_one_group() -> None:
    grouped = [setting for settings in GROUPS.values() for setting in settings]
    assert grouped == list(TrainConfig.model_fields)


@pytest.mark.parametrize(("flip", "augment"), [(True, "mirror"), (False, "none")])
def test_the_former_setting_flip_becomes_an_augmentation(flip: bool, augment: str) -> None:
    assert TrainConfig(data="orl", flip=flip).augment == augment
    assert "flip" not in TrainConfig(data="orl", flip=flip).plain()
