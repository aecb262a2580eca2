"""SphereFace2 and UniFace's unified threshold: a binary question for each class."""

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
from workbench.losses import MarginSoftmax

D, C, N = 6, 5, 40
THETA = np.deg2rad(np.arange(0.0, 180.01, 0.37))
SPHEREFACE2: list[dict[str, Any]] = [
    {},
    {"r": 30.0, "m": 0.2, "t": 2.0, "alpha": 0.6, "lw": 50.0},
    {"t": 1.0, "m": 0.0},
]


def _make(name: str, num_classes: int = C, **options: Any) -> MarginSoftmax:
    torch.manual_seed(0)
    loss = wb.losses.create(name, embedding_dim=D, num_classes=num_classes, **options).double()
    assert isinstance(loss, MarginSoftmax)
    return loss


_batch = partial(random_batch, n=N, dim=D, classes=C)


def _cosines(loss: MarginSoftmax, embeddings: Tensor) -> NDArray[np.float64]:
    x, w = embeddings.numpy(force=True), loss.weight.numpy(force=True)
    found: NDArray[np.float64] = (
        (x @ w.T) / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(w, axis=1)
    )
    return found


def _bias_of(loss: MarginSoftmax) -> float:
    return dict(loss.named_parameters())["bias"].item()


@pytest.mark.parametrize("options", SPHEREFACE2)
@pytest.mark.parametrize("bias", [None, -3.0, 11.0])
@pytest.mark.parametrize("ramp", [1.0, 0.4])
def test_sphereface2_is_the_sum_of_its_binary_cross_entropies(
    options: dict[str, Any], bias: float | None, ramp: float
) -> None:
    loss, (embeddings, labels) = _make("sphereface2", **options), _batch()
    loss.ramp = ramp
    if bias is not None:
        with torch.no_grad():
            loss.bias.fill_(bias)
    r, m, t, alpha, lw = (
        {"r": 40.0, "m": 0.4, "t": 3.0, "alpha": 0.7, "lw": 1.0} | options
    ).values()
    b, expected = _bias_of(loss), 0.0
    for cosines, y in zip(_cosines(loss, embeddings), labels.tolist(), strict=True):
        for j, cosine in enumerate(cosines):
            g = 2 * ((cosine + 1) / 2) ** t - 1
            if j == y:
                expected += lw * alpha / r * math.log1p(math.exp(-r * (g - ramp * m) - b)) / N
            else:
                expected += lw * (1 - alpha) / r * math.log1p(math.exp(r * (g + ramp * m) + b)) / N
    assert loss(embeddings, labels).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("options", SPHEREFACE2)
def test_sphereface2_is_weighted_binary_cross_entropy_in_torch(options: dict[str, Any]) -> None:
    loss, (embeddings, labels) = _make("sphereface2", **options), _batch()
    parameters = dict(loss.named_parameters())
    r, m, t, alpha, lw = (
        {"r": 40.0, "m": 0.4, "t": 3.0, "alpha": 0.7, "lw": 1.0} | options
    ).values()
    value = loss(embeddings, labels)
    own = F.one_hot(labels, C).double()
    g = 2 * ((F.normalize(embeddings) @ F.normalize(parameters["weight"]).T + 1) / 2) ** t - 1
    logits = r * (g - m * (2 * own - 1)) + parameters["bias"]
    weight = lw * C / r * (alpha * own + (1 - alpha) * (1 - own))
    other = F.binary_cross_entropy_with_logits(logits, own, weight=weight)
    torch.testing.assert_close(value, other, rtol=1e-10, atol=1e-12)
    inputs = [embeddings, *loss.parameters()]
    for mine, theirs in zip(
        torch.autograd.grad(value, inputs), torch.autograd.grad(other, inputs), strict=True
    ):
        # torch takes softplus(x) for x from x = 20 on, which is off by 2e-9.
        torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("num_classes", [2, 3, 4, 10, 1000, 10**6])
