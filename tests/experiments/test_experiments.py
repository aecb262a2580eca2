"""Sweeps do not repeat what is there."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_face import BACKGROUND, drawn_face
from helpers import Complaint
from PIL import Image

from workbench import cli, data, experiments, runs
from workbench.evaluation import evaluate, load_result
from workbench.experiments import jobs
from workbench.experiments.reference.plan import MAIN_LOSSES, planned_runs
from workbench.training import Callback, TrainConfig, train

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

    def logged_train(
        config: TrainConfig | None = None,
        *,
        resume: runs.Run | None = None,
        callbacks: Sequence[Callback] = (),
        stop_after: int | None = None,
        progress: bool,
    ) -> runs.Run:
        assert stop_after is None
        log.append(
            f"train {config.loss}"
            if config is not None
            else f"resume {resume.name if resume else None}"
        )
        return train(config, resume=resume, callbacks=callbacks, progress=progress)

    def logged_evaluate(
        run: runs.Run, benchmark: str, *, device: str, with_projection: bool, progress: bool
    ) -> Any:
        assert (device, with_projection) == ("cpu", True)
        log.append(f"evaluate {run.name} on {benchmark.partition(':')[0]}")
        return evaluate(
            run, benchmark, device=device, bootstrap=0, with_projection=False, progress=progress
        )

    monkeypatch.setattr(jobs, "train", logged_train)
    monkeypatch.setattr(jobs, "evaluate", logged_evaluate)
    return log


def _sweep(configs: list[TrainConfig], *benchmarks: str) -> list[runs.Run]:
    return experiments.sweep(configs, benchmarks, progress=False, tell=lambda _: None)


def test_each_config_is_trained_and_evaluated_and_then_never_again(
    configs: list[TrainConfig], done: list[str], faces: Path
) -> None:
    first = _sweep(configs, "train", f"folder:{faces}")
    assert done == [
        step
        for loss in LOSSES
        for step in (f"train {loss}", f"evaluate {loss} on train", f"evaluate {loss} on folder")
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
    assert done == [
        "train softmax",
        "evaluate softmax on train",
        "train arcface",
        "evaluate arcface on train",
    ]


def test_what_was_measured_by_another_protocol_is_still_to_be_measured(
    configs: list[TrainConfig], done: list[str], faces: Path
) -> None:
    (run,) = _sweep(configs[:1])
    evaluate(
        run,
        f"folder:{faces}",
        protocol="arcface_torch",
        bootstrap=0,
        with_projection=False,
        progress=False,
    )
    done.clear()
    _sweep(configs[:1], f"folder:{faces}")
    assert done == ["evaluate softmax on folder"]
    assert run.evaluations() == ["faces", "faces+arcface_torch"]


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


def test_a_run_stopped_before_its_first_checkpoint_is_begun_anew(
    configs: list[TrainConfig], done: list[str]
) -> None:
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
    assert ["training" in told[0], "trained already" in told[1]] == [True, True]
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


def test_a_run_of_other_settings_or_one_that_is_unreadable_is_not_found(
    configs: list[TrainConfig],
) -> None:
    _folder(configs[0].model_copy(update={"epochs": 3}), "finished")
    unreadable = _folder(configs[0], "finished")
    (unreadable.path / runs.CONFIG).write_text("[")
    no_status = _folder(configs[0], "finished")
    (no_status.path / runs.STATUS).unlink()
    assert experiments.find(configs[0]) is None


def test_the_demo_trains_losses_of_the_reference_runs_with_all_else_equal(tmp_path: Path) -> None:
    live, full = experiments.live_plan(tmp_path), experiments.full_plan(tmp_path)
    assert [config.loss for config in live.configs] == ["arcface", "softmax"]
    assert full.configs[:2] == live.configs
    assert set(live.benchmarks) <= set(full.benchmarks)
    main_runs = {one.name: one for one in planned_runs(seeds=[0]) if one.name in MAIN_LOSSES}
    assert sorted(config.loss for config in full.configs) == sorted(main_runs)
    assert len({config.name for config in full.configs}) == len(main_runs)
    seeds = {one.seed for one in planned_runs()}
    for config in full.configs:
        assert TrainConfig(**config.plain()) == config
        assert config.data in data.SOURCES.names()
        assert Path(config.runs_dir) == tmp_path
        assert config.seed not in seeds
        expected = main_runs[config.loss].config(tmp_path)
        update = {"seed": config.seed, "name": config.name}
        assert config == expected.model_copy(update=update)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photos of four people whose faces are small and rotated."""
    root = tmp_path / "photos"
    draw = np.random.default_rng(0)
    for person in range(4):
        (root / f"person{person}").mkdir(parents=True)
        for number in range(4):
            canvas = Image.new("RGB", (120, 120), BACKGROUND)
            skin = (230 - 45 * person, 180 - 40 * person, 150 - 35 * person)
            canvas.paste(
                drawn_face(70, skin, turn=draw.uniform(-12, 12)),
                tuple(draw.integers(0, 50, 2).tolist()),
            )
            canvas.save(root / f"person{person}" / f"{number}.png")
    return root


