"""Making the reference runs that ship with the package: plan, training, packaging, table."""

from __future__ import annotations

from workbench.experiments.reference.measuring import d_prime, measure
from workbench.experiments.reference.packaging import Packaged, package_reference
from workbench.experiments.reference.plan import PlannedRun, planned_runs
from workbench.experiments.reference.reporting import BEGIN, END, draw, plot, table, write_table
from workbench.experiments.reference.rounding import round_weights
from workbench.experiments.reference.training import evaluated_run, is_evaluated, train_reference

__all__ = [
    "BEGIN",
    "END",
    "Packaged",
    "PlannedRun",
    "d_prime",
    "draw",
    "evaluated_run",
    "is_evaluated",
    "measure",
    "package_reference",
    "planned_runs",
    "plot",
    "round_weights",
    "table",
    "train_reference",
    "write_table",
]
