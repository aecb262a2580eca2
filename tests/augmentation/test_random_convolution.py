"""Random convolutions, against SciPy and the distribution of the paper."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats
from torch import Tensor

from workbench import augmentation
from workbench.augmentation.random_convolution import RandomConvolution
from workbench.errors import WorkbenchError


def image(count: int = 1, height: int = 13, width: int = 10) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (count, 3, height, width)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def expected(picture: Tensor, kernel: Tensor, share: float) -> np.ndarray[Any, Any]:
    """The formula for one image in float64, with SciPy's correlation of each pair of colours."""
    values = picture.double().numpy() / 127.5 - 1
    convolved = [
        sum(
            ndimage.correlate(old, weights.double().numpy(), mode="constant")
            for old, weights in zip(values, row, strict=True)
        )
        for row in kernel
    ]
    mixed = share * values + (1 - share) * np.stack(convolved)
    return np.clip((mixed + 1) * 127.5, 0, 255)


@settings(deadline=None, max_examples=20)
@given(
    numbers=st.tuples(*[st.floats(0, 1, exclude_max=True, width=32)] * 3),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    mix=st.booleans(),
)
def test_it_is_scipys_correlation_mixed_with_the_image(
    numbers: tuple[float, float, float], size: tuple[int, int], mix: bool
) -> None:
    step, uniform = RandomConvolution(mix=mix), torch.tensor([numbers])
    picture = image(1, *size)
    result = step.apply(picture, uniform)[0].numpy()
    share = float(uniform[0, 1]) if mix else 0.0
    assert np.abs(result - expected(picture[0], step.kernels(uniform)[0], share)).max() <= 0.51


@pytest.mark.parametrize("size", [1, 3, 7])
def test_weights_are_normal_with_the_variance_of_the_paper(size: int) -> None:
    uniform = torch.rand(400, 3, generator=torch.Generator().manual_seed(0))
    kernels = RandomConvolution(sizes=[size]).kernels(uniform)
    assert kernels.shape == (400, 3, 3, size, size)
    deviation = 1 / math.sqrt(3 * size**2)
    assert stats.kstest(kernels.flatten().numpy(), "norm", (0, deviation)).pvalue > 1e-3


def test_the_sizes_are_equally_likely_and_smaller_kernels_are_in_the_middle() -> None:
    uniform = torch.rand(2000, 3, generator=torch.Generator().manual_seed(0))
    kernels = RandomConvolution(sizes=[1, 3, 7]).kernels(uniform)
    used = (kernels != 0).any(1).any(1)
    sides = used.any(1).sum(1)
    counts = [int((sides == size).sum()) for size in (1, 3, 7)]
    assert stats.chisquare(counts).pvalue > 1e-3
    assert torch.equal(used, used.flip(1))
    assert torch.equal(used, used.flip(2))


def test_a_share_of_1_keeps_the_image() -> None:
    picture = image()
    kept = RandomConvolution().apply(picture, torch.tensor([[0.9, 1.0, 0.3]]))
    assert torch.equal(kept, picture)


@pytest.mark.parametrize(
    "sizes", [[], [2], [0], [-1], [33], [3.0], [True], ["3"], [3, 4]], ids=repr
)
def test_wrong_sizes_are_refused(sizes: list[Any]) -> None:
    with pytest.raises(WorkbenchError, match="odd numbers from 1 to 31, got"):
        augmentation.create([{"random_convolution": {"sizes": sizes}}])
