"""Results of verification with drawn scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.evaluation import VerificationResult, verification


def scored(rng: Any, quality: float, people: int = 20, pairs: int = 200) -> VerificationResult:
    """Returns a result on fixed pairs of people, without intervals; scores differ by `quality`."""
    fixed = np.random.default_rng(0)
    same = np.arange(pairs) % 2 == 0
    first = fixed.integers(0, people, pairs)
    second = np.where(same, first, (first + fixed.integers(1, people, pairs)) % people)
    return verification(
        rng.normal(quality * same),
        same,
        np.arange(pairs) * 10 // pairs,
        people=np.column_stack([first, second]),
        intervals=False,
    )
