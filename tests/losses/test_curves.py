"""Curves and slopes of the margin losses follow the papers' formulas, divided by the scale."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import workbench as wb
from workbench.losses.registry import LOSSES

DEGREES = np.arange(0, 180.01, 0.37)
THETA = np.radians(DEGREES)
COSINE = np.cos(THETA)


def _arcface(m: float) -> Any:
    return np.where(THETA + m < np.pi, np.cos(THETA + m), COSINE - m * np.sin(m))


CURVES: dict[str, tuple[str, dict[str, Any], Any]] = {
    "normface": ("normface", {}, COSINE),
    "cosface": ("cosface", {"s": 32.0, "m": 0.25}, COSINE - 0.25),
    "arcface": ("arcface", {"m": 0.4}, _arcface(0.4)),
    "sphereface": (
        "sphereface",
        {"m": 2.0, "annealing": 0.0},
        np.where(DEGREES < 90, np.cos(2 * THETA), -np.cos(2 * THETA) - 2),
    ),
    "magface": ("magface", {"norm": 10.0, "s": 16.0}, np.where(COSINE > 0, _arcface(0.45), COSINE)),
    "adaface": ("adaface", {"norm": 20.0}, COSINE - 0.4),
    "circle": ("circle", {}, np.maximum(1.25 - COSINE, 0) * (COSINE - 0.75)),
    "normface+ohem": ("normface+ohem", {"ohem": {"keep": 0.5}}, COSINE),
}


@pytest.fixture
def halfway() -> Iterator[None]:
    @wb.losses.register("halfway")
    class Halfway(wb.losses.MarginSoftmax):
        def __init__(
            self, embedding_dim: int, num_classes: int, s: float = 32.0, m: float = 0.5
        ) -> None:
            super().__init__(embedding_dim, num_classes, s, m)

        def margin(self, cosine: Tensor) -> Tensor:
            return cosine - self.m * self.ramp * cosine.abs()

    yield
    del LOSSES._factories["halfway"]


@pytest.mark.parametrize("name", list(CURVES))
def test_a_curve_is_the_papers_formula_divided_by_the_scale(name: str) -> None:
    loss, options, expected = CURVES[name]
    ((label, (degrees, logits)),) = wb.losses.curves({"a curve": (loss, options)}, DEGREES).items()
    assert label == "a curve"
    assert degrees.dtype == logits.dtype == np.float64
    np.testing.assert_array_equal(degrees, DEGREES)
    np.testing.assert_allclose(logits, expected, atol=1e-6)
    scale = {"cosface": 32.0, "magface": 16.0, "sphereface": 1.0, "circle": 256.0}.get(loss, 64.0)
    np.testing.assert_allclose(
        wb.losses.curves({"a curve": (loss, options)}, DEGREES, scaled=True)["a curve"][1],
        scale * expected,
        atol=1e-4,
    )


def test_names_alone_give_every_whole_degree_and_the_usual_options() -> None:
    found = wb.losses.curves(["arcface", "cosface"])
    assert list(found) == ["arcface", "cosface"]
    np.testing.assert_array_equal(found["cosface"][0], np.arange(181))
    np.testing.assert_allclose(
        found["cosface"][1], np.cos(np.radians(np.arange(181))) - 0.35, atol=1e-12
    )


def test_the_slope_is_that_of_the_backward_pass() -> None:
    inside = DEGREES[(DEGREES > 1) & (DEGREES < 150)]
    theta = np.radians(inside)
    found = wb.losses.slopes(
        {name: (name, {}) for name in ("normface", "cosface", "arcface", "circle", "sphereface_r")},
        inside,
    )
    for name in ("normface", "cosface", "sphereface_r"):  # the last is cut off by design
        np.testing.assert_allclose(found[name][1], 1.0)
    np.testing.assert_allclose(found["arcface"][1], np.sin(theta + 0.5) / np.sin(theta), rtol=1e-9)
    np.testing.assert_allclose(found["circle"][1], 1.25 - np.cos(theta), rtol=1e-9)
    assert all(
        np.isfinite(slopes).all()
        for _, slopes in wb.losses.slopes(["arcface", "sphereface"], [0.0, 180.0]).values()
    )


def test_every_margin_loss_has_a_curve_and_a_slope_at_any_angle() -> None:
    names = [
        name for name in LOSSES.names() if issubclass(LOSSES.get(name), wb.losses.MarginSoftmax)
    ]  # type: ignore[arg-type]
    assert len(names) > 14
    for found in (wb.losses.curves(names), wb.losses.slopes(names)):
        assert list(found) == names
        assert all(
            np.isfinite(values).all() and values.shape == degrees.shape
            for degrees, values in found.values()
        )


@pytest.mark.usefixtures("halfway")
def test_what_a_notebook_registers_has_a_curve() -> None:
    np.testing.assert_allclose(
        wb.losses.curves(["halfway"], [0.0, 90.0, 180.0])["halfway"][1],
        [0.5, 0.0, -1.5],
        atol=1e-12,
    )


def test_drawing_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    wb.losses.curves(["arcface"])
    wb.losses.slopes(["arcface"])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "options", "texts"),
    [
        ("softmax", {}, ("softmax", "no margin curve")),
        ("triplet", {}, ("triplet", "no margin curve")),
        ("softmax+center", {}, ("softmax+center", "no margin curve")),
        ("ohem", {}, ("ohem", "no margin curve")),
        ("arcfacee", {}, ("did you mean 'arcface'",)),
        ("arcface+ohme", {}, ("did you mean 'ohem'",)),
        ("arcface", {"norm": 3.0}, ("norm", "arcface")),
        ("arcface", {"m": 4.0}, ("0 <= m < pi",)),
    ],
)
def test_what_has_no_curve_says_so(
    name: str, options: dict[str, Any], texts: tuple[str, ...], complaint: Any
) -> None:
    for function in (wb.losses.curves, wb.losses.slopes):
        with complaint(*texts):
            function({"x": (name, options)})


@pytest.mark.parametrize("degrees", [[-1.0], [180.5], [np.nan]])
def test_angles_go_from_0_to_180(degrees: list[float], complaint: Any) -> None:
    with complaint("0 to 180"):
        wb.losses.curves(["arcface"], degrees)
