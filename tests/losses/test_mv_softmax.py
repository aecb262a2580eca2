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
from torch.func import functional_call

import workbench as wb
from workbench.losses import MVSoftmax

D, C, N = 6, 7, 64
THETA = np.deg2rad(np.arange(0.0, 180.01, 0.37))
SETTINGS: list[dict[str, Any]] = [
    {"kind": kind, "weighting": weighting, "m": m, "t": t}
    for kind, m in (("am", 0.35), ("arc", 0.5))
    for weighting in ("adaptive", "fixed")
    for t in (0.2, 0.0)
]
every_setting = pytest.mark.parametrize("options", SETTINGS, ids=str)


def _make(name: str = "mv_softmax", **options: Any) -> Any:
    torch.manual_seed(0)
    return wb.losses.create(name, embedding_dim=D, num_classes=C, **options).double()


_batch = partial(random_batch, n=N, dim=D, classes=C)


def _psi(theta: float, kind: str, m: float) -> float:
    if kind == "am":
        return math.cos(theta) - m
    return math.cos(theta + m) if theta + m < math.pi else math.cos(theta) - m * math.sin(m)


@every_setting
@pytest.mark.parametrize("ramp", [1.0, 0.6])
@pytest.mark.parametrize("easy_margin", [False, True])
def test_the_loss_is_that_of_the_formula(
    options: dict[str, Any], ramp: float, easy_margin: bool
) -> None:
    loss, (embeddings, labels) = _make(easy_margin=easy_margin, **options), _batch()
    assert isinstance(loss, MVSoftmax)
    loss.ramp = ramp
    m, t = ramp * options["m"], ramp * options["t"]
    x, w = embeddings.numpy(force=True), loss.weight.numpy(force=True)
    cosines = (x @ w.T) / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(w, axis=1)
    expected, raised = 0.0, 0
    for row, y in zip(cosines, labels.tolist(), strict=True):
        own, below = _psi(math.acos(row[y]), options["kind"], m), 0.0
        target = row[y] if easy_margin and row[y] <= 0 else own
        bar = (
            own if options["kind"] == "am" else math.cos(math.acos(row[y]) + m)
        )  # also where theta + m > pi
        for j in range(C):
            h = 1.0
            if j != y and bar - row[j] < 0:  # the paper's indicator
                h = (
                    math.exp(32 * t * (row[j] + 1))
                    if options["weighting"] == "adaptive"
                    else math.exp(32 * t)
                )
                raised += 1
            below += math.exp(32 * target) if j == y else h * math.exp(32 * row[j])
        expected -= math.log(math.exp(32 * target) / below) / N
    assert 0 < raised < N * (C - 1)
    assert loss(embeddings, labels).item() == pytest.approx(expected, rel=1e-9)


@every_setting
def test_the_curve_follows_the_formula_at_all_angles(options: dict[str, Any]) -> None:
    found = _make(**options).target_logit(torch.from_numpy(np.cos(THETA))).numpy(force=True)
    expected = [32.0 * _psi(theta, options["kind"], options["m"]) for theta in THETA]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("kind", "name"), [("am", "cosface"), ("arc", "arcface")])
def test_with_nothing_added_it_is_the_margin_alone(kind: str, name: str) -> None:
    (embeddings, labels), other = _batch(), _make(name, s=32.0, m=0.4)
    value, expected = _make(kind=kind, m=0.4, t=0.0)(embeddings, labels), other(embeddings, labels)
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)
    assert _make(kind=kind, m=0.4)(embeddings, labels) > expected


@every_setting
@pytest.mark.parametrize("head", ["plain", "streamed"])
def test_gradients_are_those_of_the_value(options: dict[str, Any], head: str) -> None:
    loss, (embeddings, labels) = _make(s=8.0, head=head, **options), _batch()
    embeddings = embeddings.detach()[:16]
    embeddings[0] -= 5.0 * F.normalize(loss.weight.detach()[labels[0]], dim=0)
    cosines = F.normalize(embeddings) @ F.normalize(loss.weight.detach()).T
    own = cosines.gather(1, labels[:16, None])
    assert (cosines - loss.margin(own)).abs().min() > 1e-4  # no class is at the step
    assert (own < -math.cos(0.5)).any()  # theta + m passes pi

    def value(embeddings: Tensor, weight: Tensor) -> Tensor:
        return functional_call(loss, {"weight": weight}, (embeddings, labels[:16]))

    assert torch.autograd.gradcheck(
        value, (embeddings.requires_grad_(), loss.weight.detach().clone().requires_grad_())
    )
