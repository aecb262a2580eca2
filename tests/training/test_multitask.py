"""Training with tasks: batches of several data sets, masking, resuming, evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import workbench as wb
from workbench import data
from workbench.tasks import Heads
from workbench.training.multitask import (
    UNKNOWN,
    Mixture,
    Objective,
    Source,
    active_tasks,
    counts_of,
    trains_recognition,
)

GENDER = {"kind": "classes"}
AGE = {"kind": "regression"}
ALWAYS: dict[str, Any] = {
    "image_size": 16,
    "embedding_dim": 8,
    "batch_size": 16,
    "epochs": 2,
    "log_every": 1,
    "lr": 0.05,
    "augment": "none",
}


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> str:
    """UTKFace-like images: women are light at the top, and the old are bright."""
    root, rng = tmp_path_factory.mktemp("chips"), np.random.default_rng(0)
    for number in range(64):
        age, gender = 20 + number % 40, number % 2
        pixels = np.full((16, 16, 3), 3.0 * age) + rng.normal(0, 5, (16, 16, 3))
        pixels[:8] += 60 * (1 - gender)
        name = f"{age}_{gender}_0_{20170116000000000 + number}.jpg.chip.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / name)
    return f"utkface:{root}"


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four people with ten images each, without attributes."""
    root, rng = tmp_path_factory.mktemp("people"), np.random.default_rng(1)
    for person in range(4):
        (root / f"p{person}").mkdir()
        for number in range(10):
            pixels = 50 * person + rng.integers(0, 60, (16, 16, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(root / f"p{person}" / f"{number}.png")
    return f"folder:{root}"


def train(folder: Path, name: str, **settings: Any) -> wb.runs.Run:
    config = ALWAYS | {"runs_dir": str(folder), "name": name} | settings
    return wb.train(config, progress=False)


def toy(count: int, columns: dict[str, list] | None = None) -> data.Dataset:
    images = [np.zeros((4, 4, 3), np.uint8)] * count
    names = [str(number) for number in range(count)]
    return data.Dataset("toy", images, np.arange(count), names, columns or {})


# Batches


def test_shares_of_a_batch() -> None:
    main = Source(toy(100))
    assert counts_of([main], 32) == [32]
    assert counts_of([main, Source(toy(50), "a", 0.25)], 32) == [24, 8]
    assert counts_of([main, Source(toy(50), "a"), Source(toy(50), "b")], 30) == [10, 10, 10]
    assert counts_of([main, Source(toy(3), "a", 0.5)], 32) == [29, 3]
    assert counts_of([main, Source(toy(50), "a", 0.25)], 30, multiple=4) == [20, 8]
    assert counts_of([Source(toy(50), "a", 0.2), Source(toy(50), "b", 0.2)], 32) == [16, 16]


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.98,)])
def test_shares_that_leave_nothing(shares: tuple[float, ...], complaint) -> None:
    others = [Source(toy(100), "x" * place, one) for place, one in enumerate(shares, start=1)]
    with complaint("are left for the training set", "batch_size"):
        counts_of([Source(toy(100)), *others], 16)


def test_every_batch_has_its_images_of_each_data_set() -> None:
    mixture = Mixture((Source(toy(20)), Source(toy(7), "a"), Source(toy(30), "b")), (4, 2, 3))
    leading = np.random.default_rng(0).permutation(20)
    epochs = [mixture.order(leading, epoch, seed=3).reshape(5, 9) for epoch in range(3)]
    for batch in np.concatenate(epochs):
        assert [(batch < 20).sum(), (batch >= 27).sum()] == [4, 3]
    # Each data set is used up before an image comes again, across epochs.
    of_a = np.concatenate([one[(one >= 20) & (one < 27)] for one in epochs])
    assert len(of_a) == 30
    for begin in range(0, 28, 7):
        assert sorted(of_a[begin : begin + 7]) == list(range(20, 27))
    again = mixture.order(leading, 1, seed=3).reshape(5, 9)
    assert np.array_equal(again, epochs[1])
    assert not np.array_equal(mixture.order(leading, 1, seed=4).reshape(5, 9), again)
    assert mixture.identities[:20].tolist() == list(range(20))
    assert (mixture.identities[20:] == UNKNOWN).all()
    assert len(mixture.images) == 57
    # Each half of a batch has its share of every data set.
    assert (epochs[0][:, :4] < 20).sum(1).min() >= 1
    assert (epochs[0][:, 4:] < 20).sum(1).min() >= 2


