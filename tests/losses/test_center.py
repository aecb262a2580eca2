from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from batches import random_batch

import workbench as wb
from workbench.losses import Center, Loss

D, C, N = 6, 5, 12


def _make(
    name: str = "softmax+center", dtype: torch.dtype = torch.float64, **options: Any
) -> tuple[Loss, Center]:
    torch.manual_seed(0)
    loss = wb.losses.create(name, embedding_dim=D, num_classes=C, **options).to(dtype)
    term = loss.terms["center"]
    assert isinstance(term, Center)
    return loss, term


_batch = partial(random_batch, n=N, dim=D, classes=4)
"""Class 4 is in no batch."""


def _by_the_paper(
    x: np.ndarray, y: np.ndarray, centres: np.ndarray, rate: float
) -> tuple[float, np.ndarray]:
    """The term before the update, and the centres after it."""
    cost = float(np.mean([0.5 * np.sum((x[i] - centres[y[i]]) ** 2) for i in range(len(x))]))
    moved = centres.copy()
    for j in range(len(centres)):
        delta = sum(((y[i] == j) * (centres[j] - x[i]) for i in range(len(x))), np.zeros(D)) / (
            1 + np.sum(y == j)
        )
        moved[j] = centres[j] - rate * delta
    return cost, moved


@pytest.mark.parametrize("rate", [0.5, 1.0, 0.0])
@pytest.mark.parametrize("name", ["softmax+center", "center"])
def test_loss_and_centres_follow_the_paper_over_several_batches(name: str, rate: float) -> None:
    loss, term = _make(name, center={"rate": rate, "weight": 0.1})
    centres = np.zeros((C, D))
    for seed in range(4):
        embeddings, labels = _batch(seed=seed)
        cost, centres = _by_the_paper(embeddings.numpy(force=True), labels.numpy(), centres, rate)
        cross_entropy = F.cross_entropy(loss.predict(embeddings), labels).item()
        assert loss(embeddings, labels).item() == pytest.approx(
            cross_entropy + 0.1 * cost, rel=1e-9
        )
        np.testing.assert_allclose(term.centres.numpy(), centres, atol=1e-12)
        assert loss.measure(embeddings, labels)["center"] == pytest.approx(cost, rel=1e-9)
    assert torch.equal(term.centres[4], torch.zeros(D, dtype=torch.float64))


def test_the_weight_is_the_paper_s_by_default() -> None:
    loss, _ = _make()
    embeddings, labels = _batch()
    alone = F.cross_entropy(loss.predict(embeddings), labels)
    added = 0.003 * 0.5 * embeddings.square().sum(1).mean()
    torch.testing.assert_close(loss(embeddings, labels), alone + added)


def test_the_gradient_is_x_minus_the_centre_before_the_update() -> None:
    _, term = _make()
    embeddings, labels = _batch()
    for _ in range(2):
        before = term.centres.clone()
        (found,) = torch.autograd.grad(term(embeddings, labels, None), embeddings)
        torch.testing.assert_close(found, (embeddings - before[labels]).detach() / N)
    assert not torch.equal(before, term.centres)


def test_gradients_are_those_of_the_value() -> None:
    loss, term = _make("normface+center", s=8.0, center={"weight": 0.5})
    embeddings, labels = _batch()
    loss(embeddings, labels)
    loss.eval()
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), (embeddings,))
    assert torch.autograd.gradcheck(lambda x: term(x, labels, loss), (embeddings,))


def test_centres_stay_as_they_are_in_evaluation() -> None:
    loss, term = _make()
    embeddings, labels = _batch()
    loss.eval()
    assert torch.equal(loss(embeddings, labels), loss(embeddings, labels))
    assert not term.centres.any()


def test_centres_settle_at_the_means_of_the_classes() -> None:
    loss, term = _make()
    embeddings, labels = _batch()
    for _ in range(200):
        loss(embeddings, labels)
    for label in labels.unique():
        torch.testing.assert_close(
            term.centres[label], embeddings[labels == label].mean(0).detach()
        )


@pytest.mark.parametrize(
    "name", ["softmax+center", "arcface+center", "triplet+center", "sphereface+mhe+center"]
)
def test_the_centres_are_saved_and_restored(name: str) -> None:
    (loss, term), (other, restored) = _make(name), _make(name)
    for seed in range(3):
        loss(*_batch(seed=seed))
    state = loss.state_dict()
    assert state["terms.center.centres"].shape == (C, D)
    other.load_state_dict(state)
    assert restored.centres.any()
    embeddings, labels = _batch(seed=7)
    assert torch.equal(loss(embeddings, labels), other(embeddings, labels))
    assert torch.equal(term.centres, restored.centres)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_other_precisions_and_a_batch_of_one_are_finite(dtype: torch.dtype) -> None:
    loss, term = _make(dtype=torch.float32)
    embeddings, labels = _batch(dtype=dtype)
    for count in (N, 1):
        value = loss(embeddings[:count], labels[:count])
        assert value.dtype == torch.float32
        assert torch.isfinite(value)
    value.backward()
    assert torch.isfinite(embeddings.grad).all()
    assert term.centres.dtype == torch.float32


@pytest.mark.parametrize(
    "options",
    [{"weight": -1}, {"weight": math.nan}, {"rate": 1.1}, {"rate": -0.1}, {"rate": "a"}, {"m": 1}],
    ids=str,
)
def test_an_option_out_of_range_is_one_line(options: dict[str, Any]) -> None:
    with pytest.raises(wb.WorkbenchError) as caught:
        _make(center=options)
    assert "\n" not in str(caught.value)
