"""Experiments with several runs: sweeps, comparisons of settings over seeds, the demo."""

from __future__ import annotations

from workbench.experiments.alignment_study import AlignmentStudy, alignment
from workbench.experiments.checking import check_plan
from workbench.experiments.demo import (
    DemoPlan,
    carry_out,
    full_plan,
    live_plan,
)
from workbench.experiments.halving import StopLosers
from workbench.experiments.matching import find
from workbench.experiments.plan import Cell, Plan, read_plan
from workbench.experiments.report import report
from workbench.experiments.results import CellOutcome, SweepResult
from workbench.experiments.searching import SearchResult
from workbench.experiments.significance import (
    Comparison,
    DifferenceTest,
    against_baseline,
    compare,
    pooled_sd,
    seeds_needed,
)
from workbench.experiments.space import Search
from workbench.experiments.sweeping import sweep
from workbench.experiments.tables import best_cells, summary, to_latex, to_markdown

__all__ = [
    "AlignmentStudy",
    "Cell",
    "CellOutcome",
    "Comparison",
    "DemoPlan",
    "DifferenceTest",
    "Plan",
    "Search",
    "SearchResult",
    "StopLosers",
    "SweepResult",
    "against_baseline",
    "alignment",
    "best_cells",
    "carry_out",
    "check_plan",
    "compare",
    "find",
    "full_plan",
    "live_plan",
    "pooled_sd",
    "read_plan",
    "report",
    "seeds_needed",
    "summary",
    "sweep",
    "to_latex",
    "to_markdown",
]
