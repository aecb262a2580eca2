from __future__ import annotations

import inspect
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
from workbench.losses import ClassificationLoss, Loss, MarginSoftmax

D, C, N = 6, 5, 12
WIDEST = 2.0  # a margin on the cosine; a wider one is refused
MARGINS: list[tuple[str, dict[str, Any]]] = [
    ("normface", {}),
    ("cosface", {"m": 0.35}),
    ("arcface", {"m": 0.5}),
    ("arcface", {"m": 1.3}),
    ("arcface", {"m": 0.5, "easy_margin": True}),
]
COMPOSED = [
    "softmax+center",
    "sphereface+mhe",
    "normface+ohem",
    "normface+focal",
    "cosface+triplet",
    "arcface+center+ohem+focal",
]
ALONE = wb.losses.LOSSES.names()


def _has_centres(name: str) -> bool:
    return isinstance(wb.losses.create(name, embedding_dim=2, num_classes=2), ClassificationLoss)


every_loss = pytest.mark.parametrize("name", [*ALONE, *COMPOSED])
every_loss_alone = pytest.mark.parametrize("name", ALONE)
every_classifier = pytest.mark.parametrize(
    "name", [name for name in [*ALONE, *COMPOSED] if _has_centres(name)]
)
every_margin = pytest.mark.parametrize(("name", "options"), MARGINS)


def _make(name: str, dtype: torch.dtype = torch.float32, seed: int = 0, **options: Any) -> Any:
    torch.manual_seed(seed)
    return wb.losses.create(name, embedding_dim=D, num_classes=C, **options).to(dtype)


_batch = partial(random_batch, n=N, dim=D, classes=C, dtype=torch.float32)


def _margin_loss(name: str, dtype: torch.dtype = torch.float64, **options: Any) -> MarginSoftmax:
    loss = _make(name, dtype, **options)
    assert isinstance(loss, MarginSoftmax)
    return loss


def _assert_finite(loss: Loss, embeddings: Tensor, value: Tensor) -> None:
    assert value.shape == ()
    assert torch.isfinite(value)
    value.backward()
    for tensor in (embeddings, *loss.parameters()):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()


# Every registered loss


@every_loss
def test_forward_and_backward_are_finite(name: str) -> None:
    loss, (embeddings, labels) = _make(name), _batch()
    assert embeddings.grad is None
    value = loss(embeddings, labels)
    assert value > 0
    _assert_finite(loss, embeddings, value)
    for tensor in (embeddings, *loss.parameters()):
        assert tensor.grad.abs().sum() > 0


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_embeddings_of_other_precision_are_taken(name: str, dtype: torch.dtype) -> None:
    loss, (embeddings, labels) = _make(name), _batch(dtype=dtype)
    loss.eval()  # a loss may count the batches that it is trained on
    value = loss(embeddings, labels)
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    _assert_finite(loss, embeddings, value)
    torch.manual_seed(0)
    again = loss(embeddings.detach().float(), labels)
    torch.manual_seed(0)
    torch.testing.assert_close(
        loss(embeddings, labels).float(), again.float(), rtol=1e-4, atol=1e-4
    )


@every_loss
def test_autocast_does_not_change_the_loss(name: str) -> None:
    loss, (embeddings, labels) = _make(name), _batch()
    with torch.autocast("cpu", torch.bfloat16):
        torch.manual_seed(0)
        inside = _make(name)(embeddings, labels)
    torch.manual_seed(0)
    assert torch.equal(inside, _make(name)(embeddings, labels))
    _assert_finite(loss, embeddings, loss(embeddings, labels))


@every_classifier
def test_autocast_does_not_change_the_prediction(name: str) -> None:
    loss, (embeddings, _) = _make(name), _batch()
    with torch.autocast("cpu", torch.bfloat16):
        predicted = loss.predict(embeddings)
    assert torch.equal(predicted, loss.predict(embeddings))
    assert predicted.dtype == torch.float32


