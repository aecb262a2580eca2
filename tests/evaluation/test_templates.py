"""Pooled templates equal slow loops and scikit-learn; a run is evaluated on files of IJB."""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve
from typer.testing import CliRunner

import workbench as wb
from workbench import data, runs
from workbench.cli import app
from workbench.evaluation import (
    VerificationResult,
    leaderboard,
    load_model,
    load_projection,
    load_result,
    verification,
)
from workbench.evaluation import projection as projection_module
from workbench.evaluation import templates as module
from workbench.evaluation.protocol import of_two_photos
from workbench.evaluation.templates import (
    IJB_FARS,
    nearest_tar,
    pool,
    template_scores,
    template_verification,
)

FAKE_IJB = Path(__file__).parents[1] / "data" / "fake_ijb.py"


def slowly(
    embeddings: NDArray[Any],
    templates: NDArray[Any],
    media: NDArray[Any],
    weights: NDArray[Any] | None,
    keep_norm: bool,
) -> dict[int, NDArray[np.float64]]:
    """{template: embedding}, a loop at a time, in double precision."""
    frames: dict[int, dict[int, list[NDArray[np.float64]]]] = defaultdict(lambda: defaultdict(list))
    for number, row in enumerate(embeddings.astype(np.float64)):
        length = 1.0 if keep_norm else float(np.sqrt(sum(value * value for value in row)))
        weight = 1.0 if weights is None else float(weights[number])
        frames[int(templates[number])][int(media[number])].append(weight * row / length)
    found = {}
    for template, by_medium in frames.items():
        total = np.zeros(embeddings.shape[1])
        for rows in by_medium.values():
            total = total + sum(rows, np.zeros(embeddings.shape[1])) / len(rows)
        found[template] = total / np.sqrt((total**2).sum())
    return found


