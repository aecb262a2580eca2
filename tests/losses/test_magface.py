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
from workbench.losses import MagFace

D, C, N = 6, 5, 40


def _make(dtype: torch.dtype = torch.float64, name: str = "magface", **options: Any) -> MagFace:
    torch.manual_seed(0)
    loss = wb.losses.create(name, **{"embedding_dim": D, "num_classes": C} | options).to(dtype)
    assert isinstance(loss, MagFace)
    return loss


_batch = partial(random_batch, n=N, dim=D, classes=C, lengths=(5.0, 150.0))
"""Some lengths are clipped at either end."""


def _psi(theta: np.ndarray, m: Any) -> np.ndarray:
    return np.where(theta + m < np.pi, np.cos(theta + m), np.cos(theta) - m * np.sin(m))


def _easy(theta: np.ndarray, m: Any) -> np.ndarray:
    return np.where(theta < np.pi / 2, np.cos(theta + m), np.cos(theta))


def _by_the_paper(
    embeddings: Tensor, loss: MagFace, y: np.ndarray, s: float
) -> tuple[np.ndarray, np.ndarray]:
    """Each sample's cross-entropy and g."""
    curve = _easy if loss.easy_margin else _psi
    x, w = embeddings.numpy(force=True), loss.weight.numpy(force=True)
    lengths = np.linalg.norm(x, axis=1)
    logits = s * (x / lengths[:, None]) @ (w / np.linalg.norm(w, axis=1, keepdims=True)).T
    a = np.clip(lengths, 10, 110)
    own = np.arange(len(y)), y
    logits[own] = s * curve(np.arccos(logits[own] / s), 0.45 + (0.8 - 0.45) * (a - 10) / (110 - 10))
    return np.logaddexp.reduce(logits, axis=1) - logits[own], a / 110**2 + 1 / a


@pytest.mark.parametrize(("easy_margin", "curve"), [(True, _easy), (False, _psi)])
@pytest.mark.parametrize(
    ("norm", "m"),
    [(None, 0.625), (1.0, 0.45), (10.0, 0.45), (35.0, 0.5375), (110.0, 0.8), (1e9, 0.8)],
)
def test_the_curve_of_a_length(norm: float | None, m: float, easy_margin: bool, curve: Any) -> None:
    theta = np.deg2rad(np.arange(0, 180.01, 0.37))
    found = _make(s=30.0, easy_margin=easy_margin).target_logit(
        torch.from_numpy(np.cos(theta)), norm
    )
    np.testing.assert_allclose(found.numpy() / 30.0, curve(theta, m), atol=1e-12)


@pytest.mark.parametrize(("easy_margin", "expected"), [(True, -1.1), (False, -38.3)])
def test_at_91_degrees_the_easy_margin_is_the_plain_cosine(
    easy_margin: bool, expected: float
) -> None:
    found = _make(easy_margin=easy_margin).target_logit(
        torch.tensor(math.cos(math.radians(91.0)), dtype=torch.float64), 60.0
    )
    theirs = 64 * math.cos(math.radians(91.0) + (0.0 if easy_margin else 0.625))
    assert found.item() == pytest.approx(theirs, abs=1e-9)
    assert found.item() == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("easy_margin", [True, False])
