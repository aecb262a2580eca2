"""Protocols: each option's scores and thresholds equal a slow version; names of results."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from workbench.evaluation import PRESETS, Protocol, verification
from workbench.evaluation.arcface_torch import ACCURACY_THRESHOLDS
from workbench.evaluation.protocol import SCORES, as_cosines, of_two_photos, resolve

PAIRS, IMAGES, LENGTH = 30, 20, 5
FOLDS = np.repeat(np.arange(3), 10)


@pytest.fixture(scope="module")
def embeddings() -> NDArray[np.float32]:
    return (np.random.default_rng(0).normal(size=(IMAGES, LENGTH)) + 0.7).astype(np.float32)


@pytest.fixture(scope="module")
def pairs() -> NDArray[np.int64]:
    return np.random.default_rng(1).integers(0, IMAGES, (PAIRS, 2))


def _slow_scores(
    protocol: Protocol, embeddings: NDArray[np.float32], pairs: NDArray[np.int64]
) -> list[float]:
    """Pair by pair, as the options say it."""
    found = []
    for number, (i, j) in enumerate(pairs):
        one, other = embeddings[i].astype(float), embeddings[j].astype(float)
        if protocol.mean == "subtract":
            elsewhere = [
                embeddings[image]
                for at, pair in enumerate(pairs)
                for image in pair
                if FOLDS[at] != FOLDS[number]
            ]
            mean = np.mean(np.array(elsewhere, dtype=float), axis=0)
            one, other = one - mean, other - mean
        if protocol.distance != "euclidean-raw":
            one, other = one / np.linalg.norm(one), other / np.linalg.norm(other)
        found.append(
            float(one @ other)
            if protocol.distance == "cosine"
            else -float(((one - other) ** 2).sum())
        )
    return found


@pytest.mark.parametrize(("mean", "distance"), list(product(["none", "subtract"], SCORES)))
def test_scores_are_what_the_options_say(
    mean: Any, distance: Any, embeddings: Any, pairs: Any
) -> None:
    protocol = Protocol(mean=mean, distance=distance)
    np.testing.assert_allclose(
        protocol.scores(embeddings, pairs, FOLDS),
        _slow_scores(protocol, embeddings, pairs),
        atol=1e-12,
    )


def test_a_mean_is_of_the_other_folds_alone(embeddings: NDArray[np.float32]) -> None:
    """Images that are in pairs of one fold only change no scores of that fold but their own."""
    pairs = np.arange(18).reshape(9, 2)
    folds, protocol = np.repeat(np.arange(3), 3), Protocol(mean="subtract")
    changed = embeddings.copy()
    changed[[0, 1]] += 5  # pair 0, of fold 0
    before, after = (protocol.scores(given, pairs, folds) for given in (embeddings, changed))
    np.testing.assert_allclose(after[1:3], before[1:3], atol=1e-12)
    assert (np.abs(after - before)[3:] > 1e-6).all()


def test_without_a_mean_folds_do_not_matter_to_scores(embeddings: Any, pairs: Any) -> None:
    protocol = Protocol()
    np.testing.assert_array_equal(
        protocol.scores(embeddings, pairs, FOLDS), protocol.scores(embeddings, pairs, FOLDS[::-1])
    )


def test_subtracting_a_mean_undoes_a_shift_of_all_embeddings(embeddings: Any, pairs: Any) -> None:
    protocol = PRESETS["sphereface"]
    shifted = embeddings.astype(float) + 3.0
    scores = (protocol.scores(given, pairs, FOLDS) for given in (embeddings.astype(float), shifted))
    np.testing.assert_allclose(*scores, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["cosine", "euclidean"]))
def test_the_grid_accepts_distances_below_its_thresholds(seed: int, distance: Any) -> None:
    """Tries every threshold on the other folds and keeps the first best one, as arcface_torch."""
    rng = np.random.default_rng(seed)
    embeddings, pairs = rng.normal(size=(40, 3)), np.arange(40).reshape(20, 2)
    same, folds = np.arange(20) % 2 == 0, np.arange(20) // 2 % 2
    embeddings[1::2][same] = embeddings[0::2][same] + rng.normal(size=(10, 3)) * 0.7
    protocol = Protocol(distance=distance, threshold="grid")
    scores = protocol.scores(embeddings, pairs, folds)
    result = verification(scores, same, folds, candidates=protocol.candidates)
    apart = 2 - 2 * scores if distance == "cosine" else -scores
    for fold in (0, 1):
        right = [((apart < t) == same)[folds != fold].mean() for t in ACCURACY_THRESHOLDS]
        kept = ACCURACY_THRESHOLDS[np.argmax(right)]
        assert result.fold_accuracy[fold] == pytest.approx(
            ((apart < kept) == same)[folds == fold].mean()
        )
    exact = verification(scores, same, folds, intervals=False)
    assert (result.auc, result.eer, result.tar_at_far) == (exact.auc, exact.eer, exact.tar_at_far)


def test_cosine_and_distance_at_length_1_give_the_same_exact_figures(
    embeddings: Any, pairs: Any
) -> None:
    same = np.arange(PAIRS) % 2 == 0
    one, other = (
        verification(
            Protocol(distance=distance).scores(embeddings, pairs, FOLDS),
            same,
            FOLDS,
            intervals=False,
        )
        for distance in ("cosine", "euclidean")
    )
    np.testing.assert_allclose(one.fold_accuracy, other.fold_accuracy)
    assert one.tar_at_far == other.tar_at_far


def test_folds_are_the_benchmarks_unless_a_number_is_given() -> None:
    assert Protocol().folds_of(FOLDS) is FOLDS
    assert Protocol(folds=5).folds_of(FOLDS).tolist() == np.repeat(range(5), 6).tolist()


# Names


@pytest.mark.parametrize(
    ("protocol", "name", "suffix"),
    [
        (Protocol(), "workbench", ""),
        (PRESETS["arcface_torch"], "arcface_torch", "+arcface_torch"),
        (PRESETS["sphereface"], "sphereface", "+sphereface"),
        (Protocol(flip="none"), "workbench+flip-none", "+flip-none"),
        (
            Protocol(folds=5, mean="subtract"),
            "workbench+mean-subtract+folds-5",
            "+mean-subtract+folds-5",
        ),
        (
            replace(PRESETS["arcface_torch"], flip="none"),
            "arcface_torch+flip-none",
            "+arcface_torch+flip-none",
        ),
        (
            Protocol("none", "subtract", threshold="grid"),
            *2 * ["workbench+flip-none+mean-subtract+threshold-grid"],
        ),
    ],
)
def test_a_name_says_the_nearest_preset_and_what_differs(
    protocol: Protocol, name: str, suffix: str
) -> None:
    assert (protocol.name, protocol.suffix) == (name, suffix.removeprefix("workbench"))
    assert protocol.words()["protocol"] == name


def test_no_two_protocols_have_one_name() -> None:
    options = product(
        ["none", "add", "concatenate"],
        ["none", "subtract"],
        ["cosine", "euclidean", "euclidean-raw"],
        ["exact", "grid"],
        [None, 2, 10],
    )
    possible = [choice for choice in options if choice[2:4] != ("euclidean-raw", "grid")]
    suffixes = {Protocol(*choice).suffix for choice in possible}  # type: ignore[arg-type]
    assert len(suffixes) == len(possible)


def test_every_option_is_told_in_words() -> None:
    words = [
        tuple(Protocol(distance=distance, mean=mean).words().values())
        for distance in SCORES
        for mean in ("none", "subtract")
    ]  # type: ignore[arg-type]
    assert len(set(words)) == len(words)
    assert "squared Euclidean" in PRESETS["arcface_torch"].words()["score"]
    assert (
        PRESETS["sphereface"].words()["flip"].startswith("embedding of the mirror image put behind")
    )


# Results of other protocols on pages of cosines


def _result(protocol: Protocol, embeddings: Any, pairs: Any) -> Any:
    scores = protocol.scores(embeddings, pairs, FOLDS)
    result = verification(
        scores, np.arange(PAIRS) % 2 == 0, FOLDS, candidates=protocol.candidates, intervals=False
    )
    return replace(result, protocol={**protocol.words(), **result.protocol})


def test_distances_at_length_1_are_shown_as_cosines(embeddings: Any, pairs: Any) -> None:
    usual, other = (
        _result(PRESETS[name], embeddings, pairs) for name in ("workbench", "arcface_torch")
    )
    viewed = as_cosines(other)
    assert viewed is not None
    np.testing.assert_allclose(viewed.scores, usual.scores, atol=1e-12)
    for fold, threshold in enumerate(viewed.fold_threshold):
        accepted = ((viewed.scores >= threshold) == viewed.same)[fold == FOLDS]
        assert accepted.mean() == viewed.fold_accuracy[fold]
    assert as_cosines(usual) is usual
    assert as_cosines(_result(Protocol(distance="euclidean-raw"), embeddings, pairs)) is None


def test_two_photos_are_judged_only_by_results_of_single_photos(
    embeddings: Any, pairs: Any
) -> None:
    for protocol in (Protocol(flip="none"), Protocol(mean="subtract"), PRESETS["sphereface"]):
        assert of_two_photos(_result(protocol, embeddings, pairs)) is None
    assert of_two_photos(_result(PRESETS["arcface_torch"], embeddings, pairs)) is not None
    by_itself = verification([1, 2, 3, 4], [0, 0, 1, 1], folds=[0, 1, 0, 1], intervals=False)
    assert of_two_photos(by_itself) is by_itself


# Bad input, and many pairs


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"flip": "ad"}, "did you mean 'add'"),
        ({"mean": "yes"}, "unknown mean of a protocol"),
        ({"distance": "cosin"}, "did you mean 'cosine'"),
        ({"threshold": "gird"}, "did you mean 'grid'"),
        ({"folds": 1}, "from 2 on"),
        ({"folds": "ten"}, "from 2 on"),
        ({"distance": "euclidean-raw", "threshold": "grid"}, "takes threshold 'exact'"),
    ],
)
def test_an_option_that_does_not_exist_is_one_readable_line(
    options: Any, said: str, complaint: Any
) -> None:
    with complaint(said):
        Protocol(**options)
    with complaint(said):
        resolve("workbench", **options)


def test_a_preset_is_found_by_its_name_and_changed(complaint: Any) -> None:
    assert resolve("arcface_torch", flip=None) == PRESETS["arcface_torch"]
    assert resolve("arcface_torch", flip="none", mean=None).name == "arcface_torch+flip-none"
    with complaint("unknown protocol", "did you mean 'arcface_torch'"):
        resolve("arcface-torch")


@pytest.mark.parametrize("candidates", [[], [[1.0]], [np.nan], 3.0])
def test_candidates_that_are_no_thresholds_are_one_readable_line(
    candidates: Any, complaint: Any
) -> None:
    with complaint("candidates"):
        verification([1, 2, 3, 4], [0, 0, 1, 1], folds=2, candidates=candidates)