def made(
    count: int = 300, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Embeddings of any length, templates with gaps in their numbers, shared media, weights."""
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(count, 16)) * rng.uniform(0.2, 5, (count, 1))
    templates = rng.choice(rng.permutation(10_000)[:40], count)
    return (
        embeddings.astype(np.float32),
        templates,
        rng.integers(0, 9, count),
        rng.uniform(0.3, 1, count),
    )


# Pooling


@pytest.mark.parametrize("keep_norm", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_pooling_is_the_mean_of_each_medium_and_the_sum_of_these(
    weighted: bool, keep_norm: bool
) -> None:
    embeddings, templates, media, weights = made()
    given = weights if weighted else None
    numbers, pooled = pool(embeddings, templates, media, given, keep_norm=keep_norm)
    expected = slowly(embeddings, templates, media, given, keep_norm)
    assert numbers.tolist() == sorted(expected)
    np.testing.assert_allclose(pooled, [expected[number] for number in numbers], atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_pooling_some_templates_at_a_time_changes_nothing(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    embeddings, templates, media, weights = made()
    whole = pool(embeddings, templates, media, weights)
    monkeypatch.setattr(module, "CHUNK_IMAGES", chunk)
    for one, other in zip(whole, pool(embeddings, templates, media, weights), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_long_video_counts_as_much_as_a_photo() -> None:
    embeddings = np.array([[1, 0], *[[0, 1]] * 50], dtype=np.float32)
    _, pooled = pool(embeddings, np.zeros(51, np.int64), np.array([5, *[6] * 50]))
    np.testing.assert_allclose(pooled, [[0.5**0.5, 0.5**0.5]])


def test_media_of_one_number_in_two_templates_are_kept_apart() -> None:
    _, pooled = pool(np.array([[1.0, 0], [0, 1]]), np.array([1, 2]), np.array([7, 7]))
    np.testing.assert_array_equal(pooled, [[1, 0], [0, 1]])


def test_pooling_what_does_not_fit_is_an_error(complaint: Callable[..., Any]) -> None:
    embeddings, templates, media, weights = made()
    for wrong in (
        (embeddings[1:], templates, media, weights),
        (embeddings, templates, media[1:], weights),
        (weights, templates, media),
    ):
        with complaint("expected (M, D) and (M,)"):
            pool(*wrong)


# Scores


@pytest.mark.parametrize("chunk", [1, 10, 4096])
def test_scores_are_cosines(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_PAIRS", chunk)
    embeddings, templates, media, _ = made()
    numbers, pooled = pool(embeddings, templates, media)
    pairs = np.random.default_rng(1).choice(numbers, (200, 2))
    expected = slowly(embeddings, templates, media, None, True)
    np.testing.assert_allclose(
        template_scores(numbers, pooled, pairs),
        [expected[a] @ expected[b] for a, b in pairs],
        atol=1e-12,
    )


def test_a_template_without_embedding_is_an_error(complaint: Callable[..., Any]) -> None:
    with complaint("template 4, which has no embedding"):
        template_scores(np.array([1, 3, 9]), np.eye(3), np.array([[1, 3], [9, 4]]))


# Rates


def as_published(scores: NDArray[np.float64], same: NDArray[np.bool_], far: float) -> float:
    """The rule by which InsightFace prints its table, from scikit-learn's curve."""
    fpr, tpr, _ = roc_curve(same, scores)
    fpr, tpr = np.flipud(fpr), np.flipud(tpr)
    return float(tpr[min(zip(np.abs(fpr - far), range(len(fpr)), strict=True))[1]])


@pytest.mark.parametrize("steps", [0, 5, 40])
@pytest.mark.parametrize("seed", range(8))
def test_rates_are_those_of_scikit_learns_curve(seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    same = rng.random(rng.integers(20, 3000)) < 0.3
    scores = rng.normal(size=len(same)) + 1.5 * same
    scores = (
        np.round(scores * steps / 3) if steps else scores
    )  # with ties, and then many points on straight lines
    fars = (*IJB_FARS, 0.37, 0.5, 1.0)
    nearest = nearest_tar(scores, same, fars)
    assert nearest == pytest.approx({far: as_published(scores, same, far) for far in fars})
    fpr, tpr, _ = roc_curve(same, scores, drop_intermediate=False)
    result = template_verification(scores, same, intervals=False)
    assert result.auc == pytest.approx(roc_auc_score(same, scores))
    assert result.tar_at_far == pytest.approx(
        {far: tpr[fpr <= far * (1 + 1e-9)].max() for far in IJB_FARS}
    )


def test_the_nearest_point_may_accept_more_impostors_than_the_rate_says() -> None:
    scores, same = np.array([5, 4, 3, 2, 1.0]), np.array([True, False, True, False, True])
    assert nearest_tar(scores, same, [0.4]) == {0.4: 2 / 3}
    assert (
        template_verification([*scores, 0], [*same, False], intervals=False).tar_at_far[0.1]
        == 1 / 3
    )


def test_the_result_is_that_of_verification_with_balanced_folds() -> None:
    rng = np.random.default_rng(0)
    same = np.repeat([True, False], [55, 400])  # genuine pairs first, as in IJB's lists
    scores = rng.normal(size=455) + 2 * same
    result = template_verification(scores, same)
    assert np.bincount(result.folds[same]).tolist() == [6] * 5 + [5] * 5
    assert np.bincount(result.folds[~same]).tolist() == [40] * 10
    plain = verification(scores, same, result.folds, fars=IJB_FARS)
    assert (result.accuracy, result.eer, result.intervals) == (
        plain.accuracy,
        plain.eer,
        plain.intervals,
    )
    assert list(result.tar_at_far) == list(IJB_FARS)
    assert not result.supported(1e-3)
    nearest = nearest_tar(scores, same)
    words = result.protocol["TAR at the nearest point of the ROC, as IJB publications"]
    assert words == ", ".join(f"{tar:.2%} at {far:g}" for far, tar in nearest.items())
    assert (
        "IJB defines none; always giving the more frequent answer would have 87.91%"
        in result.protocol["accuracy"]
    )


def test_very_many_pairs_get_no_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WITH_INTERVALS", 99)
    result = template_verification(np.arange(100.0), np.arange(100) % 3 == 0)
    assert result.intervals == {}
    assert result.protocol["interval"] == "none, as there are more than 99 pairs"


@pytest.mark.parametrize("genuine", [0, 1, 9])
def test_pairs_of_one_kind_are_an_error(genuine: int, complaint: Callable[..., Any]) -> None:
    with complaint(f"{genuine} genuine and {10 - genuine} impostor pairs"):
        template_verification(np.arange(10.0), np.arange(10) < genuine)


def test_a_score_that_is_no_number_is_an_error(complaint: Callable[..., Any]) -> None:
    with complaint("score number 3 is nan"):
        template_verification([0, 1, 2, np.nan], [1, 0, 1, 0])


# From end to end


@pytest.fixture(scope="module")
def fake_ijb() -> Any:
    spec = importlib.util.spec_from_file_location("fake_ijb", FAKE_IJB)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.fixture(scope="module")
def root(fake_ijb: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found: Path = fake_ijb.make(tmp_path_factory.mktemp("ijb") / "IJBC")
    return found


@pytest.fixture(scope="module")
def run(fake_ijb: Any, tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    """A run of a few seconds on pictures of the same people, aligned alike."""
    folder, rng = tmp_path_factory.mktemp("people"), np.random.default_rng(5)
    for person in range(fake_ijb.PEOPLE):
        (folder / f"{person}").mkdir()
        for number in range(6):
            landmarks = fake_ijb.EYES + rng.normal(0, 1, (5, 2))
            picture = np.asarray(fake_ijb.draw(person, landmarks, rng))
            (folder / f"{person}" / f"{number}.png").write_bytes(
                wb.images.to_png(wb.faces.warp(picture, landmarks))
            )
    config = {
        "data": f"folder:{folder}",
        "image_size": 16,
        "embedding_dim": 8,
        "batch_size": 12,
        "epochs": 4,
        "lr": 0.05,
    }
    config |= {
        "backbone_options": {"width": 8},
        "loss_options": {"s": 16.0, "m": 0.2},
        "device": "cpu",
        "precision": "fp32",
    }
    return wb.train(
        {**config, "name": "a", "runs_dir": str(tmp_path_factory.mktemp("runs"))}, progress=False
    )


def evaluated(run: runs.Run, benchmark: Any, **options: Any) -> VerificationResult:
    plain: dict[str, Any] = {
        "device": "cpu",
        "bootstrap": 20,
        "with_projection": False,
        "progress": False,
    }
    result = wb.evaluate(run, benchmark, **plain | options)
    assert isinstance(result, VerificationResult)
    return result


@pytest.mark.parametrize(
    ("options", "flip"), [("", "add"), (",norm=no", "none"), (",score=no", "concatenate")]
)
def test_a_run_on_ijb_is_pooled_and_compared_as_by_hand(
    options: str, flip: Any, run: runs.Run, root: Path
) -> None:
    result = evaluated(run, f"ijb:{root}{options}", flip=flip)
    bench = data.benchmark(f"ijb:{root}{options}")
    assert isinstance(bench, data.Templates)
    assert bench.landmarks is not None
    pictures = [
        wb.faces.warp(image, points)
        for image, points in zip(bench.images, bench.landmarks, strict=True)
    ]  # type: ignore[call-overload]
    embeddings = load_model(run, "cpu").embed(pictures, flip=flip)
    weights = None if "score" in options else bench.detector_scores
    pooled = slowly(embeddings, bench.templates, bench.media, weights, "norm" not in options)
    np.testing.assert_allclose(
        result.scores, [pooled[a] @ pooled[b] for a, b in bench.pairs.tolist()], atol=1e-6
    )
    assert result.same.tolist() == bench.same.tolist()
    assert result.auc > 0.9  # colours are easily told apart
    assert result.protocol["length of embeddings"] == ("1" if "norm" in options else "as it is")
    assert result.protocol["weight of embeddings"] == (
        "none" if "score" in options else "the detector's score"
    )
    assert result.protocol["alignment"] == "by the benchmark's landmarks, 112 x 112"
    assert "mirror image" in result.protocol["flip"] or flip == "none"


def test_a_result_is_stored_and_on_the_leaderboard(
    run: runs.Run, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        projection_module, "MIN_UMAP_POINTS", 10**6
    )  # which would take longer than all else
    result = evaluated(run, f"ijb:{root}", with_projection=True)
    stored = load_result(runs.open(run.path), "ijb-c")
    assert isinstance(stored, VerificationResult)
    np.testing.assert_array_equal(stored.scores, result.scores)
    assert stored.tar_at_far == result.tar_at_far
    assert stored.protocol == result.protocol
    table = leaderboard([run], ["ijb-c"])
    assert table["tar@1e-05"].tolist() == [result.tar_at_far[1e-5]]
    assert not table["tar@1e-05_supported"].item()
    assert table["auc"].tolist() == [result.auc]
    assert (
        table[["accuracy", "std", "accuracy_low", "accuracy_high"]].isna().all(axis=None)
    )  # IJB defines none
    assert of_two_photos(result) is None  # two photos by themselves are no templates
    projection = load_projection(run, "ijb-c")
    assert projection is not None
    bench = data.benchmark(f"ijb:{root}")
    assert isinstance(bench, data.Templates)
    assert len(projection[0].points) == len(bench.images)


def test_images_of_templates_in_no_pair_are_not_read(run: runs.Run, root: Path) -> None:
    bench = data.benchmark(f"ijb:{root}")
    assert isinstance(bench, data.Templates)
    images, templates, left_out = bench.images, bench.templates, int(bench.templates[0])

    class Pictures:
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: int) -> NDArray[np.uint8]:
            assert templates[index] != left_out
            return images[index]

    kept = (bench.pairs != left_out).all(axis=1)
    fewer = replace(
        bench, images=Pictures(), pairs=bench.pairs[kept], same=bench.same[kept], name="fewer"
    )
    np.testing.assert_allclose(
        evaluated(run, fewer).scores, evaluated(run, f"ijb:{root}").scores[kept], atol=1e-6
    )


def test_labels_never_influence_scores(run: runs.Run, root: Path) -> None:
    bench = data.benchmark(f"ijb:{root}")
    assert isinstance(bench, data.Templates)
    mislabelled = replace(
        bench, same=np.random.default_rng(0).permutation(bench.same), name="mislabelled"
    )
    np.testing.assert_array_equal(evaluated(run, mislabelled).scores, evaluated(run, bench).scores)


def test_protocols_of_pairs_do_not_apply(
    run: runs.Run, root: Path, complaint: Callable[..., Any]
) -> None:
    with complaint("ijb-c", "only its option flip"):
        evaluated(run, f"ijb:{root}", protocol="arcface_torch")


def test_a_broken_picture_is_an_error_and_stores_nothing(
    fake_ijb: Any, run: runs.Run, tmp_path: Path, complaint: Any
) -> None:
    broken = fake_ijb.make(tmp_path / "IJBB", "ijbb")
    (broken / "loose_crop" / "3.png").write_bytes(b"\x89PNG")
    with complaint("3.png"):
        evaluated(run, f"ijb:{broken}")
    assert "ijb-b" not in run.evaluations()


def test_the_command_line_says_what_is_in_it(root: Path) -> None:
    done = CliRunner().invoke(app, ["data", "info", f"ijb:{root}"])
    assert done.exit_code == 0
    assert "18 genuine and 135 impostor pairs of 18 templates with" in done.output
    assert "detector score: 0.5" in done.output