def test_labels_of_other_data_sets_are_missing(complaint) -> None:
    tasks = wb.TrainConfig(
        data="orl",
        tasks={
            "age": {**AGE, "data": "a"},
            "gender": GENDER,
            "who": {"kind": "classes", "attribute": "identity", "data": "a"},
        },
    ).tasks
    mixture = Mixture(
        (Source(toy(2, {"gender": ["f", "m"]})), Source(toy(2, {"age": [30, 40]}), "a")), (1, 1)
    )
    assert mixture.labels(tasks["age"]) == [None, None, 30, 40]
    assert mixture.labels(tasks["gender"]) == ["f", "m", None, None]
    assert mixture.labels(tasks["who"]) == [None, None, "0", "1"]
    with complaint("attribute of toy", "'gnder'", "gender"):
        mixture.labels(tasks["gender"].model_copy(update={"attribute": "gnder"}))


# Which tasks are trained


def test_one_task_alone() -> None:
    tasks = {"gender": GENDER, "age": AGE}
    everything = wb.TrainConfig(data="orl", tasks=tasks)
    assert list(active_tasks(everything)) == ["gender", "age"]
    assert trains_recognition(everything)
    alone = wb.TrainConfig(data="orl", tasks=tasks, task="age")
    assert list(active_tasks(alone)) == ["age"]
    assert not trains_recognition(alone)
    recognition = wb.TrainConfig(data="orl", tasks=tasks, task="fr")
    assert not active_tasks(recognition)
    assert trains_recognition(recognition)
    without = wb.TrainConfig(data="orl", tasks={**tasks, "fr": {"weight": 0}})
    assert not trains_recognition(without)


def test_an_unknown_task(complaint) -> None:
    with complaint("unknown task 'gendre'", "gender"):
        wb.TrainConfig(data="orl", tasks={"gender": GENDER}, task="gendre")
    with complaint("setting 'tasks'", "'clases'"):
        wb.TrainConfig(data="orl", tasks={"gender": {"kind": "clases"}})


def test_settings_survive_a_yaml_file(tmp_path: Path) -> None:
    config = wb.TrainConfig(
        data="orl", tasks={"age": {"kind": "ordinal", "weight": "learned"}, "fr": {"weight": 0.5}}
    )
    assert wb.TrainConfig(**json.loads(json.dumps(config.plain()))) == config


# Trainings


@pytest.mark.slow
def test_tasks_learn_and_are_evaluated(chips: str, people: str, tmp_path: Path) -> None:
    tasks = {
        "gender": {**GENDER, "data": chips, "share": 0.5, "weight": 2.0},
        "age": {"kind": "ordinal", "step": 5, "data": chips, "weight": "learned"},
    }
    run = train(tmp_path, "both", data=people, tasks=tasks, epochs=30)
    rows = run.metrics()
    assert {"fr_loss", "gender_loss", "gender_accuracy", "age_loss", "age_mae", "accuracy"} <= {
        *rows
    }
    assert rows["gender_accuracy"].tail(10).mean() > 0.85
    names = {name.rsplit(".", 2)[0] for name in load_file(run.path / "model.safetensors")}
    assert {"tasks.gender", "tasks.age.last"} <= names
    result = wb.evaluate(run, chips, progress=False, with_projection=False)
    assert isinstance(result, wb.evaluation.AttributesResult)
    assert result.classes["gender"].accuracy > 0.8
    assert result.numbers["age"].mae < result.numbers["age"].baseline
    assert "trained on these images" in result.note
    assert wb.evaluation.load_result(run, result.name).summary() == result.summary()
    table = wb.evaluation.leaderboard([run])
    assert table["gender_accuracy"][0] == result.classes["gender"].accuracy
    assert np.isnan(table["accuracy"][0])
    task_data = run.environment["task_data"]
    assert list(task_data) == [chips]


