"""Evaluations that leave out images, and what is checked before anything is embedded."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import workbench as wb
from workbench import data, runs
from workbench.evaluation import (
    embed,
    embedding,
    evaluate,
    load_angles,
    load_projection,
    load_result,
    preparing,
)
from workbench.evaluation.model import Model

PEOPLE, IMAGES, SIZE = 6, 4, 8
LOST = {2: "person0/2.png", 9: "person2/1.png"}


class Net(nn.Module):
    """The mean of each colour, and of the left half's."""

    embedding_dim, image_size = 6, (SIZE, SIZE)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([images.mean(dim=(2, 3)), images[..., :4].mean(dim=(2, 3))], dim=1)


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    for person in range(PEOPLE):
        (tmp_path / "faces" / f"person{person}").mkdir(parents=True)
        for number in range(IMAGES):
            pixels = np.random.default_rng([person, number]).integers(
                0, 200, (SIZE, SIZE, 3)
            ) + 50 * (np.arange(3) == person % 3)
            Image.fromarray(pixels.astype(np.uint8)).save(
                tmp_path / "faces" / f"person{person}" / f"{number}.png"
            )
    return tmp_path / "faces"


@pytest.fixture
def broken(faces: Path, tmp_path: Path) -> Path:
    """The same, but for two images that cannot be read."""
    copy = Path(shutil.copytree(faces, tmp_path / "copy" / "faces"))
    for name in LOST.values():
        (copy / name).write_bytes(b"GIF89a")
    return copy


