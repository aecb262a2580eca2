from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from batches import random_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pytorch_metric_learning import losses as pml
from torch import Tensor
from torch.func import functional_call

import workbench as wb
from workbench.losses import SphereFace

D, C = 6, 5
NO_ANNEALING = {"lambda_min": 0.0, "lambda_base": 0.0}
FACTORS = [1.0, 1.35, 2.0, 2.5, 3.0, 4.0, 6.7]
every_factor = pytest.mark.parametrize("m", FACTORS)


def _make(dtype: torch.dtype = torch.float64, **options: Any) -> SphereFace:
    torch.manual_seed(0)
    loss = wb.losses.create("sphereface", embedding_dim=D, num_classes=C, **options).to(dtype)
    assert isinstance(loss, SphereFace)
    return loss


_batch = partial(random_batch, n=64, dim=D, classes=C, scale=3.0)


def _psi(theta: float, m: float) -> float:
    k = math.floor(m * theta / math.pi)
    return (-1) ** k * math.cos(m * theta) - 2 * k


def _curve(theta: NDArray[np.float64], m: float, annealing: float = 0.0) -> NDArray[np.float64]:
    return np.array(
        [(annealing * math.cos(angle) + _psi(angle, m)) / (1 + annealing) for angle in theta]
    )


# Against another implementation and the paper's formula


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 5e-4)])
@pytest.mark.parametrize("m", [1, 2, 3, 4, 5])
def test_it_agrees_with_pytorch_metric_learning(
    m: int, dtype: torch.dtype, tolerance: float
) -> None:
    mine, reference = (
        _make(dtype, m=m, **NO_ANNEALING),
        pml.SphereFaceLoss(C, D, margin=m, scale=1).to(dtype),
    )
    with torch.no_grad():
        reference.W.copy_(mine.weight.T)
    embeddings, labels = _batch(dtype=dtype)
    other = embeddings.detach().clone().requires_grad_()
    ours, theirs = mine(embeddings, labels), reference(other, labels)
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    ours.backward()
    theirs.backward()
    torch.testing.assert_close(
        embeddings.grad, other.grad, rtol=10 * tolerance, atol=10 * tolerance
    )
    torch.testing.assert_close(
        mine.weight.grad, reference.W.grad.T, rtol=10 * tolerance, atol=10 * tolerance
    )


@every_factor
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-4)])
def test_the_curve_follows_the_formula_at_all_angles(
    m: float, dtype: torch.dtype, tolerance: float
) -> None:
    theta = np.deg2rad(np.arange(0.05, 179.99, 0.37))
    cosine = torch.from_numpy(np.cos(theta)).to(dtype)
    loss = _make(dtype, m=m)
    np.testing.assert_allclose(
        loss.psi(cosine).numpy(force=True), _curve(theta, m), rtol=0, atol=tolerance
    )
    np.testing.assert_allclose(
        loss.target_logit(cosine).numpy(force=True), _curve(theta, m, 5.0), rtol=0, atol=tolerance
    )
    found = loss.target_logit(cosine, annealing=0.7).numpy(force=True)
    np.testing.assert_allclose(found, _curve(theta, m, 0.7), rtol=0, atol=tolerance)


@every_factor
def test_the_curve_is_known_at_the_ends(m: float) -> None:
    ends = torch.tensor([1.0, -1.0], dtype=torch.float64)
    np.testing.assert_allclose(
        _make(m=m).psi(ends).numpy(force=True), [1.0, _psi(math.pi - 1e-9, m)], atol=1e-6
    )
    if m == round(m):
        assert _make(m=m).psi(ends)[1].item() == pytest.approx(1 - 2 * m)


