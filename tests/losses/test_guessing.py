"""The value of a guess, against the losses themselves on random directions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.losses.base import ClassificationLoss, Loss
from workbench.losses.guessing import Guess, expected_softmax_loss, random_cosines

D, C, N = 32, 40, 64
DRAWS = 80
LENGTH = 12.0
NAMES = [
    *wb.losses.LOSSES.names(),
    "softmax+center",
    "sphereface+mhe",
    "normface+ohem",
    "arcface+ohem",
    "normface+focal",
    "cosface+triplet",
]
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in NAMES),
    ("normface", {"s": 64.0}),
    ("arcface", {"easy_margin": True}),
    ("arcface", {"s": 16.0, "m": 1.0}),
    ("curricularface", {"s": 16.0}),
    ("mv_softmax", {"kind": "arc", "weighting": "fixed"}),
    ("sphereface", {"lambda_base": 0.0, "lambda_min": 0.0}),
    ("sphereface_r", {"version": 2}),
    ("triplet", {"mining": "semi_hard"}),
    ("triplet", {"mining": "all"}),
    ("triplet", {"squared": True}),
    ("contrastive", {"m": 1.6}),
]


def make(name: str, dim: int = D, classes: int = C, **options: Any) -> Loss:
    torch.manual_seed(0)
    return wb.losses.create(name, embedding_dim=dim, num_classes=classes, **options)


def labels_of(loss: Loss, n: int = N) -> torch.Tensor:
    each = loss.images_per_identity or 1
    return (torch.arange(n // each) % loss.num_classes).repeat_interleave(each)


def random_embeddings(n: int, dim: int) -> torch.Tensor:
    return LENGTH * F.normalize(torch.randn(n, dim, dtype=torch.float64))


def simulated(loss: Loss, labels: torch.Tensor) -> tuple[float, float]:
    """The mean of the loss over random embeddings and class centres, and its standard error."""
    loss = loss.double().eval()
    values = []
    with torch.no_grad():
        for _ in range(DRAWS):
            if isinstance(loss, ClassificationLoss):
                lengths = loss.weight.norm(dim=-1, keepdim=True)
                loss.weight.copy_(lengths * F.normalize(torch.randn_like(loss.weight), dim=-1))
            values.append(loss(random_embeddings(len(labels), loss.embedding_dim), labels).item())
    return float(np.mean(values)), float(np.std(values) / math.sqrt(DRAWS))


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_a_random_guess_is_the_mean_over_random_directions(
    name: str, options: dict[str, Any]
) -> None:
    loss = make(name, **options)
    labels = labels_of(loss)
    mean, error = simulated(loss, labels)
    guess = loss.value_of_guess(random_embeddings(N, D), labels)
    assert guess is not None
    # A batch's ratio of two sums has a bias (triplet), and quantiles are an approximation (ohem).
    # The centres of softmax differ in length, where their mean square is used.
    approximated = "ohem" in name or "softmax" in name or options.get("mining")
    relative = 0.03 if approximated else 0.004
    assert guess.random == pytest.approx(mean, rel=relative, abs=4 * error)


@pytest.mark.parametrize("ramp", [0.0, 0.5])
@pytest.mark.parametrize("name", ["arcface", "cosface", "adaface", "sphereface", "triplet"])
def test_the_ramp_of_the_margin_counts(name: str, ramp: float) -> None:
    loss = make(name)
    loss.ramp = ramp
    labels = labels_of(loss)
    mean, error = simulated(loss, labels)
    guess = loss.value_of_guess(random_embeddings(N, D), labels)
    assert guess is not None
    assert guess.random == pytest.approx(mean, rel=0.004, abs=4 * error)


@pytest.mark.parametrize("name", ["softmax", "normface", "arcface", "circle", "normface+ohem"])
def test_label_smoothing_counts(name: str) -> None:
    loss = make(name)
    loss.label_smoothing = 0.2
    labels = labels_of(loss)
    mean, error = simulated(loss, labels)
    guess = loss.value_of_guess(random_embeddings(N, D), labels)
    assert guess is not None
    # Quantiles (ohem) and the mean lengths of class centres (softmax) are approximations.
    relative = 0.02 if name in ("softmax", "normface+ohem") else 0.004
    assert guess.random == pytest.approx(mean, rel=relative, abs=4 * error)


@pytest.mark.parametrize("dim", [1, 2, 3, 100])
@pytest.mark.parametrize("classes", [1, 2, 90])
def test_few_and_many_dimensions_and_classes(dim: int, classes: int) -> None:
    loss = make("arcface", dim, classes)
    labels = torch.arange(N) % classes
    mean, error = simulated(loss, labels)
    guess = loss.value_of_guess(random_embeddings(N, dim), labels)
    assert guess is not None
    assert guess.random == pytest.approx(mean, rel=0.01, abs=4 * error + 1e-6)


def test_a_uniform_guess_is_known_in_closed_form() -> None:
    values = {}
    for name in ("softmax", "normface", "cosface", "arcface", "triplet", "contrastive"):
        loss = make(name)
        guess = loss.value_of_guess(random_embeddings(N, D), labels_of(loss))
        assert guess is not None
        values[name] = guess.uniform
    assert values["softmax"] == pytest.approx(math.log(C), abs=1e-6)
    assert values["normface"] == pytest.approx(math.log(C), abs=1e-6)
    assert values["cosface"] == pytest.approx(math.log1p((C - 1) * math.exp(64 * 0.35)), rel=1e-6)
    gain = 64 * (1 - math.cos(0.5))  # the margin costs least where all directions coincide
    assert values["arcface"] == pytest.approx(math.log1p((C - 1) * math.exp(gain)), rel=1e-6)
    assert values["triplet"] == 0.3
    assert values["contrastive"] == 0.5


@pytest.mark.parametrize("name", wb.losses.LOSSES.names())
def test_no_constant_embedding_beats_the_uniform_guess(name: str) -> None:
    loss = make(name).double().eval()
    labels = labels_of(loss)
    constant = LENGTH * F.normalize(torch.randn(1, D, dtype=torch.float64)).expand(N, D)
    guess = loss.value_of_guess(constant, labels)
    assert guess is not None
    centres = [constant[:1], -constant[:1]] if isinstance(loss, ClassificationLoss) else [None]
    for centre in centres:
        if isinstance(loss, ClassificationLoss):
            shared = centre / LENGTH
            loss.weight.data = shared.expand(loss.weight.numel() // D, D).reshape_as(loss.weight)
        value = loss(constant, labels).item()
        # Semi-hard triplets are none if all embeddings coincide exactly.
        assert value >= guess.uniform - 1e-6


def test_the_sampled_head_has_fewer_classes() -> None:
    loss = make("normface", head="sampled", sample_rate=0.25, classes=400)
    guess = loss.value_of_guess(random_embeddings(N, D), labels_of(loss))
    assert guess is not None
    assert guess.uniform == pytest.approx(math.log(100), abs=1e-6)


def test_the_loss_is_not_changed() -> None:
    loss = make("curricularface")
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    loss.value_of_guess(random_embeddings(N, D), labels_of(loss))
    assert loss.training
    for name, value in loss.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_every_type_of_embedding(dtype: torch.dtype) -> None:
    loss = make("adaface")
    guess = loss.value_of_guess(random_embeddings(N, D).to(dtype), labels_of(loss))
    exact = loss.value_of_guess(random_embeddings(N, D), labels_of(loss))
    assert guess is not None
    assert exact is not None
    assert guess == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("length", [1e5, 1e20])
def test_logits_that_have_exploded_are_no_error(length: float) -> None:
    loss: Any = make("softmax")
    labels = labels_of(loss)
    guess = loss.value_of_guess(length * random_embeddings(N, D), labels)
    loss.weight.data *= 1e4  # here the largest logit decides, so the loss is proportional to it
    mean, _ = simulated(loss, labels)
    assert guess is not None
    assert guess.random == pytest.approx(mean * length / 1e4, rel=0.06)
    assert guess.uniform == pytest.approx(math.log(C))


def test_a_loss_that_defines_no_guess_has_none() -> None:
    class Lengths(Loss):
        def value(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return embeddings.norm(dim=1).mean()

    assert Lengths(2, 3).value_of_guess(torch.ones(1, 2), torch.tensor([0])) is None


def test_an_empty_batch_and_one_without_triplets_have_none() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    assert make("arcface").value_of_guess(torch.zeros(0, D), nothing) is None
    assert make("triplet").value_of_guess(torch.randn(3, D), torch.tensor([0, 1, 2])) is None


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(WorkbenchError, match="embeddings have shape"):
        make("arcface").value_of_guess(torch.zeros(3, D + 1), torch.zeros(3, dtype=torch.int64))


def test_embeddings_that_are_not_a_number_give_no_error() -> None:
    guess = make("sphereface").value_of_guess(torch.full((4, D), torch.nan), torch.arange(4))
    assert guess is not None
    assert math.isnan(guess.random)


@given(dim=st.integers(2, 2000))
def test_random_cosines_have_the_moments_of_the_sphere(dim: int) -> None:
    cosines, probabilities = random_cosines(dim, 256)
    assert probabilities.sum().item() == pytest.approx(1.0)
    assert (probabilities @ cosines.square()).item() == pytest.approx(1 / dim, rel=2e-4)
    fourth = 3 / (dim * (dim + 2))
    assert (probabilities @ cosines.pow(4)).item() == pytest.approx(fourth, rel=2e-4)


def test_order_statistics_of_random_cosines() -> None:
    draws = random_embeddings(40_000 * 5, 8)[:, 0].reshape(-1, 5) / LENGTH
    law = random_cosines(8, 512)
    largest, smallest = law.largest_of(5), law.smallest_of(5)
    mean = (largest.probabilities @ largest.cosines).item()
    assert mean == pytest.approx(draws.max(1).values.mean().item(), abs=5e-3)
    assert mean == pytest.approx(-(smallest.probabilities @ smallest.cosines).item(), abs=5e-3)


@given(
    target=st.floats(-60, 60),
    non_target=st.floats(-60, 60),
    count=st.integers(0, 10**6),
    values=st.integers(1, 2),
)
def test_fixed_logits_give_the_cross_entropy(
    target: float, non_target: float, count: int, values: int
) -> None:
    loss = expected_softmax_loss(
        torch.tensor([target], dtype=torch.float64),
        torch.tensor([[non_target] * values], dtype=torch.float64),
        torch.full((values,), 1.0 / values, dtype=torch.float64),
        count,
    )
    exact = float(np.logaddexp(0.0, (math.log(count) if count else -np.inf) + non_target - target))
    assert loss.item() == pytest.approx(exact, rel=1e-7, abs=1e-6)


def test_two_logits_of_equal_probability_agree_with_the_binomial_sum() -> None:
    count, low, high = 20, -3.0, 5.0
    loss = expected_softmax_loss(
        torch.tensor([1.0], dtype=torch.float64),
        torch.tensor([[low, high]], dtype=torch.float64),
        torch.tensor([0.7, 0.3], dtype=torch.float64),
        count,
    )
    k = np.arange(count + 1)
    weights = scipy.special.comb(count, k) * 0.3**k * 0.7 ** (count - k)
    sums = k * np.exp(high) + (count - k) * np.exp(low)
    assert loss.item() == pytest.approx(float(weights @ np.log1p(sums / np.e)), rel=1e-7)


def test_guess_is_a_pair() -> None:
    assert Guess(2.0, 1.0) == (2.0, 1.0)


def simplex(classes: int, dim: int) -> torch.Tensor:
    """Unit vectors with the same cosine, -1 / (C - 1), between each two of them."""
    corners = torch.zeros(classes, dim, dtype=torch.float64)
    corners[:, :classes] = torch.eye(classes, dtype=torch.float64) - 1.0 / classes
    return F.normalize(corners)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("normface", {"s": 4.0}),
        ("cosface", {"s": 8.0}),
        ("arcface", {"s": 8.0}),
        ("combined", {"s": 10.0}),
        ("subcenter_arcface", {"s": 8.0, "sub_centres": 1}),
    ],
)
def test_the_smallest_loss_is_that_of_a_simplex(name: str, options: dict[str, Any]) -> None:
    loss: Any = make(name, dim=12, classes=10, **options).double().eval()
    loss.weight.data = simplex(10, 12).reshape(loss.weight.shape)
    value = loss(5.0 * simplex(10, 12), torch.arange(10)).item()
    assert loss.smallest_loss() == pytest.approx(value, rel=1e-6)


@given(seed=st.integers(0, 10**6), s=st.floats(0.5, 20.0), nearness=st.floats(0.0, 1.0))
def test_no_embeddings_have_a_smaller_loss(seed: int, s: float, nearness: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    loss: Any = make("cosface", dim=6, classes=5, s=s, m=0.2).double()
    centres = torch.randn(5, 6, generator=draw, dtype=torch.float64)
    loss.weight.data = centres
    embeddings = F.normalize(centres)
    embeddings += (1 - nearness) * torch.randn(5, 6, generator=draw, dtype=torch.float64)
    value = loss(embeddings, torch.arange(5)).item()
    assert value >= loss.smallest_loss() * (1 - 1e-9)


def test_a_scale_that_is_too_small_is_named_with_one_that_is_not() -> None:
    [advice] = make("normface", classes=10_000, s=5.0).advice(1000)
    assert "NormFace: the scale s = 5 is too small for 10,000 classes" in advice
    assert "use s = 12 or more" in advice
    assert make("normface", classes=10_000, s=12.0).advice(1000) == []


@pytest.mark.parametrize("name", ["adaface", "curricularface"])
def test_losses_with_other_advice_also_check_the_scale(name: str) -> None:
    assert any("too small" in line for line in make(name, s=2.0).advice(10**6))


@pytest.mark.parametrize("name", wb.losses.LOSSES.names())
def test_the_defaults_fit_a_million_classes(name: str) -> None:
    loss = wb.losses.create(name, embedding_dim=2, num_classes=1_000_000)
    assert not any("too small" in line for line in loss.advice(10**9))


def test_a_margin_that_no_scale_fits_is_named() -> None:
    [advice] = make("cosface", m=1.5).advice(1000)
    assert "too small for this margin; use a smaller margin" in advice
