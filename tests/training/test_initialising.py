"""Training that begins with the weights of an earlier one."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import paint_people
from safetensors.torch import load_file, save_file

import workbench as wb
from workbench import runs
from workbench.training import Callback, Training, init_sources, setup

SETTINGS: dict[str, Any] = {
    "data": "folder:faces",
    "image_size": 16,
    "embedding_dim": 8,
    "backbone_options": {"width": 8},
    "batch_size": 8,
    "epochs": 1,
    "log_every": 1,
    "device": "cpu",
    "precision": "fp32",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two overlapping training sets and a run on the first of them."""
    home = tmp_path_factory.mktemp("fine-tuning")
    paint_people(home / "faces", 4, 4)
    shutil.copytree(home / "faces", home / "more")
    shutil.rmtree(home / "more" / "p0")
    shutil.copytree(home / "more" / "p1", home / "more" / "new")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        wb.train(SETTINGS | {"name": "first", "seed": 3}, progress=False)
    return home


@pytest.fixture(autouse=True)
def _at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


def _setup(**settings: Any) -> setup.Setup:
    """The objects of a training that begins with the run `first`, before its first step."""
    torch.manual_seed(0)
    return setup.prepare(wb.TrainConfig(**SETTINGS | {"init": "runs/first"} | settings))


def _stored(name: str = "first") -> dict[str, torch.Tensor]:
    return load_file(f"runs/{name}/{runs.MODEL}")


def _notes(made: setup.Setup) -> str:
    assert made.initialised is not None
    return "; ".join(made.initialised.notes)


def test_the_same_settings_take_over_everything() -> None:
    made, stored = _setup(), _stored()
    for prefix, module in made.modules.items():
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, stored[f"{prefix}.{name}"]), name
    assert made.initialised is not None
    assert made.initialised.centres == 4
    assert "the class centres of 4 of 4 identities are taken over" in made.initialised.notes


def test_class_centres_are_matched_by_the_name_of_the_identity() -> None:
    made, fresh = _setup(data="folder:more"), _setup(data="folder:more", init_centres=False)
    old = dict(zip(["p0", "p1", "p2", "p3"], _stored()["loss.weight"], strict=True))
    names = made.data.identity_names
    assert list(names) == ["new", "p1", "p2", "p3"]
    centres = made.loss.state_dict()["weight"]
    for name, centre, random in zip(names, centres, fresh.loss.state_dict()["weight"], strict=True):
        assert torch.equal(centre, old.get(name, random)), name
    assert made.initialised is not None
    assert made.initialised.centres == 3
    assert "3 of 4 identities" in _notes(made)
    assert "all class centres are new, because init_centres is false" in _notes(fresh)


def test_fine_tuning_does_not_change_the_random_numbers_of_a_training() -> None:
    numbers = []
    for init in (None, "runs/first", "runs/first/last.ckpt"):
        _setup(init=init)
        numbers.append(torch.rand(3).tolist())
    assert numbers[0] == numbers[1] == numbers[2]


@pytest.mark.parametrize(
    ("settings", "new", "reason"),
    [
        ({"embedding_dim": 6}, "head.3.weight, head.4.weight", "makes the embedding is new"),
        (
            {"backbone_options": {"width": 8, "head": "flatten"}},
            "head.2.weight",
            "makes the embedding is new",
        ),
        ({"image_size": 32}, "head.0.weight", "makes the embedding is new"),
        ({"loss": "subcenter_arcface"}, "", "those of arcface have another shape"),
    ],
    ids=["length", "kind of head", "image size", "sub-centres"],
)
def test_what_does_not_fit_begins_anew_and_is_named(
    settings: dict[str, Any], new: str, reason: str
) -> None:
    made = _setup(**settings)
    notes = _notes(made)
    assert f"all class centres are new, because {reason}" in notes or reason in notes
    assert new in notes
    stored = _stored()
    trunk = [name for name in made.net.state_dict() if name.startswith("features.")]
    assert trunk
    for name in trunk:
        assert torch.equal(made.net.state_dict()[name], stored[f"backbone.{name}"])


