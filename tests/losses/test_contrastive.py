from __future__ import annotations

import itertools
import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from batches import random_batch
from pytorch_metric_learning import losses as pml
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor

import workbench as wb
from workbench.losses import Contrastive

D, C, N = 6, 5, 24


def _make(**options: Any) -> Contrastive:
    loss = wb.losses.create("contrastive", embedding_dim=D, num_classes=C, **options)
    assert isinstance(loss, Contrastive)
    return loss


_batch = partial(random_batch, n=N, dim=D, classes=C)


class _Squared(pml.ContrastiveLoss):
    """pytorch-metric-learning's costs of pairs are not squared."""

    def get_per_pair_loss(self, *arguments: Any) -> Any:
        return super().get_per_pair_loss(*arguments) ** 2


@pytest.mark.parametrize("m", [0.3, 1.0, 1.7])
def test_it_agrees_with_pytorch_metric_learning(m: float) -> None:
    reference = _Squared(neg_margin=m, distance=LpDistance(power=1), reducer=MeanReducer())
    embeddings, labels = _batch()
    other = embeddings.detach().clone().requires_grad_()
    ours, theirs = _make(m=m)(embeddings, labels), reference(other, labels)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    ours.backward()
    theirs.backward()
    torch.testing.assert_close(embeddings.grad, other.grad, rtol=1e-7, atol=1e-9)


def _by_loops(embeddings: Tensor, labels: list[int], m: float) -> float:
    x = embeddings.numpy(force=True)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    genuine, impostor = [0.0][:0], [0.0][:0]
    for i, j in itertools.combinations(range(len(x)), 2):
        d = float(np.linalg.norm(x[i] - x[j]))
        if labels[i] == labels[j]:
            genuine.append(d**2)
        else:
            impostor.append(max(0.0, m - d) ** 2)
    return sum(float(np.mean(costs)) for costs in (genuine, impostor) if costs)


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2], [1, 1, 1], [0, 1, 2], [3]])
@pytest.mark.parametrize("m", [0.0, 1.0, 2.0])
def test_it_is_the_sum_of_the_means_over_the_pairs_of_a_kind(labels: list[int], m: float) -> None:
    embeddings, _ = _batch(n=len(labels))
    value = _make(m=m)(embeddings, torch.tensor(labels))
    assert value.item() == pytest.approx(_by_loops(embeddings, labels, m), abs=1e-12)
    value.backward()
    assert torch.isfinite(embeddings.grad).all()


def test_lengths_do_not_matter_and_half_the_ramp_is_half_the_margin() -> None:
    embeddings, labels = _batch()
    whole, half = _make(m=1.2), _make(m=0.6)
    torch.testing.assert_close(
        whole(embeddings * torch.arange(1, N + 1)[:, None], labels), whole(embeddings, labels)
    )
    whole.ramp = 0.5
    torch.testing.assert_close(whole(embeddings, labels), half(embeddings, labels))


def test_gradients_are_those_of_the_value() -> None:
    embeddings, labels = _batch(n=10)
    assert torch.autograd.gradcheck(lambda x: _make()(x, labels), (embeddings,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_extremes_are_finite(dtype: torch.dtype) -> None:
    one = torch.ones(1, D, dtype=dtype)
    embeddings = torch.cat(
        [one, one, -one, one, 1e-20 * one, 0 * one, 0 * one, 1e10 * one]
    ).requires_grad_()
    value = _make()(embeddings, torch.tensor([0, 0, 0, 1, 1, 1, 2, 2]))
    assert torch.isfinite(value)
    value.backward()
    assert torch.isfinite(embeddings.grad).all()


def test_angles_and_shares_are_those_of_the_batch() -> None:
    embeddings, labels = _batch()
    x, y = embeddings.numpy(force=True), labels.numpy()
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    angles = np.degrees(np.arccos(np.clip(x @ x.T, -1, 1)))
    same = y[:, None] == y
    row = _make().measure(embeddings, labels)
    assert row["genuine_angle_mean"] == pytest.approx(
        angles[same & ~np.eye(N, dtype=bool)].mean(), abs=1e-3
    )
    assert row["impostor_angle_mean"] == pytest.approx(angles[~same].mean(), abs=1e-3)
    assert row["active_impostors"] == pytest.approx((angles[~same] < 60).mean())  # a distance of 1
    assert _make().measure(embeddings[:1], labels[:1]) == {"margin_ramp": 1.0}


def test_it_asks_for_batches_by_identity_also_when_added() -> None:
    assert _make().images_per_identity == 4
    assert (
        wb.losses.create("softmax+contrastive", embedding_dim=D, num_classes=C).images_per_identity
        == 4
    )


@pytest.mark.parametrize(
    "options", [{"m": -0.1}, {"m": 2.1}, {"m": math.nan}, {"m": "1"}, {"m": None}], ids=str
)
def test_an_option_out_of_range_is_one_line(options: dict[str, Any]) -> None:
    with pytest.raises(wb.WorkbenchError, match="contrastive") as caught:
        _make(**options)
    assert "\n" not in str(caught.value)
