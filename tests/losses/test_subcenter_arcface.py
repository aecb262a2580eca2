from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from batches import random_batch
from pytorch_metric_learning import losses as pml
from torch import Tensor
from torch.func import functional_call

import workbench as wb
from workbench.losses import SubCenterArcFace

D, C, K, N = 6, 5, 3, 64


def _make(dtype: torch.dtype = torch.float64, **options: Any) -> SubCenterArcFace:
    torch.manual_seed(0)
    loss = wb.losses.create(
        "subcenter_arcface", **{"embedding_dim": D, "num_classes": C} | options
    ).to(dtype)
    assert isinstance(loss, SubCenterArcFace)
    return loss


_batch = partial(random_batch, n=N, dim=D, classes=C)


def _all_cosines(embeddings: Tensor, loss: SubCenterArcFace) -> np.ndarray:
    """(N, C, K)."""
    x, w = embeddings.numpy(force=True), loss.weight.numpy(force=True)
    return np.einsum(
        "nd,ckd->nck",
        x / np.linalg.norm(x, axis=1, keepdims=True),
        w / np.linalg.norm(w, axis=2, keepdims=True),
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 2e-4)])
@pytest.mark.parametrize(("s", "m", "k"), [(64.0, 0.5, 3), (16.0, 1.4, 2), (30.0, 0.2, 1)])
def test_it_agrees_with_pytorch_metric_learning(
    dtype: torch.dtype, tolerance: float, s: float, m: float, k: int
) -> None:
    mine = _make(dtype, s=s, m=m, sub_centres=k)
    reference = pml.SubCenterArcFaceLoss(
        num_classes=C, embedding_size=D, margin=math.degrees(m), scale=s, sub_centers=k
    ).to(dtype)
    with torch.no_grad():
        reference.W.copy_(mine.weight.reshape(C * k, D).T)
    embeddings, labels = _batch(dtype=dtype)
    other = embeddings.detach().clone().requires_grad_()
    ours, theirs = mine(embeddings, labels), reference(other, labels)
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    ours.backward()
    theirs.backward()
    near = {"rtol": 10 * tolerance, "atol": 10 * tolerance}
    torch.testing.assert_close(embeddings.grad, other.grad, **near)
    torch.testing.assert_close(mine.weight.grad.reshape(C * k, D), reference.W.grad.T, **near)


def test_the_curve_and_the_loss_are_the_paper_s() -> None:
    loss, (embeddings, labels) = _make(s=20.0), _batch()
    theta = np.deg2rad(np.arange(0, 180.01, 0.37))
    psi = np.where(theta + 0.5 < np.pi, np.cos(theta + 0.5), np.cos(theta) - 0.5 * np.sin(0.5))
    np.testing.assert_allclose(
        loss.target_logit(torch.from_numpy(np.cos(theta))).numpy() / 20.0, psi, atol=1e-12
    )
    cosines = _all_cosines(embeddings, loss).max(2)
    np.testing.assert_allclose(loss.cosines(embeddings).numpy(), cosines, atol=1e-12)
    np.testing.assert_allclose(loss.predict(embeddings).numpy(force=True), 20 * cosines, atol=1e-11)
    assert loss.predicted_class(embeddings).tolist() == cosines.argmax(1).tolist()
    own = np.arange(N), labels.numpy()
    logits = 20 * cosines
    logits[own] = 20 * np.cos(np.arccos(cosines[own]) + 0.5)
    assert (np.arccos(cosines[own]) + 0.5 < np.pi).all()
    expected = np.mean(np.logaddexp.reduce(logits, axis=1) - logits[own])
    assert loss(embeddings, labels).item() == pytest.approx(expected, rel=1e-9)


