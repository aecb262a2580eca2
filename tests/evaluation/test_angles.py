"""Angles to class centres against loops over single vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from workbench.evaluation import to_centres, to_identity_means
from workbench.evaluation.angles import CHUNK, normalised


def _unit(vector: Sequence[float]) -> list[float]:
    length = math.sqrt(sum(v * v for v in vector))
    return [v / length for v in vector]


def _angle(a: Sequence[float], b: Sequence[float]) -> float:
    cosine = sum(x * y for x, y in zip(_unit(a), _unit(b), strict=True))
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


def _sum(vectors: Sequence[Sequence[float]]) -> list[float]:
    return [sum(column) for column in zip(*vectors, strict=True)]


def _embeddings(
    count: int, classes: int, dim: int = 5, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=count)
    return (rng.normal(size=(count, dim)) * rng.uniform(0.1, 9, (count, 1))).astype(
        np.float32
    ), labels


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 20), st.integers(2, 5), st.integers(0, 999))
def test_angles_to_given_centres_are_those_of_a_loop(count: int, classes: int, seed: int) -> None:
    embeddings, labels = _embeddings(count, classes, seed=seed)
    centres = np.random.default_rng(seed + 1).normal(size=(classes, 5)) * 3
    own, other = to_centres(embeddings, labels, centres)
    for row, label in enumerate(labels):
        angles = [_angle(embeddings[row].tolist(), centre) for centre in centres.tolist()]
        assert own[row] == pytest.approx(angles[label], abs=1e-5)
        assert other[row] == pytest.approx(
            min(a for c, a in enumerate(angles) if c != label), abs=1e-5
        )


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 25), st.integers(2, 5), st.integers(0, 999))
def test_angles_to_identity_means_leave_the_embedding_itself_out(
    count: int, classes: int, seed: int
) -> None:
    embeddings, labels = _embeddings(count, classes, seed=seed)
    own, other = to_identity_means(embeddings, labels)
    unit = [_unit(vector) for vector in embeddings.tolist()]
    for row, label in enumerate(labels):
        rest = [unit[i] for i in range(count) if labels[i] == label and i != row]
        foreign = [
            _sum([unit[i] for i in range(count) if labels[i] == c])
            for c in set(labels.tolist()) - {label}
        ]
        assert own[row] == (
            pytest.approx(_angle(unit[row], _sum(rest)), abs=1e-5)
            if rest
            else pytest.approx(np.nan, nan_ok=True)
        )
        assert other[row] == pytest.approx(
            min((_angle(unit[row], centre) for centre in foreign), default=np.nan),
            abs=1e-5,
            nan_ok=True,
        )


def test_an_identity_with_one_image_has_no_angle_to_its_own_centre() -> None:
    own, other = to_identity_means(np.eye(3), np.array([0, 0, 1]))
    np.testing.assert_allclose(own, [90, 90, np.nan])
    np.testing.assert_allclose(other, [90, 90, 90])


def test_unknown_people_have_no_angles_and_are_no_centre() -> None:
    embeddings = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1], [0.9, 0.1]])
    own, other = to_identity_means(embeddings, np.array([0, 0, 5, 5, -1]))
    np.testing.assert_allclose(own, [0, 0, 0, 0, np.nan])
    np.testing.assert_allclose(other, [90, 90, 90, 90, np.nan])


def test_all_unknown_gives_no_angles() -> None:
    own, other = to_identity_means(np.eye(3), np.full(3, -1))
    assert np.isnan(own).all()
    assert np.isnan(other).all()


def test_with_one_class_there_is_no_other() -> None:
    labels = np.zeros(3, dtype=np.int64)
    assert np.isnan(to_identity_means(np.eye(3), labels).other).all()
    angles = to_centres(np.eye(3), labels, np.ones((1, 3)))
    assert np.isnan(angles.other).all()
    np.testing.assert_allclose(angles.own, math.degrees(math.acos(1 / math.sqrt(3))))


def test_a_zero_vector_is_at_right_angles_to_everything() -> None:
    embeddings, labels = np.array([[0.0, 0], [1, 0], [0, 1], [0, 1]]), np.array([0, 0, 1, 1])
    own, other = to_identity_means(embeddings, labels)
    np.testing.assert_allclose(own, [90, 90, 0, 0])
    np.testing.assert_allclose(other, [90, 90, 90, 90])
    own, other = to_centres(embeddings, labels, np.zeros((2, 2)))
    np.testing.assert_allclose([own, other], 90)


def test_opposite_vectors_are_half_a_turn_apart() -> None:
    own, _ = to_identity_means(np.array([[1.0, 0], [-1, 0]]), np.array([0, 0]))
    np.testing.assert_allclose(own, 180)


def test_lengths_do_not_matter() -> None:
    embeddings, labels = _embeddings(30, 3)
    scaled = embeddings * np.linspace(1e-3, 1e3, 30)[:, None]
    np.testing.assert_allclose(
        to_identity_means(scaled, labels), to_identity_means(embeddings, labels), atol=1e-4
    )


def test_equal_vectors_are_at_exactly_no_angle_in_spite_of_rounding() -> None:
    own, _ = to_centres(np.full((1, 3), 0.1), np.array([0]), np.full((2, 3), 0.7))
    np.testing.assert_allclose(own, 0, atol=2e-6)


def test_more_images_than_fit_in_a_chunk_make_no_difference() -> None:
    embeddings, labels = _embeddings(CHUNK + 3, 4)
    whole = to_identity_means(embeddings, labels)
    centres = np.stack([normalised(embeddings[labels == c]).sum(axis=0) for c in range(4)])
    cosines = normalised(embeddings) @ normalised(centres).T
    cosines[np.arange(len(labels)), labels] = -2
    np.testing.assert_allclose(whole.other, np.degrees(np.arccos(cosines.max(axis=1))))
    for part in (slice(0, CHUNK), slice(CHUNK, None)):
        np.testing.assert_allclose(
            to_centres(embeddings[part], labels[part], centres).other, whole.other[part]
        )


@pytest.mark.parametrize(
    ("embeddings", "labels", "centres"),
    [
        (np.eye(3), [0, 1, 2], np.eye(4)),
        (np.ones(3), [0, 1, 2], np.eye(3)),
        (np.eye(3), [0, 1, 2], np.ones(3)),
        (np.eye(3), [0, 1], np.eye(3)),
        (np.eye(3), [0, 1, 3], np.eye(3)),
        (np.eye(3), [0, 1, -1], np.eye(3)),
    ],
)
def test_what_does_not_fit_together_is_one_readable_line(
    embeddings: Any, labels: Any, centres: Any, complaint: Any
) -> None:
    with complaint("centres"):
        to_centres(embeddings, np.array(labels), centres)