@every_loss
def test_what_is_no_number_is_not_hidden(name: str) -> None:
    loss, (embeddings, labels) = _make(name), _batch()
    with torch.no_grad():
        embeddings[:] = torch.nan
    assert torch.isnan(loss(embeddings, labels))


@every_loss
def test_a_batch_that_overflowed_does_not_stay_on_in_the_state(name: str) -> None:
    loss, (embeddings, labels) = _make(name), _batch()
    broken = embeddings.detach().clone()
    broken[0], broken[1] = torch.nan, torch.inf
    loss(broken, labels)
    assert all(value.isfinite().all() for value in loss.state_dict().values())
    assert torch.isfinite(loss(embeddings, labels))


@every_loss
def test_same_seed_same_loss(name: str) -> None:
    embeddings, labels = _batch()
    assert torch.equal(
        _make(name, seed=3)(embeddings, labels), _make(name, seed=3)(embeddings, labels)
    )


@every_classifier
def test_class_centres_are_a_row_each_and_follow_the_seed(name: str) -> None:
    assert _make(name).centres.shape == (C, D)
    assert len(_make(name).weight) == C
    assert not torch.equal(_make(name, seed=3).weight, _make(name, seed=4).weight)


@every_loss
def test_state_dict_round_trip(name: str) -> None:
    embeddings, labels = _batch()
    loss, other = _make(name, seed=3), _make(name, seed=4)
    for _ in range(3):
        loss(embeddings, labels)  # so that what it counts is in the state
    other.load_state_dict(loss.state_dict())
    values = []
    for module in (loss, other):
        torch.manual_seed(0)
        values.append(module(embeddings, labels))
    assert torch.equal(*values)
    assert loss.measure(embeddings, labels) == other.measure(embeddings, labels)
    if isinstance(loss, ClassificationLoss):
        assert torch.equal(loss.predict(embeddings), other.predict(embeddings))


@every_loss
def test_an_empty_batch_costs_nothing_and_can_be_trained_on(name: str) -> None:
    loss = _make(name)
    embeddings = torch.zeros(0, D, requires_grad=True)
    value = loss(embeddings, torch.zeros(0, dtype=torch.int64))
    assert value.item() == 0.0
    value.backward()
    assert embeddings.grad is not None
    for parameter in loss.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() == 0


@every_classifier
def test_predicting_nothing_gives_nothing(name: str) -> None:
    assert _make(name).predict(torch.zeros(0, D)).shape == (0, C)


@every_loss
@pytest.mark.parametrize("labels", [[2], [2] * 7, [0, 4], [0, 0, 4, 4, 1]])
def test_what_is_logged_are_finite_numbers_and_leaves_no_trace(
    name: str, labels: list[int]
) -> None:
    loss, (embeddings, _) = _make(name), _batch(n=len(labels))
    loss(embeddings, torch.tensor(labels))
    before = {key: value.clone() for key, value in loss.state_dict().items()}
    row = loss.measure(embeddings, torch.tensor(labels))
    assert row
    for key, value in row.items():
        assert type(value) is float, key
        assert math.isfinite(value), key
    assert all(torch.equal(value, before[key]) for key, value in loss.state_dict().items())


@every_loss
@pytest.mark.parametrize("labels", [[2], [2] * 7, [0, 4]])
def test_a_batch_of_one_or_of_one_class_is_finite(name: str, labels: list[int]) -> None:
    loss, (embeddings, _) = _make(name), _batch(n=len(labels))
    _assert_finite(loss, embeddings, loss(embeddings, torch.tensor(labels)))


@every_loss
def test_one_class_in_all_is_finite(name: str) -> None:
    loss = wb.losses.create(name, embedding_dim=D, num_classes=1)
    embeddings, _ = _batch()
    _assert_finite(loss, embeddings, loss(embeddings, torch.zeros(N, dtype=torch.int64)))