def test_another_loss_takes_over_the_class_centres_but_no_biases() -> None:
    made = _setup(loss="softmax")
    assert torch.equal(made.loss.state_dict()["weight"], _stored()["loss.weight"])
    assert not made.loss.state_dict()["bias"].any()


def test_a_loss_without_class_centres_takes_over_the_backbone_only() -> None:
    made = _setup(loss="triplet", images_per_identity=2)
    assert made.initialised is not None
    assert made.initialised.centres == 0
    assert "class centres" not in _notes(made)
    assert torch.equal(made.net.state_dict()["head.3.weight"], _stored()["backbone.head.3.weight"])


def test_biases_and_sub_centres_of_the_same_loss_are_taken_over(tmp_path: Path) -> None:
    for loss in ("softmax", "subcenter_arcface", "softmax+center"):
        run = wb.train(
            SETTINGS | {"loss": loss, "lr": 0.02, "runs_dir": str(tmp_path), "name": loss},
            progress=False,
        )
        made = _setup(init=str(run.path), loss=loss, data="folder:more")
        stored = load_file(run.path / runs.MODEL)
        for name, tensor in made.loss.state_dict().items():
            if tensor.ndim:
                assert torch.equal(tensor[1:], stored[f"loss.{name}"][1:]), (loss, name)


def test_another_backbone_is_refused(complaint: Any) -> None:
    with complaint("init 'runs/first'", "its backbone is smallresnet", "set backbone: smallresnet"):
        _setup(backbone="fashion_cnn", backbone_options={})
    with complaint("do not fit smallresnet", "features.0.0.weight", "{'width': 8}"):
        _setup(backbone_options={"width": 16})


def test_the_scaling_of_the_input_is_compared() -> None:
    notes = _notes(_setup(channels="bgr", pixel_mean=0, pixel_std=255))
    assert "trained with the input (x - 127.5) / 127.5, RGB, but this run scales it to" in notes
    assert "trained with the input" not in _notes(_setup())


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors", "last.ckpt"])
def test_a_file_of_weights_gives_the_backbone(name: str, tmp_path: Path) -> None:
    net = {
        key.removeprefix("backbone."): tensor
        for key, tensor in _stored().items()
        if key.startswith("backbone.")
    }
    path = tmp_path / name
    if name == "net.pth":
        torch.save({"state_dict": {f"module.{key}": value for key, value in net.items()}}, path)
    elif name == "net.safetensors":
        save_file(net, path)
    else:
        shutil.copy(Path("runs/first") / runs.CHECKPOINT, path)
    made = _setup(init=str(path))
    assert made.initialised is not None
    assert (made.initialised.kind, made.initialised.centres) == ("file", 0)
    assert made.initialised.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    for key, tensor in made.net.state_dict().items():
        assert torch.equal(tensor, net[key]), key


def test_an_imported_run_gives_the_backbone(tmp_path: Path) -> None:
    net = wb.backbones.create("smallresnet", embedding_dim=8, image_size=16)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    run = wb.import_model(
        tmp_path / "net.pth", backbone="smallresnet", image_size=16, runs_dir=tmp_path
    )
    made = _setup(init=str(run.path), backbone_options={})
    assert torch.equal(made.net.state_dict()["head.3.weight"], net.state_dict()["head.3.weight"])
    assert "all class centres are new, because the source has none" in _notes(made)


def test_the_averaged_weights_of_a_run_are_preferred(tmp_path: Path) -> None:
    shutil.copytree("runs/first", tmp_path / "averaged")
    averaged = {
        key: tensor + 1 if tensor.is_floating_point() else tensor
        for key, tensor in _stored().items()
        if key.startswith("backbone.")
    }
    save_file(averaged, tmp_path / "averaged" / runs.AVERAGED_MODEL)
    made = _setup(init=str(tmp_path / "averaged"))
    assert torch.equal(made.net.state_dict()["head.3.weight"], averaged["backbone.head.3.weight"])
    assert made.initialised is not None
    assert made.initialised.centres == 4
    assert "the averaged weights (ema) of the run are used" in _notes(made)


