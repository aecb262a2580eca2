from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from batches import random_batch
from torch import Tensor
from torch.func import functional_call

import workbench as wb
from workbench.losses import CurricularFace

D, C, N = 6, 5, 40


def _make(dtype: torch.dtype = torch.float64, **options: Any) -> CurricularFace:
    torch.manual_seed(0)
    loss = wb.losses.create(
        "curricularface", **{"embedding_dim": D, "num_classes": C} | options
    ).to(dtype)
    assert isinstance(loss, CurricularFace)
    return loss


_batch = partial(random_batch, n=N, dim=D, classes=C)


def _cosines(embeddings: Tensor, loss: CurricularFace) -> np.ndarray:
    x, w = embeddings.numpy(force=True), loss.weight.numpy(force=True)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)) @ (
        w / np.linalg.norm(w, axis=1, keepdims=True)
    ).T


def _by_the_paper(cosines: np.ndarray, y: np.ndarray, t: float, s: float, m: float) -> float:
    costs = []
    for row, label in zip(cosines, y, strict=True):
        theta = math.acos(row[label])
        target = math.cos(theta + m) if theta + m < math.pi else row[label] - m * math.sin(m)
        bar = math.cos(theta + m)  # also where theta + m > pi
        logits = [s * (c * (t + c) if c > bar else c) for j, c in enumerate(row) if j != label]
        costs.append(np.logaddexp.reduce([s * target, *logits]) - s * target)
    return float(np.mean(costs))


def test_the_curve_is_arcface_s() -> None:
    theta = np.deg2rad(np.arange(0, 180.01, 0.37))
    psi = np.where(theta + 0.5 < np.pi, np.cos(theta + 0.5), np.cos(theta) - 0.5 * np.sin(0.5))
    found = _make(s=30.0).target_logit(torch.from_numpy(np.cos(theta)))
    np.testing.assert_allclose(found.numpy() / 30.0, psi, atol=1e-12)


@pytest.mark.parametrize("t", [-0.2, 0.0, 0.6])
@pytest.mark.parametrize("m", [0.0, 0.5, 1.2])
def test_the_loss_is_the_paper_s(t: float, m: float) -> None:
    loss, (embeddings, labels) = _make(s=16.0, m=m).eval(), _batch()
    loss.t.fill_(t)
    expected = _by_the_paper(_cosines(embeddings, loss), labels.numpy(), t, 16.0, m)
    assert loss(embeddings, labels).item() == pytest.approx(expected, rel=1e-9)


def test_t_is_the_moving_average_of_the_mean_target_cosine_and_is_updated_first() -> None:
    loss, (embeddings, labels) = _make(s=16.0), _batch()
    cosines, t = _cosines(embeddings, loss), 0.0
    mean = cosines[np.arange(N), labels.numpy()].mean()
    for _ in range(5):
        t = 0.99 * t + 0.01 * mean
        expected = _by_the_paper(cosines, labels.numpy(), t, 16.0, 0.5)
        assert loss(embeddings, labels).item() == pytest.approx(expected, rel=1e-9)
        assert loss.t.item() == pytest.approx(t, rel=1e-9)
        assert loss.measure(embeddings, labels)["t"] == pytest.approx(t, rel=1e-9)


def test_only_batches_trained_on_move_t() -> None:
    loss, (embeddings, labels) = _make().eval(), _batch()
    assert torch.equal(loss(embeddings, labels), loss(embeddings, labels))
    loss.predict(embeddings)
    loss.train()
    loss(embeddings[:0], labels[:0])
    assert loss.t.item() == 0.0
    loss(embeddings, labels)
    assert loss.state_dict()["t"] != 0.0


def test_at_ramp_0_it_is_normface() -> None:
    loss, (embeddings, labels) = _make(s=16.0).eval(), _batch()
    loss.t.fill_(0.7)
    loss.ramp = 0.0
    normface = wb.losses.create("normface", embedding_dim=D, num_classes=C, s=16.0).double()
    normface.load_state_dict({"weight": loss.weight})
    torch.testing.assert_close(
        loss(embeddings, labels), normface(embeddings, labels), rtol=1e-12, atol=0
    )


def test_gradients_are_those_of_the_value() -> None:
    # Own angles around 90 degrees and beyond pi - m; a hard negative's derivative is s (t + 2 cos).
    loss, (embeddings, labels) = _make(s=8.0, m=0.5).eval(), _batch(n=12)
    loss.t.fill_(0.4)
    with torch.no_grad():
        embeddings[0] = -loss.weight[labels[0]] + 0.2 * embeddings[0]
        assert _cosines(embeddings, loss)[0, labels[0]] < -math.cos(0.5)

    def value(embeddings: Tensor, weight: Tensor) -> Tensor:
        return functional_call(loss, {"weight": weight}, (embeddings, labels))

    assert torch.autograd.gradcheck(
        value, (embeddings, loss.weight.detach().clone().requires_grad_())
    )


@pytest.mark.parametrize("n", [6, 12])  # not more, and more than D
def test_streamed_is_plain(n: int) -> None:
    embeddings, labels = _batch(n=n, dim=8, classes=5000, dtype=torch.float32)
    results = []
    for head in ("plain", "streamed"):
        loss = _make(torch.float32, embedding_dim=8, num_classes=5000, head=head)
        loss.t.fill_(0.3)
        value = loss(embeddings, labels)
        results.append((value, *torch.autograd.grad(value, [embeddings, loss.weight])))
    for plain, streamed in zip(*results, strict=True):
        torch.testing.assert_close(streamed, plain, rtol=1e-5, atol=1e-5 * plain.abs().max().item())


@pytest.mark.parametrize(
    "options",
    [{"m": -0.1}, {"m": 3.2}, {"m": "a"}, {"s": 0}, {"rate": 1.5}, {"rate": math.nan}],
    ids=str,
)
def test_an_option_out_of_range_is_one_line(options: dict[str, Any]) -> None:
    with pytest.raises(wb.WorkbenchError) as caught:
        _make(**options)
    assert "\n" not in str(caught.value)


def test_beyond_180_degrees_other_classes_are_compared_with_the_bare_cosine() -> None:
    """At 178 degrees cos(theta + 0.5) is -0.86, and ArcFace's curve is at -1.24.

    A class at -0.95 is a hard negative only by the latter.
    """
    loss = _make(s=1.0).eval()
    loss.t.fill_(0.5)
    replaced = loss.non_target(
        torch.tensor([[-0.95, -0.5]], dtype=torch.float64),
        torch.tensor([[math.cos(math.radians(178))]]).double(),
    )
    np.testing.assert_allclose(replaced.detach().numpy(), [[-0.95, -0.5 * (0.5 - 0.5)]], atol=1e-12)


@pytest.mark.parametrize(
    ("rate", "steps", "warned"),
    [(0.01, 100, True), (0.01, 389, True), (0.01, 390, False), (1.0, 1, False), (0.0, 9, True)],
)
def test_short_trainings_are_told_that_t_has_not_risen(
    rate: float, steps: int, warned: bool
) -> None:
    assert len(_make(rate=rate).advice(steps)) == warned