def test_training_counts_the_nearest_sub_centre_of_the_own_class() -> None:
    loss, (embeddings, labels) = _make(), _batch()
    nearest = _all_cosines(embeddings, loss)[np.arange(N), labels.numpy()].argmax(1)
    counts = np.zeros((C, K), dtype=np.int64)
    np.add.at(counts, (labels.numpy(), nearest), 1)
    for times in (1, 2):
        loss(embeddings, labels)
        assert loss.counts.tolist() == (times * counts).tolist()
    loss.eval()
    loss(embeddings, labels)
    loss.predict(embeddings)
    assert loss.state_dict()["counts"].tolist() == (2 * counts).tolist()
    dominant = counts.argmax(1)
    assert loss.dominant.tolist() == dominant.tolist()
    assert loss.centres.shape == (C, D)
    assert torch.equal(loss.centres, loss.weight[range(C), dominant])
    aside = np.mean(nearest != dominant[labels.numpy()])
    assert 0 < aside < 1
    assert loss.measure(embeddings, labels)["non_dominant"] == pytest.approx(aside)


def test_what_was_counted_is_saved() -> None:
    loss, (embeddings, labels) = _make(), _batch()
    loss(embeddings, labels)
    other = _make()
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other.counts, loss.counts)
    assert torch.equal(other.centres, loss.centres)


def test_one_sub_centre_is_arcface() -> None:
    one, (embeddings, labels) = _make(sub_centres=1), _batch()
    arcface = wb.losses.create("arcface", embedding_dim=D, num_classes=C).double()
    arcface.load_state_dict({"weight": one.weight[:, 0]})
    torch.testing.assert_close(one(embeddings, labels), arcface(embeddings, labels))
    assert one.measure(embeddings, labels)["non_dominant"] == 0.0
    one.ramp = arcface.ramp = 0.3
    torch.testing.assert_close(one(embeddings, labels), arcface(embeddings, labels))


def test_gradients_are_those_of_the_value() -> None:
    loss, (embeddings, labels) = _make(s=8.0, m=1.2, sub_centres=2), _batch(n=10)
    with torch.no_grad():  # all sub-centres of its class are further away than pi - m
        embeddings[0] = -loss.weight[labels[0]].sum(0)
    assert loss.target_cosines(embeddings, labels)[0] < -math.cos(1.2)

    def value(embeddings: Tensor, weight: Tensor) -> Tensor:
        return functional_call(loss, {"weight": weight}, (embeddings, labels))

    assert torch.autograd.gradcheck(
        value, (embeddings, loss.weight.detach().clone().requires_grad_())
    )


@pytest.mark.parametrize("head", ["auto", "plain", "sampled"])
def test_it_cannot_be_streamed_but_sampled(head: str) -> None:
    with pytest.raises(wb.WorkbenchError, match="cannot be streamed"):
        _make(head="streamed")
    loss, (embeddings, labels) = _make(head=head, sample_rate=1.0), _batch()
    torch.testing.assert_close(loss(embeddings, labels), _make(head="plain")(embeddings, labels))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_extremes_are_finite(dtype: torch.dtype) -> None:
    loss = _make(torch.float64 if dtype == torch.float64 else torch.float32, s=128.0)
    with torch.no_grad():
        loss.weight[0, 1] = loss.weight[0, 0]
        loss.weight[1, 0] = 0.0
    own = loss.weight.detach()[:3, 0].to(dtype)
    embeddings = torch.cat([own, -own, 1e-20 * own, 1e20 * own, 0 * own]).requires_grad_()
    value = loss(embeddings, torch.arange(3).repeat(5))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(embeddings.grad).all()
    assert torch.isfinite(loss.weight.grad).all()


@pytest.mark.parametrize(
    "options",
    [
        {"m": -0.1},
        {"m": 3.2},
        {"sub_centres": 0},
        {"sub_centres": 2.5},
        {"sub_centres": "3"},
        {"sub_centres": None},
    ],
    ids=str,
)
def test_an_option_out_of_range_is_one_line(options: dict[str, Any]) -> None:
    with pytest.raises(wb.WorkbenchError) as caught:
        _make(**options)
    assert "\n" not in str(caught.value)
