from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import workbench as wb
from workbench.losses import head
from workbench.losses.head import MIN_LENGTH, cosines, plain, sample_classes, streamed, unit

D, C = 7, 4500  # three chunks of classes on a CPU


def _replace_harder(cosine: Tensor, target: Tensor) -> Tensor:
    """Changes the cosines of harder classes, smoothly on either side of the target cosine."""
    return torch.where(cosine > target, cosine * (0.3 + cosine), cosine)


CASES: dict[str, dict[str, Any]] = {
    "cosines": {},
    "bias": {"normalised": False, "bias": True, "scale": 1.0},
    "scale of each": {"scale": "rows"},
    "one learned scale": {"scale": "scalar"},
    "non_target": {"non_target": _replace_harder},
    "non_target, scale of each, bias": {
        "non_target": _replace_harder,
        "scale": "rows",
        "bias": True,
    },
    "binary": {"reduction": "softplus", "bias": True},
    "binary, non_target": {"reduction": "softplus", "non_target": _replace_harder, "scale": "rows"},
}
every_case = pytest.mark.parametrize("case", CASES)


def _problem(
    case: str, n: int, classes: int = C, dtype: torch.dtype = torch.float64
) -> tuple[list[Any], list[Tensor]]:
    """Returns arguments of `plain` and `streamed`, and those of them that need a gradient."""
    draw = torch.Generator().manual_seed(n)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype)

    how = {
        "scale": 12.0,
        "bias": False,
        "non_target": None,
        "normalised": True,
        "reduction": "log_sum_exp",
    } | CASES[case]
    queries = unit(normal(n, D)) if how["normalised"] else normal(n, D)
    weight = 3.0 * normal(classes, D)
    scale = {"rows": normal(n, 1).abs() + 5.0, "scalar": torch.tensor(8.0, dtype=dtype)}.get(
        how["scale"], how["scale"]
    )
    bias = normal(classes) if how["bias"] else None
    tensors = [
        value.requires_grad_()
        for value in (queries, weight, scale, bias)
        if isinstance(value, Tensor)
    ]
    labels = torch.randint(classes, (n,), generator=draw)
    return [
        queries,
        weight,
        labels,
        scale,
        bias,
        how["non_target"],
        how["normalised"],
        how["reduction"],
    ], tensors


@every_case
# Up to D products for each class are stored in the gradient's memory; more are computed again.
@pytest.mark.parametrize("n", [1, 5, D, D + 4])
def test_streamed_is_plain(case: str, n: int) -> None:
    arguments, tensors = _problem(case, n)
    for weights in ((1.0, 1.0), (0.0, 1.0), (1.0, 0.0)):
        found = []
        for compute in (plain, streamed):
            target, reduced = compute(*arguments)
            value = (
                weights[0] * (target * torch.arange(1, n + 1)).sum()
                + weights[1] * reduced.square().sum()
            )
            found.append((target, reduced, *torch.autograd.grad(value, tensors, allow_unused=True)))
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(
                one if one is not None else torch.zeros_like(other), other, rtol=1e-10, atol=1e-10
            )


@every_case
def test_streamed_is_plain_to_float32_rounding(case: str) -> None:
    exact_arguments, exact_tensors = _problem(case, 6)
    arguments, tensors = _problem(case, 6, dtype=torch.float32)
    exact_target, exact_reduced = plain(*exact_arguments)
    target, reduced = streamed(*arguments)
    torch.testing.assert_close(target.double(), exact_target, rtol=0, atol=2e-6)
    torch.testing.assert_close(reduced.double(), exact_reduced, rtol=3e-6, atol=3e-6)
    exact = torch.autograd.grad((exact_reduced - exact_target).sum(), exact_tensors)
    for mine, true in zip(
        torch.autograd.grad((reduced - target).sum(), tensors), exact, strict=True
    ):
        torch.testing.assert_close(
            mine.double(), true, rtol=1e-4, atol=1e-5 * float(true.abs().max())
        )


