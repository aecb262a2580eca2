from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from batches import random_batch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call

import workbench as wb
from workbench.losses import Combined, SphereFaceR
from workbench.losses.angular import falling_cosine

D, C = 6, 5
THETA = np.deg2rad(np.arange(0.0, 180.01, 0.37))
MARGINS = [
    (1.0, 0.3, 0.2),
    (1.0, 0.5, 0.0),
    (1.0, 0.0, 0.35),
    (1.35, 0.0, 0.0),
    (4.0, 0.0, 0.0),
    (2.7, 1.2, 0.4),
    (1.0, 3.1, 0.0),
    (1.0, 4.0, 0.0),
]
every_combination = pytest.mark.parametrize(("m1", "m2", "m3"), MARGINS)


def _make(name: str = "combined", dtype: torch.dtype = torch.float64, **options: Any) -> Any:
    torch.manual_seed(0)
    return wb.losses.create(name, embedding_dim=D, num_classes=C, **options).to(dtype)


_batch = partial(random_batch, n=64, dim=D, classes=C)


def _psi(theta: NDArray[np.float64], m1: float, m2: float, m3: float) -> NDArray[np.float64]:
    """Eq. 4, where the cosine is continued downwards past every multiple of pi."""
    values = []
    for angle in m1 * theta + m2:
        below, sign = 0.0, 1.0
        while angle > math.pi:
            angle, below, sign = angle - math.pi, below - 2.0, -sign
        values.append(math.cos(angle) + below - m3)
    return np.array(values)


@every_combination
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-7), (torch.float32, 5e-4)])
def test_the_curve_follows_the_formula_at_all_angles(
    m1: float, m2: float, m3: float, dtype: torch.dtype, tolerance: float
) -> None:
    loss = _make(dtype=dtype, s=30.0, m1=m1, m2=m2, m3=m3)
    found = loss.target_logit(torch.from_numpy(np.cos(THETA)).to(dtype)).numpy(force=True) / 30.0
    np.testing.assert_allclose(found, _psi(THETA, m1, m2, m3), rtol=0, atol=tolerance)
    inside = m1 * THETA + m2 < np.pi
    np.testing.assert_allclose(
        found[inside], np.cos(m1 * THETA + m2)[inside] - m3, rtol=0, atol=tolerance
    )


@every_combination
def test_the_loss_is_the_log_softmax_of_the_formula(m1: float, m2: float, m3: float) -> None:
    loss, (embeddings, labels) = _make(s=20.0, m1=m1, m2=m2, m3=m3), _batch()
    x, w, y = embeddings.numpy(force=True), loss.weight.numpy(force=True), labels.numpy()
    cosines = (x @ w.T) / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(w, axis=1)
    logits, own = 20.0 * cosines, (np.arange(len(y)), y)
    logits[own] = 20.0 * _psi(np.arccos(cosines[own]), m1, m2, m3)
    highest = logits.max(1)
    expected = np.mean(highest + np.log(np.exp(logits - highest[:, None]).sum(1)) - logits[own])
    assert loss(embeddings, labels).item() == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(
        loss.predict(embeddings).numpy(force=True), 20.0 * cosines, atol=1e-9
    )


def test_one_margin_alone_is_the_loss_it_comes_from() -> None:
    embeddings, labels = _batch()
    near = (
        F.normalize(_make().weight.detach())[labels] + 0.3 * embeddings.detach()
    )  # so that ArcFace stays below pi
    for options, name, other in [
        ({"m1": 1, "m2": 0.5, "m3": 0}, "arcface", {"m": 0.5}),
        ({"m1": 1, "m2": 0, "m3": 0.35}, "cosface", {"m": 0.35}),
        ({"m1": 1.7, "m2": 0, "m3": 0}, "sphereface_r", {"m": 1.7, "version": 0}),
    ]:
        expected = _make(name, s=32.0, **other)(near, labels)
        torch.testing.assert_close(
            _make(s=32.0, **options)(near, labels), expected, rtol=1e-9, atol=1e-9
        )


def test_half_the_ramp_is_half_of_each_margin() -> None:
    embeddings, labels = _batch()
    whole, half = _make(m1=1.6, m2=0.6, m3=0.4), _make(m1=1.3, m2=0.3, m3=0.2)
    whole.ramp = 0.5
    torch.testing.assert_close(whole(embeddings, labels), half(embeddings, labels))


def test_the_falling_cosine_has_a_continuous_slope() -> None:
    theta = torch.linspace(0.0, 15.0, 30_001, dtype=torch.float64, requires_grad=True)
    curve = falling_cosine(theta)
    (slope,) = torch.autograd.grad(curve.sum(), theta)
    torch.testing.assert_close(slope, -theta.sin().abs(), rtol=0, atol=1e-12)
    assert curve.diff().abs().max() < 1e-3
    assert slope.diff().abs().max() < 1e-3


def _angles(theta: list[float]) -> tuple[Tensor, Tensor, Tensor]:
    """Returns embeddings at these angles to their target class centre, labels and centres."""
    draw = torch.Generator().manual_seed(5)
    weight = torch.randn(C, D, generator=draw, dtype=torch.float64)
    labels = torch.arange(len(theta)) % C
    own = F.normalize(weight[labels])
    aside = torch.randn(len(theta), D, generator=draw, dtype=torch.float64)
    aside = F.normalize(aside - (aside * own).sum(1, keepdim=True) * own)
    angle = torch.tensor(theta, dtype=torch.float64)[:, None]
    return 1.7 * (own * angle.cos() + aside * angle.sin()), labels, weight


