"""Evaluators: one file for each type of benchmark, which defines how it is evaluated.

A new type of benchmark needs one file here: its result, decorated with `@register_result`, and its
evaluator, decorated with `@evaluates(TYPE)`. The file is imported below, so that both are
registered.
"""

from __future__ import annotations

from workbench.evaluation.evaluators import (  # noqa: F401  (they register)
    attributes,
    classification,
    pairs,
    search,
    template_pairs,
)
from workbench.evaluation.evaluators.base import (
    EvaluationContext,
    Evaluator,
    Measurement,
    Target,
    evaluates,
    evaluator_of,
)

__all__ = [
    "EvaluationContext",
    "Evaluator",
    "Measurement",
    "Target",
    "evaluates",
    "evaluator_of",
]
