"""Snapshots of epochs: what is written, when, and that the training does not notice."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Complaint, paint_people
from safetensors.torch import load_file

import workbench as wb
from workbench import data, runs
from workbench.data.batches import batches, to_network
from workbench.errors import WorkbenchWarning
from workbench.training import snapshots
from workbench.training.snapshots import choose_images

PEOPLE, IMAGES, EPOCHS = 5, 6, 3
STEPS = PEOPLE * IMAGES // 10


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    paint_people(tmp_path / "faces", PEOPLE, IMAGES)
    paint_people(tmp_path / "others", 4, 12, seed=1)
    return {
        "data": "folder:faces",
        "image_size": 16,
        "embedding_dim": 8,
        "batch_size": 10,
        "epochs": EPOCHS,
        "log_every": 1,
        "device": "cpu",
        "precision": "fp32",
        "name": "a",
        "loss_options": {"s": 16.0, "m": 0.3},
        "backbone_options": {"width": 8},
        "snapshots": ["train", "folder:others"],
    }


def _train(settings: dict[str, Any], **others: Any) -> runs.Run:
    return wb.train(settings | others, progress=False)


def _contents(run: runs.Run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.snapshots()}


def _raising(error: BaseException, step: int) -> wb.training.Callback:
    class Raise(wb.training.Callback):
        def on_step(self, training: wb.training.Training) -> None:
            if training.step == step:
                raise error

    return Raise()


def test_a_snapshot_is_written_before_the_first_step_and_after_each_epoch(
    settings: dict[str, Any],
) -> None:
    run = _train(settings)
    assert [path.name for path in run.snapshots()] == [
        f"epoch-{epoch:04d}.npz" for epoch in range(EPOCHS + 1)
    ]
    for epoch, path in enumerate(run.snapshots()):
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        assert (arrays["epoch"], arrays["step"]) == (epoch, epoch * STEPS)
        assert arrays["train/embeddings"].shape == (PEOPLE * IMAGES, 8)
        assert arrays["train/embeddings"].dtype == np.float16
        assert arrays["train/centres"].shape == (PEOPLE, 8)
        assert arrays["others/embeddings"].shape == (4 * 10, 8)
        assert arrays["others/identities"].tolist() == np.repeat(np.arange(4), 10).tolist()
        assert arrays["others/images"].dtype == arrays["others/identities"].dtype == np.int64
        assert "others/centres" not in arrays


def test_the_last_snapshot_has_the_embeddings_of_the_saved_model(settings: dict[str, Any]) -> None:
    run = _train(settings)
    last = wb.evaluation.load_snapshots(run)[-1]
    for name, images in (("train", "folder:faces"), ("others", "folder:others")):
        shown = last.sets[name]
        model = wb.evaluation.load_model(run, device="cpu")
        expected = model.embed(data.open(images).images, shown.images.tolist(), flip="none")
        np.testing.assert_allclose(shown.embeddings, expected, rtol=2e-3, atol=2e-3)
    centres = load_file(run.path / runs.MODEL)["loss.weight"].numpy()
    assert last.sets["train"].centres is not None
    np.testing.assert_allclose(last.sets["train"].centres, centres, rtol=2e-3, atol=2e-3)


def test_the_first_snapshot_is_that_of_the_initial_network(settings: dict[str, Any]) -> None:
    run = _train(settings)
    config = wb.TrainConfig(**settings)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        net = wb.backbones.create(
            config.backbone, embedding_dim=8, image_size=16, **config.backbone_options
        ).eval()
    first = wb.evaluation.load_snapshots(run)[0].sets["others"]
    ((pixels, _),) = batches(data.open("folder:others").images, first.images, (16, 16), 100)
    with torch.no_grad():
        expected = net(to_network(pixels, 127.5, 127.5)).numpy()
    np.testing.assert_allclose(first.embeddings, expected, rtol=2e-3, atol=2e-3)


def test_the_training_is_the_same_without_snapshots(settings: dict[str, Any]) -> None:
    random = {"loss": "elasticface"}  # draws a random margin for each image
    with_them = _train(settings, **random)
    without = _train(settings, **random, name="b", snapshots=[])
    assert without.snapshots() == []
    assert not (without.path / runs.SNAPSHOTS).exists()
    ours, theirs = (load_file(run.path / runs.MODEL) for run in (with_them, without))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    losses = [run.metrics()["loss"].tolist() for run in (with_them, without)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("step", [1, STEPS, STEPS + 1, 2 * STEPS])
def test_a_resumed_run_has_the_snapshots_of_one_that_was_never_stopped(
    settings: dict[str, Any], step: int
) -> None:
    whole = _train(settings)
    with pytest.raises(KeyboardInterrupt):
        wb.train(
            settings | {"name": "b"},
            callbacks=[_raising(KeyboardInterrupt(), step)],
            progress=False,
        )
    resumed = wb.train(resume="runs/b", progress=False)
    assert _contents(resumed) == _contents(whole)
    ours, theirs = (load_file(run.path / runs.MODEL) for run in (resumed, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_snapshots_after_the_checkpoint_are_removed_when_a_run_is_resumed(
    settings: dict[str, Any],
) -> None:
    run = wb.train(settings, stop_after=1, progress=False)
    later = runs.snapshot_path(run, 2)
    later.write_bytes(b"of a part that is trained again")
    seen: list[bool] = []

    class Look(wb.training.Callback):
        def on_start(self, training: wb.training.Training) -> None:
            seen.append(later.exists())

    wb.train(resume=run, callbacks=[Look()], progress=False)
    assert seen == [False]
    assert len(wb.evaluation.load_snapshots(run)) == EPOCHS + 1


def test_they_can_be_switched_on_when_a_run_is_resumed(settings: dict[str, Any]) -> None:
    run = wb.train(settings | {"snapshots": []}, stop_after=1, progress=False)
    wb.train(resume=run, changes={"snapshots": ["others", "train"][1:]}, progress=False)
    assert [one.epoch for one in wb.evaluation.load_snapshots(run)] == [1, 2, 3]


def test_a_callback_can_read_the_snapshot_of_the_epoch(settings: dict[str, Any]) -> None:
    epochs: list[list[int]] = []

    class Look(wb.training.Callback):
        def on_epoch_end(self, training: wb.training.Training) -> None:
            epochs.append([one.epoch for one in wb.evaluation.load_snapshots(training.run)])
            assert training.net.training

    wb.train(settings, callbacks=[Look()], progress=False)
    assert epochs == [[0, 1], [0, 1, 2], [0, 1, 2, 3]]


def test_an_interrupted_write_leaves_nothing_half_written(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = np.savez
    calls: list[int] = []

    def savez(file: Any, **arrays: Any) -> None:
        calls.append(1)
        if len(calls) == 3:  # of epoch 2
            file.write(b"half")
            raise OSError(28, "No space left on device")
        real(file, **arrays)

    with monkeypatch.context() as patch:
        patch.setattr(snapshots.np, "savez", savez)
        with pytest.raises(wb.WorkbenchError, match=r"epoch-0002\.npz: cannot be written"):
            _train(settings)
    run = runs.open("runs/a")
    assert run.state == "failed"
    assert sorted(path.name for path in (run.path / runs.SNAPSHOTS).iterdir()) == [
        "epoch-0000.npz",
        "epoch-0001.npz",
    ]
    assert len(wb.evaluation.load_snapshots(wb.train(resume=run, progress=False))) == EPOCHS + 1


def test_a_signal_during_a_write_is_handled_after_it(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = snapshots.write

    def write(*arguments: Any) -> None:
        real(*arguments)
        if arguments[1] == 1:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(snapshots, "write", write)
    with pytest.raises(KeyboardInterrupt):
        _train(settings)
    run = runs.open("runs/a")
    assert (run.state, run.status["checkpoint"]) == ("stopped", STEPS)
    assert [one.epoch for one in wb.evaluation.load_snapshots(run)] == [0, 1]


def test_losses_without_class_centres_have_none_in_their_snapshots(
    settings: dict[str, Any],
) -> None:
    run = _train(settings, loss="triplet", loss_options={}, images_per_identity=2)
    assert wb.evaluation.load_snapshots(run)[-1].sets["train"].centres is None


def test_embeddings_that_are_too_long_for_float16_keep_their_direction() -> None:
    vectors = np.array([[3e5, -4e5], [1.0, 2.0]], dtype=np.float32)
    stored = snapshots._as_float16(vectors).astype(np.float32)
    assert np.isfinite(stored).all()
    np.testing.assert_allclose(stored[0] / stored[0, 0], [1, -4 / 3], rtol=1e-3)
    within = np.array([[0.1, -30000.0]], dtype=np.float32)
    assert np.array_equal(snapshots._as_float16(within), within.astype(np.float16))


def test_embeddings_that_are_not_finite_give_a_warning_and_no_file(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = snapshots._embed
    calls: list[int] = []

    def embed(*arguments: Any) -> Any:
        calls.append(1)
        embeddings = real(*arguments)
        return embeddings * np.nan if len(calls) == 1 else embeddings

    monkeypatch.setattr(snapshots, "_embed", embed)
    with pytest.warns(WorkbenchWarning, match="no snapshot of epoch 0"):
        run = _train(settings)
    assert [one.epoch for one in wb.evaluation.load_snapshots(run)] == [1, 2, 3]


def test_images_that_cannot_be_read_are_left_out_with_skip(settings: dict[str, Any]) -> None:
    Path("others/p1/3.png").write_bytes(b"not an image")
    with pytest.raises(wb.WorkbenchError, match=r"p1.3\.png"):
        _train(settings)
    run = _train(settings, broken="skip", name="b")
    shown = wb.evaluation.load_snapshots(run)[-1].sets["others"]
    chosen = choose_images(data.open("folder:others").identities)
    unreadable = 12 + sorted(f"{number}.png" for number in range(12)).index("3.png")
    assert set(chosen) - set(shown.images) == {unreadable}
    assert len(shown.embeddings) == len(shown.identities) == len(chosen) - 1


@pytest.mark.parametrize(
    ("specs", "texts"),
    [
        (["trian"], ["trian", "snapshots"]),
        (["folder:missing"], ["snapshots", "missing"]),
        (["folder:single"], ["two identities with two images"]),
        (["pairs:pairs.txt@faces/p0"], ["synthfaces-frontal"]),
        ([3], ["snapshots"]),
        ("train,", ["train,"]),
    ],
)
def test_what_cannot_be_used_is_refused_before_there_is_a_run(
    settings: dict[str, Any], specs: Any, texts: list[str], complaint: Complaint
) -> None:
    paint_people(Path("single"), 4, [2, 1, 1, 1])
    pairs = [f"{number}.png {number + 1}.png {number % 2}" for number in range(5)]
    Path("pairs.txt").write_text("\n".join(pairs))
    with complaint(*texts):
        _train(settings, snapshots=specs)
    assert not Path("runs").exists()


def test_a_data_set_that_is_called_train_gets_another_name(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    paint_people(tmp_path / "elsewhere" / "train", 4, 3, seed=2)
    run = _train(settings, snapshots=["train", "folder:elsewhere/train"], epochs=1)
    names = wb.evaluation.snapshot_sets(wb.evaluation.load_snapshots(run))
    assert len(names) == 2
    assert names[1] == "train"
    assert names[0].startswith("train-")


@pytest.mark.parametrize(
    "identities",
    [
        np.repeat(np.arange(30), 15),
        np.random.default_rng(0).integers(-1, 40, 900),
        np.random.default_rng(1).integers(-1, 300, 400),
        np.array([3, 3]),
        np.full(5, -1),
        np.empty(0, dtype=np.int64),
    ],
)
def test_choosing_images(identities: np.ndarray[Any, np.dtype[np.int64]]) -> None:
    chosen = choose_images(identities)
    labels = identities[chosen]
    assert chosen.dtype == np.int64
    assert len(np.unique(chosen)) == len(chosen)
    assert (labels >= 0).all()
    assert (np.diff(labels) >= 0).all()
    names, counts = np.unique(labels, return_counts=True)
    available = np.bincount(identities[identities >= 0], minlength=1)
    usable = np.flatnonzero(available >= 2)
    assert len(names) == min(len(usable), 20)
    assert (counts == np.minimum(available[names], 10)).all()
    others = np.setdiff1d(usable, names)
    if len(others):
        assert min(counts) >= np.minimum(available[others], 10).max()
    for name in names:  # the first and the last image are among those that are spread over all
        images = np.flatnonzero(identities == name)
        assert {images[0], images[-1]} <= set(chosen)


def test_the_setting_is_an_option_of_the_command(run_command: Callable[..., Any]) -> None:
    shown = run_command("train --help").out
    assert "--snapshots" in shown
