"""Sweeps do not repeat what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from workbench import data, experiments, runs
from workbench.evaluation import evaluate, load_result
from workbench.training import TrainConfig, train

LOSSES = ("softmax", "arcface")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "faces"
    draw = np.random.default_rng(0)
    for person in range(4):
        (root / f"person{person}").mkdir(parents=True)
        for number in range(4):
            pixels = np.clip(80 * person + draw.normal(0, 30, (16, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / f"person{person}" / f"{number}.png")
    return root


@pytest.fixture
def configs(faces: Path, tmp_path: Path) -> list[TrainConfig]:
    return [
        TrainConfig(
            data=f"folder:{faces}",
            image_size=16,
            embedding_dim=4,
            batch_size=8,
            epochs=2,
            loss=loss,
            backbone_options={"width": 8},
            device="cpu",
            precision="fp32",
            runs_dir=str(tmp_path / "runs"),
            name=loss,
        )
        for loss in LOSSES
    ]


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a sweep trained and evaluated; evaluations leave out what takes long."""
    log: list[str] = []

    def logged_train(config: TrainConfig | None = None, *, resume: runs.Run | None = None, progress: bool) -> runs.Run:
        log.append(f"train {config.loss}" if config is not None else f"resume {resume.name if resume else None}")
        return train(config, resume=resume, progress=progress)

    def logged_evaluate(run: runs.Run, benchmark: str, *, progress: bool) -> Any:
        log.append(f"evaluate {run.name} on {benchmark.partition(':')[0]}")
        return evaluate(run, benchmark, device="cpu", bootstrap=0, with_projection=False, progress=progress)

    monkeypatch.setattr(experiments, "train", logged_train)
    monkeypatch.setattr(experiments, "evaluate", logged_evaluate)
    return log


def _sweep(configs: list[TrainConfig], *benchmarks: str) -> list[runs.Run]:
    return experiments.sweep(configs, benchmarks, progress=False, tell=lambda _: None)


def test_each_config_is_trained_and_evaluated_and_then_never_again(
    configs: list[TrainConfig], done: list[str], faces: Path
) -> None:
    first = _sweep(configs, "train", f"folder:{faces}")
    assert done == [
        step for loss in LOSSES for step in (f"train {loss}", f"evaluate {loss} on train", f"evaluate {loss} on folder")
    ]
    assert [(run.name, run.state, run.evaluations()) for run in first] == [
        (loss, "finished", ["faces", "train"]) for loss in LOSSES
    ]
    done.clear()
    assert _sweep(configs, "train", f"folder:{faces}") == first
    assert done == []


def test_only_what_is_new_is_done(configs: list[TrainConfig], done: list[str]) -> None:
    _sweep(configs[:1])
    _sweep(configs, "train")
    assert done == ["train softmax", "evaluate softmax on train", "train arcface", "evaluate arcface on train"]


def test_a_damaged_evaluation_is_made_again(configs: list[TrainConfig], done: list[str]) -> None:
    (run,) = _sweep(configs[:1], "train")
    (run.path / runs.EVALUATION / "train.npz").write_bytes(b"PK")
    done.clear()
    _sweep(configs[:1], "train")
    assert done == ["evaluate softmax on train"]
    assert load_result(run, "train").accuracy >= 0


def test_a_stopped_run_is_resumed(configs: list[TrainConfig], done: list[str]) -> None:
    (run,) = _sweep(configs[:1])
    run.set_status("stopped")
    done.clear()
    assert _sweep(configs[:1]) == [run]
    assert done == ["resume softmax"]
    assert run.state == "finished"


def test_a_run_stopped_before_its_first_checkpoint_is_begun_anew(configs: list[TrainConfig], done: list[str]) -> None:
    (run,) = _sweep(configs[:1])
    run.set_status("stopped")
    (run.path / runs.CHECKPOINT).unlink()
    (again,) = _sweep(configs[:1])
    assert again.name == "softmax-2"
    assert done == ["train softmax"] * 2


def test_each_step_is_told(configs: list[TrainConfig], done: list[str]) -> None:
    told: list[str] = []
    for _ in range(2):
        experiments.sweep(configs[:1], [], progress=False, tell=told.append)
    assert ["training" in told[0], "there already" in told[1]] == [True, True]
    assert all(line.startswith("[1/1] softmax on folder:") for line in told)


def _folder(config: TrainConfig, state: str) -> runs.Run:
    run = runs.create(config.runs_dir, str(config.name), config.plain())
    run.set_status(state)
    return run


def test_a_finished_run_is_found_before_a_stopped_one(configs: list[TrainConfig]) -> None:
    config = configs[0]
    assert experiments.find(config) is None
    for state in ("failed", "queued", "running"):
        _folder(config, state)
    assert experiments.find(config) is None
    stopped = _folder(config, "stopped")
    assert experiments.find(config) == stopped
    finished = _folder(config, "finished")
    _folder(config, "stopped")
    assert experiments.find(config) == finished


def test_a_run_of_other_settings_or_one_that_is_unreadable_is_not_found(configs: list[TrainConfig]) -> None:
    _folder(configs[0].model_copy(update={"epochs": 3}), "finished")
    unreadable = _folder(configs[0], "finished")
    (unreadable.path / runs.CONFIG).write_text("[")
    no_status = _folder(configs[0], "finished")
    (no_status.path / runs.STATUS).unlink()
    assert experiments.find(configs[0]) is None


def test_the_demo_is_six_losses_with_all_else_equal(tmp_path: Path) -> None:
    found = experiments.demo_configs(tmp_path)
    six = ["softmax", "normface", "sphereface", "cosface", "arcface", "triplet"]
    assert [config.loss for config in found] == six == list(experiments.DEMO_LOSSES)
    assert len({config.name for config in found}) == 6
    own = {"loss", "loss_options", "margin_ramp_epochs", "name"}
    assert len({str({key: value for key, value in config.plain().items() if key not in own}) for config in found}) == 1
    for config in found:
        assert TrainConfig(**config.plain()) == config
        assert config.data in data.SOURCES.names()
        assert Path(config.runs_dir) == tmp_path


def test_the_demos_losses_take_their_options() -> None:
    from workbench import losses

    for config in experiments.demo_configs():
        losses.create(config.loss, embedding_dim=8, num_classes=30, **config.loss_options)
