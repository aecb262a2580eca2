"""Experiments with several runs: sweeps, comparisons of losses over seeds, the demo."""

from __future__ import annotations

from workbench.experiments.alignment_study import AlignmentStudy, alignment
from workbench.experiments.demo import DEMO_BENCHMARKS, DEMO_LOSSES, demo_configs
from workbench.experiments.matching import find

__all__ = [
    "DEMO_BENCHMARKS",
    "DEMO_LOSSES",
    "AlignmentStudy",
    "alignment",
    "demo_configs",
    "find",
]