@every_classifier
def test_predict_gives_class_logits_and_cosines_are_cosines(name: str) -> None:
    loss, (embeddings, _) = _make(name), _batch()
    assert loss.predict(embeddings).shape == (N, C)
    cosines = loss.cosines(embeddings)
    assert not cosines.requires_grad
    centres = loss.weight.view(C, -1, D)  # of sub-centres the nearest counts
    expected = F.cosine_similarity(embeddings[:, None, None], centres[None], dim=3).amax(2)
    torch.testing.assert_close(cosines, expected.detach(), rtol=0, atol=1e-6)
    labels = torch.arange(N) % C
    torch.testing.assert_close(
        loss.target_cosines(embeddings, labels), cosines.gather(1, labels[:, None])[:, 0]
    )


@every_loss
def test_a_few_steps_of_descent_lower_the_loss(name: str) -> None:
    loss = _make(
        name, **({"m": 1.4} if name == "triplet" else {})
    )  # its default margin is met from the start
    labels = torch.arange(C).repeat(3)
    embeddings = (torch.eye(C, D)[labels] + 0.1 * torch.randn(len(labels), D)).requires_grad_()
    optimizer = torch.optim.Adam([embeddings, *loss.parameters()], lr=0.05)
    values = []
    for _ in range(60):
        values.append(loss(embeddings, labels))
        optimizer.zero_grad()
        values[-1].backward()
        optimizer.step()
    assert values[-1] < 0.5 * values[0]
    if isinstance(loss, ClassificationLoss):
        assert (loss.predict(embeddings).argmax(1) == labels).all()


@every_loss
@pytest.mark.parametrize(
    ("embeddings", "labels", "match"),
    [
        (torch.zeros(2, D + 1), torch.zeros(2, dtype=torch.int64), "embeddings have shape"),
        (torch.zeros(D), torch.zeros(1, dtype=torch.int64), "embeddings have shape"),
        (torch.zeros(2, D, 1), torch.zeros(2, dtype=torch.int64), "embeddings have shape"),
        (torch.zeros(2, D, dtype=torch.int64), torch.zeros(2, dtype=torch.int64), "floating-point"),
        (
            [[0.0] * D] * 2,
            torch.zeros(2, dtype=torch.int64),
            "embeddings are of type list, expected a tensor",
        ),
        (torch.zeros(2, D), [0, 1], "labels are of type list, expected a tensor"),
        (torch.zeros(2, D), None, "labels are of type NoneType, expected a tensor"),
        (torch.zeros(2, D), torch.zeros(3, dtype=torch.int64), "labels are"),
        (torch.zeros(2, D), torch.zeros(2, 1, dtype=torch.int64), "labels are"),
        (torch.zeros(2, D), torch.zeros(2, dtype=torch.int32), "labels are"),
        (torch.zeros(2, D), torch.zeros(2), "labels are"),
        (torch.zeros(2, D), torch.tensor([0, C]), f"expected 0 to {C - 1}"),
        (torch.zeros(2, D), torch.tensor([-1, 0]), "run from -1"),
    ],
)
def test_a_batch_that_does_not_fit_is_one_line(
    name: str, embeddings: Any, labels: Any, match: str
) -> None:
    with pytest.raises(wb.WorkbenchError, match=match) as caught:
        _make(name)(embeddings, labels)
    assert "\n" not in str(caught.value)


@every_loss_alone
def test_an_unknown_option_is_an_error(name: str) -> None:
    with pytest.raises(wb.WorkbenchError, match=f"unknown option of loss '{name}' 'marginn'"):
        _make(name, marginn=1)
    with pytest.raises(wb.WorkbenchError, match="did you mean 'num_classes'"):
        wb.losses.LOSSES.create(name, embedding_dim=2, num_clases=2)


