"""From a trained run and a benchmark to stored figures."""

from __future__ import annotations

import io
import json
import pickle
import shutil
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import normalize

import workbench as wb
from workbench import data, runs
from workbench.evaluation import (
    PRESETS,
    ClosedSetResult,
    IdentificationResult,
    Protocol,
    VerificationResult,
    arcface_torch,
    invariance_curves,
    leaderboard,
    load_angles,
    load_gaps,
    load_model,
    load_projection,
    load_result,
)
from workbench.evaluation.evaluators import search
from workbench.evaluation.model import Model

PEOPLE, IMAGES, SIZE = 4, 5, 16


def _picture(person: int, seed: int) -> NDArray[np.uint8]:
    """One colour a person, with noise."""
    colour = np.array([255 * (person & 1), 255 * (person >> 1 & 1), 128])
    return np.clip(
        colour + np.random.default_rng(seed).normal(0, 40, (SIZE, SIZE, 3)), 0, 255
    ).astype(np.uint8)


def _paint(root: Path, people: Sequence[int] = range(PEOPLE), first_seed: int = 0) -> Path:
    for person in people:
        (root / f"person{person}").mkdir(parents=True)
        for number in range(IMAGES):
            pixels = _picture(person, first_seed + 100 * person + number)
            Image.fromarray(pixels).save(root / f"person{person}" / f"{number}.png")
    return root


def _pack(path: Path, same: Sequence[bool], seed: int = 0) -> Path:
    """A verification pack of people 0 and 1."""
    encoded = []
    for pair, genuine in enumerate(same):
        for person, picture_seed in (
            (pair % 2, 2 * pair),
            (pair % 2 if genuine else (pair + 1) % 2, 2 * pair + 1),
        ):
            buffer = io.BytesIO()
            Image.fromarray(_picture(person, seed + picture_seed)).save(buffer, "png")
            encoded.append(buffer.getvalue())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps((encoded, list(same))))
    return path


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _paint(tmp_path_factory.mktemp("data") / "faces")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _paint(tmp_path_factory.mktemp("data") / "others", first_seed=5000)