@every_case
@pytest.mark.parametrize("n", [3, D + 1])
def test_gradients_of_streamed_are_those_of_its_value(
    case: str, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, tensors = _problem(case, n, classes=9)
    monkeypatch.setattr(
        head, "_chunks", lambda queries, weight: (slice(at, min(at + 4, 9)) for at in (0, 4, 8))
    )

    def value(*_: Tensor) -> tuple[Tensor, Tensor]:
        return streamed(*arguments)

    assert torch.autograd.gradcheck(value, tensors)


def test_a_graph_of_streamed_can_be_gone_through_twice() -> None:
    arguments, tensors = _problem("cosines", 4)
    target, reduced = streamed(*arguments)
    first = torch.autograd.grad((reduced - target).sum(), tensors, retain_graph=True)
    for one, other in zip(
        first, torch.autograd.grad((reduced - target).sum(), tensors), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_streamed_without_gradient_or_with_one_for_either_side_only() -> None:
    arguments, (queries, weight) = _problem("cosines", 4)
    expected = torch.autograd.grad(
        (plain(*arguments)[1] - plain(*arguments)[0]).sum(), (queries, weight)
    )
    with torch.no_grad():
        torch.testing.assert_close(streamed(*arguments), plain(*arguments))
    for tensor, other, gradient in ((queries, weight, expected[0]), (weight, queries, expected[1])):
        other.requires_grad_(False)
        target, reduced = streamed(*arguments)
        torch.testing.assert_close(
            torch.autograd.grad((reduced - target).sum(), tensor)[0], gradient
        )
        other.requires_grad_(True)


@pytest.mark.parametrize("compute", [plain, streamed])
def test_without_another_class_there_is_nothing_to_lose_against(compute: Any) -> None:
    queries, weight = (
        unit(torch.randn(3, D)).requires_grad_(),
        torch.randn(1, D, requires_grad=True),
    )
    target, reduced = compute(
        queries, weight, torch.zeros(3, dtype=torch.int64), 64.0, None, None, True, "log_sum_exp"
    )
    assert (reduced == -torch.inf).all()
    F.softplus(reduced - 64.0 * target).sum().backward()
    for tensor in (queries, weight):
        assert tensor.grad is not None
        assert tensor.grad.abs().sum() == 0


# Directions


def test_a_vector_without_direction_has_no_cosine_and_no_gradient() -> None:
    vectors = torch.tensor(
        [[0.0, 0.0], [0.1 * MIN_LENGTH, 0.0], [3.0, 4.0], [1e20, 0.0]], requires_grad=True
    )
    directions = unit(vectors)
    torch.testing.assert_close(directions[:3], torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.6, 0.8]]))
    directions.sum().backward()
    assert vectors.grad is not None
    assert torch.isfinite(vectors.grad).all()
    assert (vectors.grad[:2] == 0).all()