@pytest.mark.parametrize(
    "options", [*SPHEREFACE2, {"r": 400.0, "m": 2.0}, {"alpha": 0.5}, {"alpha": 0.01}], ids=str
)
def test_the_bias_of_sphereface2_starts_where_both_sides_pull_equally(
    num_classes: int, options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    r, m, t, alpha, _ = (
        {"r": 40.0, "m": 0.4, "t": 3.0, "alpha": 0.7, "lw": 1.0} | options
    ).values()
    loss = wb.losses.create("sphereface2", embedding_dim=1, num_classes=num_classes, **options)
    g, b = 2 * 0.5**t - 1, loss.bias.detach().double()
    pull = math.log(alpha) + F.logsigmoid(-(r * (g - m) + b))
    push = math.log((1 - alpha) * (num_classes - 1)) + F.logsigmoid(r * (g + m) + b)
    assert pull.item() == pytest.approx(push.item(), abs=1e-3)  # b is float32


def test_the_bias_of_sphereface2_is_that_of_the_authors_code() -> None:
    z = 0.7 / (0.3 * 8630)
    own, other = 40 * (2 * 0.5**3 - 1 - 0.4), 40 * (2 * 0.5**3 - 1 + 0.4)
    expected = (
        math.log(2 * z)
        - other
        - math.log(1 - z + math.sqrt((1 - z) ** 2 + 4 * z * math.exp(own - other)))
    )
    assert _bias_of(_make("sphereface2", 8631)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("options", SPHEREFACE2)
def test_the_curve_of_sphereface2_follows_the_formula_at_all_angles(
    options: dict[str, Any],
) -> None:
    loss = _make("sphereface2", **options)
    r, m, t = (
        {"r": 40.0, "m": 0.4, "t": 3.0}
        | {key: options[key] for key in ("r", "m", "t") if key in options}
    ).values()
    g = 2 * np.cos(THETA / 2) ** (2 * t) - 1  # (1 + cos) / 2 = cos^2 of half the angle
    cosine = torch.from_numpy(np.cos(THETA))
    np.testing.assert_allclose(
        loss.target_logit(cosine).numpy(force=True), r * (g - m), rtol=0, atol=1e-9
    )
    np.testing.assert_allclose(
        loss.non_target(cosine, cosine).numpy(force=True), g + m, rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("options", [{}, {"s": 20.0, "m": 0.1}])
@pytest.mark.parametrize("ramp", [1.0, 0.4])
def test_the_unified_threshold_loss_is_the_sum_of_its_binary_cross_entropies(
    options: dict[str, Any], ramp: float
) -> None:
    loss, (embeddings, labels) = _make("unified_threshold", **options), _batch()
    loss.ramp = ramp
    s, m = ({"s": 64.0, "m": 0.4} | options).values()
    b, expected = _bias_of(loss), 0.0
    assert b == pytest.approx(math.log(10 * C))
    for cosines, y in zip(_cosines(loss, embeddings), labels.tolist(), strict=True):
        expected += np.logaddexp(0, -(s * (cosines[y] - ramp * m) - b)) / N
        expected += sum(np.logaddexp(0, s * cosines[j] - b) for j in range(C) if j != y) / N
    assert loss(embeddings, labels).item() == pytest.approx(expected, rel=1e-9)
    cosine = torch.from_numpy(np.cos(THETA))
    np.testing.assert_allclose(
        loss.target_logit(cosine).numpy(force=True), s * (np.cos(THETA) - ramp * m), atol=1e-9
    )


@pytest.mark.parametrize("name", ["sphereface2", "unified_threshold"])
@pytest.mark.parametrize("head", ["plain", "streamed"])
def test_gradients_are_those_of_the_value(name: str, head: str) -> None:
    loss, (embeddings, labels) = (
        _make(
            name, head=head, **{"sphereface2": {"r": 8.0}, "unified_threshold": {"s": 8.0}}[name]
        ),
        _batch(),
    )
    embeddings = embeddings.detach()[:8].requires_grad_()

    def value(embeddings: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return functional_call(loss, {"weight": weight, "bias": bias}, (embeddings, labels[:8]))

    weight, bias = (parameter.detach().clone().requires_grad_() for parameter in loss.parameters())
    assert torch.autograd.gradcheck(value, (embeddings, weight, bias))


@pytest.mark.parametrize("name", ["sphereface2", "unified_threshold"])
def test_the_bias_is_trained_and_logged(name: str) -> None:
    loss, (embeddings, labels) = _make(name), _batch()
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
    before = _bias_of(loss)
    loss(embeddings, labels).backward()
    optimizer.step()
    row = loss.measure(embeddings, labels)
    assert row["bias"] == _bias_of(loss) != before
    assert row["scale"] == loss.s
    if name == "unified_threshold":
        assert row["threshold"] == row["bias"] / 64.0
    assert torch.equal(loss.state_dict()["bias"], dict(loss.named_parameters())["bias"])


@pytest.mark.parametrize(
    ("head", "rate", "seen"),
    [("plain", 0.1, 1000), ("sampled", 0.1, 100), ("sampled", 0.0, 1), ("sampled", 1.0, 1000)],
)
def test_the_bias_starts_for_the_number_of_classes_seen(head: str, rate: float, seen: int) -> None:
    sizes: dict[str, Any] = {
        "embedding_dim": 4,
        "num_classes": 1000,
        "head": head,
        "sample_rate": rate,
    }
    assert _bias_of(wb.losses.create("unified_threshold", **sizes)) == pytest.approx(
        math.log(10 * seen), rel=1e-6
    )
    full = wb.losses.create("sphereface2", embedding_dim=4, num_classes=seen)
    assert _bias_of(wb.losses.create("sphereface2", **sizes)) == pytest.approx(
        _bias_of(full), rel=1e-6
    )
