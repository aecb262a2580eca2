"""Figures: plotly from plain arrays and tables. No Streamlit, no torch, nothing computed that a result does not hold."""

from __future__ import annotations

from workbench.plots.angles import centre_angles, margin_curves, margin_slopes, pair_angles, pair_similarity
from workbench.plots.identification import cmc, distractors
from workbench.plots.invariance import invariance, invariance_tar
from workbench.plots.maps import confusion, projection
from workbench.plots.plane import plane
from workbench.plots.rates import accuracy, det, roc
from workbench.plots.training import CURVES, training_curves

__all__ = [
    "CURVES",
    "accuracy",
    "centre_angles",
    "cmc",
    "confusion",
    "det",
    "distractors",
    "invariance",
    "invariance_tar",
    "margin_curves",
    "margin_slopes",
    "pair_angles",
    "pair_similarity",
    "plane",
    "projection",
    "roc",
    "training_curves",
]
