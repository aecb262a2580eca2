"""OHEM and focal loss, alone and in compositions."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from batches import random_batch
from torch import Tensor

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.losses import OHEM, ClassificationLoss, Focal

D, C, N = 6, 5, 13


def _make(name: str, **options: Any) -> ClassificationLoss:
    torch.manual_seed(0)
    loss = wb.losses.create(name, embedding_dim=D, num_classes=C, **options).double()
    assert isinstance(loss, ClassificationLoss)
    return loss


_batch = partial(random_batch, n=N, dim=D, classes=C)


def _cross_entropies(
    loss: ClassificationLoss, embeddings: Tensor, labels: Tensor, name: str
) -> np.ndarray:
    """Of each sample, in numpy: s 8, and m 0.5 with arcface."""
    x, w, y = embeddings.numpy(force=True), loss.weight.numpy(force=True), labels.numpy()
    if name != "softmax":
        x, w = (
            x / np.linalg.norm(x, axis=1, keepdims=True),
            w / np.linalg.norm(w, axis=1, keepdims=True),
        )
    logits = x @ w.T * (1.0 if name == "softmax" else 8.0)
    own = np.arange(N), y
    if name == "arcface":
        logits[own] = 8 * np.cos(np.arccos(logits[own] / 8) + 0.5)
    return np.logaddexp.reduce(logits, axis=1) - logits[own]


def _ohem(costs: np.ndarray, keep: float = 0.75) -> np.ndarray:
    return np.array(sorted(costs)[::-1][: max(math.floor(keep * len(costs)), 1)])


def _focal(costs: np.ndarray, gamma: float = 2.0) -> np.ndarray:
    return np.array([(1 - math.exp(-cost)) ** gamma * cost for cost in costs])


# Alone


@pytest.mark.parametrize(
    ("keep", "count", "kept"),
    [
        (0.75, 12, 9),
        (0.75, 13, 9),
        (0.29, 100, 29),
        (1.0, 5, 5),
        (0.5, 1, 1),
        (0.01, 7, 1),
        (0.1, 3, 1),
    ],
)
def test_ohem_keeps_the_hardest(keep: float, count: int, kept: int) -> None:
    losses = torch.rand(count, generator=torch.Generator().manual_seed(0))
    found = OHEM(keep)(losses)
    assert sorted(found.tolist()) == sorted(losses.tolist())[-kept:]


def test_what_ohem_leaves_out_has_no_gradient() -> None:
    losses = torch.tensor([3.0, 1.0, 2.0, 5.0], requires_grad=True)
    OHEM(0.5)(losses).mean().backward()
    assert losses.grad.tolist() == [0.5, 0, 0, 0.5]


def test_what_is_not_a_number_is_noticed() -> None:
    losses = torch.tensor([1.0, math.nan, 2.0, 0.0])
    assert OHEM(0.5)(losses).isnan().any()
    assert Focal()(losses).isnan().sum() == 1


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_focal_is_the_formula(gamma: float) -> None:
    costs = np.linspace(1e-3, 30, 200)
    np.testing.assert_allclose(
        Focal(gamma)(torch.from_numpy(costs)).numpy(), _focal(costs, gamma), rtol=1e-10
    )
    losses = torch.tensor([0.01, 0.3, 1.0, 7.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Focal(gamma), (losses,))


def test_alpha_is_a_factor_of_the_focal_loss() -> None:
    costs = np.linspace(1e-3, 30, 200)
    with_alpha = Focal(gamma=3.0, alpha=0.5)(torch.from_numpy(costs)).numpy()
    np.testing.assert_allclose(with_alpha, 0.5 * _focal(costs, 3.0), rtol=1e-10)


@pytest.mark.parametrize("alpha", [0.0, -0.5, math.nan, math.inf, "0.5"])
def test_alpha_must_be_positive(alpha: Any) -> None:
    with pytest.raises(WorkbenchError, match="focal: alpha"):
        Focal(alpha=alpha)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gamma", [0.0, 1e-3, 0.5, 1.0, 2.0, 100.0])
def test_focal_is_finite_where_all_is_right_or_wrong(gamma: float, dtype: torch.dtype) -> None:
    losses = torch.tensor(
        [0.0, 1e-44, 1e-38, 1e-20, 1e-8, 200.0, 1e30], dtype=dtype, requires_grad=True
    )
    found = Focal(gamma)(losses)
    found.sum().backward()
    assert torch.isfinite(found).all()
    assert torch.isfinite(losses.grad).all()
    assert found[0] == 0.0
    assert found[-1] == losses[-1]


def test_a_sample_nearly_right_keeps_its_digits_in_float32() -> None:
    losses = torch.tensor([1e-6])
    assert Focal(2.0)(losses).item() == pytest.approx(
        1e-18, rel=1e-5
    )  # 1 - exp(-1e-6) is 9.5e-7 in float32


# In compositions

PARTS = {"ohem": _ohem, "focal": _focal}


@pytest.mark.parametrize(
    "name",
    [
        "normface+ohem",
        "normface+focal",
        "arcface+ohem+focal",
        "arcface+focal+ohem",
        "softmax+focal",
        "ohem",
        "arcface+ohem",
    ],
)
def test_a_composition_is_the_mean_of_the_reweighted_samples(name: str) -> None:
    first, *parts = name.split("+") if name != "ohem" else ["softmax", "ohem"]
    loss, (embeddings, labels) = _make(name, **({} if first == "softmax" else {"s": 8.0})), _batch()
    costs = _cross_entropies(loss, embeddings, labels, first)
    for part in parts:
        costs = PARTS[part](costs)
    value = loss(embeddings, labels)
    assert value.item() == pytest.approx(costs.mean(), rel=1e-9)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), (embeddings,))


def test_options_of_the_parts_reach_them() -> None:
    loss, (embeddings, labels) = (
        _make("arcface+ohem+focal", s=8.0, ohem={"keep": 0.3}, focal={"gamma": 0.5}),
        _batch(),
    )
    costs = _focal(_ohem(_cross_entropies(loss, embeddings, labels, "arcface"), 0.3), 0.5)
    assert len(costs) == 3
    assert loss(embeddings, labels).item() == pytest.approx(costs.mean(), rel=1e-9)


def test_focal_weighs_samples_and_not_the_batch() -> None:
    """Applied to the mean of the batch, it has another value and weights all samples alike."""
    loss, (embeddings, labels) = _make("normface+focal", s=8.0), _batch()
    with torch.no_grad():  # half of the samples are easy
        embeddings[::2] = loss.weight[labels[::2]]
    costs = _cross_entropies(loss, embeddings, labels, "normface")
    of_the_mean = _focal(costs.mean(keepdims=True)).item()
    found = loss(embeddings, labels).item()
    assert found == pytest.approx(_focal(costs).mean(), rel=1e-9)
    assert abs(found - of_the_mean) > 0.1 * of_the_mean
    losses = torch.from_numpy(costs).requires_grad_()
    Focal()(losses).mean().backward()
    weights = losses.grad.numpy()
    assert weights[costs.argmax()] > 5 * weights[costs.argmin()]


def test_softmax_and_triplet_are_added() -> None:
    loss, (embeddings, labels) = (
        _make("softmax+triplet", triplet={"m": 0.4, "weight": 2.0}),
        _batch(),
    )
    x, y = embeddings.numpy(force=True), labels.tolist()
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    costs = []
    for a in range(N):
        near = [np.linalg.norm(x[a] - x[p]) for p in range(N) if p != a and y[p] == y[a]]
        far = [np.linalg.norm(x[a] - x[n]) for n in range(N) if y[n] != y[a]]
        costs += [max(0.0, max(near) - min(far) + 0.4)] if near else []
    expected = _cross_entropies(loss, embeddings, labels, "softmax").mean() + 2 * np.mean(costs)
    assert loss(embeddings, labels).item() == pytest.approx(expected, rel=1e-9)
    assert loss.images_per_identity == 4


def test_terms_are_not_reweighted() -> None:
    loss, (embeddings, labels) = (
        _make("normface+ohem+center", s=8.0, center={"weight": 0.1}),
        _batch(),
    )
    centre = 0.5 * np.mean(
        np.sum(embeddings.numpy(force=True) ** 2, axis=1)
    )  # the centres start at 0
    expected = _ohem(_cross_entropies(loss, embeddings, labels, "normface")).mean() + 0.1 * centre
    assert loss(embeddings, labels).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("part", ["ohem", "focal"])
def test_a_loss_without_a_classifier_takes_none(part: str) -> None:
    with pytest.raises(wb.WorkbenchError, match="classification loss"):
        _make(f"triplet+{part}")


@pytest.mark.parametrize(
    ("part", "options"),
    [
        ("ohem", {"keep": -0.1}),
        ("ohem", {"keep": 0.0}),
        ("ohem", {"keep": 1.1}),
        ("ohem", {"keep": "a"}),
        ("ohem", {"gamma": 1}),
        ("focal", {"gamma": -1}),
        ("focal", {"gamma": math.inf}),
        ("focal", {"gamma": None}),
        ("focal", {"weight": 0.25}),
    ],
    ids=str,
)
def test_an_option_out_of_range_is_one_line(part: str, options: dict[str, Any]) -> None:
    with pytest.raises(wb.WorkbenchError, match=part) as caught:
        _make(f"normface+{part}", **{part: options})
    assert "\n" not in str(caught.value)