@pytest.mark.parametrize("m", [1.0, 2.5, 4.0])
@pytest.mark.parametrize("step", [0, 1, 50, 10_000])
def test_the_loss_is_the_log_softmax_of_the_formula(m: float, step: int) -> None:
    loss, (embeddings, labels) = _make(m=m), _batch()
    loss.step.fill_(step)
    x, w, y = embeddings.numpy(force=True), loss.weight.numpy(force=True), labels.numpy()
    lengths = np.linalg.norm(x, axis=1)
    cosines = (x @ w.T) / lengths[:, None] / np.linalg.norm(w, axis=1)
    logits, own = lengths[:, None] * cosines, (np.arange(len(y)), y)
    logits[own] = lengths * _curve(
        np.arccos(cosines[own]), m, max(5.0, 1000.0 / (1.0 + 0.12 * (step + 1)))
    )
    highest = logits.max(1)
    expected = np.mean(highest + np.log(np.exp(logits - highest[:, None]).sum(1)) - logits[own])
    assert loss(embeddings, labels).item() == pytest.approx(expected, rel=1e-6)  # lambda is float32
    np.testing.assert_allclose(
        loss.predict(embeddings).numpy(force=True), lengths[:, None] * cosines, atol=1e-9
    )


def test_without_margin_it_is_normalised_classification_with_the_features_length() -> None:
    loss, (embeddings, labels) = _make(m=1), _batch()
    torch.testing.assert_close(
        loss(embeddings, labels), F.cross_entropy(loss.predict(embeddings), labels)
    )


# Shape of the curve

UNIT = st.floats(-1.0, 1.0)


@settings(max_examples=150, deadline=None)
@given(
    pair=st.tuples(UNIT, UNIT),
    m=st.floats(1.0, 9.0),
    annealing=st.floats(0.0, 10.0),
    ramp=st.floats(0.0, 1.0),
)
def test_a_larger_angle_never_costs_less_and_the_margin_never_helps(
    pair: tuple[float, float], m: float, annealing: float, ramp: float
) -> None:
    loss = _make(m=m)
    loss.ramp = ramp
    low, high = sorted(pair)
    values = loss.target_logit(torch.tensor([low, high], dtype=torch.float64), annealing)
    assert values[0] <= values[1] + 1e-7
    assert (values <= torch.tensor([low, high]) + 1e-6).all()


@every_factor
def test_the_curve_and_its_slope_have_no_steps(m: float) -> None:
    theta = torch.linspace(0.01, math.pi - 0.01, 40_001, dtype=torch.float64)
    cosine = theta.cos().requires_grad_()
    psi = _make(m=m).psi(cosine)
    assert psi.diff().abs().max() <= 1.001 * m * theta.diff().max()
    (slope,) = torch.autograd.grad(psi.sum(), cosine)
    by_angle = slope * theta.sin()
    assert by_angle.diff().abs().max() <= 1.001 * m * m * theta.diff().max()
    torch.testing.assert_close(
        slope, m * (m * theta).sin().abs() / theta.sin(), rtol=1e-8, atol=1e-8
    )


def test_the_ramp_raises_the_factor_from_one() -> None:
    embeddings, labels = _batch()
    whole, half, none = (
        _make(m=4, **NO_ANNEALING),
        _make(m=2.5, **NO_ANNEALING),
        _make(m=1, **NO_ANNEALING),
    )
    whole.ramp = 0.5
    torch.testing.assert_close(whole(embeddings, labels), half(embeddings, labels))
    whole.ramp = 0.0
    torch.testing.assert_close(whole(embeddings, labels), none(embeddings, labels))


def test_the_curve_keeps_any_shape() -> None:
    assert _make().target_logit(torch.zeros(2, 0, 3)).shape == (2, 0, 3)
    assert _make().target_logit(torch.tensor(0.3)).shape == ()
    assert _make().target_logit(torch.zeros(2, dtype=torch.bfloat16)).dtype == torch.float32


# Annealing


def test_lambda_falls_with_the_batches_trained_on() -> None:
    loss, (embeddings, labels) = _make(), _batch()
    for step in range(1, 20):
        loss(embeddings, labels)
        assert loss.measure(embeddings, labels)["lambda"] == pytest.approx(1000 / (1 + 0.12 * step))
    loss.step.fill_(100_000)
    loss(embeddings, labels)
    assert loss.annealing() == 5.0