def test_a_stopped_run_is_resumed_bit_for_bit(chips: str, people: str, tmp_path: Path) -> None:
    settings = {
        "data": people,
        "tasks": {
            "gender": {**GENDER, "data": chips, "weight": "learned"},
            "age": {**AGE, "data": chips, "hidden": 4},
            "fr": {"weight": "learned"},
        },
        "augment": "mirror",
    }
    whole = train(tmp_path, "whole", **settings, epochs=4)

    class Stop(wb.training.Callback):
        def on_step(self, training: wb.training.Training) -> None:
            if training.step == 9:
                raise KeyboardInterrupt

    config = ALWAYS | settings | {"epochs": 4, "runs_dir": str(tmp_path), "name": "stopped"}
    with pytest.raises(KeyboardInterrupt):
        wb.train(config, callbacks=[Stop()], progress=False)
    stopped = wb.train(resume=tmp_path / "stopped", progress=False)
    expected = load_file(whole.path / "model.safetensors")
    resumed = load_file(stopped.path / "model.safetensors")
    assert expected.keys() == resumed.keys()
    assert "tasks.log_variance_fr" in expected
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    columns = ["loss", "gender_loss", "age_mae", "fr_weight"]
    assert whole.metrics()[columns].equals(stopped.metrics()[columns])


def test_other_data_of_a_task_cannot_be_resumed(chips: str, tmp_path: Path, complaint) -> None:
    run = train(tmp_path, "a", data=chips, tasks={"gender": {**GENDER, "data": f"{chips}@*x20"}})
    environment = run.environment
    environment["task_data"] = {f"{chips}@*x20": "0123"}
    run.write_environment(environment)
    with complaint("is not the data its tasks began with"):
        wb.train(resume=run, changes={"epochs": 3}, progress=False)


def test_accumulation_gives_the_loss_of_the_large_batch() -> None:
    torch.manual_seed(0)
    loss = wb.losses.create("arcface", embedding_dim=8, num_classes=3)
    config = wb.TrainConfig(data="orl", tasks={"gender": {**GENDER, "weight": "learned"}})
    head = wb.tasks.head_of(config.tasks["gender"], ["a", "b"], 8, "toy")
    objective = Objective(loss, Heads({"gender": head}, {"gender": "learned", "fr": 0.5}))
    embeddings = torch.randn(10, 8)
    labels = torch.tensor([0, 1, UNKNOWN, 2, UNKNOWN, 0, 1, UNKNOWN, UNKNOWN, UNKNOWN])
    targets = {"gender": torch.tensor([0, 1, 1, float("nan"), 0, 1, 0, 0, 1, float("nan")])}
    places = torch.arange(10)
    whole = objective.of_part(embeddings, labels, targets, places)
    parts = [
        objective.of_part(embeddings[part], labels, targets, part)
        for part in places.tensor_split(3)
    ]
    torch.testing.assert_close(sum(one.total for one in parts), whole.total)
    torch.testing.assert_close(sum(one.recognition for one in parts), whole.recognition)
    known = labels != UNKNOWN
    torch.testing.assert_close(whole.recognition, loss(embeddings[known], labels[known]).detach())
    nobody = torch.full((10,), UNKNOWN)
    assert objective.of_part(embeddings, nobody, targets, places).recognition == 0


