"""mixup: pairs, weights and their distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from workbench import augmentation


def images(count: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)


def mixing_of(augment: augmentation.Augmentation, seed: int, count: int = 6) -> Tensor:
    return augment(images(count), torch.Generator().manual_seed(seed))


def test_images_are_the_weighted_means_that_mixing_names() -> None:
    augment = augmentation.create([{"mixup": {"alpha": 1.0}}])
    result = mixing_of(augment, 3)
    assert augment.mixing is not None
    partner, weight = augment.mixing
    assert sorted(partner.tolist()) == list(range(6))
    expected = weight * images().double() + (1 - weight) * images()[partner].double()
    assert (result - expected).abs().max() <= 0.51


def test_the_weight_has_the_distribution_beta_of_the_larger_part() -> None:
    augment = augmentation.create([{"mixup": {"alpha": 0.4}}])
    weights = []
    for seed in range(500):
        augment(images(2), torch.Generator().manual_seed(seed))
        assert augment.mixing is not None
        weights.append(augment.mixing.weight)

    def larger_part(weight: np.ndarray) -> np.ndarray:
        """P(max(w, 1 - w) <= weight) for w of Beta(0.4, 0.4), which is symmetric."""
        return np.clip(2 * stats.beta.cdf(weight, 0.4, 0.4) - 1, 0, 1)

    assert stats.kstest(weights, larger_part).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [0.001, 1e3])
def test_extreme_alphas_give_weights_in_range(alpha: float) -> None:
    augment = augmentation.create([{"mixup": {"alpha": alpha}}])
    for seed in range(30):
        mixing_of(augment, seed)
        assert augment.mixing is not None
        assert 0.5 <= augment.mixing.weight <= 1
        assert np.isfinite(augment.mixing.weight)


def test_the_probability_is_that_of_a_batch() -> None:
    augment = augmentation.create([{"mixup": {"probability": 0.3}}])
    mixed = 0
    for seed in range(200):
        result = mixing_of(augment, seed)
        if augment.mixing is None:
            assert torch.equal(result, images())
        mixed += augment.mixing is not None
    assert 35 < mixed < 90


def test_the_mixing_of_a_batch_is_forgotten_with_the_next() -> None:
    augment = augmentation.create([{"mixup": {"probability": 0.5}}])
    seeds = iter(range(100))
    while augment.mixing is None:
        mixing_of(augment, next(seeds))
    while augment.mixing is not None:
        mixing_of(augment, next(seeds))
    assert torch.equal(augment(images(0), torch.Generator()), images(0))
    assert augment.mixing is None


def test_only_mixup_mixes() -> None:
    assert augmentation.create(["strong", "mixup"]).mixes
    assert not augmentation.create("strong").mixes
    augment = augmentation.create("strong")
    mixing_of(augment, 0)
    assert augment.mixing is None


def test_a_single_image_is_mixed_with_itself() -> None:
    augment = augmentation.create("mixup")
    assert torch.equal(mixing_of(augment, 0, count=1), images(1))
    assert augment.mixing is not None
    assert augment.mixing.partner.tolist() == [0]