def _assert_true_gradient(loss: Combined | SphereFaceR) -> None:
    embeddings, labels, weight = _angles(
        [0.2, 0.8, 1.4, 1.75, 2.2, 2.8, 3.0]
    )  # the last are past pi with the margin

    def value(embeddings: Tensor, weight: Tensor) -> Tensor:
        return functional_call(loss, {"weight": weight}, (embeddings, labels))

    assert torch.autograd.gradcheck(value, (embeddings.requires_grad_(), weight.requires_grad_()))


@every_combination
def test_gradients_are_those_of_the_value(m1: float, m2: float, m3: float) -> None:
    _assert_true_gradient(_make(s=10.0, m1=m1, m2=m2, m3=m3))


# SphereFace-R, whose version 0 is the same curve


def _replaced(
    cosines: NDArray[np.float64], y: NDArray[np.int64], m: float, version: int
) -> NDArray[np.float64]:
    """The three versions as the paper has them."""
    theta, own = np.arccos(np.clip(cosines, -1, 1)), (np.arange(len(y)), y)
    if version == 2:
        replaced = np.cos(theta / m)
        replaced[own] = cosines[own]
        return replaced
    replaced = cosines.copy()
    curve = np.cos(np.minimum(m, np.pi / theta[own]) * theta[own])
    if version == 0:
        k = np.floor(m * theta[own] / np.pi)
        curve = (-1.0) ** k * np.cos(m * theta[own]) - 2 * k
    replaced[own] = curve
    return replaced


every_version = pytest.mark.parametrize("version", [0, 1, 2])


@every_version
@pytest.mark.parametrize("m", [1.0, 1.5, 2.6])
@pytest.mark.parametrize("detach", [False, True])
def test_sphereface_r_is_the_log_softmax_of_the_formula(
    version: int, m: float, detach: bool
) -> None:
    loss, (embeddings, labels) = (
        _make("sphereface_r", m=m, version=version, detach=detach),
        _batch(),
    )
    x, w, y = embeddings.numpy(force=True), loss.weight.numpy(force=True), labels.numpy()
    cosines = (x @ w.T) / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(w, axis=1)
    logits, own = 30.0 * _replaced(cosines, y, m, version), (np.arange(len(y)), y)
    highest = logits.max(1)
    expected = np.mean(highest + np.log(np.exp(logits - highest[:, None]).sum(1)) - logits[own])
    assert loss(embeddings, labels).item() == pytest.approx(expected, rel=1e-9)


@every_version
@pytest.mark.parametrize("detach", [False, True])
def test_the_curve_of_sphereface_r_follows_the_formula_at_all_angles(
    version: int, detach: bool
) -> None:
    loss = _make("sphereface_r", m=1.5, version=version, detach=detach)
    cosine, zeros = np.cos(THETA), np.zeros(len(THETA), dtype=np.int64)
    found = loss.target_logit(torch.from_numpy(cosine)).numpy(force=True) / 30.0
    np.testing.assert_allclose(
        found[1:], _replaced(cosine[1:, None], zeros[1:], 1.5, version)[:, 0], rtol=0, atol=1e-7
    )
    assert found[0] == pytest.approx(1.0)
    replaced = loss.non_target(
        torch.from_numpy(cosine)[:, None], torch.zeros(len(cosine), 1)
    ).numpy(force=True)[:, 0]
    np.testing.assert_allclose(
        replaced, np.cos(THETA / 1.5) if version == 2 else cosine, rtol=0, atol=1e-7
    )


@every_version
@pytest.mark.parametrize("m", [1.5, 2.6])
def test_gradients_of_sphereface_r_are_those_of_the_value(version: int, m: float) -> None:
    _assert_true_gradient(_make("sphereface_r", s=10.0, m=m, version=version, detach=False))


@every_version
def test_detached_the_derivative_is_that_of_plain_cosines_at_the_curves_value(version: int) -> None:
    loss, (embeddings, labels) = _make("sphereface_r", version=version), _batch()
    loss(embeddings, labels).backward()
    other, weight = (
        embeddings.detach().clone().requires_grad_(),
        loss.weight.detach().clone().requires_grad_(),
    )
    cosines = F.normalize(other) @ F.normalize(weight).T
    shift = _replaced(cosines.numpy(force=True), labels.numpy(), 1.5, version) - cosines.numpy(
        force=True
    )
    F.cross_entropy(30.0 * (cosines + torch.from_numpy(shift)), labels).backward()
    torch.testing.assert_close(embeddings.grad, other.grad, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(loss.weight.grad, weight.grad, rtol=1e-8, atol=1e-10)


@every_version
def test_the_ramp_of_sphereface_r_raises_the_factor_from_one(version: int) -> None:
    embeddings, labels = _batch()
    whole, half = (_make("sphereface_r", m=m, version=version) for m in (1.8, 1.4))
    whole.ramp = 0.5
    torch.testing.assert_close(whole(embeddings, labels), half(embeddings, labels))