@every_loss
@pytest.mark.parametrize("sizes", [(0, 2), (2, 0), (-1, 2), ("a", 2), (None, 2)])
def test_sizes_that_make_no_sense_are_an_error(name: str, sizes: tuple[Any, Any]) -> None:
    with pytest.raises(wb.WorkbenchError) as caught:
        wb.losses.create(name, embedding_dim=sizes[0], num_classes=sizes[1])
    assert "\n" not in str(caught.value)


@every_loss
def test_every_loss_documents_itself_and_prints(name: str) -> None:
    loss = _make(name)
    assert type(loss).__doc__ not in (
        None,
        Loss.__doc__,
        ClassificationLoss.__doc__,
        MarginSoftmax.__doc__,
    )
    assert f"num_classes={C}" in repr(loss)


def test_an_unknown_loss_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(wb.WorkbenchError, match="did you mean 'arcface'"):
        _make("arcfase")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("arcface", {"s": 0.0}),
        ("arcface", {"s": -1.0}),
        ("arcface", {"s": math.nan}),
        ("cosface", {"s": math.inf}),
        ("normface", {"s": 0.0}),
        ("arcface", {"m": -0.1}),
        ("arcface", {"m": math.pi}),
        ("arcface", {"m": math.nan}),
        ("cosface", {"m": -0.1}),
        ("arcface", {"s": "64"}),
        ("cosface", {"m": None}),
        ("cosface", {"m": [0.3]}),
    ],
)
def test_a_scale_or_margin_out_of_range_is_one_line(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(wb.WorkbenchError) as caught:
        _make(name, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("adaface", {"m": 2.1}, "adaface: margin m"),
        ("combined", {"m3": 2.1}, "combined: m3"),
        ("cosface", {"m": 2.1}, "cosface: margin m"),
        ("mv_softmax", {"m": 2.1}, "mv_softmax: margin m"),
        ("unified_threshold", {"m": 2.1}, "unified_threshold: margin m"),
    ],
)
def test_a_margin_wider_than_all_cosines_is_named(
    name: str, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(wb.WorkbenchError, match=named) as caught:
        _make(name, **options)
    assert "\n" not in str(caught.value)
    _make(
        name,
        **{option: 2.0 if isinstance(value, float) else value for option, value in options.items()},
    )


@every_classifier
@pytest.mark.parametrize("head", ["plain", "streamed", "sampled"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("classes", "labels"), [(C, []), (C, [2]), (C, [2, 2, 2]), (1, [0, 0])], ids=str
)
def test_the_smallest_batches_are_finite_under_every_head(
    name: str, head: str, dtype: torch.dtype, classes: int, labels: list[int]
) -> None:
    torch.manual_seed(0)
    if name == "subcenter_arcface" and head == "streamed":
        head = "auto"  # it cannot be streamed
    loss = wb.losses.create(name, embedding_dim=D, num_classes=classes, head=head)  # type: ignore[arg-type]
    for size in (0.0, 1e-6, 1.0, 1e3):
        embeddings = (size * torch.randn(len(labels), D)).to(dtype).requires_grad_()
        _assert_finite(loss, embeddings, loss(embeddings, torch.tensor(labels, dtype=torch.int64)))


@every_classifier
@pytest.mark.parametrize("labels", [[-1, 0], [0, C]])
def test_measuring_refuses_labels_out_of_range_as_training_does(
    name: str, labels: list[int]
) -> None:
    loss = _make(name)
    for method in (loss, loss.measure):
        with pytest.raises(wb.WorkbenchError, match=f"labels run from .* expected 0 to {C - 1}"):
            method(torch.randn(2, D), torch.tensor(labels))


# Against other implementations

PRECISIONS = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 2e-4)]
)