@pytest.mark.parametrize("name", ["plain", "streamed"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_zero_embedding_does_not_swamp_the_batch(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    loss = wb.losses.create("arcface", embedding_dim=D, num_classes=40, s=128.0, head=name)
    with torch.no_grad():
        loss.weight[3] = 0.0
    embeddings = torch.randn(4, D).to(dtype)
    embeddings[0] = 0.0
    embeddings.requires_grad_()
    loss(embeddings, torch.arange(4)).backward()
    for tensor in (embeddings, loss.weight):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()
        assert tensor.grad.abs().max() < 1000.0


def test_cosines_to_sub_centres_are_those_of_the_nearest() -> None:
    draw = torch.Generator().manual_seed(0)
    directions, weight = (
        unit(torch.randn(4, D, generator=draw)),
        torch.randn(5, 3, D, generator=draw),
    )
    expected = F.cosine_similarity(directions[:, None, None], weight[None], dim=3).amax(2)
    torch.testing.assert_close(cosines(directions, weight), expected)


# Sampling


@pytest.mark.parametrize(("rate", "count"), [(0.1, 10), (0.031, 4), (0.0, 3), (1.0, 100)])
def test_a_sample_holds_the_target_classes_and_as_many_others_as_requested(
    rate: float, count: int
) -> None:
    labels = torch.tensor([70, 3, 70, 99])
    torch.manual_seed(0)
    rows, places = sample_classes(labels, 100, rate)
    assert len(rows) == len(rows.unique()) == count
    assert (rows.sort().values == rows).all()
    assert (rows[places] == labels).all()


def test_a_sample_draws_all_other_classes_alike() -> None:
    torch.manual_seed(0)
    sampled = torch.zeros(50)
    for _ in range(2000):
        sampled[sample_classes(torch.tensor([7]), 50, 0.2)[0]] += 1
    assert sampled[7] == 2000
    rates = sampled[torch.arange(50) != 7] / 2000
    assert (rates - 9 / 49).abs().max() < 0.05


@pytest.mark.parametrize("name", ["softmax", "cosface", "sphereface"])
def test_a_sampled_head_is_the_loss_of_the_classes_drawn(name: str) -> None:
    torch.manual_seed(0)
    loss: Any = wb.losses.create(
        name, embedding_dim=D, num_classes=60, head="sampled", sample_rate=0.25
    )
    embeddings, labels = torch.randn(5, D), torch.randint(60, (5,))
    torch.manual_seed(1)
    value = loss(embeddings, labels)
    value.backward()
    torch.manual_seed(1)
    rows, places = sample_classes(labels, 60, 0.25)
    small: Any = wb.losses.create(name, embedding_dim=D, num_classes=15)
    with torch.no_grad():
        small.weight.copy_(loss.weight[rows])
    torch.testing.assert_close(value, small(embeddings, places))
    idle = torch.ones(60, dtype=torch.bool)
    idle[rows] = False
    assert (loss.weight.grad[idle] == 0).all()
    assert (loss.weight.grad[rows].abs().sum(1) > 0).all()


def test_a_sampled_head_sees_all_classes_when_it_is_judged() -> None:
    torch.manual_seed(0)
    loss = wb.losses.create("cosface", embedding_dim=D, num_classes=60, head="sampled").eval()
    exact = wb.losses.create("cosface", embedding_dim=D, num_classes=60).eval()
    exact.load_state_dict(loss.state_dict())
    embeddings, labels = torch.randn(5, D), torch.randint(60, (5,))
    assert torch.equal(loss(embeddings, labels), exact(embeddings, labels))


# The choice of a head


@pytest.mark.parametrize(
    ("n", "classes", "expected"),
    [(4, 1000, "plain"), (2048, 1024, "plain"), (2049, 1024, "streamed")],
)
def test_auto_streams_where_there_are_many_logits(
    n: int, classes: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed_by = []
    for name, compute in (("plain", plain), ("streamed", streamed)):
        monkeypatch.setattr(
            f"workbench.losses.base.{name}",
            lambda *args, name=name, compute=compute: (computed_by.append(name), compute(*args))[1],
        )
    torch.manual_seed(0)
    loss = wb.losses.create("arcface", embedding_dim=2, num_classes=classes)
    loss(torch.randn(n, 2), torch.zeros(n, dtype=torch.int64))
    assert computed_by == [expected]


def test_a_head_that_cannot_be_is_one_line() -> None:
    for options, match in (
        ({"head": "stream"}, "unknown head 'stream': did you mean 'streamed'"),
        (
            {"head": "sampled", "sample_rate": 1.5},
            "sample_rate must be a number from 0 to 1, got 1.5",
        ),
        ({"head": "sampled", "sample_rate": float("nan")}, "sample_rate"),
    ):
        with pytest.raises(wb.WorkbenchError, match=match):
            wb.losses.create("arcface", embedding_dim=D, num_classes=C, **options)
    with pytest.raises(wb.WorkbenchError, match="'triplet' has no class centres"):
        wb.losses.create("triplet", embedding_dim=D, num_classes=C, head="streamed")


def test_the_class_predicted_is_the_one_of_the_highest_logit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    embeddings = torch.randn(6, D)
    for name in ("softmax", "arcface", "sphereface"):
        loss: Any = wb.losses.create(name, embedding_dim=D, num_classes=100)
        expected = loss.predict(embeddings).argmax(1)
        monkeypatch.setattr("workbench.losses.base.MAX_PLAIN_LOGITS", 6 * 7)  # 7 classes at a time
        assert torch.equal(loss.predicted_class(embeddings), expected)
        monkeypatch.undo()


@pytest.mark.parametrize("compute", [plain, streamed])
@pytest.mark.parametrize("which", [0, 1])
def test_what_is_no_number_is_not_hidden(compute: Any, which: int) -> None:
    arguments, _ = _problem("cosines", 4)
    with torch.no_grad():
        arguments[which][2] = torch.nan
    assert not torch.isfinite(compute(*arguments)[1]).all()


# What streaming must not change


STREAMED = [
    name
    for name in wb.losses.LOSSES.names()
    if getattr(wb.losses.LOSSES.get(name), "can_stream", False)
]


@pytest.mark.parametrize("name", STREAMED)
def test_what_a_loss_keeps_count_of_may_move_on_before_backward_comes(name: str) -> None:
    draw = torch.Generator().manual_seed(0)
    batches = [
        (torch.randn(6, D, generator=draw), torch.randint(40, (6,), generator=draw))
        for _ in range(2)
    ]
    gradients = []
    for how in ("plain", "streamed"):
        torch.manual_seed(0)
        options = {"rate": 0.5} if name in ("adaface", "curricularface") else {}
        loss = wb.losses.create(name, embedding_dim=D, num_classes=40, head=how, **options)
        first, second = (embeddings.clone().requires_grad_() for embeddings, _ in batches)
        value = loss(first, batches[0][1])
        loss.ramp = 0.5
        loss(second, batches[1][1])
        value.backward()
        gradients.append(first.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


class _Trained(wb.losses.MarginSoftmax):
    """A loss of a user, with a trained parameter in `non_target`."""

    def __init__(self) -> None:
        super().__init__(D, 50, s=8.0, m=0.2)
        self.t = torch.nn.Parameter(torch.tensor(0.1))

    def margin(self, cosine: Tensor) -> Tensor:
        return cosine - self.m

    def non_target(self, cosine: Tensor, target: Tensor) -> Tensor:
        return cosine + self.t


def test_a_trained_parameter_in_non_target_is_trained_or_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loss = _Trained()
    monkeypatch.setattr("workbench.losses.base.MAX_PLAIN_LOGITS", 1)  # auto would stream
    loss(torch.randn(4, D), torch.arange(4)).backward()
    assert loss.t.grad is not None
    assert loss.t.grad != 0
    loss.use_head("streamed")
    with pytest.raises(
        wb.WorkbenchError, match="`non_target` has a trained parameter; give head 'plain'"
    ):
        loss(torch.randn(4, D), torch.arange(4))
    with torch.no_grad():
        assert torch.isfinite(loss(torch.randn(4, D), torch.arange(4)))


def test_a_second_derivative_is_an_error_and_not_a_wrong_number() -> None:
    arguments, (queries, _) = _problem("cosines", 4)
    target, reduced = streamed(*arguments)
    with pytest.raises(wb.WorkbenchError, match="no second derivatives"):
        torch.autograd.grad((reduced - target).sum(), queries, create_graph=True)


def test_without_gradient_no_memory_waits_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        torch,
        "empty_like",
        lambda *args, real=torch.empty_like, **more: (asked.append(1), real(*args, **more))[1],
    )
    arguments, _ = _problem("cosines", 4)
    with torch.no_grad():
        streamed(*arguments)
    assert not asked
    streamed(*arguments)
    assert asked


def test_class_centres_may_lie_the_other_way_round_in_memory() -> None:
    arguments, (queries, weight) = _problem("cosines", 4)
    expected = torch.autograd.grad(plain(*arguments)[1].sum(), (queries, weight))
    arguments[1] = weight.detach().T.contiguous().T.requires_grad_()
    found = torch.autograd.grad(streamed(*arguments)[1].sum(), (queries, arguments[1]))
    torch.testing.assert_close(found, expected)