def test_the_loss_is_the_paper_s(easy_margin: bool) -> None:
    loss, (embeddings, labels) = _make(s=20.0, easy_margin=easy_margin), _batch()
    cross_entropy, g = _by_the_paper(embeddings, loss, labels.numpy(), 20.0)
    assert loss(embeddings, labels).item() == pytest.approx(
        np.mean(cross_entropy + 35 * g), rel=1e-9
    )
    np.testing.assert_allclose(
        loss.per_sample(embeddings, labels).numpy(force=True), cross_entropy, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("part", ["ohem", "focal"])
def test_parts_see_the_cross_entropy_alone(part: str) -> None:
    loss, (embeddings, labels) = _make(name=f"magface+{part}", s=20.0), _batch()
    costs, g = _by_the_paper(embeddings, loss, labels.numpy(), 20.0)
    costs = np.sort(costs)[N // 4 :] if part == "ohem" else (1 - np.exp(-costs)) ** 2 * costs
    assert loss(embeddings, labels).item() == pytest.approx(costs.mean() + 35 * g.mean(), rel=1e-9)


@pytest.mark.parametrize("easy_margin", [True, False])
def test_the_margin_pulls_at_the_length(easy_margin: bool) -> None:
    """With fixed direction d loss / d a = -s psi' m' (1 - p) + lambda g', 0 outside [10, 110]."""
    loss, (embeddings, labels) = _make(s=20.0, easy_margin=easy_margin), _batch()
    lengths = embeddings.detach().norm(dim=1, keepdim=True).requires_grad_()
    directions = F.normalize(embeddings.detach())
    (found,) = torch.autograd.grad(loss(lengths * directions, labels), lengths)
    a = lengths.detach().numpy()[:, 0]
    w = F.normalize(loss.weight.detach()).numpy()
    theta = np.arccos((directions.numpy() * w[labels]).sum(1))
    m = 0.45 + 0.0035 * (a - 10)
    steepness = np.where(theta + m < np.pi, np.sin(theta + m), np.sin(m) + m * np.cos(m))
    cross_entropy, _ = _by_the_paper(embeddings, loss, labels.numpy(), 20.0)
    if easy_margin:
        steepness = np.where(theta < np.pi / 2, steepness, 0.0)
    slope = 20 * steepness * 0.0035 * (1 - np.exp(-cross_entropy)) + 35 * (1 / 110**2 - 1 / a**2)
    inside = (a > 10) & (a < 110)
    np.testing.assert_allclose(found.numpy()[:, 0] * N, np.where(inside, slope, 0.0), atol=1e-9)


def test_the_ramp_scales_the_margin_and_leaves_the_regulariser() -> None:
    loss, (embeddings, labels) = _make(s=20.0), _batch()
    loss.ramp = 0.0
    _, g = _by_the_paper(embeddings, loss, labels.numpy(), 20.0)
    plain = F.cross_entropy(loss.predict(embeddings), labels).item()
    assert loss(embeddings, labels).item() == pytest.approx(plain + 35 * g.mean(), rel=1e-9)
    loss.ramp = 0.5
    cosine = torch.linspace(-1, 1, 50, dtype=torch.float64)
    half = _make(s=20.0, l_margin=0.225, u_margin=0.4)
    torch.testing.assert_close(loss.target_logit(cosine, 70.0), half.target_logit(cosine, 70.0))


def test_the_mean_length_is_logged() -> None:
    loss, (embeddings, labels) = _make(), _batch()
    assert loss.measure(embeddings, labels)["length_mean"] == pytest.approx(77.5, rel=1e-5)


@pytest.mark.parametrize("easy_margin", [True, False])
def test_gradients_are_those_of_the_value(easy_margin: bool) -> None:
    loss, (embeddings, labels) = _make(s=8.0, easy_margin=easy_margin), _batch(n=12)
    with torch.no_grad():
        embeddings[6] = 60 * F.normalize(
            -loss.weight[labels[6]] + 0.001 * embeddings[6], dim=0
        )  # theta + m > pi
    assert loss.target_cosines(embeddings, labels)[6] < -math.cos(0.45)

    def value(embeddings: Tensor, weight: Tensor) -> Tensor:
        return functional_call(loss, {"weight": weight}, (embeddings, labels))

    assert torch.autograd.gradcheck(
        value, (embeddings, loss.weight.detach().clone().requires_grad_())
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_the_extremes_are_finite(dtype: torch.dtype) -> None:
    loss = _make(torch.float64 if dtype == torch.float64 else torch.float32, s=128.0)
    own = loss.weight.detach()[:3].to(dtype)
    long = 1e4 if dtype == torch.float16 else 1e20
    embeddings = torch.cat([own, -own, 1e-20 * own, long * own, 0 * own]).requires_grad_()
    value = loss(embeddings, torch.arange(3).repeat(5))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(embeddings.grad).all()
    assert torch.isfinite(loss.weight.grad).all()


def test_streamed_is_plain() -> None:
    embeddings, labels = _batch(n=6, dim=8, classes=5000, dtype=torch.float32)
    results = []
    for head in ("plain", "streamed"):
        loss = _make(torch.float32, embedding_dim=8, num_classes=5000, head=head)
        value = loss(embeddings, labels)
        results.append((value, *torch.autograd.grad(value, [embeddings, loss.weight])))
    for plain, streamed in zip(*results, strict=True):
        torch.testing.assert_close(streamed, plain, rtol=1e-5, atol=1e-5 * plain.abs().max().item())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"l_a": 0.0}, "0 < l_a < u_a"),
        ({"l_a": 110.0}, "0 < l_a < u_a"),
        ({"u_a": math.inf}, "length u_a must be a number"),
        ({"l_margin": -0.1}, "l_margin must be"),
        ({"l_margin": 0.9}, "u_margin must be a number from 0.9 to"),
        ({"u_margin": 3.2}, "u_margin"),
        ({"lambda_g": -1}, "magface: lambda_g"),
        ({"lambda_g": None}, "magface"),
        ({"m": 0.5}, "unknown option"),
    ],
)
def test_an_option_out_of_range_is_one_line(options: dict[str, Any], match: str) -> None:
    with pytest.raises(wb.WorkbenchError, match=match) as caught:
        _make(**options)
    assert "\n" not in str(caught.value)