def _agree(
    mine: ClassificationLoss, reference: Any, centres: Tensor, dtype: torch.dtype, tolerance: float
) -> None:
    """Value and both gradients; `centres` are the reference's, (D, C)."""
    with torch.no_grad():
        centres.copy_(mine.weight.T)
    embeddings, labels = _batch(dtype=dtype, n=64)
    other = embeddings.detach().clone().requires_grad_()
    ours, theirs = mine(embeddings, labels), reference(other, labels)
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    ours.backward()
    theirs.backward()
    torch.testing.assert_close(
        embeddings.grad, other.grad, rtol=10 * tolerance, atol=10 * tolerance
    )
    torch.testing.assert_close(
        mine.weight.grad, centres.grad.T, rtol=10 * tolerance, atol=10 * tolerance
    )


@PRECISIONS
@pytest.mark.parametrize(("s", "m"), [(64.0, 0.5), (30.0, 0.2), (16.0, 1.4)])
def test_arcface_agrees_with_pytorch_metric_learning(
    dtype: torch.dtype, tolerance: float, s: float, m: float
) -> None:
    reference = pml.ArcFaceLoss(C, D, margin=math.degrees(m), scale=s).to(dtype)
    _agree(_make("arcface", dtype, s=s, m=m), reference, reference.W, dtype, tolerance)


@PRECISIONS
@pytest.mark.parametrize(("s", "m"), [(64.0, 0.35), (30.0, 0.4), (16.0, 1.4)])
def test_cosface_agrees_with_pytorch_metric_learning(
    dtype: torch.dtype, tolerance: float, s: float, m: float
) -> None:
    reference = pml.CosFaceLoss(C, D, margin=m, scale=s).to(dtype)
    _agree(_make("cosface", dtype, s=s, m=m), reference, reference.W, dtype, tolerance)


@PRECISIONS
@pytest.mark.parametrize("learn_scale", [False, True])
def test_normface_agrees_with_pytorch_metric_learning(
    dtype: torch.dtype, tolerance: float, learn_scale: bool
) -> None:
    reference = pml.NormalizedSoftmaxLoss(C, D, temperature=1 / 20.0).to(dtype)
    _agree(
        _make("normface", dtype, s=20.0, learn_scale=learn_scale),
        reference,
        reference.W,
        dtype,
        tolerance,
    )


@PRECISIONS
@pytest.mark.parametrize("bias", [True, False])
def test_softmax_is_cross_entropy_of_a_linear_layer(
    dtype: torch.dtype, tolerance: float, bias: bool
) -> None:
    mine, linear = _make("softmax", dtype, bias=bias), torch.nn.Linear(D, C, bias=bias).to(dtype)
    with torch.no_grad():
        linear.weight.copy_(mine.weight)
        if bias:
            mine.bias.copy_(torch.arange(C))
            linear.bias.copy_(torch.arange(C))
    embeddings, labels = _batch(dtype=dtype)
    ours, theirs = mine(embeddings, labels), F.cross_entropy(linear(embeddings), labels)
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(mine.predict(embeddings), linear(embeddings))
    gradients = torch.autograd.grad(ours, list(mine.parameters()))
    for mine_gradient, theirs_gradient in zip(
        gradients, torch.autograd.grad(theirs, list(linear.parameters())), strict=True
    ):
        torch.testing.assert_close(mine_gradient, theirs_gradient, rtol=tolerance, atol=tolerance)


# Against the papers' formulas, in numpy


def _psi(
    name: str, theta: NDArray[np.float64], m: float = 0.0, easy_margin: bool = False
) -> NDArray[np.float64]:
    cosine = np.cos(theta)
    if name == "arcface" and easy_margin:
        return np.where(theta < np.pi / 2, np.cos(theta + m), cosine)
    if name == "arcface":
        return np.where(theta + m < np.pi, np.cos(theta + m), cosine - m * np.sin(m))
    return cosine - (m if name == "cosface" else 0.0)


