from __future__ import annotations

import itertools
import math
from functools import partial
from typing import Any, get_args

import numpy as np
import pytest
import torch
from batches import random_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import losses as pml
from pytorch_metric_learning import miners, reducers
from pytorch_metric_learning.distances import LpDistance
from torch import Tensor

import workbench as wb
from workbench.losses import Triplet
from workbench.losses.triplet import Mining

D, C, N = 6, 5, 24
every_mining = pytest.mark.parametrize("mining", get_args(Mining))
squared_or_not = pytest.mark.parametrize("squared", [False, True])


def _make(**options: Any) -> Triplet:
    loss = wb.losses.create("triplet", embedding_dim=D, num_classes=C, **options)
    assert isinstance(loss, Triplet)
    return loss


_batch = partial(random_batch, n=N, dim=D, classes=C)


# Against another implementation and the definition


@every_mining
@squared_or_not
@pytest.mark.parametrize("m", [0.1, 0.3, 1.0])
def test_it_agrees_with_pytorch_metric_learning(mining: Mining, squared: bool, m: float) -> None:
    distance = LpDistance(power=2 if squared else 1)
    if mining == "batch_hard":
        miner, reducer = miners.BatchHardMiner(distance=distance), reducers.MeanReducer()
    else:
        kind = "semihard" if mining == "semi_hard" else "all"
        miner = miners.TripletMarginMiner(margin=m, type_of_triplets=kind, distance=distance)
        reducer = reducers.AvgNonZeroReducer()
    reference = pml.TripletMarginLoss(margin=m, distance=distance, reducer=reducer)
    embeddings, labels = _batch()
    other = embeddings.detach().clone().requires_grad_()
    ours = _make(m=m, mining=mining, squared=squared)(embeddings, labels)
    theirs = reference(other, labels, miner(other, labels))
    assert ours > 0
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    ours.backward()
    theirs.backward()
    torch.testing.assert_close(embeddings.grad, other.grad, rtol=1e-7, atol=1e-9)


def _by_loops(embeddings: Tensor, labels: Tensor, m: float, mining: Mining, squared: bool) -> float:
    x, y = embeddings.numpy(force=True), labels.tolist()
    x = x / np.linalg.norm(x, axis=1, keepdims=True)

    def distance(a: int, b: int) -> float:
        return float(np.linalg.norm(x[a] - x[b]) ** (2 if squared else 1))

    costs = []
    for a in range(len(y)):
        near = [distance(a, p) for p in range(len(y)) if p != a and y[p] == y[a]]
        far = [distance(a, n) for n in range(len(y)) if y[n] != y[a]]
        if mining == "batch_hard":
            costs += [max(0.0, max(near) - min(far) + m)] if near and far else []
        else:
            gaps = [n - p for p, n in itertools.product(near, far)]
            costs += [m - gap for gap in gaps if gap < m and (mining == "all" or gap > 0)]
    return float(np.mean(costs)) if costs else 0.0


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 10),
    m=st.floats(0.0, 2.0),
    mining=st.sampled_from(get_args(Mining)),
    squared=st.booleans(),
)
def test_it_is_the_mean_over_the_mined_triplets(
    seed: int, n: int, m: float, mining: Mining, squared: bool
) -> None:
    embeddings, labels = _batch(n=n, seed=seed)
    found = _make(m=m, mining=mining, squared=squared)(embeddings, labels)
    assert found.item() == pytest.approx(
        _by_loops(embeddings, labels, m, mining, squared), abs=1e-9
    )


@every_mining
def test_lengths_order_and_names_of_classes_do_not_matter(mining: Mining) -> None:
    loss, (embeddings, labels) = _make(mining=mining), _batch()
    before = loss(embeddings, labels)
    lengths = torch.rand(N, 1, dtype=torch.float64) + 0.1
    torch.testing.assert_close(loss(lengths * embeddings, labels), before)
    torch.testing.assert_close(loss(embeddings.flip(0), labels.flip(0)), before)
    torch.testing.assert_close(loss(embeddings, C - 1 - labels), before)


def test_half_the_ramp_is_half_the_margin() -> None:
    embeddings, labels = _batch()
    whole, half = _make(m=0.6), _make(m=0.3)
    whole.ramp = 0.5
    torch.testing.assert_close(whole(embeddings, labels), half(embeddings, labels))


# Where there is nothing to learn from


