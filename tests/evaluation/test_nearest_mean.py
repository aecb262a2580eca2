"""Classes without class centres: the nearest mean."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.evaluation import to_identity_means
from workbench.evaluation.angles import CHUNK
from workbench.evaluation.closed_set import identity_means, nearest_mean

RNG = np.random.default_rng(0)


def test_the_mean_is_that_of_the_directions() -> None:
    found = identity_means(np.array([[3.0, 0], [0, 0.1], [-2, 0]]), np.array([0, 0, 1]))
    np.testing.assert_allclose(found, [[1, 1], [-1, 0]])


def test_new_embeddings_go_to_the_nearest_mean_whatever_their_length() -> None:
    known, labels = np.array([[1.0, 0], [1, 0.2], [0, 5], [0.1, 4]]), np.array([1, 1, 0, 0])
    asked = np.array([[100.0, 1], [0.001, 0.1], [2, 1], [-1, 0.1]])
    assert nearest_mean(known, labels, asked).tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("count", [60, CHUNK + 10])
def test_a_training_image_is_left_out_of_its_own_mean(count: int) -> None:
    labels = RNG.permutation(np.arange(count) % 20)
    embeddings = RNG.normal(size=(20, 8))[labels] + RNG.normal(size=(count, 8))
    found, angles = nearest_mean(embeddings, labels), to_identity_means(embeddings, labels)
    np.testing.assert_array_equal(found == labels, angles.own < angles.other)
    assert 0.2 < (found == labels).mean() < 1


def test_random_embeddings_are_not_told_apart() -> None:
    labels = np.repeat(np.arange(50), 3)
    embeddings = RNG.normal(size=(150, 64))
    assert (
        nearest_mean(embeddings, labels, embeddings) == labels
    ).mean() > 0.9  # what leaving out is for
    assert (nearest_mean(embeddings, labels) == labels).mean() < 0.15


def test_the_only_image_of_a_class_is_given_another() -> None:
    embeddings, labels = np.array([[1.0, 0], [0, 1], [0.1, 1]]), np.array([0, 1, 1])
    assert nearest_mean(embeddings, labels).tolist() == [1, 1, 1]