@pytest.mark.parametrize(
    ("prepare", "texts"),
    [
        (lambda path: None, ("there is no run directory and no file of weights", "torchvision:")),
        (lambda path: path.write_bytes(b"no weights"), ("not a PyTorch checkpoint",)),
        (
            lambda path: runs.create(path.parent, path.name, {"backbone": "onnx"}),
            ("ONNX", "cannot be trained further"),
        ),
        (
            lambda path: runs.create(path.parent, path.name, {"backbone": "smallresnet"}),
            ("model.safetensors is missing", "has not saved a checkpoint yet"),
        ),
    ],
    ids=["nothing", "damaged", "onnx", "no checkpoint"],
)
def test_what_is_no_source_is_one_line(
    prepare: Any, texts: tuple[str, ...], tmp_path: Path, complaint: Any
) -> None:
    prepare(tmp_path / "source")
    with complaint("source", *texts):
        _setup(init=str(tmp_path / "source"))


def test_weights_that_are_not_finite_are_refused(tmp_path: Path, complaint: Any) -> None:
    for name in ("backbone.head.3.weight", "loss.weight"):
        shutil.copytree("runs/first", tmp_path / name)
        stored = _stored()
        stored[name][0, 0] = torch.nan
        save_file(stored, tmp_path / name / runs.MODEL)
        with complaint("init", "1 of", "NaN or infinity", name.partition(".")[2]):
            _setup(init=str(tmp_path / name))


# The names of the identities


def test_a_run_stores_the_names_of_its_identities(tmp_path: Path, complaint: Any) -> None:
    run = runs.open("runs/first")
    assert run.identity_names() == ["p0", "p1", "p2", "p3"]
    copy = runs.Run(tmp_path)
    assert copy.identity_names() is None
    names = ["Ægir\nson", "a" * 1000, ""]
    copy.write_identity_names(names)
    assert copy.identity_names() == names
    many = runs.Run(tmp_path)
    many.write_identity_names([f"{number:07d}" for number in range(100_000)])
    path = tmp_path / runs.IDENTITIES
    assert path.stat().st_size < 500_000
    path.write_bytes(path.read_bytes()[:-9])
    with complaint(runs.IDENTITIES, "damaged"):
        copy.identity_names()


def test_a_run_of_an_earlier_version_finds_the_names_in_its_data(tmp_path: Path) -> None:
    shutil.copytree("runs/first", tmp_path / "old")
    (tmp_path / "old" / runs.IDENTITIES).unlink()
    made = _setup(init=str(tmp_path / "old"), data="folder:more")
    assert made.initialised is not None
    assert made.initialised.centres == 3
    run = runs.open(tmp_path / "old")
    run.write_config(dict(run.config) | {"data": "folder:moved"})
    made = _setup(init=str(tmp_path / "old"), data="folder:more")
    assert "because the names of the identities of the source are not known" in _notes(made)


