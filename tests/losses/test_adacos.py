from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from batches import random_batch
from torch import Tensor

import workbench as wb
from workbench.losses import AdaCos

D, C, N = 16, 40, 32
ROOT2 = math.sqrt(2.0)


def _make(num_classes: int = C, dim: int = D, **options: Any) -> AdaCos:
    torch.manual_seed(0)
    loss = wb.losses.create(
        "adacos", embedding_dim=dim, num_classes=num_classes, **options
    ).double()
    assert isinstance(loss, AdaCos)
    return loss


_batch = partial(random_batch, n=N, dim=D, classes=C)


def _next_scale(loss: AdaCos, embeddings: Tensor, labels: Tensor, before: float) -> float:
    """By hand, from the definition."""
    x, w, y = embeddings.numpy(force=True), loss.weight.numpy(force=True), labels.tolist()
    cosines = (x @ w.T) / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(w, axis=1)
    b = np.mean(
        [
            sum(math.exp(before * c) for j, c in enumerate(row) if j != own)
            for row, own in zip(cosines, y, strict=True)
        ]
    )
    median = float(np.median([math.acos(cosines[i, own]) for i, own in enumerate(y)]))
    return math.log(b) / math.cos(min(math.pi / 4, median))


@pytest.mark.parametrize("n", [1, 2, 31, 32])
@pytest.mark.parametrize("head", ["plain", "streamed"])
@pytest.mark.parametrize("near", [0.0, 3.0])
def test_the_scale_follows_the_definition(n: int, head: str, near: float) -> None:
    loss, (embeddings, labels) = _make(head=head), _batch(n=n)
    expected = ROOT2 * math.log(C - 1)
    assert float(loss.scale) == pytest.approx(expected, rel=1e-6)
    # Near their centres the median angle is below 45 degrees.
    embeddings = (
        (embeddings + near * 4 * F.normalize(loss.weight[labels])).detach().requires_grad_()
    )
    for _ in range(4):
        expected = _next_scale(loss, embeddings, labels, expected)
        assert 1.0 < expected < 64.0
        value = loss(embeddings, labels)
        assert float(loss.scale) == pytest.approx(expected, rel=1e-6)
        # The loss is computed with the new scale.
        logits = float(loss.scale) * (F.normalize(embeddings) @ F.normalize(loss.weight).T)
        torch.testing.assert_close(value, F.cross_entropy(logits, labels), rtol=1e-9, atol=1e-12)
        assert loss.measure(embeddings, labels)["scale"] == float(loss.scale)


def test_fixed_stays() -> None:
    loss, (embeddings, labels) = _make(fixed=True), _batch()
    for _ in range(3):
        loss(embeddings, labels)
    assert float(loss.scale) == pytest.approx(ROOT2 * math.log(C - 1), rel=1e-6)
    logits = loss.scale * (F.normalize(embeddings) @ F.normalize(loss.weight).T)
    torch.testing.assert_close(loss(embeddings, labels), F.cross_entropy(logits, labels))


def test_only_training_changes_the_scale_and_it_is_saved() -> None:
    loss, (embeddings, labels) = _make(), _batch()
    first = loss.state_dict()["adapted"].clone()
    loss.eval()
    loss(embeddings, labels)
    loss.predict(embeddings)
    loss.measure(embeddings, labels)
    assert torch.equal(loss.scale, first)
    loss.train()
    loss(embeddings, labels)
    assert not torch.equal(loss.scale, first)
    other = _make()
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other.scale, loss.scale)
    assert torch.equal(other.eval()(embeddings, labels), loss.eval()(embeddings, labels))


def test_the_scale_is_no_part_of_the_gradient() -> None:
    loss, (embeddings, labels) = _make(), _batch()
    assert [name for name, _ in loss.named_parameters()] == ["weight"]
    value = loss(embeddings, labels)
    expected = F.cross_entropy(
        loss.scale * (F.normalize(embeddings) @ F.normalize(loss.weight).T), labels
    )
    inputs = [embeddings, loss.weight]
    for mine, true in zip(
        torch.autograd.grad(value, inputs), torch.autograd.grad(expected, inputs), strict=True
    ):
        torch.testing.assert_close(mine, true, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("num_classes", "first"),
    [(1, 1.0), (2, 1.0), (3, 1.0), (4, ROOT2 * math.log(3)), (10, ROOT2 * math.log(9))],
)
def test_few_classes_leave_a_scale_that_can_be_trained_with(num_classes: int, first: float) -> None:
    loss, (embeddings, labels) = _make(num_classes), _batch(classes=num_classes)
    assert float(loss.scale) == pytest.approx(first, rel=1e-6)
    for _ in range(20):
        loss(embeddings, labels)
        assert 1.0 <= float(loss.scale) <= 64.0
    assert num_classes > 2 or float(loss.scale) == 1.0


def test_crowded_centres_do_not_drive_the_scale_off() -> None:
    loss, (embeddings, labels) = _make(500, 2), _batch(n=64, classes=500, dim=2)
    for _ in range(50):
        assert torch.isfinite(loss(embeddings, labels))
    assert float(loss.scale) == 64.0


def test_a_batch_that_is_not_a_number_leaves_the_scale_alone() -> None:
    loss, (embeddings, labels) = _make(), _batch()
    loss(embeddings, labels)
    before = loss.scale.clone()
    assert torch.isnan(loss(embeddings * torch.inf, labels))
    assert torch.equal(loss.scale, before)
    assert torch.isfinite(loss(embeddings, labels))
