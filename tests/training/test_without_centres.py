"""A run whose loss has no class centres, from training to evaluation."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

import workbench as wb
from workbench import data, runs
from workbench.evaluation import (
    ClosedSetResult,
    load_angles,
    load_model,
    load_result,
    to_identity_means,
)

PEOPLE, IMAGES = 6, 6


def _paint(root: Path, seed: int = 0, images: int = IMAGES) -> Path:
    """A shade a person, with noise."""
    draw = np.random.default_rng(seed)
    for person in range(PEOPLE):
        (root / f"p{person}").mkdir(parents=True)
        for number in range(images):
            pixels = np.clip(40 * person + draw.normal(0, 12, (16, 16, 3)) + 20, 0, 255).astype(
                np.uint8
            )
            Image.fromarray(pixels).save(root / f"p{person}" / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    root = tmp_path_factory.mktemp("centreless")
    return wb.train(
        {
            "data": f"folder:{_paint(root / 'faces')}",
            "loss": "triplet",
            "image_size": 16,
            "embedding_dim": 8,
            "backbone_options": {"width": 8},
            "batch_size": 12,
            "epochs": 12,
            "lr": 0.03,
            "device": "cpu",
            "precision": "fp32",
            "runs_dir": str(root / "runs"),
        },
        progress=False,
    )


@pytest.fixture
def run(made: runs.Run, tmp_path: Path) -> runs.Run:
    return runs.open(shutil.copytree(made.path, tmp_path / "a"))


def _evaluate(run: runs.Run, benchmark: Any) -> Any:
    return wb.evaluate(
        run, benchmark, bootstrap=0, with_projection=False, device="cpu", progress=False
    )


def test_the_model_has_no_centres_and_says_so(made: runs.Run, complaint: Any) -> None:
    model = load_model(made, "cpu")
    assert model.centres is None
    assert isinstance(model.loss, wb.losses.Triplet)
    with complaint("no class centres"):
        model.classify(np.zeros((1, 8), dtype=np.float32))


def test_pairs_are_verified_as_ever(run: runs.Run) -> None:
    assert _evaluate(run, run.config["data"]).auc > 0.9


def test_the_training_images_are_given_to_the_nearest_mean_of_the_others(run: runs.Run) -> None:
    result = _evaluate(run, "train")
    assert isinstance(result, ClosedSetResult)
    assert result.accuracy > 0.7
    assert "no class centres" in result.note
    assert "training images: shows how well" in result.note
    assert "nearest class mean, by cosine" in result.protocol["prediction"]
    assert "itself left out" in result.protocol["prediction"]
    assert load_result(run, "train").protocol == result.protocol
    dataset = data.open(run.config["data"])
    embeddings = load_model(run, "cpu").embed(dataset.images)
    expected = to_identity_means(embeddings, dataset.identities)
    stored = load_angles(run, "train")
    assert stored is not None
    np.testing.assert_allclose(stored.own, expected.own)
    np.testing.assert_array_equal(result.predicted == result.labels, expected.own < expected.other)


def test_other_images_of_the_same_people_are_given_to_the_means_of_the_training_images(
    run: runs.Run, tmp_path: Path
) -> None:
    fresh = data.ClosedSet(data.open(f"folder:{_paint(tmp_path / 'fresh', seed=1, images=9)}"))
    result = _evaluate(run, fresh)
    assert result.accuracy > 0.7
    assert "left out" not in result.protocol["prediction"]
    assert "no class centres" in result.note


def test_another_number_of_people_is_one_line(
    run: runs.Run, tmp_path: Path, complaint: Any
) -> None:
    fewer = _paint(tmp_path / "fewer")
    shutil.rmtree(fewer / "p0")
    with complaint("5 classes", "knows the 6 of"):
        _evaluate(run, data.ClosedSet(data.open(f"folder:{fewer}")))


def test_a_classifier_that_lost_its_centres_is_one_line(run: runs.Run, complaint: Any) -> None:
    (run.path / runs.CONFIG).write_text(yaml.safe_dump(run.config | {"loss": "cosface"}))
    with complaint("loss is 'cosface', but model.safetensors was trained with 'triplet'"):
        load_model(runs.open(run.path), "cpu")


@pytest.mark.parametrize("missing", ["embedding_dim", "image_size"])
def test_settings_that_the_network_needs_are_missed(
    run: runs.Run, missing: str, complaint: Any
) -> None:
    (run.path / runs.CONFIG).write_text(
        yaml.safe_dump({key: value for key, value in run.config.items() if key != missing})
    )
    with complaint("no class centres" if missing == "embedding_dim" else "lacks image_size"):
        load_model(runs.open(run.path), "cpu")


def test_centres_in_a_file_that_should_have_none_are_one_line(
    run: runs.Run, complaint: Any
) -> None:
    tensors = load_file(run.path / runs.MODEL) | {"loss.weight": torch.zeros(6, 8)}
    save_file(tensors, run.path / runs.MODEL)
    with complaint("does not fit"):
        load_model(run, "cpu")


def test_sphereface_is_evaluated_as_a_classifier(made: runs.Run, tmp_path: Path) -> None:
    settings = made.config | {
        "loss": "sphereface",
        "runs_dir": str(tmp_path / "runs"),
        "name": "sphere",
        "images_per_identity": None,
    }
    run = wb.train(settings, progress=False)
    assert load_model(run, "cpu").loss.state_dict()["step"] == run.status["total"]
    result = _evaluate(run, "train")
    assert result.accuracy > 0.7
    assert "highest logit" in result.protocol["prediction"]
