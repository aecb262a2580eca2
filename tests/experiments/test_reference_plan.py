"""The plan of the reference runs, and training what it holds with tiny settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Complaint, RunCommand
from safetensors.numpy import load_file, save_file

from workbench import backbones, losses, runs
from workbench.evaluation import evaluate, load_result
from workbench.evaluation.model import load_model
from workbench.experiments import reference
from workbench.experiments.reference import plan as plan_module
from workbench.experiments.reference.plan import (
    FLAT_LOSSES,
    MAIN_LOSSES,
    SEEDS,
    PlannedRun,
)
from workbench.training import TrainConfig, train

pytestmark = pytest.mark.usefixtures("pca_for_umap")


def quiet(_: str) -> None:
    """Takes the lines that a training tells."""


def test_every_training_of_the_plan_is_valid(tmp_path: Path) -> None:
    planned = reference.planned_runs()
    assert len(planned) == len(SEEDS) * len(MAIN_LOSSES) + 2 * len(FLAT_LOSSES)
    assert len({one.title for one in planned}) == len(planned)
    for one in planned:
        config = one.config(tmp_path)
        assert TrainConfig(**config.plain()) == config
        losses.create(
            config.loss, embedding_dim=config.embedding_dim, num_classes=30, **config.loss_options
        )
        backbones.create(
            config.backbone,
            embedding_dim=config.embedding_dim,
            image_size=config.image_size,
            **config.backbone_options,
        )


def test_all_runs_of_a_group_are_trained_alike(tmp_path: Path) -> None:
    own = {"loss", "loss_options", "margin_ramp_epochs", "name", "seed"}
    for group in (MAIN_LOSSES, {f"{loss}-2d": 0 for loss in FLAT_LOSSES}):
        settings = {
            json.dumps({k: v for k, v in one.config(tmp_path).plain().items() if k not in own})
            for one in reference.planned_runs(group)
        }
        assert len(settings) == 1


def test_one_seed_of_each_run_ships() -> None:
    planned = reference.planned_runs()
    shipped = [one.name for one in planned if one.ships]
    assert shipped == list(dict.fromkeys(one.name for one in planned))
    assert {one.seed for one in planned if one.ships} == {SEEDS[0]}


def test_a_part_of_the_plan(complaint: Complaint) -> None:
    chosen = reference.planned_runs(["arcface", "softmax"], [1])
    assert [one.title for one in chosen] == ["softmax, seed 1", "arcface, seed 1"]
    with complaint("unknown reference run 'arcfase'", "did you mean 'arcface'?"):
        reference.planned_runs(["arcfase"])
    with complaint("no reference run in arcface has the seed 99", "the seeds are 0, 1, 2"):
        reference.planned_runs(["arcface"], [99])
    with complaint("no reference run in softmax-2d has the seed 1", "of flat runs only 0"):
        reference.planned_runs(["softmax-2d"], [1])


def test_figures_are_not_those_of_the_people_on_whom_settings_were_chosen() -> None:
    for one in reference.planned_runs():
        assert "seed" not in str(one.settings["data"])
        assert not any("seed" in benchmark for benchmark in one.benchmarks)


def test_training_continues_where_it_stopped(
    tiny_plan: list[PlannedRun], tmp_path: Path, complaint: Complaint
) -> None:
    first, second = tiny_plan[:2]
    with complaint(f"{first.title}: not trained", "workbench reference train --only"):
        reference.evaluated_run(first, tmp_path)
    train(first.config(tmp_path), stop_after=1, progress=False)
    told: list[str] = []
    trained = reference.train_reference([first, second], tmp_path, progress=False, tell=told.append)
    assert told[0].startswith("0 of 2 reference runs")
    assert "resuming" in told[1]
    assert [run.name for run in trained] == [
        f"{one.name}-seed{one.seed}" for one in (first, second)
    ]
    assert all(len(run.evaluations()) == len(first.benchmarks) for run in trained)
    assert reference.evaluated_run(first, tmp_path) == trained[0]
    told.clear()
    reference.train_reference([first, second], tmp_path, progress=False, tell=told.append)
    assert told[0].startswith("2 of 2 reference runs")
    assert all("trained already" in line for line in told[1:])


def test_an_evaluation_that_is_missing_is_named(
    tiny_plan: list[PlannedRun], tmp_path: Path, complaint: Complaint
) -> None:
    one = tiny_plan[0]
    (run,) = reference.train_reference([one], tmp_path, progress=False, tell=quiet)
    (run.path / runs.EVALUATION / "train.json").unlink()
    assert not reference.is_evaluated(one, tmp_path)
    with complaint(f"{one.title}: is missing a step, evaluating on train"):
        reference.evaluated_run(one, tmp_path)


def test_the_command_prints_the_plan(run_command: RunCommand, tmp_path: Path) -> None:
    done = run_command(
        f"reference train --plan --only arcface --seed 0 --seed 2 --folder {tmp_path}"
    )
    assert (done.code, done.out.split("\n")) == (
        0,
        ["missing  arcface, seed 0", "missing  arcface, seed 2", ""],
    )
    assert run_command("reference train --only arkface").code == 2


def test_the_command_trains(
    tiny_plan: list[PlannedRun],
    run_command: RunCommand,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan_module, "_main_runs", lambda: tiny_plan[:1])
    monkeypatch.setattr(plan_module, "_flat_runs", list)
    done = run_command(f"reference train --only {tiny_plan[0].name} --folder {tmp_path}")
    assert (done.code, done.out.splitlines()[0].split(" in ")[0]) == (
        0,
        "0 of 1 reference runs are trained and evaluated",
    )
    assert reference.is_evaluated(tiny_plan[0], tmp_path)


# Rounded weights


@pytest.fixture
def trained(tiny_plan: list[PlannedRun], tmp_path: Path) -> runs.Run:
    return train(tiny_plan[0].config(tmp_path / "work"), progress=False)


def test_rounded_weights_are_those_of_numpy(trained: runs.Run) -> None:
    before = load_file(trained.model_path)
    reference.round_weights(trained)
    after = load_file(trained.model_path)
    assert before.keys() == after.keys()
    for name, values in before.items():
        if values.ndim > 1:
            np.testing.assert_array_equal(after[name], values.astype(np.float16))
            assert after[name].dtype == np.float16
        else:
            np.testing.assert_array_equal(after[name], values)
            assert after[name].dtype == values.dtype


def test_a_rounded_file_is_read_as_float32_and_written_once(trained: runs.Run) -> None:
    reference.round_weights(trained)
    written = trained.model_path.stat().st_mtime_ns
    reference.round_weights(trained)
    assert trained.model_path.stat().st_mtime_ns == written
    model = load_model(trained, device="cpu")
    assert {str(parameter.dtype) for parameter in model.net.parameters()} == {"torch.float32"}
    assert model.centres is not None
    assert model.centres.dtype == np.float32
    assert model.step == trained.status["step"]


def test_what_reads_a_run_reads_rounded_weights(
    trained: runs.Run, tiny_plan: list[PlannedRun], painted: Path, tmp_path: Path
) -> None:
    from workbench.exchange import export_onnx

    spec = f"folder:{painted / 'test'}"
    options: dict[str, Any] = {"progress": False, "with_projection": False, "bootstrap": 0}
    exact = evaluate(trained, spec, **options)
    reference.round_weights(trained)
    rounded = evaluate(trained, spec, **options)
    np.testing.assert_allclose(rounded.scores, exact.scores, atol=5e-3)
    assert load_result(trained, "test").accuracy == rounded.accuracy
    settings = tiny_plan[0].config(tmp_path / "again").plain()
    continued = train(TrainConfig(**settings | {"init": str(trained.path)}), progress=False)
    assert continued.state == "finished"
    export_onnx(trained, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").is_file()


def test_weights_that_float16_cannot_hold(trained: runs.Run, complaint: Complaint) -> None:
    from safetensors import safe_open

    with safe_open(trained.model_path, "np") as file:
        metadata = file.metadata()
    tensors = load_file(trained.model_path)
    tensors["loss.weight"] = np.full_like(tensors["loss.weight"], 1e6)
    save_file(tensors, trained.model_path, metadata)
    content = trained.model_path.read_bytes()
    with complaint("loss.weight has a weight that is too large for float16"):
        reference.round_weights(trained)
    assert trained.model_path.read_bytes() == content
    trained.model_path.unlink()
    with complaint("model.safetensors: missing"):
        reference.round_weights(trained)
