"""Label smoothing against PyTorch's own, applied to logits that are computed independently."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from helpers import Complaint
from torch import Tensor

import workbench as wb
from workbench.losses import head as head_module
from workbench.losses.base import ClassificationLoss, MarginSoftmax
from workbench.losses.head import cosines, sample_classes, unit

N, D, C = 6, 5, 9
SMOOTHED = [
    name
    for name in wb.losses.names()
    if wb.losses.create(name, embedding_dim=D, num_classes=C).can_smooth
]
REFUSED = ["sphereface2", "unified_threshold", "triplet", "contrastive"]


def _loss(name: str, head: str = "plain", num_classes: int = C) -> ClassificationLoss:
    torch.manual_seed(0)
    loss = wb.losses.create(name, embedding_dim=D, num_classes=num_classes).double().eval()
    assert isinstance(loss, ClassificationLoss)
    loss.head = head  # type: ignore[assignment]
    return loss


def _batch(num_classes: int = C) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    embeddings = 3 * torch.randn(N, D, generator=generator, dtype=torch.float64)
    return embeddings.requires_grad_(), torch.randint(num_classes, (N,), generator=generator)


def _logits_with_margin(loss: ClassificationLoss, embeddings: Tensor, labels: Tensor) -> Tensor:
    """The whole matrix of logits, in which the target class has a margin."""
    if not isinstance(loss, MarginSoftmax):
        return loss.logits(embeddings)
    products = cosines(unit(embeddings), loss.weight)
    target = products.gather(1, labels[:, None])
    replaced = loss.non_target(products, target.detach())
    with_margin = replaced.scatter(1, labels[:, None], loss.target_margin(target, embeddings))
    return loss.scales(embeddings) * with_margin


def _mean_without_terms(loss: ClassificationLoss, embeddings: Tensor, labels: Tensor) -> Tensor:
    return loss.per_sample(embeddings, labels).mean()


def test_most_losses_can_be_smoothed() -> None:
    assert {"softmax", "arcface", "adaface", "magface", "circle", "subcenter_arcface"} <= set(
        SMOOTHED
    )
    assert not set(REFUSED) & set(SMOOTHED)
    assert set(SMOOTHED) | set(REFUSED) == set(wb.losses.names())


@pytest.mark.parametrize("name", SMOOTHED)
def test_it_is_the_smoothing_of_pytorch_on_logits_with_margin(name: str) -> None:
    loss = _loss(name)
    loss.label_smoothing = 0.2
    embeddings, labels = _batch()
    torch.manual_seed(2)  # ElasticFace draws its margins
    value = _mean_without_terms(loss, embeddings, labels)
    torch.manual_seed(2)
    expected = F.cross_entropy(
        _logits_with_margin(loss, embeddings, labels), labels, label_smoothing=0.2
    )
    torch.testing.assert_close(value, expected)
    weights = [embeddings, *(weight for weight in loss.parameters() if weight.requires_grad)]
    gradients = torch.autograd.grad(value, weights, allow_unused=True)
    for gradient, other in zip(
        gradients, torch.autograd.grad(expected, weights, allow_unused=True), strict=True
    ):
        if other is not None:
            torch.testing.assert_close(gradient, other)


@pytest.mark.parametrize("name", ["softmax", "arcface", "sphereface", "circle", "curricularface"])
@pytest.mark.parametrize("many", [False, True])
def test_the_streamed_head_gives_the_same(
    name: str, many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if many:  # several chunks of classes
        monkeypatch.setattr(head_module, "MAX_PLAIN_LOGITS", 2 * N)
    results = []
    for head in ("plain", "streamed"):
        loss = _loss(name, head)
        loss.label_smoothing = 0.1
        embeddings, labels = _batch()
        value = _mean_without_terms(loss, embeddings, labels)
        value.backward()
        results.append([value, embeddings.grad, loss.weight.grad])
    for plain, streamed in zip(*results, strict=True):
        torch.testing.assert_close(plain, streamed)


def test_sub_centres_are_summed_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = _loss("subcenter_arcface")
    loss.label_smoothing = 0.1
    embeddings, labels = _batch()
    whole = _mean_without_terms(loss, embeddings, labels)
    monkeypatch.setattr(head_module, "MAX_PLAIN_LOGITS", 2 * N)
    torch.testing.assert_close(_mean_without_terms(loss, embeddings, labels), whole)


@pytest.mark.parametrize("name", ["softmax", "cosface"])
def test_with_sampled_classes_the_mean_runs_over_the_sample(name: str) -> None:
    loss = _loss(name, num_classes=50).train()
    loss.use_head("sampled", sample_rate=0.3)
    loss.label_smoothing = 0.1
    embeddings, labels = _batch(50)
    torch.manual_seed(3)
    value = _mean_without_terms(loss, embeddings, labels)
    torch.manual_seed(3)
    classes, positions = sample_classes(labels, 50, 0.3)
    logits = _logits_with_margin(loss, embeddings, labels)[:, classes]
    torch.testing.assert_close(value, F.cross_entropy(logits, positions, label_smoothing=0.1))


@pytest.mark.parametrize("name", ["softmax", "arcface", "mv_softmax"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_types_are_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    loss = wb.losses.create(name, embedding_dim=D, num_classes=C)
    loss.label_smoothing = 0.1
    embeddings, labels = _batch()
    value = loss(embeddings.detach().to(dtype), labels)
    assert value.dtype == torch.float32
    assert math.isfinite(value.item())


def test_a_class_centre_of_length_0_has_a_logit_of_0() -> None:
    loss = _loss("normface")
    loss.label_smoothing = 0.5
    with torch.no_grad():
        loss.weight[3] = 0.0
    embeddings, labels = _batch()
    expected = F.cross_entropy(
        _logits_with_margin(loss, embeddings, labels), labels, label_smoothing=0.5
    )
    torch.testing.assert_close(_mean_without_terms(loss, embeddings, labels), expected)


def test_with_a_single_class_there_is_nothing_to_smooth() -> None:
    loss = _loss("arcface", num_classes=1)
    loss.label_smoothing = 0.3
    embeddings, _ = _batch()
    value = loss(embeddings, torch.zeros(N, dtype=torch.int64))
    torch.testing.assert_close(value, torch.zeros_like(value))


def test_reweightings_act_on_the_smoothed_losses() -> None:
    loss = _loss("normface+ohem")
    loss.label_smoothing = 0.1
    embeddings, labels = _batch()
    losses = loss.per_sample(embeddings, labels)
    torch.testing.assert_close(loss(embeddings, labels), losses.topk(int(0.75 * N)).values.mean())


@pytest.mark.parametrize("name", REFUSED)
def test_losses_without_a_softmax_refuse_it(name: str, complaint: Complaint) -> None:
    loss = wb.losses.create(name, embedding_dim=D, num_classes=C)
    loss.label_smoothing = 0.0
    with complaint("label_smoothing is 0.1", "no softmax"):
        loss.label_smoothing = 0.1
    assert loss.label_smoothing == 0.0


def test_a_subclass_with_another_loss_of_a_sample_refuses_it(complaint: Complaint) -> None:
    class Own(MarginSoftmax):
        def per_sample(self, embeddings: Tensor, labels: Tensor) -> Tensor:
            return embeddings.sum(1)

    with complaint("label_smoothing", "Own"):
        Own(D, C, s=1.0, m=0.0).label_smoothing = 0.1


@pytest.mark.parametrize("share", [-0.1, 1, 1.5, math.nan, "much", None])
def test_a_share_out_of_range_is_refused(share: float, complaint: Complaint) -> None:
    loss = wb.losses.create("arcface", embedding_dim=D, num_classes=C)
    with complaint("label_smoothing must be"):
        loss.label_smoothing = share