def test_numbers_name_identities_only_in_parts_of_the_same_data(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        paint_people(tmp_path / folder, 3, 3)
        for number in range(3):
            (tmp_path / folder / f"p{number}").rename(tmp_path / folder / f"{number}")
    settings = {"data": f"folder:{tmp_path}/a", "runs_dir": str(tmp_path), "name": "numbers"}
    run = wb.train(SETTINGS | settings, progress=False)
    shutil.move(tmp_path / "a", tmp_path / "moved")
    paint_people(tmp_path / "c", 2, 3)
    (tmp_path / "c" / "p0").rename(tmp_path / "c" / "0")
    for spec, centres in ((f"folder:{tmp_path}/moved", 3), (f"folder:{tmp_path}/c", 0)):
        made = _setup(init=str(run.path), data=spec)
        assert made.initialised is not None
        assert made.initialised.centres == centres
    assert "numbers, which mean others in other data" in _notes(made)
    shutil.move(tmp_path / "moved", tmp_path / "a")
    made = _setup(init=str(run.path), data=f"folder:{tmp_path}/a@2x3")
    assert made.initialised is not None
    assert made.initialised.centres == 2


# Pretrained weights of torchvision


@pytest.fixture
def pretrained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Random weights in the place where torchvision keeps those of its resnet18."""
    from torchvision import models

    torch.manual_seed(0)
    state = models.resnet18(weights=None).state_dict()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    url = models.get_model_weights("resnet18").DEFAULT.url
    torch.save(state, folder / url.rpartition("/")[2])
    return state


@pytest.mark.parametrize(
    ("backbone", "options", "new"),
    [
        ("resnet18", {"stem": "imagenet"}, []),
        ("resnet18", {}, ["trunk.conv1.weight"]),
        ("torchvision:resnet18", {}, []),
    ],
)
def test_pretrained_weights_of_torchvision(
    backbone: str, options: dict[str, Any], new: list[str], pretrained: dict[str, torch.Tensor]
) -> None:
    made = _setup(
        init="torchvision:DEFAULT", backbone=backbone, backbone_options=options, image_size=32
    )
    state = made.net.state_dict()
    for name, tensor in pretrained.items():
        if name.startswith("fc.") or f"trunk.{name}" in new:
            continue
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(state[f"trunk.{name}"], tensor), name
    notes = _notes(made)
    assert all(name in notes for name in new)
    assert "IMAGENET1K_V1" in notes
    assert "trained with the input (x - [123.675, 116.28, 103.53])" in notes


def test_weights_that_torchvision_does_not_have(
    pretrained: object, tmp_path: Path, complaint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with complaint("'smallresnet' is not a network of torchvision"):
        _setup(init="torchvision:DEFAULT")
    with complaint("unknown weights of resnet18", "did you mean 'DEFAULT'"):
        _setup(init="torchvision:DEFALT", backbone="resnet18", backbone_options={})

    def without_network(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    monkeypatch.setattr("torch.hub.download_url_to_file", without_network)
    with complaint("is not in the cache of torch.hub", "no route to host"):
        _setup(init="torchvision:DEFAULT", backbone="resnet18", backbone_options={})


# In the loop


def test_the_run_records_its_source_and_resumes_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    shutil.copytree("runs/first", source)
    settings = SETTINGS | {
        "data": "folder:more",
        "init": str(source),
        "epochs": 3,
        "lr": 0.02,
        "freeze_epochs": 1.5,
        "layer_decay": 0.7,
        "runs_dir": str(tmp_path),
    }
    whole = wb.train(settings | {"name": "whole"}, progress=False)
    recorded = whole.environment["init"]
    assert (recorded["source"], recorded["kind"], recorded["centres"]) == (str(source), "run", 3)
    assert recorded["sha256"] == hashlib.sha256((source / runs.MODEL).read_bytes()).hexdigest()

    with pytest.raises(KeyboardInterrupt):
        wb.train(settings | {"name": "parts"}, callbacks=[_StopAt(1)], progress=False)
    shutil.rmtree(source)
    monkeypatch.setattr(init_sources, "read_source", _fail)
    resumed = wb.train(resume=tmp_path / "parts", progress=False)
    assert resumed.environment["init"] == recorded
    for name, tensor in load_file(whole.path / runs.MODEL).items():
        assert torch.equal(tensor, load_file(resumed.path / runs.MODEL)[name]), name


def _fail(*_: object) -> None:
    raise AssertionError("the source must not be read again")


class _StopAt(Callback):
    """Interrupts the training after a step, as a user would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, training: Training) -> None:
        if training.step == self.step:
            raise KeyboardInterrupt


def test_frozen_statistics_need_weights_to_begin_with(complaint: Any) -> None:
    with complaint("batch_norm is 'frozen'", "give init"):
        setup.prepare(wb.TrainConfig(**SETTINGS | {"batch_norm": "frozen"}))


def test_fine_tuning_lowers_the_loss_faster_than_beginning_anew(tmp_path: Path) -> None:
    settings = SETTINGS | {"runs_dir": str(tmp_path), "lr": 0.02, "warmup_epochs": 0}
    first, anew = (
        wb.train(settings | changes, progress=False).metrics()["loss"].iloc[0]
        for changes in ({"init": "runs/first", "name": "a"}, {"name": "b"})
    )
    assert first < anew


def test_big_sets_match_quickly() -> None:
    from workbench.training.init_centres import matches

    names = [f"person {number}" for number in range(200_000)]
    rows, source_rows = matches(names[::2], names[::-1])
    assert len(rows) == 100_000
    assert np.array_equal(source_rows.numpy(), 199_999 - 2 * np.arange(100_000))
