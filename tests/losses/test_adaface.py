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
from workbench.losses import AdaFace

D, C, N = 6, 5, 40


def _make(dtype: torch.dtype = torch.float64, **options: Any) -> AdaFace:
    torch.manual_seed(0)
    loss = wb.losses.create("adaface", **{"embedding_dim": D, "num_classes": C} | options).to(dtype)
    assert isinstance(loss, AdaFace)
    return loss


_batch = partial(random_batch, n=N, dim=D, classes=C, lengths=(2.0, 150.0))


def _psi(cosine: np.ndarray, z: Any, m: float = 0.4) -> np.ndarray:
    return np.cos(np.clip(np.arccos(cosine) - m * z, 1e-3, np.pi - 1e-3)) - (m + m * z)


def _by_the_paper(
    embeddings: Tensor, loss: AdaFace, y: np.ndarray, s: float, mean: float, std: float
) -> float:
    x, w = embeddings.numpy(force=True), loss.weight.numpy(force=True)
    lengths = np.linalg.norm(x, axis=1)
    cosines = (x / lengths[:, None]) @ (w / np.linalg.norm(w, axis=1, keepdims=True)).T
    z = np.clip((np.clip(lengths, 1e-3, 100) - mean) / (std + 1e-3) * 0.333, -1, 1)
    own = np.arange(len(y)), y
    logits = s * cosines
    logits[own] = s * _psi(cosines[own], z)
    return float(np.mean(np.logaddexp.reduce(logits, axis=1) - logits[own]))


def _set(loss: AdaFace, mean: float, std: float) -> AdaFace:
    loss.batch_mean.fill_(mean)
    loss.batch_std.fill_(std)
    return loss


@pytest.mark.parametrize("norm", [0.0, 8.0, 25.0, 31.0, 99.0, 1e9])
def test_the_curve_of_a_length(norm: float) -> None:
    cosine = np.cos(np.deg2rad(np.arange(0, 180.01, 0.37)))[
        1:
    ]  # at 0 the angle of 0.001 is the clip's, see below
    z = np.clip((np.clip(norm, 1e-3, 100) - 25) / (6 + 1e-3) * 0.333, -1, 1)
    found = _set(_make(s=30.0), 25.0, 6.0).target_logit(torch.from_numpy(cosine), norm)
    np.testing.assert_allclose(found.numpy() / 30.0, _psi(cosine, z), atol=1e-7)


def test_the_curve_by_default_is_that_of_the_mean_length_and_of_poor_images_arcface_s() -> None:
    theta = np.deg2rad(np.arange(0, 180.01, 0.37))
    cosine, loss = torch.from_numpy(np.cos(theta)), _set(_make(s=30.0), 25.0, 6.0)
    np.testing.assert_allclose(
        loss.target_logit(cosine).numpy(), 30 * (np.cos(theta) - 0.4), atol=1e-9
    )
    np.testing.assert_allclose(
        loss.target_logit(cosine, 25.0).numpy(), 30 * (np.cos(theta) - 0.4), atol=1e-9
    )
    poor = loss.target_logit(cosine, 0.001).numpy()
    assert loss.quality(torch.tensor(0.001)) == -1
    inside = theta + 0.4 < np.pi - 1e-3
    np.testing.assert_allclose(poor[inside], 30 * np.cos(theta + 0.4)[inside], atol=1e-9)


def test_the_loss_is_the_paper_s_and_the_statistics_are_updated_first() -> None:
    loss, (embeddings, labels) = _make(s=20.0), _batch()
    lengths = np.clip(np.linspace(2, 150, N), 1e-3, 100)
    mean, std = 20.0, 100.0
    for _ in range(5):
        mean = 0.99 * mean + 0.01 * lengths.mean()
        std = 0.99 * std + 0.01 * lengths.std(ddof=1)
        expected = _by_the_paper(embeddings, loss, labels.numpy(), 20.0, mean, std)
        assert loss(embeddings, labels).item() == pytest.approx(expected, rel=1e-9)
        row = loss.measure(embeddings, labels)
        assert row["length_mean"] == pytest.approx(mean, rel=1e-9)
        assert row["length_std"] == pytest.approx(std, rel=1e-9)


def test_with_lengths_that_tell_images_apart_the_loss_is_the_paper_s() -> None:
    loss, (embeddings, labels) = _set(_make(s=20.0), 60.0, 15.0).eval(), _batch()
    z = loss.quality(embeddings.norm(dim=1))
    assert z.min() == -1
    assert z.max() > 0.8
    expected = _by_the_paper(embeddings, loss, labels.numpy(), 20.0, 60.0, 15.0)
    assert loss(embeddings, labels).item() == pytest.approx(expected, rel=1e-9)
    assert torch.equal(loss(embeddings, labels), loss(embeddings, labels))
    assert (loss.batch_mean, loss.batch_std) == (60.0, 15.0)