@pytest.fixture(scope="module")
def trained(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    """A one-second run; tests work on copies of it."""
    return wb.train(
        {
            "data": f"folder:{faces}",
            "image_size": SIZE,
            "embedding_dim": 8,
            "batch_size": 10,
            "epochs": 12,
            "lr": 0.05,
            "backbone_options": {"width": 8},
            "loss_options": {"s": 16.0, "m": 0.2},
            "device": "cpu",
            "precision": "fp32",
            "name": "a",
            "runs_dir": str(tmp_path_factory.mktemp("runs")),
        },
        progress=False,
    )


@pytest.fixture
def run(trained: runs.Run, tmp_path: Path) -> runs.Run:
    return runs.open(shutil.copytree(trained.path, tmp_path / "runs" / "a"))


def _evaluate(run: runs.Run, benchmark: Any, **options: Any) -> Any:
    plain: dict[str, Any] = {
        "device": "cpu",
        "bootstrap": 20,
        "with_projection": False,
        "progress": False,
    }
    return wb.evaluate(run, benchmark, **plain | options)


def _assert_equal(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    for field in fields(one):
        if is_dataclass(getattr(one, field.name)):
            _assert_equal(getattr(one, field.name), getattr(other, field.name))
        else:
            np.testing.assert_equal(
                getattr(one, field.name), getattr(other, field.name), err_msg=field.name
            )


# What can be evaluated on


def test_a_folder_of_other_images_gives_verification_figures(run: runs.Run, others: Path) -> None:
    result = _evaluate(run, f"folder:{others}")
    assert result.auc == pytest.approx(roc_auc_score(result.same, result.scores))
    assert result.auc > 0.9  # colours are easily told apart
    assert np.abs(result.scores).max() <= 1
    assert run.evaluations() == ["others"]
    assert "training images" not in result.note
    _assert_equal(load_result(run, "others"), result)


def test_a_pack_gives_verification_figures(run: runs.Run, tmp_path: Path) -> None:
    pack = _pack(tmp_path / "pack.bin", [True, True, False, False] * 5)
    result = _evaluate(run, f"bin:{pack}")
    assert result.same.tolist() == [True, True, False, False] * 5
    assert result.folds.tolist() == np.repeat(range(10), 2).tolist()
    assert result.auc > 0.9
    _assert_equal(load_result(run, "pack"), result)
    assert load_angles(run, "pack") is None  # nobody says who is on the pictures


def test_the_training_images_give_closed_set_figures(run: runs.Run) -> None:
    result = _evaluate(run, "train")
    assert isinstance(result, ClosedSetResult)
    assert result.labels.tolist() == np.repeat(range(PEOPLE), IMAGES).tolist()
    assert result.accuracy > 0.7
    assert "training images" in result.note
    _assert_equal(load_result(run, "train"), result)


def test_an_opened_benchmark_will_do(run: runs.Run, others: Path) -> None:
    named = _evaluate(run, f"folder:{others}")
    opened = _evaluate(run, data.benchmark(f"folder:{others}"))
    np.testing.assert_array_equal(opened.scores, named.scores)


def test_an_opened_closed_set_will_do(run: runs.Run, others: Path) -> None:
    result = _evaluate(run, data.ClosedSet(data.open(f"folder:{others}")))
    assert result.accuracy > 0.7
    assert load_result(run, "others").accuracy == result.accuracy


def test_the_path_of_a_run_will_do(run: runs.Run, others: Path) -> None:
    assert _evaluate(str(run.path), f"folder:{others}").name == "others"


def test_pairs_of_what_was_trained_on_in_part_are_marked_as_such(
    run: runs.Run, faces: Path, others: Path
) -> None:
    for spec in (f"folder:{faces}@*x3", f"folder:{others}+folder:{faces}"):
        note = _evaluate(run, spec).note
        assert (
            "pairs from a data set that the run was also trained on: the figures are far too good "
            "if people are in both parts" in note
        )
    assert "trained on" not in _evaluate(run, f"folder:{others}@*x3").note


def test_pairs_of_the_training_images_are_marked_as_such(run: runs.Run, faces: Path) -> None:
    result = _evaluate(run, f"folder:{faces}")
    assert "pairs of the training images" in result.note
    assert load_result(run, "faces").note == result.note


# How it is measured


def test_scores_are_cosines_of_the_models_embeddings(run: runs.Run, others: Path) -> None:
    benchmark = data.benchmark(f"folder:{others}")
    embeddings = load_model(run, "cpu").embed(benchmark.images).astype(np.float64)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    expected = [embeddings[i] @ embeddings[j] for i, j in benchmark.pairs]
    np.testing.assert_allclose(_evaluate(run, benchmark).scores, expected, atol=1e-6)


def test_a_pair_of_one_image_with_itself_scores_one(run: runs.Run, others: Path) -> None:
    benchmark = data.benchmark(f"folder:{others}")
    same_image = replace(
        benchmark, pairs=np.where(benchmark.same[:, None], benchmark.pairs[:, :1], benchmark.pairs)
    )
    result = _evaluate(run, same_image)
    np.testing.assert_allclose(result.scores[result.same], 1.0, atol=1e-6)


def test_flip_is_a_choice_that_the_protocol_tells(run: runs.Run, others: Path) -> None:
    added, plain = (_evaluate(run, f"folder:{others}", flip=flip) for flip in ("add", "none"))
    assert not np.allclose(added.scores, plain.scores)
    assert (added.protocol["flip"], plain.protocol["flip"]) == (
        "embeddings of image and mirror image added",
        "none",
    )


@pytest.mark.parametrize("protocol", PRESETS)
def test_every_preset_states_all_its_options(run: runs.Run, others: Path, protocol: str) -> None:
    result = _evaluate(run, f"folder:{others}", protocol=protocol)
    assert result.name == "others" + PRESETS[protocol].suffix
    assert {**result.protocol, **PRESETS[protocol].words()} == result.protocol
    assert result.protocol["image scaling"] == "(x - 127.5) / 127.5, RGB, 16 x 16"
    assert result.protocol["folds"] == 2
    assert ("3.99" in result.protocol["threshold"]) == (protocol == "arcface_torch")
    assert "jackknife over 4 groups of people (4 in all)" in result.protocol["interval"]
    _assert_equal(load_result(run, result.name), result)


def test_protocols_do_not_overwrite_each_other(run: runs.Run, others: Path) -> None:
    usual = _evaluate(run, f"folder:{others}")
    for options in (
        {"protocol": "arcface_torch"},
        {"flip": "none"},
        {"protocol": Protocol(folds=3)},
    ):
        _evaluate(run, f"folder:{others}", **options)
    assert run.evaluations() == [
        "others",
        "others+arcface_torch",
        "others+flip-none",
        "others+folds-3",
    ]
    _assert_equal(load_result(run, "others"), usual)
    table = leaderboard([run])
    assert table["protocol"].tolist() == [
        "workbench",
        "arcface_torch",
        "workbench+flip-none",
        "workbench+folds-3",
    ]


def test_benchmarks_of_one_name_are_told_apart_under_any_protocol(
    run: runs.Run, tmp_path: Path
) -> None:
    one, other = (
        f"bin:{_pack(tmp_path / place / 'pack.bin', [True, False] * 10, seed)}"
        for place, seed in (("a", 0), ("b", 900))
    )
    _evaluate(run, one)
    named = _evaluate(run, other, protocol="arcface_torch").name
    assert named.startswith("pack-")
    assert named.endswith("+arcface_torch")
    assert _evaluate(run, one, protocol="arcface_torch").name == "pack+arcface_torch"
    assert run.evaluation(named)[0]["benchmark"] == other


def test_the_preset_arcface_torch_finds_its_accuracy(run: runs.Run, tmp_path: Path) -> None:
    pack = _pack(tmp_path / "pack.bin", [True, True, False, False] * 10)
    result = _evaluate(run, f"bin:{pack}", protocol="arcface_torch")
    summed = load_model(run, "cpu").embed(data.benchmark(f"bin:{pack}").images).astype(np.float64)
    expected = arcface_torch.evaluate(normalize(summed), result.same)
    np.testing.assert_array_equal(result.fold_accuracy, expected.accuracy)
    assert result.scores.max() <= 0


def test_concatenated_embeddings_are_those_of_image_and_mirror_image(
    run: runs.Run, others: Path
) -> None:
    images = data.open(f"folder:{others}").images
    model = load_model(run, "cpu")
    plain, added, both = (model.embed(images, flip=flip) for flip in ("none", "add", "concatenate"))
    assert both.shape == (PEOPLE * IMAGES, 16)
    np.testing.assert_array_equal(both[:, :8], plain)
    np.testing.assert_allclose(both[:, :8] + both[:, 8:], added, atol=1e-5)
    result = _evaluate(run, _among(others), flip="concatenate")
    assert result.name == "among+flip-concatenate"
    assert result.accuracy > 0.7


@pytest.mark.parametrize(
    ("benchmark", "options", "said"),
    [
        ("train", {"protocol": "arcface_torch"}, "is for benchmarks of pairs"),
        ("train", {"flip": "concatenate"}, "add or none"),
        ("among", {"protocol": "sphereface"}, "is for benchmarks of pairs"),
        ("train", {"protocol": "arcface"}, "did you mean 'arcface_torch'"),
        ("train", {"flip": "sub"}, "unknown flip"),
    ],
)
def test_a_protocol_that_does_not_fit_is_refused(
    run: runs.Run, others: Path, benchmark: str, options: dict[str, Any], said: str, complaint: Any
) -> None:
    with complaint(said):
        _evaluate(run, _among(others) if benchmark == "among" else benchmark, **options)
    assert run.evaluations() == []


def test_intervals_know_the_people_of_the_pairs(run: runs.Run, others: Path) -> None:
    benchmark = data.benchmark(f"folder:{others}")
    assert isinstance(benchmark, data.Benchmark)
    assert benchmark.identities is not None
    result = _evaluate(run, benchmark)
    np.testing.assert_array_equal(result.people, benchmark.identities[benchmark.pairs])
    assert "people (4 in all)" in result.protocol["interval"]
    stored = load_result(run, benchmark.name)
    assert isinstance(stored, VerificationResult)
    np.testing.assert_array_equal(stored.people, result.people)
    anonymous = replace(benchmark, identities=None, identity_names=())
    assert "who is on the pairs is not known" in _evaluate(run, anonymous).protocol["interval"]
    assert _evaluate(run, benchmark, bootstrap=0).intervals == {}


def test_labels_never_influence_scores(run: runs.Run, others: Path) -> None:
    benchmark = data.benchmark(f"folder:{others}")
    assert isinstance(benchmark, data.Benchmark)
    assert benchmark.identities is not None
    shuffle = np.random.default_rng(0).permutation
    mislabelled = replace(
        benchmark, identities=shuffle(benchmark.identities), same=shuffle(benchmark.same)
    )
    anonymous = replace(benchmark, identities=None, identity_names=())
    for protocol in PRESETS:
        scores = _evaluate(run, benchmark, protocol=protocol).scores
        np.testing.assert_array_equal(_evaluate(run, mislabelled, protocol=protocol).scores, scores)
        np.testing.assert_allclose(
            _evaluate(run, anonymous, protocol=protocol).scores, scores, atol=1e-6
        )


def test_labels_never_influence_predictions(run: runs.Run, others: Path) -> None:
    dataset = data.open(f"folder:{others}")
    mislabelled = replace(
        dataset, identities=np.random.default_rng(0).permutation(dataset.identities)
    )
    honest, permuted = (
        _evaluate(run, data.ClosedSet(labelled)) for labelled in (dataset, mislabelled)
    )
    np.testing.assert_array_equal(honest.predicted, permuted.predicted)
    assert honest.accuracy > permuted.accuracy


def test_images_in_no_pair_are_not_decoded_where_nobody_is_known(run: runs.Run) -> None:
    class Pictures:
        def __len__(self) -> int:
            return 9

        def __getitem__(self, index: int) -> NDArray[np.uint8]:
            assert index < 8
            return _picture(index // 4, index)

    pairs, same = np.array([[0, 1], [2, 6], [4, 5], [3, 7]]), np.array([True, False, True, False])
    result = _evaluate(run, data.Benchmark("some", Pictures(), pairs, same, np.array([0, 0, 1, 1])))
    assert np.isfinite(result.scores).all()


def test_angles_are_stored_for_known_people_and_for_classes(run: runs.Run, others: Path) -> None:
    for benchmark in (f"folder:{others}", "train"):
        angles = load_angles(run, _evaluate(run, benchmark).name)
        assert angles is not None
        assert angles.own.shape == angles.other.shape == (PEOPLE * IMAGES,)
        assert angles.own.mean() < angles.other.mean()


def test_a_projection_is_stored_where_it_is_wanted(run: runs.Run, tmp_path: Path) -> None:
    few = data.Benchmark(
        "few",
        [_picture(i // 2, i) for i in range(4)],
        np.array([[0, 1], [0, 2]]),
        np.array([1, 0]) > 0,
        np.arange(2),
    )
    _evaluate(run, few)
    assert load_projection(run, "few") is None
    _evaluate(run, few, with_projection=True)
    stored = load_projection(run, "few")
    assert stored is not None
    assert stored[0].points.tolist() == [0, 1, 2]  # the fourth picture is in no pair
    assert stored[0].pca.shape == (3, 2)
    assert stored[0].labels.tolist() == [-1] * 3


def test_a_benchmark_that_knows_its_factors_gives_invariance_curves(run: runs.Run) -> None:
    """Six people of one colour each; the darker the second image, the less similar it is."""
    levels = np.array([0, 0, 30, 60, 90])
    pictures, people = [], np.repeat(np.arange(6), len(levels))
    for person, angle in zip(people, np.tile(levels, 6), strict=True):
        pictures.append(
            (_picture(person % 4, 7 * person + angle) * np.cos(np.radians(0.9 * angle))).astype(
                np.uint8
            )
        )
    first = 5 * np.arange(6)
    genuine = [(one, one + number) for one in first for number in range(1, 5)]
    impostor = [
        (one, other) for one in first for other in first + 1 if people[one] % 4 != people[other] % 4
    ]
    pairs = np.array(genuine + impostor)
    attributes = {
        "illumination": np.tile(levels, 6).astype(float),
        "yaw": np.zeros(30),
        "factor": np.tile(["none", "none", "illumination", "illumination", "illumination"], 6),
    }
    same, folds = np.arange(len(pairs)) < len(genuine), np.arange(len(pairs)) % 2
    benchmark = data.Benchmark("sweep", pictures, pairs, same, folds, people, attributes=attributes)
    result = _evaluate(run, benchmark)
    gaps = load_gaps(run, "sweep")
    assert gaps is not None
    assert gaps.controlled
    assert list(gaps.by_factor) == ["illumination"]
    np.testing.assert_array_equal(gaps.people, people[pairs])
    curve = invariance_curves(run, "sweep", far=0.1, bootstrap=30)["illumination"]
    assert curve.gap.tolist() == [0, 30, 60, 90]
    assert curve.count.tolist() == [6] * 4
    for number, level in enumerate(curve.gap):
        mine = result.scores[same & (levels[pairs[:, 1] % 5] == level)]
        assert curve.mean[number] == pytest.approx(mine.mean())
    assert curve.median[0] > curve.median[-1]
    assert (
        load_gaps(run, _evaluate(run, replace(benchmark, attributes={}, name="plain")).name) is None
    )
    assert load_gaps(run, _evaluate(run, "train").name) is None


# Where it is stored


def test_benchmarks_of_one_name_get_files_of_their_own_and_overwrite_only_those(
    run: runs.Run, tmp_path: Path
) -> None:
    one, other = (
        _pack(tmp_path / place / "pack.bin", [True, False] * 10, seed)
        for place, seed in (("a", 0), ("b", 900))
    )
    first, second = (_evaluate(run, f"bin:{pack}") for pack in (one, other))
    assert first.name == "pack"
    assert second.name.startswith("pack-")
    for _ in range(2):
        for pack in (other, one):
            _evaluate(run, f"bin:{pack}")
    assert run.evaluations() == ["pack", second.name]
    _assert_equal(load_result(run, "pack"), first)
    _assert_equal(load_result(run, second.name), second)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a b/ü:c", "...", ""])
def test_a_benchmarks_name_becomes_a_plain_file_name(
    run: runs.Run, others: Path, name: str
) -> None:
    result = _evaluate(run, replace(data.benchmark(f"folder:{others}"), name=name))
    assert run.evaluations() == [result.name]
    assert sorted(path.name for path in (run.path / runs.EVALUATION).iterdir()) == [
        f"{result.name}.json",
        f"{result.name}.npz",
    ]


@pytest.mark.parametrize("file", ["others.npz", "others.json"])
def test_a_damaged_evaluation_is_replaced_by_evaluating_again(
    run: runs.Run, others: Path, file: str, complaint: Any
) -> None:
    before = _evaluate(run, f"folder:{others}")
    (run.path / runs.EVALUATION / file).write_bytes(b"PK")
    with complaint("others"):
        load_result(run, "others")
    _assert_equal(_evaluate(run, f"folder:{others}"), before)
    _assert_equal(load_result(run, "others"), before)
    assert run.evaluations() == ["others"]


# What goes wrong


@pytest.mark.parametrize(
    ("kind", "said"),
    [(True, "4 genuine and 0 impostor pairs"), (False, "0 genuine and 4 impostor pairs")],
)
def test_a_pack_with_pairs_of_one_kind_is_an_error_before_anything_is_embedded(
    run: runs.Run,
    tmp_path: Path,
    complaint: Any,
    monkeypatch: pytest.MonkeyPatch,
    kind: bool,
    said: str,
) -> None:
    monkeypatch.delattr(Model, "embed")
    pack = _pack(tmp_path / "pack.bin", [kind] * 4)
    with complaint("pack: ", said):
        _evaluate(run, f"bin:{pack}")
    assert run.evaluations() == []
    assert not (run.path / runs.EVALUATION).exists()


def test_the_training_folder_is_known_by_any_spelling(run: runs.Run, faces: Path) -> None:
    assert "training images" in _evaluate(run, f"folder:{faces}/../{faces.name}/").note


def test_another_number_of_classes_is_an_error(
    run: runs.Run, tmp_path: Path, complaint: Any
) -> None:
    three = _paint(tmp_path / "three", range(3))
    with complaint("3 classes", "knows the 4"):
        _evaluate(run, data.ClosedSet(data.open(f"folder:{three}")))
    assert run.evaluations() == []


def test_a_closed_set_of_another_kind_than_the_training_set_is_an_error(
    run: runs.Run, complaint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opener = {"hats": lambda path="": data.ClosedSet(data.open(str(run.config["data"])))}
    monkeypatch.setattr(data.BENCHMARKS, "_factories", data.BENCHMARKS._factories | opener)
    with complaint("closed-set accuracy needs the classes of the training set"):
        _evaluate(run, "hats")
    assert run.evaluations() == []


def test_training_images_that_have_changed_are_an_error(
    run: runs.Run, faces: Path, tmp_path: Path, complaint: Any
) -> None:
    moved = shutil.copytree(faces, tmp_path / "faces")
    (run.path / runs.CONFIG).write_text(
        (run.path / runs.CONFIG).read_text().replace(str(faces), str(moved))
    )
    assert _evaluate(runs.open(run.path), "train").accuracy > 0.7
    (moved / "person0" / "0.png").unlink()
    with complaint("no longer what a was trained on"):
        _evaluate(runs.open(run.path), "train")


@pytest.mark.parametrize("environment", [{}, {"data": None}, {"data": "faces"}, {"data": {}}])
def test_a_run_that_does_not_tell_its_data_is_an_error(
    run: runs.Run, environment: dict[str, Any], complaint: Any
) -> None:
    (run.path / runs.ENVIRONMENT).write_text(json.dumps(environment))
    with complaint("no longer what a was trained on"):
        _evaluate(run, "train")


def test_a_broken_image_is_an_error_and_stores_nothing(
    run: runs.Run, tmp_path: Path, complaint: Any
) -> None:
    broken = _paint(tmp_path / "broken")
    (broken / "person1" / "2.png").write_bytes(b"\x89PNG")
    with complaint("2.png"):
        _evaluate(run, f"folder:{broken}")
    assert run.evaluations() == []


@pytest.mark.parametrize("benchmark", ["folder:nowhere", "bin:nowhere", "lfww", "", "Train"])
def test_an_unknown_benchmark_is_an_error(run: runs.Run, benchmark: str, complaint: Any) -> None:
    with complaint():
        _evaluate(run, benchmark)


def test_an_unknown_run_is_an_error(run: runs.Run, complaint: Any) -> None:
    with complaint("unknown run", "did you mean"):
        _evaluate(run.path.with_name("b"), "train")


# Identification


def _among(others: Path, **changes: Any) -> data.Identification:
    """People 0 and 1 are enrolled with two images each; people 2 and 3 are the distractors."""
    dataset = data.open(f"folder:{others}")
    numbers = np.arange(PEOPLE * IMAGES).reshape(PEOPLE, IMAGES)
    parts = {
        "gallery": numbers[:2, :2].ravel(),
        "probes": numbers[:2, 2:].ravel(),
        "distractors": numbers[2:, 1:].ravel(),
    }
    names = tuple(dataset.identity_names)
    made = data.Identification(
        "among",
        dataset.images,
        dataset.identities,
        **parts,
        identity_names=names,
        note="two people",
    )
    return replace(made, **changes)


def test_an_identification_gives_rank_one(run: runs.Run, others: Path) -> None:
    result = _evaluate(run, _among(others))
    assert isinstance(result, IdentificationResult)
    assert result.accuracy > 0.7  # colours are easily told apart
    assert (result.enrolled, result.distractors, result.genuine) == (2, 8, 12)
    assert (result.name, result.note, result.protocol["flip"]) == (
        "among",
        "two people",
        "embeddings of image and mirror image added",
    )
    assert run.evaluation("among")[0]["fingerprint"] == _among(others).fingerprint()
    _assert_equal(load_result(run, "among"), result)


def test_a_registered_identification_is_found_by_its_name(
    run: runs.Run, others: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opener = {"among": lambda path="": _among(others)}
    monkeypatch.setattr(data.BENCHMARKS, "_factories", data.BENCHMARKS._factories | opener)
    named, opened = _evaluate(run, "among"), _evaluate(run, _among(others))
    _assert_equal(named, opened)
    assert run.evaluation("among")[0]["benchmark"] == "among"


def test_identification_is_that_of_the_models_embeddings(run: runs.Run, others: Path) -> None:
    target = _among(others)
    embeddings = load_model(run, "cpu").embed(target.images).astype(np.float64)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    scores = embeddings[target.probes] @ embeddings.T
    same = target.identities[target.probes][:, None] == target.identities[target.gallery]
    own, other = (
        np.where(mine, scores[:, target.gallery], -1).max(axis=1) for mine in (same, ~same)
    )
    strangers = (scores[:, target.distractors] >= own[:, None]).sum(axis=1)
    np.testing.assert_array_equal(_evaluate(run, target).ranks, 1 + (other >= own) + strangers)


@pytest.mark.usefixtures("pca_for_umap")
def test_angles_and_map_of_an_identification_are_of_the_enrolled_people(
    run: runs.Run, others: Path
) -> None:
    target = _among(others)
    _evaluate(run, target, with_projection=True)
    angles, stored = load_angles(run, "among"), load_projection(run, "among")
    assert angles is not None
    assert np.flatnonzero(np.isfinite(angles.own)).tolist() == list(range(2 * IMAGES))
    assert angles.own.shape == (PEOPLE * IMAGES,)
    assert stored is not None
    assert sorted(stored[0].points.tolist()) == list(range(2 * IMAGES))


def test_very_many_distractors_wait_in_a_file_that_is_gone_afterwards(
    run: runs.Run, others: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _evaluate(
        run, _among(others), batch_size=1
    )  # an embedding's last bits depend on what is beside it
    before = sorted(path.name for path in run.path.iterdir())
    monkeypatch.setattr(search, "CHUNK", 3)
    _assert_equal(_evaluate(run, _among(others), batch_size=1), whole)
    assert sorted(path.name for path in run.path.iterdir()) == before


def test_strangers_search_too_and_the_rule_for_candidates_is_the_benchmarks(
    run: runs.Run, others: Path
) -> None:
    result = _evaluate(run, _among(others, candidates="megaface"))
    people = 2 * IMAGES
    assert (result.candidates, result.probes, len(result.ranks)) == (
        "megaface",
        people,
        people * (IMAGES - 1),
    )
    assert (len(result.open_set.mated), len(result.open_set.nonmated)) == (people - 4, 8)
    assert set(result.open_set.intervals) == set(result.open_set.fnir_at_fpir)
    _assert_equal(load_result(run, "among"), result)


def test_images_without_a_part_in_the_identification_are_not_decoded(
    run: runs.Run, others: Path
) -> None:
    class Pictures:
        def __len__(self) -> int:
            return PEOPLE * IMAGES

        def __getitem__(self, index: int) -> NDArray[np.uint8]:
            assert index % IMAGES or index < 2 * IMAGES  # the first images of the strangers
            return _picture(index // IMAGES, index)

    assert np.isfinite(_evaluate(run, _among(others, images=Pictures())).cmc).all()