@every_margin
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 5e-4)])
def test_the_target_logit_follows_the_formula_at_all_angles(
    name: str, options: dict[str, Any], dtype: torch.dtype, tolerance: float
) -> None:
    theta = np.deg2rad(np.arange(0.0, 180.01, 0.37))
    loss = _margin_loss(name, s=30.0, **options)
    found = loss.target_logit(torch.from_numpy(np.cos(theta)).to(dtype)).numpy(force=True)
    # Near 0 and 180 degrees the cosine itself is known to 1e-16 only, the sine to 1e-8.
    np.testing.assert_allclose(found / 30.0, _psi(name, theta, **options), rtol=0, atol=tolerance)


@every_margin
def test_the_target_logit_is_known_at_the_ends(name: str, options: dict[str, Any]) -> None:
    found = _margin_loss(name, s=30.0, **options).target_logit(
        torch.tensor([1.0, -1.0], dtype=torch.float64)
    )
    np.testing.assert_allclose(
        found.numpy(force=True), 30.0 * _psi(name, np.array([0.0, np.pi]), **options), atol=1e-9
    )


def test_the_target_logit_keeps_any_shape() -> None:
    loss = _margin_loss("arcface")
    assert loss.target_logit(torch.zeros(2, 0, 3)).shape == (2, 0, 3)
    assert loss.target_logit(torch.tensor(0.3)).shape == ()
    assert loss.target_logit(torch.zeros(2, dtype=torch.bfloat16)).dtype == torch.float32


@every_margin
def test_the_loss_is_the_log_softmax_of_the_formula(name: str, options: dict[str, Any]) -> None:
    loss = _margin_loss(name, s=20.0, **options)
    embeddings, labels = _batch(dtype=torch.float64, n=200)
    x, w, y = embeddings.numpy(force=True), loss.weight.numpy(force=True), labels.numpy()
    cosines = (x @ w.T) / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(w, axis=1)
    logits = 20.0 * cosines
    own = np.arange(len(y)), y
    logits[own] = 20.0 * _psi(name, np.arccos(cosines[own]), **options)
    highest = logits.max(1)
    expected = np.mean(highest + np.log(np.exp(logits - highest[:, None]).sum(1)) - logits[own])
    assert loss(embeddings, labels).item() == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(
        loss.predict(embeddings).numpy(force=True), 20.0 * cosines, atol=1e-9
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


@every_margin
def test_gradients_are_those_of_the_value(name: str, options: dict[str, Any]) -> None:
    # No angle is at a kink (pi - m, pi / 2). The last two exceed pi - m for both margins.
    embeddings, labels, weight = _angles([0.2, 0.8, 1.4, 1.75, 2.2, 2.8, 3.0])
    loss = _margin_loss(name, s=10.0, **options)

    def value(embeddings: Tensor, weight: Tensor) -> Tensor:
        return functional_call(loss, {"weight": weight}, (embeddings, labels))

    assert torch.autograd.gradcheck(value, (embeddings.requires_grad_(), weight.requires_grad_()))


def test_the_learned_scale_has_the_gradient_of_the_value() -> None:
    loss, (embeddings, labels) = (
        _make("normface", torch.float64, s=10.0, learn_scale=True),
        _batch(dtype=torch.float64),
    )

    def value(scale: Tensor) -> Tensor:
        return functional_call(loss, {"learned_s": scale}, (embeddings.detach(), labels))

    assert torch.autograd.gradcheck(
        value, (torch.tensor(10.0, dtype=torch.float64, requires_grad=True),)
    )


@pytest.mark.parametrize("m", [0.2, 0.5, 1.3])
def test_the_gradient_of_arcface_is_the_true_one(m: float) -> None:
    theta = torch.linspace(0.01, math.pi - 0.01, 400, dtype=torch.float64)
    cosine = theta.cos().requires_grad_()
    (found,) = torch.autograd.grad(
        _margin_loss("arcface", s=64.0, m=m).target_logit(cosine).sum(), cosine
    )
    true = torch.where(theta + m < math.pi, 64.0 * (theta + m).sin() / theta.sin(), 64.0)
    torch.testing.assert_close(found, true, rtol=1e-8, atol=1e-8)


@every_margin
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("s", [1.0, 128.0])
def test_the_extremes_are_finite(
    name: str, options: dict[str, Any], dtype: torch.dtype, s: float
) -> None:
    loss = _make(name, dtype, s=s, **options)
    own = loss.weight.detach()[:3]
    embeddings = torch.cat(
        [own, -own, 1e-20 * own, 1e20 * own, torch.zeros(3, D, dtype=dtype)]
    ).requires_grad_()
    value = loss(embeddings, torch.arange(3).repeat(5))
    _assert_finite(loss, embeddings, value)


def _scaled(name: str, scale: float) -> dict[str, Any]:
    """The option that sets the scale of a loss, if it has one."""
    known = inspect.signature(type(_make(name)).__init__).parameters
    return next(({option: scale} for option in ("s", "gamma", "r") if option in known), {})


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 128.0])
def test_the_extremes_are_finite_under_every_loss(
    name: str, dtype: torch.dtype, scale: float
) -> None:
    loss = _make(name, **_scaled(name, scale))
    own = (
        loss.weight.detach().view(C, -1, D)[:3, 0]
        if isinstance(loss, ClassificationLoss)
        else torch.eye(C, D)[:3]
    )
    embeddings = (
        torch.cat([own, -own, 1e-20 * own, 1e4 * own, torch.zeros(3, D)]).to(dtype).requires_grad_()
    )
    _assert_finite(loss, embeddings, loss(embeddings, torch.arange(3).repeat(5)))
    nothing = torch.zeros(1, D, dtype=dtype, requires_grad=True)
    _assert_finite(loss, nothing, loss(nothing, torch.tensor([2])))