@pytest.fixture
def run(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> runs.Run:
    """A run with a given network, so that none has to be trained; its loss has no class centres."""
    made = Model(Net(), None, None, 127.5, 128.0, torch.device("cpu"), 70)  # type: ignore[arg-type]
    for module in (preparing, embedding):
        monkeypatch.setattr(module, "load_model", lambda opened, device, weights: made)
    run = runs.create(tmp_path / "runs", "a", {"loss": "triplet", "data": f"folder:{faces}"})
    fingerprint = data.open(f"folder:{faces}").fingerprint()
    runs.write_json(
        run.path / runs.ENVIRONMENT, {"data": {"fingerprint": fingerprint, "folder": str(tmp_path)}}
    )
    return run


def _evaluate(run: runs.Run, benchmark: Any, **options: Any) -> Any:
    plain: dict[str, Any] = {
        "device": "cpu",
        "bootstrap": 20,
        "with_projection": False,
        "progress": False,
    }
    return evaluate(run, benchmark, **plain | options)


# Images that cannot be read


def test_by_default_they_are_an_error_that_says_how_to_go_on(
    run: runs.Run, broken: Path, complaint: Any
) -> None:
    with complaint("person0/2.png", "--broken skip"):
        _evaluate(run, f"folder:{broken}")
    with complaint("person0/2.png", "--broken skip"):
        embed(run, f"folder:{broken}", device="cpu", progress=False)
    assert run.evaluations() == []


@pytest.mark.usefixtures("pca_for_umap")
def test_pairs_without_them_score_as_they_do_with_them(
    run: runs.Run, faces: Path, broken: Path
) -> None:
    whole = data.benchmark(f"folder:{faces}")
    kept = ~np.isin(whole.pairs, list(LOST)).any(axis=1)
    expected = _evaluate(run, whole)
    found = _evaluate(run, f"folder:{broken}", broken="skip", with_projection=True)
    np.testing.assert_array_equal(found.scores, expected.scores[kept])
    np.testing.assert_array_equal(found.same, whole.same[kept])
    told = (
        f"2 of 24 images, which cannot be read ({broken}/person0/2.png, {broken}/person2/1.png), "
    )
    told += f"{(~kept).sum()} of {len(kept)} pairs"
    assert found.protocol["left out"] == told
    assert told in load_result(run, found.name).note
    stored = run.figures(found.name)
    assert [image["number"] for image in stored["left_out"]] == list(LOST)
    assert stored["fingerprint"] == whole.fingerprint()
    angles, projection = load_angles(run, found.name), load_projection(run, found.name)
    assert angles is not None
    assert projection is not None
    assert np.flatnonzero(np.isnan(angles.own)).tolist() == list(LOST)
    assert sorted({*range(24)} - {*projection[0].points.tolist()}) == list(LOST)


def test_where_all_can_be_read_nothing_is_said(run: runs.Run, faces: Path) -> None:
    result = _evaluate(run, f"folder:{faces}", broken="skip")
    assert "left out" not in result.protocol
    assert "left_out" not in run.figures(result.name)


def test_people_to_be_found_and_strangers_are_left_out(
    run: runs.Run, faces: Path, broken: Path
) -> None:
    def among(folder: Path) -> data.Identification:
        dataset = data.open(f"folder:{folder}")
        numbers = np.arange(PEOPLE * IMAGES).reshape(PEOPLE, IMAGES)
        parts = numbers[:2, :2].ravel(), numbers[:2, 2:].ravel(), numbers[2:].ravel()
        return data.Identification("among", dataset.images, dataset.identities, *parts)

    found = _evaluate(run, among(broken), broken="skip")
    whole = among(faces)
    expected = _evaluate(
        run,
        replace(
            whole, probes=np.array([3, 6, 7]), distractors=np.setdiff1d(whole.distractors, [9])
        ),
    )
    np.testing.assert_array_equal(found.ranks, expected.ranks)
    assert (found.probes, found.distractors) == (3, 15)
    assert "0 of 4 gallery, 1 of 4 probes, 1 of 16 distractors" in found.protocol["left out"]


def test_templates_are_made_of_the_other_images(run: runs.Run, faces: Path, broken: Path) -> None:
    def templates(folder: Path) -> data.Templates:
        dataset = data.open(f"folder:{folder}")
        pairs = np.array(
            [[2 * i, 2 * i + 1] for i in range(6)] + [[2 * i, (2 * i + 3) % 12] for i in range(6)]
        )
        return data.Templates(
            "ijb", dataset.images, np.arange(24) // 2, np.arange(24), pairs, np.arange(12) < 6
        )

    found, whole = _evaluate(run, templates(broken), broken="skip"), templates(faces)
    alone = replace(
        whole, templates=np.where(np.isin(np.arange(24), list(LOST)), 99, whole.templates)
    )
    np.testing.assert_array_equal(found.scores, _evaluate(run, alone).scores)
    assert "0 of 12 pairs" in found.protocol["left out"]


def test_a_closed_set_keeps_its_classes(run: runs.Run, faces: Path) -> None:
    expected = _evaluate(run, "train")
    for number in range(IMAGES):
        (faces / "person3" / f"{number}.png").write_bytes(b"")
    found = _evaluate(run, "train", broken="skip")
    assert len(found.class_names) == len(expected.class_names) == PEOPLE
    assert found.labels.tolist() == np.repeat([0, 1, 2, 4, 5], IMAGES).tolist()
    assert not (found.predicted == 3).any()
    others = expected.predicted[expected.labels != 3]
    np.testing.assert_array_equal(found.predicted[others != 3], others[others != 3])


def test_a_run_that_was_trained_without_them_is_evaluated_without_them(
    run: runs.Run, faces: Path
) -> None:
    (faces / LOST[2]).write_bytes(b"")
    (run.path / runs.CONFIG).write_text(json.dumps(run.config | {"broken": "skip"}))
    result = _evaluate(runs.open(run.path), "train")
    assert result.protocol["left out"].startswith("1 of 24 images")
    with pytest.raises(wb.WorkbenchError, match=r"2\.png"):
        _evaluate(runs.open(run.path), f"folder:{faces}")
    with pytest.raises(wb.WorkbenchError, match=r"2\.png"):
        _evaluate(runs.open(run.path), "train", broken="stop")


def test_too_many_are_an_error(run: runs.Run, broken: Path, complaint: Any) -> None:
    for number in range(12):
        (broken / f"person{number // IMAGES}" / f"{number % IMAGES}.png").write_bytes(b"")
    with complaint("12 of 24 images cannot be read"):
        _evaluate(run, f"folder:{broken}", broken="skip")
    assert run.evaluations() == []


def test_an_unknown_way_with_them_is_an_error(run: runs.Run, broken: Path, complaint: Any) -> None:
    with complaint("'skipp'", "did you mean 'skip'"):
        _evaluate(run, f"folder:{broken}", broken="skipp")


def test_embeddings_of_the_others_come_with_pairs_of_their_rows(
    run: runs.Run, faces: Path, broken: Path, tmp_path: Path
) -> None:
    whole = embed(run, data.benchmark(f"folder:{faces}"), device="cpu", progress=False)
    kept = np.setdiff1d(np.arange(24), list(LOST))
    out = tmp_path / "out.npz"
    found = embed(
        run,
        data.benchmark(f"folder:{broken}"),
        device="cpu",
        broken="skip",
        out=out,
        progress=False,
    )
    np.testing.assert_array_equal(found.embeddings, whole.embeddings[kept])
    np.testing.assert_array_equal(found.identities, whole.identities[kept])
    pairs = whole.parts["pairs"]
    np.testing.assert_array_equal(
        kept[found.parts["pairs"]], pairs[np.isin(pairs, kept).all(axis=1)]
    )
    assert [
        image["number"] for image in wb.evaluation.load_embeddings(out).made["left out"]
    ] == list(LOST)


def test_names_that_are_no_utf8_are_stored_as_valid_json(run: runs.Run, broken: Path) -> None:
    os.rename(os.fsencode(broken / "person0"), os.fsencode(broken) + b"/person\xff")
    result = _evaluate(run, f"folder:{broken}", broken="skip")
    text = (run.path / runs.EVALUATION / f"{result.name}.json").read_text()
    assert json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8")
    assert r"person\udcff/2.png" in result.protocol["left out"]


# Where the training set is


def test_a_training_set_that_was_moved_is_named_and_its_new_place_taken(
    run: runs.Run, faces: Path, tmp_path: Path, complaint: Any
) -> None:
    expected = _evaluate(run, "train").accuracy
    moved = faces.rename(tmp_path / "moved")
    with complaint(f"'folder:{faces}' is stored in {run.path / runs.CONFIG}", "--data SPEC"):
        _evaluate(run, "train")
    assert _evaluate(run, "train", training_data=f"folder:{moved}").accuracy == expected
    assert run.figures("train")["training_data"] == f"folder:{moved}"
    shutil.rmtree(moved / "person1")
    with complaint("--data", "is not what a was trained on", "fingerprint"):
        _evaluate(run, "train", training_data=f"folder:{moved}")


# Before anything is embedded


@pytest.mark.parametrize("what", ["evaluate", "embed"])
def test_a_folder_that_cannot_be_written_to_is_found_before_anything_is_embedded(
    run: runs.Run, faces: Path, what: str, monkeypatch: pytest.MonkeyPatch, complaint: Any
) -> None:
    monkeypatch.delattr(Model, "embed")

    def denied(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.NamedTemporaryFile", denied)
    with complaint("cannot be written (Read-only file system)"):
        if what == "evaluate":
            _evaluate(run, f"folder:{faces}")
        else:
            embed(run, f"folder:{faces}", device="cpu", out=run.path / "out.npz", progress=False)


@pytest.mark.parametrize("what", ["evaluate", "embed"])
def test_a_full_disk_is_found_before_anything_is_embedded(
    run: runs.Run, faces: Path, what: str, monkeypatch: pytest.MonkeyPatch, complaint: Any
) -> None:
    monkeypatch.delattr(Model, "embed")
    monkeypatch.setattr("workbench.files.free_bytes", lambda folder: 2**20 + 100)
    with complaint("free on this disk"):
        if what == "evaluate":
            _evaluate(run, f"folder:{faces}")
        else:
            embed(run, f"folder:{faces}", device="cpu", out=run.path / "out.npz", progress=False)


# Figures that say nothing


def test_equal_scores_are_told(run: runs.Run, tmp_path: Path) -> None:
    for person in range(4):
        (tmp_path / "grey" / f"person{person}").mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (SIZE, SIZE), (90, 90, 90)).save(
                tmp_path / "grey" / f"person{person}" / f"{number}.png"
            )
    result = _evaluate(run, f"folder:{tmp_path / 'grey'}")
    assert "scores are equal: the network maps every image to the same embedding" in result.note
    assert result.auc == 0.5
