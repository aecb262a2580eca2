from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from batches import random_batch
from pytorch_metric_learning import losses as pml

import workbench as wb
from workbench.losses import Circle

D, C, N = 6, 5, 64
THETA = np.deg2rad(np.arange(0.0, 180.01, 0.37))


def _make(**options: Any) -> Circle:
    torch.manual_seed(0)
    loss = wb.losses.create("circle", embedding_dim=D, num_classes=C, **options).double()
    assert isinstance(loss, Circle)
    return loss


_batch = partial(random_batch, n=N, dim=D, classes=C)


every_setting = pytest.mark.parametrize(
    ("gamma", "m"), [(256.0, 0.25), (80.0, 0.4), (10.0, 0.0), (10.0, 1.0)]
)


@every_setting
def test_it_agrees_with_pytorch_metric_learning_on_pairs_of_embedding_and_class_centre(
    gamma: float, m: float
) -> None:
    mine, reference = _make(gamma=gamma, m=m), pml.CircleLoss(m=m, gamma=gamma)
    embeddings, labels = _batch()
    other, centres = (
        embeddings.detach().clone().requires_grad_(),
        mine.weight.detach().clone().requires_grad_(),
    )
    ours = mine(embeddings, labels)
    theirs = reference(other, labels, ref_emb=centres, ref_labels=torch.arange(C))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    ours.backward()
    theirs.backward()
    torch.testing.assert_close(embeddings.grad, other.grad, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(mine.weight.grad, centres.grad, rtol=1e-7, atol=1e-9)


@every_setting
@pytest.mark.parametrize("ramp", [1.0, 0.3])
def test_the_loss_and_its_curve_are_those_of_the_formula(
    gamma: float, m: float, ramp: float
) -> None:
    loss, (embeddings, labels) = _make(gamma=gamma, m=m), _batch()
    loss.ramp = ramp
    x, w, y = embeddings.numpy(force=True), loss.weight.numpy(force=True), labels.numpy()
    cosines = (x @ w.T) / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(w, axis=1)
    expected = []
    for row, own in zip(cosines, y, strict=True):
        pull = gamma * (
            m**2 - (1 - row[own]) ** 2
        )  # a (c - 1 + m) with a = 1 + m - c, multiplied out
        push = gamma * np.where(row > -m, row**2 - m**2, 0.0)
        logits = ramp * push + (1 - ramp) * gamma * row
        logits[own] = ramp * pull + (1 - ramp) * gamma * row[own]
        expected.append(logits.max() + np.log(np.exp(logits - logits.max()).sum()) - logits[own])
    assert loss(embeddings, labels).item() == pytest.approx(np.mean(expected), rel=1e-9)
    curve = ramp * (m**2 - (1 - np.cos(THETA)) ** 2) + (1 - ramp) * np.cos(THETA)
    found = loss.target_logit(torch.from_numpy(np.cos(THETA))).numpy(force=True)
    np.testing.assert_allclose(found, gamma * curve, rtol=0, atol=1e-9)


@pytest.mark.parametrize("head", ["plain", "streamed"])
def test_no_gradient_goes_through_the_weights(head: str) -> None:
    loss, (embeddings, labels) = _make(head=head), _batch()
    gradients = torch.autograd.grad(loss(embeddings, labels), [embeddings, loss.weight])
    cosines = F.normalize(embeddings) @ F.normalize(loss.weight).T
    own = F.one_hot(labels, C).bool()
    weights = torch.where(own, 1.25 - cosines, (cosines + 0.25).clamp_min(0.0)).detach()
    logits = 256.0 * weights * torch.where(own, cosines - 0.75, cosines - 0.25)
    expected = torch.autograd.grad(F.cross_entropy(logits, labels), [embeddings, loss.weight])
    for found, true in zip(gradients, expected, strict=True):
        torch.testing.assert_close(found, true, rtol=1e-8, atol=1e-10)


def test_predictions_are_plain_cosines() -> None:
    loss, (embeddings, _) = _make(), _batch()
    torch.testing.assert_close(loss.predict(embeddings), 256.0 * loss.cosines(embeddings))
    assert loss.measure(*_batch())["scale"] == 256.0
