"""Making the reference runs that ship with the package: the plan and the training."""

from __future__ import annotations

from workbench.experiments.reference.plan import PlannedRun, planned_runs
from workbench.experiments.reference.rounding import round_weights
from workbench.experiments.reference.training import evaluated_run, is_evaluated, train_reference

__all__ = [
    "PlannedRun",
    "evaluated_run",
    "is_evaluated",
    "planned_runs",
    "round_weights",
    "train_reference",
]
