"""PCA against scikit-learn, the choice of points, and UMAP's seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from workbench.evaluation import project, projection
from workbench.evaluation.projection import MAX_IDENTITIES, MAX_POINTS, choose_points, pca


def _unit(count: int, dim: int, seed: int = 0) -> NDArray[np.float64]:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)) * np.linspace(3, 1, dim)
    unit: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


@pytest.mark.parametrize(("count", "dim"), [(50, 8), (5, 20), (3, 3), (30, 2)])
def test_pca_is_scikit_learns_up_to_sign(count: int, dim: int) -> None:
    vectors = _unit(count, dim)
    coordinates, explained = pca(vectors)
    other = PCA(2)
    expected = other.fit_transform(vectors)
    np.testing.assert_allclose(np.abs(coordinates), np.abs(expected), atol=1e-9)
    np.testing.assert_allclose(explained, other.explained_variance_ratio_, atol=1e-9)


def test_pca_signs_do_not_depend_on_the_order_of_points() -> None:
    vectors = _unit(40, 6)
    np.testing.assert_allclose(pca(vectors[::-1])[0], pca(vectors)[0][::-1], atol=1e-9)


@pytest.mark.parametrize(("count", "dim"), [(1, 4), (2, 4), (3, 4), (1, 1), (2, 1), (9, 1)])
def test_pca_of_few_points_or_one_dimension_is_padded(count: int, dim: int) -> None:
    coordinates, explained = pca(np.random.default_rng(0).normal(size=(count, dim)))
    assert coordinates.shape == (count, 2)
    assert explained.shape == (2,)
    assert np.isfinite(coordinates).all()
    assert explained.sum() == pytest.approx(0.0 if count == 1 else 1.0)
    if min(count - 1, dim) < 2:
        np.testing.assert_allclose(coordinates[:, 1], 0, atol=1e-12)


def test_pca_of_a_line_has_one_axis_and_of_a_point_none() -> None:
    line = np.outer(np.arange(10.0), [3.0, 4.0, 0.0])
    coordinates, explained = pca(line)
    np.testing.assert_allclose(coordinates[:, 0], 5 * (np.arange(10) - 4.5), atol=1e-9)
    np.testing.assert_allclose(explained, [1, 0], atol=1e-12)
    np.testing.assert_allclose(pca(np.ones((5, 3)))[1], 0)


def test_the_identities_with_the_most_images_are_shown() -> None:
    counts = np.arange(1, MAX_IDENTITIES + 6)  # identity i has i + 1 images
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    points = choose_points(labels, 0)
    assert set(labels[points]) == set(range(5, len(counts)))
    assert (np.diff(points) > 0).all()
    assert len(points) == counts[5:].sum()


def test_at_most_so_many_points_are_drawn_reproducibly() -> None:
    labels = np.arange(3 * MAX_POINTS) % 4
    points = choose_points(labels, 1)
    assert len(points) == MAX_POINTS == len(set(points.tolist()))
    assert (np.diff(points) > 0).all()
    np.testing.assert_array_equal(points, choose_points(labels, 1))
    assert not np.array_equal(points, choose_points(labels, 2))
    assert np.bincount(labels[points]).min() > MAX_POINTS / 4 * 0.8


def test_unknown_people_are_shown_only_where_nobody_else_is() -> None:
    assert choose_points(np.array([-1, 0, -1, 1, 1]), 0).tolist() == [1, 3, 4]
    assert choose_points(np.array([-1, -1, -1]), 0).tolist() == [0, 1, 2]


def test_a_projection_sees_directions_only() -> None:
    vectors, labels = _unit(8, 5), np.arange(8) % 2
    one, other = project(vectors, labels), project(vectors * np.arange(1, 9)[:, None], labels)
    np.testing.assert_allclose(one.pca, other.pca, atol=1e-9)
    np.testing.assert_array_equal(one.labels, labels)


def test_fewer_than_a_dozen_points_have_no_umap() -> None:
    for count in (1, 2, 3, projection.MIN_UMAP_POINTS - 1):
        shown = project(_unit(count, 4), np.zeros(count, dtype=np.int64))
        assert shown.umap is None
        assert shown.pca.shape == (count, 2)


@pytest.mark.slow
def test_umap_is_reproducible_by_seed() -> None:
    vectors, labels = (
        _unit(projection.MIN_UMAP_POINTS, 6),
        np.arange(projection.MIN_UMAP_POINTS) % 3,
    )
    one, again, other = (project(vectors, labels, seed=seed).umap for seed in (0, 0, 1))
    assert one is not None
    assert one.shape == (projection.MIN_UMAP_POINTS, 2)
    assert np.isfinite(one).all()
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.slow
def test_umap_leaves_the_number_of_threads_of_pytorch() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        project(_unit(projection.MIN_UMAP_POINTS, 6), np.zeros(projection.MIN_UMAP_POINTS, int))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