@every_margin
def test_the_curve_is_finite_at_the_ends(name: str, options: dict[str, Any]) -> None:
    for dtype in (torch.float32, torch.float64):
        near = torch.tensor([1.0, -1.0, 0.0], dtype=dtype)
        near = torch.cat([near, near.nextafter(torch.zeros((), dtype=dtype))]).requires_grad_()
        logit = _margin_loss(name, dtype, s=128.0, **options).target_logit(near)
        assert torch.isfinite(logit).all()
        assert torch.isfinite(torch.autograd.grad(logit.sum(), near)[0]).all()


# Properties

UNIT = st.floats(-1.0, 1.0)


@settings(max_examples=80, deadline=None)
@given(
    cosine=UNIT,
    m=st.floats(0.0, 3.1),
    s=st.floats(0.1, 128.0),
    ramp=st.floats(0.0, 1.0),
    easy=st.booleans(),
)
def test_a_margin_never_helps_the_own_class(
    cosine: float, m: float, s: float, ramp: float, easy: bool
) -> None:
    for name, options in (
        ("arcface", {"m": m, "easy_margin": easy}),
        ("cosface", {"m": min(m, WIDEST)}),
        ("normface", {}),
    ):
        loss = _margin_loss(name, s=s, **options)
        loss.ramp = ramp
        assert (
            loss.target_logit(torch.tensor(cosine, dtype=torch.float64)).item() <= s * cosine + 1e-6
        )


@settings(max_examples=80, deadline=None)
@given(
    pair=st.tuples(UNIT, UNIT), m=st.floats(0.0, 2.33)
)  # ArcFace's step: down while cos m + m sin m >= 1
def test_a_larger_angle_never_costs_less(pair: tuple[float, float], m: float) -> None:
    low, high = sorted(pair)
    for name, margin in (("arcface", m), ("cosface", min(m, WIDEST))):
        psi = _margin_loss(name, s=1.0, m=margin).target_logit(
            torch.tensor([low, high], dtype=torch.float64)
        )
        assert psi[0] <= psi[1] + 1e-7


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 1000))
def test_the_length_of_embeddings_and_centres_does_not_matter(scale: float, seed: int) -> None:
    embeddings, labels = _batch(dtype=torch.float64, seed=seed)
    for name, options in MARGINS:
        loss = _margin_loss(name, **options)
        before = loss(embeddings, labels).item(), loss.predict(embeddings)
        with torch.no_grad():
            loss.weight *= 2.0
        assert loss(scale * embeddings, labels).item() == pytest.approx(before[0], rel=1e-6)
        torch.testing.assert_close(loss.predict(scale * embeddings), before[1])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), m=st.floats(0.0, 3.1))