@every_mining
@pytest.mark.parametrize("labels", [[0], [1, 1, 1, 1], [0, 1, 2, 3], [4, 2]])
def test_a_batch_without_a_triplet_costs_nothing_and_can_be_trained_on(
    mining: Mining, labels: list[int]
) -> None:
    loss, (embeddings, _) = _make(mining=mining), _batch(n=len(labels))
    value = loss(embeddings, torch.tensor(labels))
    assert value.item() == 0.0
    value.backward()
    assert torch.equal(embeddings.grad, torch.zeros_like(embeddings))
    assert "active_triplets" not in loss.measure(embeddings, torch.tensor(labels))


def test_people_far_apart_cost_nothing() -> None:
    embeddings = torch.eye(C, D)[[0, 0, 1, 1]].requires_grad_()
    labels = torch.tensor([0, 0, 1, 1])
    for mining in get_args(Mining):
        loss = _make(mining=mining)
        assert loss(embeddings, labels).item() == 0.0
        assert loss.measure(embeddings, labels)["active_triplets"] == 0.0


# Gradients


@every_mining
@squared_or_not
def test_gradients_are_those_of_the_value(mining: Mining, squared: bool) -> None:
    loss, (embeddings, labels) = _make(mining=mining, squared=squared), _batch(n=10, seed=3)
    assert loss(embeddings, labels) > 0
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), (embeddings,))


@every_mining
@squared_or_not
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_extremes_are_finite(mining: Mining, squared: bool, dtype: torch.dtype) -> None:
    one = torch.ones(1, D, dtype=dtype)
    embeddings = torch.cat(
        [one, one, -one, one, 1e-20 * one, 0 * one, 0 * one, 1e10 * one]
    ).requires_grad_()
    value = _make(mining=mining, squared=squared)(
        embeddings, torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])
    )
    assert torch.isfinite(value)
    value.backward()
    assert torch.isfinite(embeddings.grad).all()


def test_embeddings_that_all_coincide_cost_the_margin() -> None:
    embeddings = torch.ones(4, D, requires_grad=True)
    value = _make(m=0.25)(embeddings, torch.tensor([0, 0, 1, 1]))
    assert value.item() == pytest.approx(0.25)
    value.backward()
    assert torch.isfinite(embeddings.grad).all()


@every_mining
def test_what_is_not_a_number_does_not_pass_for_nothing_to_learn(mining: Mining) -> None:
    embeddings, labels = _batch()
    assert torch.isnan(_make(mining=mining)(embeddings * torch.nan, labels))


# What is logged


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_angles_and_shares_are_those_of_the_batch(dtype: torch.dtype) -> None:
    embeddings, labels = _batch(dtype=dtype)
    x, y = embeddings.double().numpy(force=True), labels.numpy()
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    angles = np.degrees(np.arccos(np.clip(x @ x.T, -1, 1)))
    same = y[:, None] == y
    row = _make(m=0.3).measure(embeddings, labels)
    assert row["genuine_angle_mean"] == pytest.approx(
        angles[same & ~np.eye(N, dtype=bool)].mean(), abs=1e-3
    )
    assert row["impostor_angle_mean"] == pytest.approx(angles[~same].mean(), abs=1e-3)
    assert "accuracy" not in row
    distances = 2 * np.sin(np.radians(angles) / 2)
    hardest = [
        distances[i][~same[i]].min() - distances[i][same[i] & (np.arange(N) != i)].max() < 0.3
        for i in range(N)
    ]
    assert row["active_triplets"] == pytest.approx(np.mean(hardest))
    shares = {
        mining: _make(m=0.3, mining=mining).measure(embeddings, labels)["active_triplets"]
        for mining in get_args(Mining)
    }
    assert 0 < shares["semi_hard"] < shares["all"] < 1


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"m": -0.1}, "margin m"),
        ({"m": 2.1}, "0 <= m <= 2,"),
        ({"m": 4.1, "squared": True}, "0 <= m <= 4,"),
        ({"m": math.nan}, "margin m"),
        ({"m": "0.3"}, "triplet"),
        ({"m": None}, "triplet"),
        ({"mining": "batch-hard"}, "did you mean 'batch_hard'"),
        ({"mining": ["all"]}, "unknown mining"),
        ({"mining": None}, "unknown mining"),
    ],
)
def test_an_option_out_of_range_is_one_line(options: dict[str, Any], match: str) -> None:
    with pytest.raises(wb.WorkbenchError, match=match) as caught:
        _make(**options)
    assert "\n" not in str(caught.value)
