"""What changes with the step, as pure functions of it, so that a resumed run needs no state to go on."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def learning_rate(step: int, total: int, warmup: int, peak: float) -> float:
    """Linear rise to `peak` over `warmup` steps, then half a cosine down to (nearly) 0 at `total`.

    Loshchilov and Hutter, "SGDR: Stochastic gradient descent with warm restarts", ICLR 2017, eq. 5, without restarts.

    Args:
        step: number of the step, 0..total-1.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))


def margin_ramp(step: int, ramp: int) -> float:
    """Share of the margin in force: 0 at first, 1 from step `ramp` on."""
    return 1.0 if step >= ramp else step / ramp


def order_of_epoch(count: int, epoch: int, seed: int) -> NDArray[np.int64]:
    """The order in which epoch number `epoch` visits `count` images."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def seed_of_step(step: int, seed: int) -> int:
    """Seed of the augmentation of one step."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0])
