from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

import workbench as wb
from workbench import runs
from workbench.training import TrainConfig, checkpoint, clipping, loop, ordering, records, running
from workbench.training.hardware import loader_workers, resolve_precision

PEOPLE, IMAGES, BATCH, EPOCHS = 4, 8, 8, 3
STEPS = PEOPLE * IMAGES // BATCH  # an epoch


def _paint(root: Path, people: int = PEOPLE) -> Path:
    """One colour a person, with noise."""
    draw = np.random.default_rng(0)
    for person in range(people):
        folder = root / f"person{person}"
        folder.mkdir(parents=True)
        colour = np.array([255 * (person & 1), 255 * (person >> 1 & 1), 128])
        for number in range(IMAGES):
            pixels = np.clip(colour + draw.normal(0, 40, (16, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _paint(tmp_path_factory.mktemp("data") / "faces")


@pytest.fixture
def settings(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings of a run of one second, in a folder of its own with the relative path "runs"."""
    monkeypatch.chdir(tmp_path)
    return _settings(faces)


def _settings(faces: Path, **others: Any) -> dict[str, Any]:
    plain = {
        "data": f"folder:{faces}",
        "image_size": 16,
        "embedding_dim": 8,
        "batch_size": BATCH,
        "epochs": EPOCHS,
        "log_every": 1,
    }
    rest = {
        "device": "cpu",
        "precision": "fp32",
        "name": "a",
        "loss_options": {"s": 16.0, "m": 0.3},
        "backbone_options": {"width": 8},
    }
    return plain | rest | others


def _train(settings: dict[str, Any], **others: Any) -> runs.Run:
    return wb.train(settings | others, progress=False)


@pytest.fixture(scope="module")
def whole(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    """An uninterrupted run of the standard settings; tests must not change it."""
    before = Path.cwd()
    folder = tmp_path_factory.mktemp("whole")
    os.chdir(folder)
    try:
        return runs.open(_train(_settings(faces)).path.resolve())
    finally:
        os.chdir(before)


def _weights(run: runs.Run) -> dict[str, torch.Tensor]:
    return load_file(run.path / runs.MODEL)


def _assert_same_weights(run: runs.Run, other: runs.Run) -> None:
    mine, theirs = _weights(run), _weights(other)
    assert mine.keys() == theirs.keys()
    assert [
        key
        for key, value in mine.items()
        if value.numpy().tobytes() != theirs[key].numpy().tobytes()
    ] == []


def _assert_same_model(run: runs.Run, other: runs.Run) -> None:
    """All but the order of keys in the file's header, which safetensors leaves to chance."""
    headers = []
    for path in (run.path / runs.MODEL, other.path / runs.MODEL):
        with safe_open(path, "pt") as file:
            headers.append({key: json.loads(value) for key, value in file.metadata().items()})
    assert headers[0] == headers[1]
    _assert_same_weights(run, other)


def _rows(run: runs.Run) -> list[dict[str, Any]]:
    """metrics.jsonl without the only column that may differ between two equal runs."""
    rows = [json.loads(line) for line in (run.path / runs.METRICS).read_text().splitlines()]
    return [
        {key: value for key, value in row.items() if key != "images_per_second"} for row in rows
    ]


def _at_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], Any]) -> None:
    """Call `act` in the middle of training step number `step` (from 0), once."""
    real = loop.margin_ramp
    done = []

    def margin_ramp(now: int, *others: Any) -> float:
        if now == step and not done:
            done.append(now)
            act()
        return real(now, *others)

    monkeypatch.setattr(loop, "margin_ramp", margin_ramp)


def _interrupt(
    monkeypatch: pytest.MonkeyPatch, step: int, number: signal.Signals = signal.SIGINT
) -> None:
    _at_step(monkeypatch, step, lambda: signal.raise_signal(number))


def _crash() -> None:
    raise RuntimeError("power cut")


def _assert_one_line(caught: pytest.ExceptionInfo[wb.WorkbenchError]) -> None:
    assert "\n" not in str(caught.value)


# A run from beginning to end


def test_a_run_leaves_its_files_and_nothing_else(whole: runs.Run, faces: Path) -> None:
    assert sorted(os.listdir(whole.path)) == sorted(
        [
            runs.CONFIG,
            runs.ENVIRONMENT,
            runs.IDENTITIES,
            runs.METRICS,
            runs.NOTES,
            runs.CHECKPOINT,
            runs.MODEL,
            runs.STATUS,
            runs.LOCK,
        ]
    )
    assert whole.state == "finished"
    assert whole.status["step"] == whole.status["total"] == STEPS * EPOCHS
    assert TrainConfig(**whole.config) == TrainConfig(**_settings(faces))
    assert whole.environment["data"]["images"] == PEOPLE * IMAGES
    assert whole.environment["data"]["identities"] == PEOPLE
    assert whole.environment["precision"] == "fp32"
    assert whole.environment["torch"] == torch.__version__


def test_metrics_have_a_row_a_step_with_these_columns(whole: runs.Run) -> None:
    table = whole.metrics()
    expected = {
        "step",
        "epoch",
        "loss",
        "accuracy",
        "target_angle_mean",
        "target_angle_std",
        "lr",
        "images_per_second",
    }
    assert set(table.columns) == expected | {"margin_ramp", "scale", "clipped"}
    assert table["step"].tolist() == list(range(1, STEPS * EPOCHS + 1))
    assert table["epoch"].iloc[-1] == EPOCHS
    assert np.isfinite(table.to_numpy(float)).all()
    assert table["accuracy"].between(0, 1).all()
    assert table["target_angle_mean"].between(0, 180).all()
    assert table["lr"].max() == pytest.approx(0.1)


def test_the_model_file_fits_backbone_and_loss(whole: runs.Run) -> None:
    weights = _weights(whole)
    net = wb.backbones.create("smallresnet", embedding_dim=8, image_size=16, width=8)
    loss = wb.losses.create("arcface", embedding_dim=8, num_classes=PEOPLE)
    for prefix, module in (("backbone.", net), ("loss.", loss)):
        module.load_state_dict(
            {
                key.removeprefix(prefix): value
                for key, value in weights.items()
                if key.startswith(prefix)
            }
        )
    with safe_open(whole.path / runs.MODEL, "pt") as file:
        assert file.metadata()["step"] == str(STEPS * EPOCHS)


@pytest.mark.parametrize(
    "loss",
    ["softmax", "arcface", "sphereface", "unified_threshold", "triplet", "adaface+center+ohem"],
)
def test_a_loss_of_each_kind_learns_to_tell_colours_apart(
    settings: dict[str, Any], loss: str
) -> None:
    table = _train(settings, loss=loss, loss_options={}, epochs=8, lr=0.03).metrics()
    assert table["loss"].tail(STEPS).mean() < 0.5 * table["loss"].head(STEPS).mean()
    if loss == "triplet":
        assert table["genuine_angle_mean"].iloc[-1] < 0.5 * table["impostor_angle_mean"].iloc[-1]
        assert "accuracy" not in table
    else:
        assert table["accuracy"].tail(STEPS).mean() > 0.9


def test_same_seed_same_run_to_the_bit(settings: dict[str, Any], whole: runs.Run) -> None:
    again = _train(settings)
    _assert_same_model(again, whole)
    assert _rows(again) == _rows(whole)


def test_another_seed_gives_other_weights(settings: dict[str, Any], whole: runs.Run) -> None:
    other = _weights(_train(settings, seed=1, epochs=1))
    assert not torch.equal(other["loss.weight"], _weights(whole)["loss.weight"])


def test_decoding_in_another_process_changes_nothing(
    settings: dict[str, Any], whole: runs.Run
) -> None:
    _assert_same_weights(_train(settings, workers=1), whole)


def test_a_second_run_of_a_name_gets_a_number(settings: dict[str, Any]) -> None:
    assert [_train(settings, epochs=1).name for _ in range(2)] == ["a", "a-2"]


def test_without_a_name_the_run_is_called_after_what_it_trains(settings: dict[str, Any]) -> None:
    assert _train(settings, epochs=1, name=None).name.startswith("arcface-smallresnet-2")


def test_the_margin_is_ramped_and_logged(settings: dict[str, Any]) -> None:
    rows = _rows(_train(settings, margin_ramp_epochs=1.0, epochs=2))
    assert [row["margin_ramp"] for row in rows] == [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]


def test_sphereface_logs_its_annealing_and_the_length_of_its_embeddings(
    settings: dict[str, Any],
) -> None:
    options = {"lambda_base": 100.0, "gamma": 1.0, "lambda_min": 20.0}
    rows = _rows(_train(settings, loss="sphereface", loss_options=options, epochs=2))
    assert [row["lambda"] for row in rows] == pytest.approx([50, 100 / 3, 25, 20, 20, 20, 20, 20])
    assert all(row["scale"] > 0 for row in rows)


def test_triplet_logs_what_it_has(settings: dict[str, Any]) -> None:
    run = _train(settings, loss="triplet", loss_options={})
    expected = {"step", "epoch", "loss", "lr", "images_per_second", "margin_ramp", "clipped"}
    table = run.metrics()
    assert set(table.columns) == expected | {
        "active_triplets",
        "genuine_angle_mean",
        "impostor_angle_mean",
    }
    assert np.isfinite(table.to_numpy(float)).all()
    assert table["active_triplets"].between(0, 1).all()
    assert not [key for key in _weights(run) if key.startswith("loss.")]


# Batches by identity


def test_triplet_sees_four_images_of_each_person_and_others_what_is_asked(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    real = wb.losses.Loss.forward

    def forward(
        self: wb.losses.Loss, embeddings: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        seen.append(labels.tolist())
        return real(self, embeddings, labels)

    monkeypatch.setattr(wb.losses.Loss, "forward", forward)
    for loss, asked, together in (("triplet", None, 4), ("triplet", 2, 2), ("cosface", 2, 2)):
        seen.clear()
        run = _train(settings, loss=loss, loss_options={}, images_per_identity=asked, epochs=1)
        assert run.status["total"] == len(seen) == STEPS
        for labels in seen:
            assert len(labels) == BATCH
            groups = [labels[i : i + together] for i in range(0, BATCH, together)]
            assert all(len(set(group)) == 1 for group in groups)
            assert len({group[0] for group in groups}) == BATCH // together


def test_a_batch_by_identity_larger_than_the_data_is_the_data(settings: dict[str, Any]) -> None:
    run = _train(settings, images_per_identity=5, batch_size=1000, epochs=2)
    assert run.status["total"] == 2


def test_people_with_fewer_images_than_asked_show_them_again(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    run = _train(
        settings, loss="triplet", loss_options={}, images_per_identity=20, batch_size=80, epochs=2
    )
    assert run.status["total"] == 2
    assert (run.metrics()["active_triplets"] > 0).any()


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"loss": "triplet", "batch_size": 10}, "batch_size 10 .* give e.g. 8 or 12"),
        ({"loss": "triplet", "batch_size": 4}, "two or more identities of 4 images .* give e.g. 8"),
        ({"loss": "triplet", "images_per_identity": 1}, "compares images of one identity"),
        ({"images_per_identity": 100}, "give e.g. 200"),
        ({"images_per_identity": 3}, "give e.g. 6 or 9"),
    ],
)
def test_a_batch_that_cannot_be_shared_out_is_one_line(
    settings: dict[str, Any], bad: dict[str, Any], said: str
) -> None:
    with pytest.raises(wb.WorkbenchError, match=said) as caught:
        _train(settings | {"loss_options": {}}, **bad)
    _assert_one_line(caught)
    assert not Path("runs").exists()