def test_without_ramp_a_margin_loss_is_normface_and_predict_always_is(seed: int, m: float) -> None:
    embeddings, labels = _batch(dtype=torch.float64, seed=seed)
    plain = _margin_loss("normface", s=20.0)
    for name, margin in (("arcface", m), ("cosface", min(m, WIDEST))):
        loss = _margin_loss(name, s=20.0, m=margin)
        loss.load_state_dict(plain.state_dict())
        torch.testing.assert_close(loss.predict(embeddings), plain.predict(embeddings))
        loss.ramp = 0.0
        torch.testing.assert_close(loss(embeddings, labels), plain(embeddings, labels))


@pytest.mark.parametrize("name", ["arcface", "cosface"])
def test_half_the_ramp_is_half_the_margin(name: str) -> None:
    embeddings, labels = _batch(dtype=torch.float64)
    whole, half = _margin_loss(name, m=0.6), _margin_loss(name, m=0.3)
    whole.ramp = 0.5
    torch.testing.assert_close(whole(embeddings, labels), half(embeddings, labels))


@every_classifier
def test_predict_of_an_embedding_does_not_depend_on_what_was_trained_with_it(name: str) -> None:
    loss, (embeddings, labels) = _make(name).eval(), _batch()
    alone = loss.predict(embeddings[:1])
    loss(embeddings, labels)
    torch.testing.assert_close(loss.predict(embeddings)[:1], alone)
    torch.testing.assert_close(loss.predict(embeddings.flip(0)), loss.predict(embeddings).flip(0))


@pytest.mark.parametrize("cosine", [1.0, -1.0])
def test_cosines_stay_in_range_for_parallel_vectors(cosine: float) -> None:
    torch.manual_seed(0)
    loss = wb.losses.create("arcface", embedding_dim=333, num_classes=50)
    cosines = loss.cosines(cosine * 3.0 * loss.weight).diagonal()
    assert cosines.abs().max() <= 1.0
    torch.testing.assert_close(cosines, torch.full_like(cosines, cosine))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        (
            "arcface",
            {"m": "half"},
            "loss 'arcface': option 'm' is 'half', expected a finite number",
        ),
        (
            "cosface",
            {"s": "half"},
            "loss 'cosface': option 's' is 'half', expected a finite number",
        ),
        (
            "arcface",
            {"easy_margin": "nope"},
            "loss 'arcface': option 'easy_margin' is 'nope', expected true or false",
        ),
        ("softmax", {"bias": 1}, "loss 'softmax': option 'bias' is 1, expected true or false"),
        ("arcface", {"s": True}, "loss 'arcface': option 's' is True, expected a finite number"),
        (
            "arcface",
            {"sample_rate": True},
            "option 'sample_rate' is True, expected a finite number",
        ),
        (
            "normface+ohem",
            {"ohem": {"keep": True}},
            "part of a loss 'ohem': option 'keep' is True, expected a finite number",
        ),
        (
            "softmax+triplet",
            {"triplet": {"weight": True}},
            "loss 'triplet': option 'weight' is True, expected a finite number",
        ),
        (
            "softmax+triplet",
            {"triplet": {"squared": "no way"}},
            "option 'squared' is 'no way', expected true or false",
        ),
    ],
)
def test_an_option_of_another_type_is_named(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(wb.WorkbenchError) as caught:
        wb.losses.create(name, embedding_dim=4, num_classes=3, **options)
    assert said in str(caught.value)
