"""What holds for each of several losses against all class centres, whatever its formula."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from batches import random_batch
from torch import Tensor

import workbench as wb
from workbench.losses import MarginSoftmax

D, C, N = 8, 5000, 6
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("combined", {}),
    ("combined", {"m1": 2.4, "m2": 0.9, "m3": 0.1}),
    ("sphereface_r", {"version": 0}),
    ("sphereface_r", {"version": 1, "detach": False}),
    ("sphereface_r", {"version": 2}),
    ("sphereface_r", {"version": 2, "detach": False}),
    ("sphereface2", {}),
    ("sphereface2", {"t": 1.0, "lw": 1.0}),
    ("unified_threshold", {}),
    ("circle", {}),
    ("mv_softmax", {}),
    ("mv_softmax", {"kind": "arc", "m": 0.5, "weighting": "fixed"}),
    ("mv_softmax", {"easy_margin": True}),
    ("adacos", {}),
    ("adacos", {"fixed": True}),
]
every_variant = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=str)


def _make(
    name: str,
    options: dict[str, Any],
    num_classes: int = C,
    dtype: torch.dtype = torch.float32,
    **head: Any,
) -> MarginSoftmax:
    torch.manual_seed(0)
    loss = wb.losses.create(name, embedding_dim=D, num_classes=num_classes, **head, **options).to(
        dtype
    )
    assert isinstance(loss, MarginSoftmax)
    return loss


_batch = partial(random_batch, n=N, dim=D, classes=C, dtype=torch.float32)


def _gradients(loss: MarginSoftmax, value: Tensor, embeddings: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(value, [embeddings, *loss.parameters()]))


@every_variant
@pytest.mark.parametrize("n", [N, 2 * D])
def test_streamed_is_plain(name: str, options: dict[str, Any], n: int) -> None:
    embeddings, labels = _batch(n=n)
    plain, streamed = (_make(name, options, head=head) for head in ("plain", "streamed"))
    values = plain(embeddings, labels), streamed(embeddings, labels)
    torch.testing.assert_close(values[1], values[0], rtol=1e-5, atol=1e-6)
    pairs = zip(
        _gradients(streamed, values[1], embeddings),
        _gradients(plain, values[0], embeddings),
        strict=True,
    )
    for found, expected in pairs:
        torch.testing.assert_close(
            found, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item()
        )
    torch.testing.assert_close(
        torch.as_tensor(streamed.scale), torch.as_tensor(plain.scale), rtol=1e-5, atol=0
    )


@every_variant
def test_a_sampled_head_trains_and_evaluates_on_all_classes(
    name: str, options: dict[str, Any]
) -> None:
    embeddings, labels = _batch()
    loss, plain = _make(name, options, head="sampled"), _make(name, options, head="plain")
    value = loss(embeddings, labels)
    assert all(torch.isfinite(gradient).all() for gradient in _gradients(loss, value, embeddings))
    loss.load_state_dict(plain.state_dict())
    torch.testing.assert_close(loss.eval()(embeddings, labels), plain.eval()(embeddings, labels))


@every_variant
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("num_classes", [1, 2, 7])
def test_the_extremes_are_finite(
    name: str, options: dict[str, Any], dtype: torch.dtype, num_classes: int
) -> None:
    weights = torch.float64 if dtype == torch.float64 else torch.float32
    loss = _make(name, options, num_classes, weights)
    own = loss.weight.detach()[:1].to(dtype)
    longest = 1e4 if dtype == torch.float16 else 1e20
    embeddings = torch.cat(
        [own, -own, 1e-20 * own, longest * own, -longest * own, 0 * own]
    ).requires_grad_()
    for batch in (embeddings, embeddings[:1], embeddings[-1:]):
        value = loss(batch, torch.zeros(len(batch), dtype=torch.int64))
        assert torch.isfinite(value)
        assert all(
            torch.isfinite(gradient).all() for gradient in _gradients(loss, value, embeddings)
        )


@every_variant
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_curve_is_finite_at_the_ends_and_keeps_any_shape(
    name: str, options: dict[str, Any], dtype: torch.dtype
) -> None:
    loss = _make(name, options, 7, dtype)
    near = torch.tensor([1.0, -1.0, 0.0], dtype=dtype)
    near = torch.cat([near, near.nextafter(torch.zeros((), dtype=dtype))]).requires_grad_()
    logit = loss.target_logit(near)
    assert torch.isfinite(logit).all()
    assert torch.isfinite(torch.autograd.grad(logit.sum(), near)[0]).all()
    assert loss.target_logit(torch.zeros(2, 0, 3)).shape == (2, 0, 3)
    assert loss.target_logit(torch.tensor(0.3)).shape == ()
    assert loss.target_logit(torch.zeros(2, dtype=torch.bfloat16)).dtype == torch.float32


@every_variant
@pytest.mark.parametrize("ramp", [0.0, 0.3, 1.0])
def test_a_larger_angle_never_costs_less_and_the_margin_never_helps(
    name: str, options: dict[str, Any], ramp: float
) -> None:
    loss = _make(name, options, 7, torch.float64)
    loss.ramp = ramp
    theta = torch.linspace(0.0, math.pi, 20_001, dtype=torch.float64)
    psi = loss.target_logit(theta.cos()) / loss.scale
    if (
        options.get("kind") != "arc" and "easy_margin" not in options
    ):  # which have a step, as ArcFace has
        assert psi.diff().abs().max() < 1e-3
    if "easy_margin" not in options:  # whose step, at 90 degrees, leads upwards
        assert psi.diff().max() <= 1e-12
    if name != "circle":  # whose weights make easy own classes easier
        assert (psi <= theta.cos() + 1e-9).all()


@every_variant
def test_without_ramp_there_is_no_margin(name: str, options: dict[str, Any]) -> None:
    loss, (embeddings, labels) = (
        _make(name, options, 7, torch.float64).eval(),
        _batch(n=9, classes=7, dtype=torch.float64),
    )
    loss.ramp = 0.0
    cosine = torch.linspace(-1.0, 1.0, 101, dtype=torch.float64)
    if name == "sphereface2":  # g is no margin
        torch.testing.assert_close(
            loss.target_logit(cosine), 40.0 * (2 * ((cosine + 1) / 2) ** loss.t - 1)
        )
        torch.testing.assert_close(
            loss.non_target(cosine[:, None], cosine[:, None]), loss.margin(cosine)[:, None]
        )
        return
    torch.testing.assert_close(loss.target_logit(cosine), float(loss.scale) * cosine)
    if name != "unified_threshold":
        plain = wb.losses.create(
            "normface", embedding_dim=D, num_classes=7, s=float(loss.scale)
        ).double()
        plain.load_state_dict({"weight": loss.weight})
        torch.testing.assert_close(loss(embeddings, labels), plain(embeddings, labels))


@every_variant
def test_evaluation_leaves_no_trace_and_depends_on_no_chance(
    name: str, options: dict[str, Any]
) -> None:
    loss, (embeddings, labels) = _make(name, options, 7).eval(), _batch(n=9, classes=7)
    before = {key: value.clone() for key, value in loss.state_dict().items()}
    torch.manual_seed(1)
    first = loss(embeddings, labels)
    torch.manual_seed(2)
    assert torch.equal(loss(embeddings, labels), first)
    assert all(torch.equal(value, before[key]) for key, value in loss.state_dict().items())


@every_variant
def test_two_batches_can_be_summed_before_backward(name: str, options: dict[str, Any]) -> None:
    loss, (embeddings, labels) = _make(name, options, 7), _batch(n=9, classes=7)
    (loss(embeddings, labels) + loss(embeddings.flip(0), labels)).backward()
    assert torch.isfinite(loss.weight.grad).all()


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("combined", {"m1": 0.9}, "combined: m1"),
        ("combined", {"m1": math.nan}, "combined: m1"),
        ("combined", {"m2": -0.1}, "combined: m2"),
        ("combined", {"m2": 6.3}, "combined: m2"),
        ("combined", {"m2": math.nan}, "combined: m2"),
        ("combined", {"m3": -0.1}, "combined: m3"),
        ("combined", {"m3": "0.1"}, "combined"),
        ("combined", {"s": 0}, "scale s"),
        ("combined", {"m": 0.5}, "unknown option"),
        ("sphereface_r", {"m": 0.9}, "sphereface_r: margin m"),
        ("sphereface_r", {"m": math.inf}, "margin m"),
        ("sphereface_r", {"version": 3}, "version is 0, 1 or 2"),
        ("sphereface_r", {"version": "v1"}, "version is 0, 1 or 2"),
        ("sphereface_r", {"version": [1]}, "version is 0, 1 or 2"),
        ("sphereface2", {"r": 0}, "scale r"),
        ("sphereface2", {"r": math.inf}, "scale r"),
        ("sphereface2", {"r": "40"}, "sphereface2"),
        ("sphereface2", {"m": -0.1}, "margin m"),
        ("sphereface2", {"m": 2.1}, "margin m must be a number from 0 to 2"),
        ("sphereface2", {"t": 0.5}, "exponent t"),
        ("sphereface2", {"alpha": 1.0}, "0 < alpha < 1"),
        ("sphereface2", {"alpha": 0.0}, "0 < alpha < 1"),
        ("sphereface2", {"alpha": math.nan}, "0 < alpha < 1"),
        ("sphereface2", {"lw": 0.0}, "factor lw"),
        ("unified_threshold", {"s": -1.0}, "scale s"),
        ("unified_threshold", {"m": -0.1}, "margin m"),
        ("circle", {"gamma": 0.0}, "scale gamma"),
        ("circle", {"gamma": math.nan}, "scale gamma"),
        ("circle", {"m": 1.1}, "circle: margin m"),
        ("circle", {"m": None}, "circle"),
        ("mv_softmax", {"t": -0.1}, "mv_softmax: t"),
        ("mv_softmax", {"kind": "arcs"}, "did you mean 'arc'"),
        ("mv_softmax", {"kind": ["am"]}, "unknown kind"),
        ("mv_softmax", {"weighting": "adaptiv"}, "did you mean 'adaptive'"),
        ("mv_softmax", {"kind": "arc", "m": 3.2}, "in radians"),
        ("adacos", {"s": 30.0}, "unknown option"),
    ],
    ids=str,
)
def test_an_option_out_of_range_is_one_line(name: str, options: dict[str, Any], match: str) -> None:
    with pytest.raises(wb.WorkbenchError, match=match) as caught:
        _make(name, options, 7)
    assert "\n" not in str(caught.value)
