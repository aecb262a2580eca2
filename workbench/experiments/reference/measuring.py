"""The figures of one training that the table of the reference runs shows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from workbench import runs
from workbench.errors import WorkbenchError
from workbench.evaluation import VerificationResult, load_angles, load_result
from workbench.evaluation.sources import TRAIN
from workbench.experiments.matching import evaluations_of
from workbench.experiments.reference.plan import PlannedRun

ANGLE_OWN, ANGLE_OTHER, D_PRIME = "angle_own", "angle_other", "d_prime"
"""Mean angle in degrees from training images to the own class centre, and to the nearest other one;
and d' of the scores on `D_PRIME_ON`."""
D_PRIME_ON = "synthfaces-frontal"


def measure(run: runs.Run, planned: PlannedRun) -> dict[str, float]:
    """Reads the figures of a training from its stored evaluations.

    Args:
        run: The run, which was evaluated on the benchmarks of the plan.
        planned: The training in the plan.

    Returns:
        {figure: value}: the headline figure of each benchmark (the accuracy; rank-1 for
        identification), and the figures `angle_own`, `angle_other` and `d_prime` as far as their
        evaluations are among them.

    Raises:
        WorkbenchError: if the run lacks an evaluation.
    """
    stored = evaluations_of(run)
    figures: dict[str, float] = {}
    for benchmark in planned.benchmarks:
        if benchmark not in stored:
            raise WorkbenchError(f"{run.path}: was not evaluated on {benchmark}")
        name = stored[benchmark]
        result = load_result(run, name)
        figures[benchmark] = result.headline.value
        if benchmark == D_PRIME_ON and isinstance(result, VerificationResult):
            figures[D_PRIME] = d_prime(result.scores, result.same)
        angles = load_angles(run, name)
        if benchmark == TRAIN and angles is not None:
            figures[ANGLE_OWN] = float(np.nanmean(angles.own))
            figures[ANGLE_OTHER] = float(np.nanmean(angles.other))
    return figures


def d_prime(scores: ArrayLike, same: ArrayLike) -> float:
    """Computes d', the distance between the scores of genuine and impostor pairs in deviations.

    It is |mean of the genuine scores - mean of the impostor scores|, divided by the root of the
    mean of their two variances: Daugman, "Biometric decision landscapes", University of Cambridge
    technical report 482, 2000, section 1.

    Args:
        scores: (P,) scores of the pairs.
        same: (P,) True for genuine pairs.

    Returns:
        d', at least 0; NaN if there are no genuine or no impostor pairs or all scores of both kinds
        are equal.

    Example:
        >>> from workbench.experiments.reference import d_prime
        >>> d_prime([3.0, 5.0, 0.0, 2.0], [True, True, False, False])
        3.0
    """
    values, genuine = np.asarray(scores, dtype=np.float64), np.asarray(same, dtype=bool)
    if genuine.all() or not genuine.any():
        return float("nan")
    kinds = values[genuine], values[~genuine]
    variance = float(np.mean([np.var(kind) for kind in kinds]))
    difference = abs(float(kinds[0].mean() - kinds[1].mean()))
    return difference / variance**0.5 if variance > 0 else float("nan")