def test_only_batches_trained_on_are_counted() -> None:
    loss, (embeddings, labels) = _make(), _batch()
    loss(embeddings[:0], labels[:0])
    loss.predict(embeddings)
    loss.target_logit(embeddings)
    loss.eval()
    assert torch.equal(loss(embeddings, labels), loss(embeddings, labels))
    assert loss.step == 0
    loss.train()
    assert loss(embeddings, labels) != loss(embeddings, labels)
    assert loss.state_dict()["step"] == 2


def test_the_logged_scale_is_the_mean_length_of_the_embeddings() -> None:
    loss, (embeddings, labels) = _make(), _batch()
    assert loss.measure(embeddings, labels)["scale"] == pytest.approx(
        embeddings.norm(dim=1).mean().item()
    )


# Gradients


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


@every_factor
@pytest.mark.parametrize("options", [NO_ANNEALING, {}])
def test_gradients_are_those_of_the_value(m: float, options: dict[str, float]) -> None:
    embeddings, labels, weight = _angles([0.1, 0.3, 0.9, 1.2, 1.7, 2.2, 2.6, 3.0])
    loss = _make(m=m, **options).eval()

    def value(embeddings: Tensor, weight: Tensor) -> Tensor:
        return functional_call(loss, {"weight": weight}, (embeddings, labels))

    assert torch.autograd.gradcheck(value, (embeddings.requires_grad_(), weight.requires_grad_()))


@every_factor
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_extremes_are_finite(m: float, dtype: torch.dtype) -> None:
    loss = _make(torch.float32 if dtype == torch.bfloat16 else dtype, m=m, **NO_ANNEALING)
    own = loss.weight.detach()[:3].to(dtype)
    embeddings = torch.cat(
        [own, -own, 1e-20 * own, 1e10 * own, torch.zeros(3, D, dtype=dtype)]
    ).requires_grad_()
    value = loss(embeddings, torch.arange(3).repeat(5))
    assert torch.isfinite(value)
    value.backward()
    assert torch.isfinite(embeddings.grad).all()
    assert torch.isfinite(loss.weight.grad).all()


@every_factor
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_curve_is_finite_at_the_ends(m: float, dtype: torch.dtype) -> None:
    near = torch.tensor([1.0, -1.0, 0.0], dtype=dtype)
    near = torch.cat([near, near.nextafter(torch.zeros((), dtype=dtype))]).requires_grad_()
    logit = _make(dtype, m=m).target_logit(near)
    assert torch.isfinite(logit).all()
    assert torch.isfinite(torch.autograd.grad(logit.sum(), near)[0]).all()


@pytest.mark.parametrize(
    "options",
    [
        {"m": 0.9},
        {"m": -4},
        {"m": math.nan},
        {"m": math.inf},
        {"m": "4"},
        {"m": None},
        {"lambda_min": -1},
        {"lambda_base": math.nan},
        {"lambda_base": "1000"},
        {"gamma": -0.1},
        {"gamma": None},
        {"s": 64.0},
    ],
    ids=str,
)
def test_an_option_out_of_range_is_one_line(options: dict[str, Any]) -> None:
    with pytest.raises(wb.WorkbenchError) as caught:
        _make(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "steps", "warned"),
    [
        ({}, 1000, True),
        ({}, 1659, False),
        ({"lambda_base": 0.0, "lambda_min": 0.0}, 1, False),
        ({"gamma": 0.0}, 10**6, True),
        ({"m": 1.0}, 1, False),
    ],
)
def test_short_trainings_are_told_that_the_annealing_does_not_end(
    options: dict[str, Any], steps: int, warned: bool
) -> None:
    said = wb.losses.create("sphereface", embedding_dim=4, num_classes=3, **options).advice(steps)
    assert len(said) == warned
    assert not (warned and not options) or f"lambda is still {1000 / 121:.3g}" in said[0]
