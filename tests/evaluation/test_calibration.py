"""Calibrations and verdicts, against independent formulas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_face import photo
from helpers import Complaint, RunCommand, paint_people
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import beta

import workbench as wb
from workbench import data, runs
from workbench.evaluation import Calibration, calibration_names, caveats, verification
from workbench.evaluation.calibration import pictures_of


def _calibration(
    genuine: Any, impostor: Any, people: Any = None, pictures: str = "photos"
) -> Calibration:
    scores = np.concatenate([genuine, impostor])
    same = np.arange(len(scores)) < len(genuine)
    result = verification(scores, same, data.balanced_folds(same), people=people, intervals=False)
    named = result.annotated(name="pairs", note="", protocol=result.protocol)
    return Calibration(named, "folder:pairs", pictures, "2026-11-30T12:00:00", None, "0")  # type: ignore[arg-type]


def _clopper_pearson(hits: float, trials: float) -> tuple[float, float]:
    low = beta.ppf(0.025, hits, trials - hits + 1) if hits else 0.0
    high = beta.ppf(0.975, hits + 1, trials - hits) if hits < trials else 1.0
    return float(low), float(high)


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.sampled_from([0.1, 0.01]))
def test_the_threshold_is_the_lowest_that_keeps_to_the_rate(seed: int, far: float) -> None:
    rng = np.random.default_rng(seed)
    genuine, impostor = rng.normal(0.5, 0.2, 100), rng.normal(0, 0.2, 1000).round(2)  # with ties
    threshold = _calibration(genuine, impostor).threshold(far)
    assert (impostor >= threshold).mean() <= far
    lower = np.concatenate([genuine, impostor])
    next_lower = lower[lower < threshold].max()
    assert (impostor >= next_lower).mean() > far


def test_the_rates_at_a_verdict_are_shares_of_the_pairs() -> None:
    genuine, impostor = np.linspace(0.2, 0.9, 71), np.linspace(-0.5, 0.5, 1001)
    verdict = _calibration(genuine, impostor).verdict(0.45, far=0.01)
    assert verdict.far == (impostor >= verdict.threshold).mean() <= 0.01
    assert verdict.tar == (genuine >= verdict.threshold).mean()
    assert verdict.impostors_above.value == (impostor >= 0.45).mean()
    assert verdict.genuine_below.value == (genuine < 0.45).mean()
    assert verdict.accepted == (verdict.threshold <= 0.45)
    for share in (verdict.impostors_above, verdict.genuine_below):
        assert 0 < share.low < share.value < share.high < 1


def test_without_a_rate_the_threshold_has_the_fewest_errors() -> None:
    calibration = _calibration(np.linspace(0.4, 0.9, 50), np.linspace(-0.4, 0.3, 50))
    verdict = calibration.verdict(0.3)
    assert 0.3 < verdict.threshold < 0.4
    assert (verdict.far, verdict.tar, verdict.accepted) == (0, 1, False)
    assert verdict.decision == "rejected"


@pytest.mark.parametrize("people_count", [None, 20])
def test_beyond_all_pairs_the_limit_is_that_of_clopper_and_pearson(
    people_count: int | None,
) -> None:
    """For as many trials as there are people, or pairs where people are unknown."""
    rng = np.random.default_rng(0)
    genuine, impostor = rng.uniform(0.5, 0.6, 100), rng.uniform(0, 0.4, 200)
    people = None
    if people_count:
        first = np.arange(300) % people_count
        people = np.stack([first, np.where(np.arange(300) < 100, first, (first + 1) % 20)], axis=1)
    verdict = _calibration(genuine, impostor, people).verdict(0.9)
    assert verdict.impostors_above.value == 0
    expected = _clopper_pearson(0, people_count or 200)
    assert verdict.impostors_above[1:] == pytest.approx(expected, abs=1e-9)
    assert verdict.genuine_below[1:] == pytest.approx(
        _clopper_pearson(people_count or 100, people_count or 100), abs=1e-9
    )


def test_pairs_of_two_people_give_no_limit() -> None:
    people = np.array([(0, 0), (1, 1), (0, 1), (0, 1)])
    calibration = _calibration([0.8, 0.9], [0.1, 0.2], people)
    assert calibration.verdict(0.15).impostors_above == (0.5, 0.0, 1.0)
    assert calibration.fars == []


@pytest.mark.parametrize("similarity", [np.nan, np.inf])
def test_a_similarity_must_be_finite(similarity: float, complaint: Complaint) -> None:
    with complaint("must be finite"):
        _calibration([0.8, 0.9], [0.1, 0.2]).verdict(similarity)


@pytest.mark.parametrize(
    ("far", "text"),
    [(0.0, "above 0"), (1.5, "at most 1"), (np.nan, "above 0"), (0.001, "at least 0.05")],
)
def test_a_rate_that_the_pairs_do_not_support(far: float, text: str, complaint: Complaint) -> None:
    with complaint(text):
        _calibration(np.linspace(0.5, 1, 20), np.linspace(-1, 0.5, 200)).threshold(far)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    """An imported smallresnet for images of 16 x 16 pixels."""
    import torch

    folder = tmp_path_factory.mktemp("imported")
    torch.manual_seed(0)
    net = wb.backbones.create("smallresnet", embedding_dim=8, image_size=16)
    torch.save(net.state_dict(), folder / "net.pth")
    options = {"backbone": "smallresnet", "image_size": 16, "name": "a"}
    return wb.import_model(folder / "net.pth", runs_dir=folder / "runs", **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"folder:{paint_people(tmp_path_factory.mktemp('data') / 'people', 3, (2, 3, 4))}"


def test_all_pairs_of_a_data_set_are_scored(run: runs.Run, people: str) -> None:
    calibration = wb.evaluation.calibrate(run, people, progress=False)
    images = data.open(people)
    embeddings = wb.evaluation.load_model(run, "cpu").embed(images.images)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    cosines = unit.astype(float) @ unit.astype(float).T
    first, second = np.triu_indices(9, 1)
    same = images.identities[first] == images.identities[second]
    for kind in (True, False):
        np.testing.assert_allclose(
            np.sort(calibration.result.scores[calibration.result.same == kind]),
            np.sort(cosines[first, second][same == kind]),
            atol=1e-6,
        )
    assert (same.sum(), (~same).sum()) == (1 + 3 + 6, 6 + 8 + 12)
    loaded = wb.evaluation.load_calibration(run, "people")
    assert loaded.description() == calibration.description()
    assert loaded.description().startswith("10 genuine and 26 impostor pairs of photos of 3 people")
    assert loaded.verdict(0.5) == calibration.verdict(0.5)
    figures = json.loads((run.path / "calibration" / "people.json").read_text())
    assert figures["fingerprint"] == data.all_pairs(images).fingerprint()
    assert (figures["genuine"], figures["impostors"], figures["people"]) == (10, 26, 3)


def test_more_pairs_than_wanted_are_drawn() -> None:
    images = [np.zeros((2, 2, 3), np.uint8)] * 60
    dataset = data.Dataset("toy", images, np.arange(60) // 3, [str(n) for n in range(20)])
    for most in (50, 30):  # with 30, impostor pairs are drawn without listing all
        drawn = data.all_pairs(dataset, most=most)
        assert (drawn.same.sum(), (~drawn.same).sum()) == (most, most)
        codes = drawn.pairs @ (60, 1)
        assert len(np.unique(codes)) == 2 * most
        ids = dataset.identities[drawn.pairs]
        assert ((ids[:, 0] == ids[:, 1]) == drawn.same).all()
        assert (data.all_pairs(dataset, most=most).pairs == drawn.pairs).all()
    assert "of 1,770 pairs, drawn of 60 images" in drawn.note


def test_several_calibrations_are_kept(run: runs.Run, people: str, tmp_path: Path) -> None:
    other = f"folder:{paint_people(tmp_path / 'people', 3, 3, seed=1)}"
    wb.evaluation.calibrate(run, people, progress=False)
    wb.evaluation.calibrate(run, people, name="mine", pictures="rendered", progress=False)
    third = wb.evaluation.calibrate(run, other, progress=False)
    assert third.name.startswith("people-")
    assert {"people", "mine", third.name} <= set(run.calibrations())
    names = calibration_names(run)
    assert names.index("people") < names.index("mine")
    assert wb.evaluation.load_calibration(run, "mine").pictures == "rendered"


@pytest.mark.parametrize(
    ("spec", "texts"),
    [
        ("synthfaces-id", ["not a benchmark of pairs (Identification)", "aligned:folder:DIR"]),
        ("train", ["imported"]),
        ("folder:/no/such", ["no such folder"]),
        ("foldr:x", ["did you mean"]),
    ],
)
def test_benchmarks_without_pairs_are_refused(
    run: runs.Run,
    spec: str,
    texts: list[str],
    complaint: Complaint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if spec == "synthfaces-id":
        images = [np.zeros((2, 2, 3), np.uint8)] * 4
        parts = (np.array([number]) for number in (0, 1, 2))
        found = data.Identification("synthfaces-id", images, np.array([0, 0, 1, 1]), *parts)
        monkeypatch.setattr(data, "open_without", lambda *_: found)
    before = run.calibrations()
    with complaint(*texts):
        wb.evaluation.calibrate(run, spec, progress=False)
    assert run.calibrations() == before


@pytest.mark.parametrize("images", [1, (5, 1)])
def test_too_few_images_are_refused(
    run: runs.Run, tmp_path: Path, complaint: Complaint, images: Any
) -> None:
    count = 3 if images == 1 else 1
    counts = [1] * count if images == 1 else [5]
    folder = paint_people(tmp_path / "few", count, counts)
    with complaint("genuine and", "impostor pairs; at least two"):
        wb.evaluation.calibrate(run, f"folder:{folder}", progress=False)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"name": "a/b"}, "name of a calibration 'a/b'"),
        ({"pictures": "photo"}, "did you mean 'photos'"),
    ],
)
def test_wrong_options_are_refused(
    run: runs.Run, people: str, complaint: Complaint, options: dict[str, str], text: str
) -> None:
    with complaint(text):
        wb.evaluation.calibrate(run, people, progress=False, **options)  # type: ignore[arg-type]


@pytest.fixture
def trained(tmp_path: Path) -> runs.Run:
    """A run of settings only; its evaluations are written by the tests."""
    return runs.create(tmp_path / "runs", "b", {"loss": "arcface", "data": "synthfaces@200x40"})


def _evaluate(run: runs.Run, name: str, benchmark: str, **figures: Any) -> None:
    result = _calibration(np.linspace(0.4, 0.9, 50), np.linspace(-0.4, 0.5, 200)).result
    stored = {
        "kind": "verification",
        "note": "",
        "protocol": {},
        "benchmark": benchmark,
        "created": "2026-11-30T12:00:00",
        **result.figures(),
        **figures,
    }
    run.save_evaluation(name, stored, result.arrays())


def test_a_verdict_on_rendered_people_says_so(trained: runs.Run) -> None:
    _evaluate(trained, "synthfaces-wild", "synthfaces-wild")
    calibration = wb.evaluation.load_calibration(trained, "synthfaces-wild")
    assert calibration.pictures == "rendered"
    rests_on, network, remedy = caveats(trained, calibration)
    assert rests_on.startswith("This verdict rests on rendered people: synthfaces-wild")
    assert network == (
        "The network was trained on rendered people and has not been evaluated on pairs of photos."
    )
    assert f"workbench calibrate {trained.path} aligned:folder:PHOTOS" in remedy
    _evaluate(trained, "lfw", "bin:lfw.bin", accuracy=0.691)
    assert calibration_names(trained) == ["lfw", "synthfaces-wild"]
    assert caveats(trained, calibration)[1] == (
        "The network was trained on rendered people; its accuracy on pairs of photos is "
        "69.1% (lfw)."
    )
    on_photos = wb.evaluation.load_calibration(trained, "lfw")
    assert caveats(trained, on_photos) == caveats(trained, calibration)[1:2]


def test_an_imported_run_with_photos_needs_no_caveat(run: runs.Run, people: str) -> None:
    assert caveats(run, wb.evaluation.calibrate(run, people, progress=False)) == []


def test_evaluations_of_other_kinds_are_no_calibrations(
    trained: runs.Run, complaint: Complaint
) -> None:
    _evaluate(trained, "raw", "bin:x.bin", protocol={"protocol": "mine", "flip": "none"})
    with complaint("protocol mine", "workbench calibrate"):
        wb.evaluation.load_calibration(trained, "raw")
    closed = wb.evaluation.closed_set([0, 1], [0, 1], ["x", "y"])
    trained.save_evaluation(
        "train",
        {"kind": closed.kind, "note": "", "protocol": {}, **closed.figures()},
        closed.arrays(),
    )
    assert "train" not in calibration_names(trained)
    with complaint("train", "no scores to compare two photos with"):
        wb.evaluation.load_calibration(trained, "train")
    with complaint("unknown calibration", "did you mean 'raw'"):
        wb.evaluation.load_calibration(trained, "rwa")


def test_a_run_that_was_trained_since_is_refused(
    run: runs.Run, people: str, complaint: Complaint, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibration = wb.evaluation.calibrate(run, people, name="old", progress=False)
    figures, arrays = run.calibration("old")
    run.save_calibration("old", {**figures, "step": 100}, arrays)
    monkeypatch.setattr("workbench.evaluation.results.model_step", lambda _: 200)
    monkeypatch.setattr("workbench.evaluation.calibration.model_step", lambda _: 200)
    with complaint("was trained to step 200 since its calibration old at step 100"):
        wb.evaluation.load_calibration(run, calibration.name)


@pytest.mark.parametrize("key", ["pictures", "accuracy", "created"])
def test_a_damaged_calibration_is_named(
    run: runs.Run, people: str, complaint: Complaint, key: str
) -> None:
    wb.evaluation.calibrate(run, people, name="damaged", progress=False)
    figures, arrays = run.calibration("damaged")
    run.save_calibration("damaged", {k: v for k, v in figures.items() if k != key}, arrays)
    with complaint("calibration 'damaged': damaged"):
        wb.evaluation.load_calibration(run, "damaged")


def test_training_images_are_noted(tmp_path: Path) -> None:
    people = f"folder:{paint_people(tmp_path / 'people', 3, 3)}"
    config = {"data": people, "image_size": 16, "embedding_dim": 8, "epochs": 1, "batch_size": 4}
    run = wb.train({**config, "runs_dir": str(tmp_path), "name": "t"}, progress=False)
    calibration = wb.evaluation.calibrate(run, people, progress=False)
    assert "pairs of the training images" in calibration.result.note


def test_the_commands_calibrate_and_compare(
    run_command: RunCommand, run: runs.Run, people: str, tmp_path: Path
) -> None:
    said = run_command(["calibrate", str(run.path), people, "--name", "cli"])
    assert said.code == 0
    assert "10 genuine and 26 impostor pairs of photos of 3 people" in said.out
    assert "no threshold is given" in said.out
    for name, picture in (("one", photo((112, 60, 60))), ("none", photo())):
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    one, none = tmp_path / "one.png", tmp_path / "none.png"
    compare = ["compare", str(run.path), "--calibration", "cli", "--photos", str(one)]
    said = run_command([*compare, str(one)])
    assert (said.code, said.err) == (0, "")
    assert "a: similarity 1.000, accepted as the same person at the threshold" in said.out
    assert "calibration: 10 genuine and 26 impostor pairs of photos" in said.out
    assert "no face was found on the second photo" in run_command([*compare, str(none)]).err
    said = run_command([*compare, str(one), "--far", "0.1"])
    assert "too few for a false accept rate of 0.1; the rate must be at least 0.38" in said.err
    said = run_command(["compare", str(run.path), "--far", "0.1"])
    assert "--far: is only used together with --photos" in said.err


def test_names_tell_what_the_images_are() -> None:
    assert pictures_of("synthfaces-pose:seed=7") == "rendered"
    assert pictures_of("aligned:synthfaces@10x5") == "rendered"
    assert pictures_of("synthfaces@10x5+folder:people") == "photos"
    assert pictures_of("bin:lfw.bin") == "photos"