def test_log_every_thins_the_rows_but_keeps_the_ends_of_epochs(settings: dict[str, Any]) -> None:
    assert [row["step"] for row in _rows(_train(settings, log_every=3, epochs=2))] == [3, 4, 6, 8]


def test_a_batch_larger_than_the_data_is_the_data(settings: dict[str, Any]) -> None:
    assert _train(settings, batch_size=1000, epochs=2).status["total"] == 2


def test_a_yaml_file_and_a_config_do_the_same(
    settings: dict[str, Any], whole: runs.Run, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    run = wb.train(tmp_path / "config.yaml", progress=False)
    _assert_same_model(run, whole)


def test_bf16_trains(settings: dict[str, Any]) -> None:
    run = _train(settings, precision="bf16", epochs=1)
    assert run.environment["precision"] == "bf16"
    assert {tensor.dtype for tensor in _weights(run).values()} == {torch.float32, torch.int64}


def test_the_callers_random_state_and_signals_are_left_alone(settings: dict[str, Any]) -> None:
    torch.manual_seed(5)
    before = (
        torch.get_rng_state(),
        np.random.get_state()[1].tolist(),
        signal.getsignal(signal.SIGINT),
    )
    run = _train(settings, epochs=1)
    wb.train(resume=run)
    with pytest.raises(wb.WorkbenchError):
        _train(settings, loss="arcfase")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    assert signal.getsignal(signal.SIGINT) is before[2]


def test_training_works_outside_the_main_thread(settings: dict[str, Any]) -> None:
    made: list[runs.Run] = []
    thread = threading.Thread(target=lambda: made.append(_train(settings, epochs=1)))
    thread.start()
    thread.join(60)
    assert made[0].state == "finished"


# Interrupt, crash and resume


@pytest.mark.parametrize("step", [0, 3, 5, STEPS * EPOCHS - 1])
def test_an_interrupted_run_resumes_to_the_same_bits(
    settings: dict[str, Any], whole: runs.Run, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    _interrupt(monkeypatch, step)
    with pytest.raises(KeyboardInterrupt, match="SIGINT"):
        _train(settings)
    run = runs.open("runs/a")
    assert run.state == "stopped"
    assert "workbench train --resume runs/a" in run.status["message"]
    assert len(_rows(run)) == step + 1
    resumed = wb.train(resume="runs/a", progress=False)
    assert resumed.state == "finished"
    _assert_same_model(resumed, whole)
    assert _rows(resumed) == _rows(whole)
    assert not [name for name in os.listdir(resumed.path) if name.endswith(".tmp")]


@pytest.mark.parametrize("step", [0, 5])
@pytest.mark.parametrize(
    "others",
    [
        {"loss": "sphereface", "loss_options": {"m": 3.0}},
        {"loss": "triplet", "loss_options": {}},
        {
            "loss": "triplet",
            "loss_options": {"mining": "semi_hard", "m": 1.0},
            "images_per_identity": 2,
        },
        {"loss": "softmax", "loss_options": {}, "images_per_identity": 4},
    ],
    ids=lambda others: "-".join(map(str, others.values())),
)
def test_what_a_loss_counts_and_how_batches_are_made_resume_to_the_same_bits(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, others: dict[str, Any], step: int
) -> None:
    unbroken = _train(settings, **others, name="unbroken")
    _interrupt(monkeypatch, step)
    with pytest.raises(KeyboardInterrupt):
        _train(settings, **others)
    resumed = wb.train(resume="runs/a", progress=False)
    _assert_same_model(resumed, unbroken)
    assert _rows(resumed) == _rows(unbroken)
    if others["loss"] == "sphereface":
        assert _weights(resumed)["loss.step"] == STEPS * EPOCHS


@pytest.mark.parametrize(
    ("loss", "counted"),
    [
        ("adacos", "loss.adapted"),
        ("curricularface", "loss.t"),
        ("adaface+center+ohem", "loss.terms.center.centres"),
        ("elasticface", ""),
        ("subcenter_arcface", "loss.counts"),
        ("cosface", ""),
    ],
)
def test_what_a_loss_keeps_count_of_and_draws_goes_on_where_it_was(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, loss: str, counted: str
) -> None:
    others = {
        "loss": loss,
        "loss_options": {"head": "sampled", "sample_rate": 0.5} if loss == "cosface" else {},
    }
    unbroken = _train(settings, **others, name="unbroken")
    _interrupt(monkeypatch, 5)
    with pytest.raises(KeyboardInterrupt):
        _train(settings, **others)
    resumed = wb.train(resume="runs/a", progress=False)
    _assert_same_model(resumed, unbroken)
    assert _rows(resumed) == _rows(unbroken)
    assert not counted or counted in _weights(resumed)


def test_dropout_goes_on_where_it_was(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = {"backbone": "seresnet18", "backbone_options": {"dropout": 0.5}, "epochs": 1}
    unbroken = _train(settings, **deep, name="unbroken")
    _interrupt(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        _train(settings, **deep)
    torch.manual_seed(99)  # the caller's own random state must not matter
    _assert_same_weights(wb.train(resume="runs/a", progress=False), unbroken)


def test_sigterm_stops_as_ctrl_c_does(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _interrupt(monkeypatch, 1, signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        _train(settings)
    assert runs.open("runs/a").state == "stopped"


def test_a_second_ctrl_c_interrupts_at_once(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _at_step(
        monkeypatch,
        1,
        lambda: [signal.raise_signal(signal.SIGINT), signal.raise_signal(signal.SIGINT)],
    )
    with pytest.raises(KeyboardInterrupt):
        _train(settings)
    run = runs.open("runs/a")
    assert run.state == "stopped"
    assert not (run.path / runs.CHECKPOINT).exists()
    with pytest.raises(wb.WorkbenchError, match="before its first checkpoint") as caught:
        wb.train(resume=run)
    _assert_one_line(caught)


def test_a_crashed_run_resumes_from_its_last_checkpoint_without_repeated_rows(
    settings: dict[str, Any], whole: runs.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "EPOCH_CHECKPOINT_SECONDS", 0.0)
    _at_step(monkeypatch, 2 * STEPS - 1, _crash)
    with pytest.raises(RuntimeError, match="power cut"):
        _train(settings)
    run = runs.open("runs/a")
    assert run.state == "failed"
    assert run.status["message"] == "RuntimeError: power cut"
    with safe_open(run.path / runs.MODEL, "pt") as file:
        assert file.metadata()["step"] == str(STEPS)
    assert len(_rows(run)) == 2 * STEPS - 1
    (run.path / runs.METRICS).open("a").write('{"step": 8, "lo')
    resumed = wb.train(resume=run, progress=False)
    assert _rows(resumed) == _rows(whole)
    _assert_same_model(resumed, whole)


def test_an_interrupt_soon_after_a_resume_keeps_the_metrics_whole(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(records, "EPOCH_CHECKPOINT_SECONDS", 0.0)
        _at_step(patch, 2 * STEPS - 1, _crash)
        with pytest.raises(RuntimeError):
            _train(settings, log_every=3)
    with monkeypatch.context() as patch:
        _interrupt(patch, STEPS)  # before the first row after the resume
        with pytest.raises(KeyboardInterrupt):
            wb.train(resume="runs/a", progress=False)
    assert [row["step"] for row in _rows(runs.open("runs/a"))] == [3, 4]
    resumed = wb.train(resume="runs/a", progress=False)
    assert [row["step"] for row in _rows(resumed)] == [3, 4, 6, 8, 9, 12]


def test_lost_metrics_do_not_keep_a_run_from_resuming(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _interrupt(monkeypatch, 5)
    with pytest.raises(KeyboardInterrupt):
        _train(settings)
    Path("runs/a", runs.METRICS).unlink()
    assert [row["step"] for row in _rows(wb.train(resume="runs/a", progress=False))] == list(
        range(7, STEPS * EPOCHS + 1)
    )


def test_resuming_a_finished_run_returns_at_once(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _train(settings, epochs=1)
    before = {path.name: path.stat().st_mtime_ns for path in run.path.iterdir()}
    monkeypatch.setattr(running, "prepare", _crash)
    assert wb.train(resume=str(run.path)) == run
    assert {path.name: path.stat().st_mtime_ns for path in run.path.iterdir()} == before


@pytest.fixture(scope="module")
def stopped_once(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    """A run that was interrupted after its first step."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        _interrupt(patch, 0)
        with pytest.raises(KeyboardInterrupt):
            _train(_settings(faces, runs_dir=str(folder)))
    return runs.open(folder / "a")


@pytest.fixture
def stopped(stopped_once: runs.Run, settings: dict[str, Any], tmp_path: Path) -> runs.Run:
    """A copy of it, on data of its own."""
    own = shutil.copytree(settings["data"].removeprefix("folder:"), tmp_path / "own")
    run = runs.Run(shutil.copytree(stopped_once.path, tmp_path / "runs" / "a"))
    runs.write_text(
        run.path / runs.CONFIG,
        yaml.safe_dump(stopped_once.config | {"data": f"folder:{own}", "runs_dir": "runs"}),
    )
    return run


def test_a_copied_run_on_copied_data_resumes(stopped: runs.Run, whole: runs.Run) -> None:
    _assert_same_weights(wb.train(resume=stopped, progress=False), whole)


def _assert_not_resumed(run: runs.Run, match: str) -> None:
    before = {path.name: path.read_bytes() for path in run.path.iterdir()}
    with pytest.raises(wb.WorkbenchError, match=match) as caught:
        wb.train(resume=run.path, progress=False)
    _assert_one_line(caught)
    assert {path.name: path.read_bytes() for path in run.path.iterdir()} == before


@pytest.mark.parametrize("change", ["image removed", "person added", "person renamed"])
def test_resuming_on_changed_data_is_refused(
    stopped: runs.Run, tmp_path: Path, change: str
) -> None:
    own = tmp_path / "own"
    if change == "image removed":
        (own / "person0" / "0.png").unlink()
    elif change == "person added":
        shutil.copytree(own / "person0", own / "person9")
    else:
        (own / "person0").rename(own / "nobody")
    _assert_not_resumed(stopped, "is not the data the run began with")


def test_resuming_without_the_data_is_refused(stopped: runs.Run, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "own")
    _assert_not_resumed(stopped, "no such folder")


class _Hostile:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("sprung",)


@pytest.mark.parametrize("kind", ["torch", "legacy torch", "bare pickle"])
def test_a_checkpoint_with_code_in_it_is_refused(stopped: runs.Run, kind: str) -> None:
    path = stopped.path / runs.CHECKPOINT
    state = torch.load(path, weights_only=True) | {"step": _Hostile()}
    if kind == "bare pickle":
        path.write_bytes(pickle.dumps(state, protocol=2))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "torch")
    _assert_not_resumed(stopped, "not a checkpoint of this run")
    assert not Path("sprung").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"junk",
        b"PK\x03\x04",
        pickle.dumps([1], protocol=2),
        pickle.dumps({"step": 1}, protocol=2),
    ],
)
def test_a_damaged_checkpoint_is_refused(stopped: runs.Run, content: bytes) -> None:
    (stopped.path / runs.CHECKPOINT).write_bytes(content)
    _assert_not_resumed(stopped, "not a checkpoint of this run")


@pytest.mark.parametrize("key", ["backbone", "loss", "optimizer", "rng", "step", "metrics_bytes"])
def test_a_checkpoint_with_a_wrong_part_is_refused(stopped: runs.Run, key: str) -> None:
    path = stopped.path / runs.CHECKPOINT
    state = torch.load(path, weights_only=True)
    for value in (None, "text", [], {}, {"x": 1}):
        torch.save(state | {key: value}, path)
        _assert_not_resumed(stopped, "not a checkpoint of this run")
    del state[key]
    torch.save(state, path)
    _assert_not_resumed(stopped, "not a checkpoint of this run")


def test_a_truncated_checkpoint_is_refused(stopped: runs.Run) -> None:
    path = stopped.path / runs.CHECKPOINT
    path.write_bytes(path.read_bytes()[:-1000])
    _assert_not_resumed(stopped, "not a checkpoint of this run")


def test_a_checkpoint_of_another_model_is_refused(stopped: runs.Run) -> None:
    config = stopped.config | {"backbone_options": {"width": 12}}
    runs.write_text(stopped.path / runs.CONFIG, yaml.safe_dump(config))
    _assert_not_resumed(stopped, "cannot be resumed with backbone_options from")


@pytest.mark.parametrize("content", ["{}", '{"data": {}}', '{"data": null}', '{"data": 3}', "["])
def test_a_damaged_environment_is_refused_on_resume(stopped: runs.Run, content: str) -> None:
    (stopped.path / runs.ENVIRONMENT).write_text(content)
    _assert_not_resumed(stopped, ".")


@pytest.mark.parametrize("content", ["{}", "1: 2", "data: orl\nepoch: 3", "["])
def test_a_damaged_config_is_refused_on_resume(stopped: runs.Run, content: str) -> None:
    (stopped.path / runs.CONFIG).write_text(content)
    _assert_not_resumed(stopped, ".")


def test_resuming_what_is_no_run_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(wb.WorkbenchError, match="unknown run"):
        wb.train(resume="runs/none")
    with pytest.raises(wb.WorkbenchError, match="either a config or a run"):
        wb.train()
    with pytest.raises(wb.WorkbenchError, match="either a config or a run"):
        wb.train(settings, resume="runs/none")


# What goes wrong


@pytest.mark.parametrize(
    "bad",
    [
        {"epochs": 0},
        {"epoch": 3},
        {1: 2},
        {"loss": "arcfase"},
        {"loss_options": {"margin": 0.5}},
        {"loss_options": {"m": 4.0}},
        {"loss_options": {"m": "3e-1"}},
        {"loss_options": {"s": None}},
        {"loss": "sphereface", "loss_options": {"s": 30.0}},
        {"loss": "triplet", "loss_options": {"mining": "hard"}},
        {"backbone": "resnet"},
        {"backbone_options": {"widht": 8}},
        {"backbone_options": {"width": -8}},
        {"backbone": "seresnet18", "backbone_options": {"dropout": 2.0}},
        {"image_size": 8},
        {"image_size": "large"},
        {"device": "gpu"},
        {"device": "cuda:77"},
        {"device": ""},
        {"device": "meta"},
        {"precision": "fp8"},
        {"seed": -1},
        {"seed": 2**64},
        {"data": ""},
        {"data": "folder:"},
        {"data": "folder:/nowhere/at all"},
        {"data": "foldr:x"},
        {"data": "."},
        {"name": "a/b"},
        {"name": ".."},
        {"name": "two\nlines"},
        {"name": "x" * 200},
    ],
    ids=str,
)
def test_bad_settings_are_one_line_and_write_nothing(
    settings: dict[str, Any], tmp_path: Path, bad: dict[Any, Any]
) -> None:
    with pytest.raises(wb.WorkbenchError) as caught:
        wb.train(settings | bad, progress=False)
    _assert_one_line(caught)
    assert os.listdir(tmp_path) == []


def test_data_of_one_person_or_without_images_are_refused(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    _paint(tmp_path / "one", people=1)
    (tmp_path / "none").mkdir()
    with pytest.raises(wb.WorkbenchError, match="two of each"):
        _train(settings, data=f"folder:{tmp_path / 'one'}")
    with pytest.raises(wb.WorkbenchError, match="expected images"):
        _train(settings, data=f"folder:{tmp_path / 'none'}")
    assert not Path("runs").exists()


def test_a_runs_dir_that_is_a_file_is_refused(settings: dict[str, Any]) -> None:
    Path("runs").write_text("")
    with pytest.raises(wb.WorkbenchError, match="runs") as caught:
        _train(settings)
    _assert_one_line(caught)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_picture_fails_the_run_in_one_line_that_names_it(
    settings: dict[str, Any], tmp_path: Path, workers: int
) -> None:
    own = shutil.copytree(settings["data"].removeprefix("folder:"), tmp_path / "own")
    (own / "person2" / "3.png").write_bytes(b"junk")
    with pytest.raises(wb.WorkbenchError, match=r"^\S+person2/3\.png: not an image") as caught:
        _train(settings, data=f"folder:{own}", workers=workers)
    _assert_one_line(caught)
    run = runs.open("runs/a")
    assert run.state == "failed"
    assert "person2/3.png" in run.status["message"]
    assert "broken: skip" in run.status["message"]
    assert f"workbench data info folder:{own} --verify" in run.status["message"]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread.

    With more, PyTorch 2.15 can corrupt its memory on a CPU in the backward pass of small batches of
    an odd size.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _break(settings: dict[str, Any], tmp_path: Path, *names: str) -> dict[str, Any]:
    """Settings of the same run on a copy of its pictures, some of which are broken."""
    own = shutil.copytree(settings["data"].removeprefix("folder:"), tmp_path / "own")
    for name in names:
        (own / name).write_bytes(b"junk")
    return settings | {"data": f"folder:{own}", "broken": "skip"}


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("workers", [0, 2])
def test_broken_pictures_are_left_out_and_named_once(
    settings: dict[str, Any], tmp_path: Path, workers: int, capfd: pytest.CaptureFixture[str]
) -> None:
    names = [f"person{person}/{number}.png" for person in range(3) for number in (1, 4, 6)]
    run = wb.train(_break(settings, tmp_path, *names) | {"workers": workers}, progress=True)
    assert run.state == "finished"
    assert len(_rows(run)) == STEPS * EPOCHS
    lines = (run.path / runs.BROKEN).read_text().splitlines()
    assert sorted(lines) == sorted(
        f"{tmp_path / 'own' / name}: {lines[0].partition(': ')[2]}" for name in names
    )
    shown = [line for line in capfd.readouterr().err.splitlines() if "left out: " in line]
    assert len(shown) == records.LeftOut.MAX_SHOWN
    assert f"further images are listed only in {run.path / runs.BROKEN}" in shown[-1]


def test_a_picture_is_not_missed_where_none_is_broken(
    settings: dict[str, Any], whole: runs.Run
) -> None:
    run = _train(settings, broken="skip")
    _assert_same_weights(run, whole)
    assert not (run.path / runs.BROKEN).exists()


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("step", [2, 6])
def test_a_run_with_broken_pictures_resumes_to_the_same_bits(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    settings = _break(settings, tmp_path, "person0/0.png", "person0/5.png", "person3/2.png")
    through = _train(settings, name="through")
    _interrupt(monkeypatch, step)
    with pytest.raises(KeyboardInterrupt):
        _train(settings)
    resumed = wb.train(resume="runs/a", progress=False)
    _assert_same_model(resumed, through)
    assert _rows(resumed) == _rows(through)
    for run in (resumed, through):
        lines = (run.path / runs.BROKEN).read_text().splitlines()
        assert len(lines) == len(set(lines)) == 3


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("log_every", [1, 3])
def test_a_batch_of_fewer_than_two_pictures_changes_nothing_but_counts(
    settings: dict[str, Any], tmp_path: Path, log_every: int
) -> None:
    names = [f"person{person}/{number}.png" for person in range(4) for number in range(2, 8)]
    run = _train(_break(settings, tmp_path, *names), batch_size=4, log_every=log_every, epochs=8)
    assert run.state == "finished"
    assert run.status["step"] == 8 * 8
    assert len((run.path / runs.BROKEN).read_text().splitlines()) == 24
    order = [ordering.order_of_epoch(32, epoch, 0).reshape(8, 4) for epoch in range(8)]
    usable = [
        step for step, batch in enumerate(np.concatenate(order)) if (batch % 8 < 2).sum() >= 2
    ]
    steps = [step + 1 for step in usable if (step + 1) % log_every == 0 or (step + 1) % 8 == 0]
    assert [row["step"] for row in _rows(run)] == steps


@pytest.mark.usefixtures("one_thread")
def test_a_loss_that_compares_pictures_does_with_those_that_are_left(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    names = [f"person{person}/{number}.png" for person in range(3) for number in range(7)]
    run = _train(_break(settings, tmp_path, *names), loss="triplet", loss_options={})
    assert run.state == "finished"
    assert all(np.isfinite(row["loss"]) for row in _rows(run))


def test_data_of_which_nothing_can_be_read_fail_the_run(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    names = [f"person{person}/{number}.png" for person in range(4) for number in range(8)]
    with pytest.raises(wb.WorkbenchError, match=r"no batch of epoch 1 .*broken\.txt") as caught:
        _train(_break(settings, tmp_path, *names))
    _assert_one_line(caught)
    assert runs.open("runs/a").state == "failed"


@pytest.mark.parametrize("log_every", [1, 100])
def test_a_loss_that_is_not_a_number_fails_the_run_and_keeps_the_checkpoint_before(
    settings: dict[str, Any], whole: runs.Run, monkeypatch: pytest.MonkeyPatch, log_every: int
) -> None:
    kept: dict[str, bytes] = {}
    real = loop.to_network

    def poison() -> None:
        kept.update(
            {name: Path("runs/a", name).read_bytes() for name in (runs.CHECKPOINT, runs.MODEL)}
        )
        monkeypatch.setattr(loop, "to_network", lambda *arguments: real(*arguments) * torch.nan)

    monkeypatch.setattr(records, "EPOCH_CHECKPOINT_SECONDS", 0.0)
    _at_step(monkeypatch, STEPS + 1, poison)
    with pytest.raises(
        wb.WorkbenchError, match=r"the loss became nan at step .*lower lr"
    ) as caught:
        _train(settings, log_every=log_every)
    _assert_one_line(caught)
    run = runs.open("runs/a")
    assert run.state == "failed"
    assert "the loss became nan" in run.status["message"]
    assert {name: (run.path / name).read_bytes() for name in kept} == kept
    monkeypatch.setattr(loop, "to_network", real)
    _assert_same_weights(wb.train(resume=run, progress=False), whole)


def test_weights_that_are_not_numbers_are_never_saved(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = clipping.clip_grad_norm_

    def overflow(parameters: list[torch.nn.Parameter], limit: float) -> torch.Tensor:
        parameters[0].grad.fill_(torch.inf)  # a gradient can overflow where the loss did not
        return real(parameters, limit)

    _at_step(
        monkeypatch,
        STEPS * EPOCHS - 1,
        lambda: monkeypatch.setattr(clipping, "clip_grad_norm_", overflow),
    )
    with pytest.raises(wb.WorkbenchError) as caught:
        _train(settings)
    _assert_one_line(caught)
    assert runs.open("runs/a").state == "failed"
    assert not Path("runs/a", runs.MODEL).exists()


def test_a_full_disk_keeps_the_checkpoint_before(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "EPOCH_CHECKPOINT_SECONDS", 0.0)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    _at_step(monkeypatch, STEPS, lambda: monkeypatch.setattr(checkpoint.torch, "save", full))
    with pytest.raises(wb.WorkbenchError, match=r"cannot be written \(No space left"):
        _train(settings)
    run = runs.open("runs/a")
    assert run.state == "failed"
    assert torch.load(run.path / runs.CHECKPOINT, weights_only=True)["step"] == STEPS
    assert not [name for name in os.listdir(run.path) if name.endswith(".tmp")]


# Hardware


@pytest.mark.parametrize(
    ("amx", "avx512", "asked", "expected"),
    [
        (False, False, "auto", "fp32"),
        (True, False, "auto", "bf16"),
        (False, True, "auto", "bf16"),
        (True, True, "fp32", "fp32"),
        (False, False, "bf16", "bf16"),
    ],
)
def test_auto_precision_is_bf16_where_the_cpu_has_it(
    monkeypatch: pytest.MonkeyPatch, amx: bool, avx512: bool, asked: str, expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    assert resolve_precision(asked, torch.device("cpu")) == expected


def test_auto_precision_is_fp32_where_torch_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert resolve_precision("auto", torch.device("cpu")) == "fp32"
    assert resolve_precision("auto", torch.device("mps")) == "fp32"


def test_bf16_is_refused_on_a_gpu_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation
    )
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "Old GPU")
    assert resolve_precision("auto", torch.device("cuda")) == "fp32"
    with pytest.raises(wb.WorkbenchError, match="Old GPU does not have it"):
        resolve_precision("bf16", torch.device("cuda"))


def test_a_cpu_decodes_beside_itself_and_a_gpu_has_helpers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert loader_workers(None, torch.device("cpu")) == 0
    assert loader_workers(None, torch.device("cuda")) == 8
    assert loader_workers(3, torch.device("cpu")) == 3
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert loader_workers(None, torch.device("cuda")) == 1