def test_what_alignment_is_worth(
    configs: list[TrainConfig], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    run = train(configs[0], progress=False)
    spec = f"folder:{photos}"
    options: dict[str, Any] = {"device": "cpu", "with_projection": False, "progress": False}
    study = experiments.alignment(run, spec, **options)
    assert run.evaluations() == ["photos", "photos-aligned", "photos-cropped"]
    assert list(study.results) == ["raw", "cropped", "aligned"]
    for key, name in (
        ("raw", "photos"),
        ("cropped", "photos-cropped"),
        ("aligned", "photos-aligned"),
    ):
        stored = load_result(run, name)
        assert stored.accuracy == study.results[key].accuracy
        assert run.evaluation(name)[0]["benchmark"] == (spec if key == "raw" else f"{key}:{spec}")
    difference = study.differences["aligned", "raw"]
    assert difference.value == pytest.approx(
        study.results["aligned"].accuracy - study.results["raw"].accuracy
    )
    assert difference.interval[0] <= difference.interval[1]
    said = str(study).splitlines()
    assert said[0] == "softmax on photos"
    assert [line.split()[0] for line in said[2:6]] == ["raw", "cropped", "aligned", "aligned"]
    assert str(difference) in said[4]
    assert "faces found" in said[-1]


def test_training_images_are_known_again_when_they_are_aligned(
    configs: list[TrainConfig], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    run = train(configs[0].model_copy(update={"data": f"folder:{photos}"}), progress=False)
    result = evaluate(
        run,
        f"aligned:folder:{photos}",
        device="cpu",
        bootstrap=0,
        with_projection=False,
        progress=False,
    )
    assert result.note.startswith("pairs of the training images")
    assert "faces found" in result.note


def test_alignment_asks_for_pairs_by_name(
    configs: list[TrainConfig],
    photos: Path,
    complaint: Complaint,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    run = train(configs[0], progress=False)
    with complaint("by name"):
        experiments.alignment(run, data.benchmark(f"folder:{photos}"))  # type: ignore[arg-type]
    with complaint("train: is a closed set"):
        experiments.alignment(run, "train", progress=False)
    for spec in (f"aligned:folder:{photos}", f"cropped:aligned:folder:{photos}"):
        with complaint(
            f"{spec}: give folder:{photos} itself", "it is compared raw, cropped and aligned"
        ):
            experiments.alignment(run, spec, progress=False)
    assert run.evaluations() == []


def test_the_command_says_what_alignment_is_worth(
    configs: list[TrainConfig],
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    run = train(configs[0], progress=False)
    words = ["alignment", str(run.path), f"folder:{photos}", "--device", "cpu", "--no-projection"]
    monkeypatch.setattr(sys, "argv", ["workbench", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert "aligned to cropped: " in capsys.readouterr().out