def test_a_batch_of_one_leaves_the_spread_alone() -> None:
    loss, (embeddings, labels) = _make(), _batch()
    loss(embeddings[10:11], labels[10:11])
    assert loss.batch_std == 100.0
    assert loss.batch_mean.item() == pytest.approx(0.99 * 20 + 0.01 * embeddings[10].norm().item())


def test_no_gradient_flows_through_the_length() -> None:
    loss, (embeddings, labels) = _set(_make(), 60.0, 15.0).eval(), _batch()
    (gradient,) = torch.autograd.grad(loss(embeddings, labels), embeddings)
    assert gradient.abs().max() > 1e-3
    torch.testing.assert_close(
        (gradient * embeddings).sum(1), torch.zeros(N, dtype=torch.float64), rtol=0, atol=1e-10
    )


def test_at_ramp_0_it_is_normface() -> None:
    loss, (embeddings, labels) = _set(_make(s=20.0), 60.0, 15.0).eval(), _batch()
    loss.ramp = 0.0
    torch.testing.assert_close(
        loss(embeddings, labels), F.cross_entropy(loss.predict(embeddings), labels)
    )
    ends = torch.tensor([1.0, 1 - 1e-9, 0.3, 1e-9 - 1, -1.0], dtype=torch.float64)
    torch.testing.assert_close(loss.target_logit(ends, 100.0), 20 * ends, rtol=1e-14, atol=1e-14)


def test_gradients_are_those_of_the_value() -> None:
    """Checks the gradient of the class centres, and of embeddings orthogonal to their direction.

    No gradient flows through the length, so the part along the embedding differs.
    """
    loss, (embeddings, labels) = _set(_make(s=8.0), 60.0, 15.0).eval(), _batch(n=12)
    with torch.no_grad():  # z = -1 here, so that the margin would turn the angle past pi
        embeddings[0] = 2 * F.normalize(-loss.weight[labels[0]] + 0.2 * embeddings[0], dim=0)
    lengths = embeddings.detach().norm(dim=1, keepdim=True)

    def value(embeddings: Tensor, weight: Tensor) -> Tensor:
        return functional_call(
            loss, {"weight": weight}, (lengths * F.normalize(embeddings), labels)
        )

    assert torch.autograd.gradcheck(
        value, (embeddings, loss.weight.detach().clone().requires_grad_())
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_the_extremes_are_finite(dtype: torch.dtype) -> None:
    loss = _make(torch.float64 if dtype == torch.float64 else torch.float32, s=128.0)
    own = loss.weight.detach()[:3].to(dtype)
    long = 1e4 if dtype == torch.float16 else 1e20
    embeddings = torch.cat([own, -own, 1e-20 * own, long * own, 0 * own]).requires_grad_()
    for _ in range(2):
        value = loss(embeddings, torch.arange(3).repeat(5))
        value.backward()
    assert torch.isfinite(value)
    for tensor in (embeddings.grad, loss.weight.grad, loss.batch_mean, loss.batch_std):
        assert torch.isfinite(tensor).all()


def test_streamed_is_plain() -> None:
    embeddings, labels = _batch(n=6, dim=8, classes=5000, dtype=torch.float32)
    results = []
    for head in ("plain", "streamed"):
        loss = _set(_make(torch.float32, embedding_dim=8, num_classes=5000, head=head), 60.0, 15.0)
        value = loss(embeddings, labels)
        results.append((value, *torch.autograd.grad(value, [embeddings, loss.weight])))
    for plain, streamed in zip(*results, strict=True):
        torch.testing.assert_close(streamed, plain, rtol=1e-5, atol=1e-5 * plain.abs().max().item())


@pytest.mark.parametrize(
    "options",
    [{"m": -0.1}, {"m": math.inf}, {"h": -1}, {"h": "a"}, {"rate": 1.1}, {"rate": None}],
    ids=str,
)
def test_an_option_out_of_range_is_one_line(options: dict[str, Any]) -> None:
    with pytest.raises(wb.WorkbenchError) as caught:
        _make(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "steps", "share"),
    [
        ({}, 100, "37%"),
        ({}, 389, "2%"),
        ({}, 390, None),
        ({"rate": 0.0}, 10**6, "100%"),
        ({"rate": 1.0}, 1, None),
        ({"h": 0.0}, 1, None),
    ],
)
def test_short_trainings_are_told_that_they_are_nearly_cosface(
    options: dict[str, Any], steps: int, share: str | None
) -> None:
    said = wb.losses.create("adaface", embedding_dim=4, num_classes=3, **options).advice(steps)
    assert len(said) == (share is not None)
    assert share is None or f"after {steps:,} steps {share} of that is left" in said[0]


def test_what_is_left_of_the_first_spread_is_what_the_advice_says() -> None:
    loss = wb.losses.create("adaface", embedding_dim=4, num_classes=3)
    embeddings = torch.ones(4, 4)  # all of the same length
    for _ in range(100):
        loss(embeddings, torch.tensor([0, 1, 2, 0]))
    assert loss.batch_std.item() == pytest.approx(100 * 0.99**100, rel=1e-4)
