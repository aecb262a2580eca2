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
from workbench.losses import ElasticFace

D, C, N = 6, 5, 40
every_kind = pytest.mark.parametrize("kind", ["arc", "cos"])


def _make(dtype: torch.dtype = torch.float64, **options: Any) -> ElasticFace:
    torch.manual_seed(0)
    loss = wb.losses.create("elasticface", **{"embedding_dim": D, "num_classes": C} | options).to(
        dtype
    )
    assert isinstance(loss, ElasticFace)
    return loss


_batch = partial(random_batch, n=N, dim=D, classes=C)


def _psi(kind: str, cosine: np.ndarray, m: Any) -> np.ndarray:
    theta = np.arccos(cosine)
    return (
        cosine - m
        if kind == "cos"
        else np.where(theta + m < np.pi, np.cos(theta + m), cosine - m * np.sin(m))
    )


def _by_the_paper(
    embeddings: Tensor, loss: ElasticFace, labels: Tensor, kind: str, margins: Any
) -> float:
    x, w, y = embeddings.numpy(force=True), loss.weight.numpy(force=True), labels.numpy()
    cosines = (x / np.linalg.norm(x, axis=1, keepdims=True)) @ (
        w / np.linalg.norm(w, axis=1, keepdims=True)
    ).T
    own = np.arange(len(y)), y
    logits = loss.s * cosines
    logits[own] = loss.s * _psi(kind, cosines[own], margins)
    return float(np.mean(np.logaddexp.reduce(logits, axis=1) - logits[own]))


@every_kind
def test_the_curve_is_that_of_the_mean_margin(kind: str) -> None:
    cosine = np.cos(np.deg2rad(np.arange(0, 180.01, 0.37)))
    found = _make(s=30.0, m=0.6, kind=kind).target_logit(torch.from_numpy(cosine))
    np.testing.assert_allclose(found.numpy() / 30.0, _psi(kind, cosine, 0.6), atol=1e-12)


@every_kind
def test_the_mean_margin_is_the_paper_s_by_default(kind: str) -> None:
    assert _make(kind=kind).m == {"arc": 0.5, "cos": 0.35}[kind]


@every_kind
@pytest.mark.parametrize("plus", [False, True])
def test_in_training_each_image_has_a_margin_of_its_own(kind: str, plus: bool) -> None:
    loss, (embeddings, labels) = _make(s=16.0, kind=kind, m=0.5, std=0.2, plus=plus), _batch()
    torch.manual_seed(7)
    noise = torch.randn(N, 1).double().numpy()[:, 0]
    margins = np.clip(0.5 + 0.2 * noise, 0, None)
    if plus:
        cosines = loss.target_cosines(embeddings, labels).numpy()
        # An image nearer than k others of the batch gets a margin smaller than k others.
        margins = np.array([np.sort(margins)[(cosines > cosine).sum()] for cosine in cosines])
        assert margins[cosines.argmin()] == margins.max()
        assert margins[cosines.argmax()] == margins.min()
    torch.manual_seed(7)
    found = loss(embeddings, labels).item()
    assert found == pytest.approx(_by_the_paper(embeddings, loss, labels, kind, margins), rel=1e-7)
    assert loss(embeddings, labels).item() != found


@every_kind
@pytest.mark.parametrize("plus", [False, True])
def test_evaluation_takes_the_mean_margin(kind: str, plus: bool) -> None:
    loss, (embeddings, labels) = _make(s=16.0, kind=kind, m=0.5, plus=plus).eval(), _batch()
    expected = _by_the_paper(embeddings, loss, labels, kind, 0.5)
    for _ in range(2):
        assert loss(embeddings, labels).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("plus", [False, True])
def test_margins_are_normal_around_their_mean(plus: bool) -> None:
    loss = _make(std=0.1, plus=plus)
    margins = loss.sample_margins(torch.linspace(-1, 1, 20_000)[:, None])
    assert margins.mean().item() == pytest.approx(0.5, abs=0.003)
    assert margins.std().item() == pytest.approx(0.1, abs=0.003)
    assert (((margins - 0.5).abs() < 0.1).float().mean()).item() == pytest.approx(0.6827, abs=0.015)
    assert (margins.diff(dim=0) <= 0).all() == plus


def test_no_margin_is_drawn_outside_of_its_range() -> None:
    margins = _make(std=9.0).sample_margins(torch.zeros(1000, 1))
    assert margins.min() == 0.0
    assert margins.max().item() == pytest.approx(math.pi)
    assert _make(std=9.0, kind="cos").sample_margins(torch.zeros(1000, 1)).max() > 10


@every_kind
def test_at_ramp_0_it_is_normface_and_without_spread_a_fixed_margin(kind: str) -> None:
    embeddings, labels = _batch()
    loss = _make(s=16.0, kind=kind)
    loss.ramp = 0.0
    torch.testing.assert_close(
        loss(embeddings, labels), F.cross_entropy(loss.predict(embeddings), labels)
    )
    fixed = wb.losses.create(
        {"arc": "arcface", "cos": "cosface"}[kind], embedding_dim=D, num_classes=C, s=16.0, m=0.3
    ).double()
    still = _make(s=16.0, kind=kind, m=0.3, std=0.0)
    fixed.load_state_dict(still.state_dict())
    for ramp in (0.5, 1.0):
        fixed.ramp = still.ramp = ramp
        torch.testing.assert_close(still(embeddings, labels), fixed(embeddings, labels))


@every_kind
@pytest.mark.parametrize("plus", [False, True])
def test_gradients_are_those_of_the_value(kind: str, plus: bool) -> None:
    loss, (embeddings, labels) = _make(s=8.0, kind=kind, std=0.2, plus=plus), _batch(n=12)
    with torch.no_grad():
        embeddings[0] = -loss.weight[labels[0]] + 0.1 * embeddings[0]  # theta + m > pi
    assert loss.target_cosines(embeddings, labels)[0] < -0.95

    def value(embeddings: Tensor, weight: Tensor) -> Tensor:
        torch.manual_seed(7)
        return functional_call(loss, {"weight": weight}, (embeddings, labels))

    assert torch.autograd.gradcheck(
        value, (embeddings, loss.weight.detach().clone().requires_grad_())
    )


@every_kind
def test_streamed_is_plain(kind: str) -> None:
    embeddings, labels = _batch(n=6, dim=8, classes=5000, dtype=torch.float32)
    results = []
    for head in ("plain", "streamed"):
        loss = _make(torch.float32, embedding_dim=8, num_classes=5000, head=head, kind=kind)
        torch.manual_seed(7)
        value = loss(embeddings, labels)
        results.append((value, *torch.autograd.grad(value, [embeddings, loss.weight])))
    for plain, streamed in zip(*results, strict=True):
        torch.testing.assert_close(streamed, plain, rtol=1e-5, atol=1e-5 * plain.abs().max().item())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"m": -0.1}, "margin m"),
        ({"m": 3.2}, "margin m"),
        ({"m": math.nan, "kind": "cos"}, "margin m"),
        ({"std": -1}, "elasticface: std"),
        ({"std": "0.05"}, "elasticface"),
        ({"kind": "arcc"}, "did you mean 'arc'"),
        ({"kind": ["arc"]}, "unknown kind"),
    ],
)
def test_an_option_out_of_range_is_one_line(options: dict[str, Any], match: str) -> None:
    with pytest.raises(wb.WorkbenchError, match=match) as caught:
        _make(**options)
    assert "\n" not in str(caught.value)
