"""Rates counted while scores pass by are those of all scores at once, wherever they are cut."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from workbench import plots
from workbench.evaluation import (
    StreamedResult,
    all_pairs_roc,
    roc,
    stream_roc,
    streaming,
    verification,
)
from workbench.evaluation.search import on_grid

quick = settings(max_examples=60, deadline=None)
some_scores = st.lists(st.integers(-4, 4) | st.floats(-1e6, 1e6), min_size=1, max_size=40)


def _assert_as_if_at_once(
    found: StreamedResult, genuine: NDArray[np.floating], impostors: NDArray[np.floating]
) -> None:
    scores, same = (
        np.concatenate([genuine, impostors]),
        np.arange(len(genuine) + len(impostors)) < len(genuine),
    )
    far, tar, thresholds = roc(scores, same)
    assert (found.genuine, found.impostors) == (len(genuine), len(impostors))
    assert found.auc == pytest.approx(roc_auc_score(same, scores), abs=1e-12)
    if len(scores) > 1:
        expected = verification(scores, same, folds=2, fars=list(found.tar_at_far), intervals=False)
        assert found.eer == pytest.approx(expected.eer, abs=1e-12)
        assert found.tar_at_far == expected.tar_at_far
    # At every threshold at which the TAR changes, both rates; and what lies between is level.
    at = {threshold: (f, t) for f, t, threshold in zip(far, tar, thresholds, strict=True)}
    mine = {threshold: (f, t) for f, t, threshold in zip(*found.roc, strict=True)}
    assert all(mine[score] == at[score] for score in set(genuine.tolist()))
    for f, t, threshold in zip(*found.roc, strict=True):
        assert (f, t) == ((impostors >= threshold).mean(), (genuine >= threshold).mean())
    assert (found.roc.far[0], found.roc.tar[0], found.roc.far[-1], found.roc.tar[-1]) == (
        0,
        0,
        1,
        1,
    )
    assert (np.diff(found.roc.far) >= 0).all()
    assert (np.diff(found.roc.tar) >= 0).all()


@quick
@given(some_scores, st.lists(some_scores | st.just([]), min_size=1, max_size=5), st.integers(1, 7))
def test_any_cut_gives_what_all_at_once_give(
    genuine: list[float], chunks: list[list[float]], at_once: int
) -> None:
    impostors = np.concatenate([np.array(chunk, dtype=float) for chunk in chunks])
    if not len(impostors):
        return
    usual, streaming.AT_ONCE = streaming.AT_ONCE, at_once
    try:
        found = stream_roc(
            genuine,
            (np.array(chunk, dtype=float) for chunk in chunks),
            fars=[0.01, 0.1, 1 / 3, 1.0],
        )
    finally:
        streaming.AT_ONCE = usual
    _assert_as_if_at_once(found, np.array(genuine, dtype=float), impostors)


def test_many_scores_of_another_precision() -> None:
    rng = np.random.default_rng(0)
    genuine, impostors = (
        rng.normal(0.5, 0.2, 300).astype(np.float32),
        rng.normal(0, 0.2, 200_000).astype(np.float32),
    )
    found = stream_roc(
        genuine,
        np.array_split(impostors, 7),
        fars=[1e-1, 1e-3, 1e-5],
        progress="scores",
        total=200_000,
    )
    _assert_as_if_at_once(found, genuine.astype(float), impostors.astype(float))
    assert found.supported(1e-4)
    assert not found.supported(1e-5)


def test_memory_is_not_that_of_the_impostor_scores() -> None:
    def scores() -> Iterator[NDArray[np.float64]]:
        reused = np.empty(100_000)
        for seed in range(60):
            reused[:] = np.random.default_rng(seed).normal(size=100_000)
            yield reused

    tracemalloc.start()
    found = stream_roc(np.arange(5.0), scores())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.impostors == 6_000_000  # 48 MB of them
    assert peak < 25e6
    everything = np.concatenate([chunk.copy() for chunk in scores()])
    assert found.tar_at_far[1e-3] == np.mean(np.arange(5.0) > np.quantile(everything, 0.999))


def test_it_is_drawn_like_a_result() -> None:
    found = stream_roc([0.1, 0.5, 0.9], [np.linspace(-1, 1, 50), np.linspace(-1, 0.4, 50)])
    assert len(plots.roc({"a": found}).data) == 1
    assert len(plots.det({"a": found}).data) == 2


# All pairs of a labelled set


def _labelled(
    images: int = 40, people: int = 7, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    identities = rng.integers(0, people, images) * 3
    return (rng.normal(size=(people * 3, 8))[identities] + rng.normal(size=(images, 8))).astype(
        np.float32
    ), identities


def test_all_pairs_are_compared_once() -> None:
    embeddings, identities = _labelled()
    unit = on_grid(embeddings)
    pairs = list(combinations(range(len(unit)), 2))
    scores = np.array([unit[i] @ unit[j] for i, j in pairs])
    same = np.array([identities[i] == identities[j] for i, j in pairs])
    _assert_as_if_at_once(
        all_pairs_roc(embeddings, identities, fars=[0.1, 0.01]), scores[same], scores[~same]
    )


@pytest.mark.parametrize("block", [1, 3, 7, 39, 1000])
def test_neither_blocks_nor_the_order_of_images_matter(block: int) -> None:
    embeddings, identities = _labelled()
    order = np.random.default_rng(block).permutation(len(embeddings))
    usual, other = (
        all_pairs_roc(embeddings, identities),
        all_pairs_roc(embeddings[order], identities[order], block=block),
    )
    for one, another in zip(usual.roc, other.roc, strict=True):
        np.testing.assert_array_equal(one, another)
    assert (usual.auc, usual.eer, usual.tar_at_far) == (other.auc, other.eer, other.tar_at_far)
    assert "all pairs of 40 images" in other.protocol["pairs"]


def test_there_is_no_matrix_of_all_scores() -> None:
    embeddings, identities = _labelled(3000, 500)
    tracemalloc.start()
    found = all_pairs_roc(embeddings, identities, block=256)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.genuine + found.impostors == 3000 * 2999 // 2
    assert peak < 3000 * 3000 * 8 / 3


# Bad input


@pytest.mark.parametrize(
    ("genuine", "chunks", "said"),
    [
        ([], [[1.0]], "no genuine scores"),
        ([1.0], [], "no impostor scores"),
        ([1.0], [[], []], "no impostor scores"),
        ([1.0, np.nan], [[1.0]], "genuine scores: number 1 is nan"),
        ([1.0], [[0.0], [1.0, 2.0, np.inf]], "impostor scores of chunk 1: number 2 is inf"),
        ([1.0], [[0.0], [np.nan]], "impostor scores of chunk 1: number 0 is nan"),
        ([1.0], [[[0.0]]], "shape (1, 1)"),
        ([1.0], [1.0], "shape ()"),
        ([[1.0]], [[1.0]], "shape (1, 1)"),
        (["a"], [[1.0]], "expected numbers"),
    ],
)
def test_bad_scores_are_one_readable_line(
    genuine: Any, chunks: Any, said: str, complaint: Any
) -> None:
    with complaint(said):
        stream_roc(genuine, chunks)


def test_a_bad_score_is_counted_from_the_beginning_of_its_chunk(
    complaint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "AT_ONCE", 4)
    with complaint("chunk 0", "number 10 is nan"):
        stream_roc([1.0], [np.append(np.zeros(10), np.nan)])


@pytest.mark.parametrize("far", [0.0, -1.0, 2.0, np.nan])
def test_a_far_that_is_no_rate_is_one_readable_line(far: float, complaint: Any) -> None:
    with complaint("must be in (0, 1]"):
        stream_roc([1.0], [[1.0]], fars=[far])


@pytest.mark.parametrize(
    ("embeddings", "identities", "said"),
    [
        (np.ones((3, 2)), [0, 1], "expected (N, D)"),
        (np.ones(3), [0, 1, 1], "expected (N, D)"),
        (np.ones((3, 2)), [0.0, 1.0, 1.0], "expected (N, D)"),
        (np.ones((3, 2)), [0, -1, 1], "leave these images out"),
        (np.ones((3, 2)), [0, 1, 2], "0 genuine and 3 impostor"),
        (np.ones((3, 2)), [1, 1, 1], "3 genuine and 0 impostor"),
        (np.array([[1.0], [np.nan], [2.0]]), [0, 0, 1], "not finite"),
    ],
)
def test_bad_sets_are_one_readable_line(
    embeddings: Any, identities: Any, said: str, complaint: Any
) -> None:
    with complaint(said):
        all_pairs_roc(embeddings, identities)


def test_more_genuine_pairs_than_are_held_are_refused(
    complaint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "MOST_GENUINE", 2)
    with complaint("3 genuine pairs", "fewer images"):
        all_pairs_roc(np.ones((4, 2)), [0, 0, 0, 1])