def test_heads_on_a_frozen_trunk(chips: str, tmp_path: Path) -> None:
    tasks = {"gender": {**GENDER, "frozen_trunk": True}, "age": AGE}
    settings = {"data": chips, "tasks": tasks, "task": "gender", "seed": 5}
    short, long = (train(tmp_path, f"{n}", **settings, epochs=n) for n in (1, 6))
    before, after = (load_file(run.path / "model.safetensors") for run in (short, long))
    assert any(not torch.equal(before[name], after[name]) for name in after if "tasks" in name)
    assert all(torch.equal(before[name], after[name]) for name in after if "tasks" not in name)
    assert not any(name.startswith("tasks.age") for name in after)
    assert (long.metrics()["gender_gradient"] == 0).all()
    assert "accuracy" not in long.metrics()


def test_a_task_alone_reads_its_own_data_only(chips: str, people: str, tmp_path: Path) -> None:
    tasks = {"age": {**AGE, "data": chips, "share": 0.25}}
    run = train(tmp_path, "alone", data=people, tasks=tasks, task="age")
    rows = run.metrics()
    assert rows["step"].max() == 2 * 64 // 16  # epochs of the 64 images of the task
    assert "fr_loss" not in rows
    assert "accuracy" not in rows


def test_recognition_alone_is_as_without_tasks(chips: str, tmp_path: Path) -> None:
    with_tasks = train(tmp_path, "a", data=chips, tasks={"age": AGE}, task="fr")
    without = train(tmp_path, "b", data=chips)
    first, second = (load_file(run.path / "model.safetensors") for run in (with_tasks, without))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_learned_weights_find_the_scale_of_a_loss(chips: str, tmp_path: Path) -> None:
    raw = {"kind": "regression", "loss": "mse", "standardise": False, "weight": "learned"}
    tasks = {"gender": {**GENDER, "weight": "learned"}, "age": raw, "fr": {"weight": 0}}
    run = train(tmp_path, "learned", data=chips, tasks=tasks, epochs=30, schedule="constant")
    last = run.metrics().tail(20).median()
    # In balance, the weight of a squared error is 1 / (2 L).
    assert 0.1 < 2 * last["age_weight"] * last["age_loss"] < 10
    assert last["age_weight"] < 0.2


@pytest.mark.parametrize(
    ("tasks", "texts"),
    [
        ({"age": {**AGE, "attribute": "aeg"}}, ["'aeg'", "age"]),
        ({"race": {"kind": "classes"}}, ["task 'race'", "1 different labels"]),
        ({"gender": AGE}, ["task 'gender'", "expected numbers", "male"]),
    ],
)
def test_mistakes_are_named_before_the_run_exists(
    chips: str, tmp_path: Path, tasks: dict, texts: list[str], complaint
) -> None:
    with complaint(*texts):
        train(tmp_path, "wrong", data=chips, tasks=tasks)
    assert not (tmp_path / "wrong").exists()


def test_two_shares_of_one_data_set(chips: str, people: str, tmp_path: Path, complaint) -> None:
    tasks = {
        "age": {**AGE, "data": chips, "share": 0.2},
        "gender": {**GENDER, "data": chips, "share": 0.3},
    }
    with complaint("has the shares 0.2 and 0.3", "give one share"):
        train(tmp_path, "wrong", data=people, tasks=tasks)


def test_a_run_without_tasks_has_no_attributes(chips: str, tmp_path: Path, complaint) -> None:
    run = train(tmp_path, "plain", data=chips, epochs=1)
    with complaint("has no heads of tasks", "tasks: {gender"):
        wb.evaluate(run, chips, progress=False)


def test_tasks_of_other_attributes(chips: str, tmp_path: Path, complaint) -> None:
    run = train(tmp_path, "plain", data=chips, tasks={"age": AGE}, epochs=1)
    images = data.open(chips)
    bench = data.Attributes(
        data.Dataset("toy", images.images, images.identities, ["a", "b"], {"pose": [0.0] * 64})
    )
    with complaint("has the attributes pose", "estimate age"):
        wb.evaluate(run, bench, progress=False)
    with complaint("flip must be add or none"):
        wb.evaluate(run, chips, flip="concatenate", progress=False)
