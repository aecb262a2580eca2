"""Functions that draw results with plotly. They need neither Streamlit nor torch."""

from __future__ import annotations

from workbench.plots.alignment import alignment
from workbench.plots.angles import (
    centre_angles,
    margin_curves,
    margin_slopes,
    pair_angles,
    pair_similarity,
)
from workbench.plots.datasets import augmentations, images_per_identity
from workbench.plots.identification import cmc, distractors, open_set_det
from workbench.plots.invariance import invariance, invariance_tar
from workbench.plots.maps import confusion, projection
from workbench.plots.plane import plane
from workbench.plots.rates import accuracy, det, roc
from workbench.plots.seeds import seeds
from workbench.plots.snapshots import (
    SNAPSHOT_CURVES,
    snapshot_angles,
    snapshot_curves,
    snapshot_map,
)
from workbench.plots.sphere import sphere
from workbench.plots.sweeps import sweep
from workbench.plots.tasks import calibration, error_by_range, task_balance
from workbench.plots.training import CURVES, learning_rates, training_curves

__all__ = [
    "CURVES",
    "SNAPSHOT_CURVES",
    "accuracy",
    "alignment",
    "augmentations",
    "calibration",
    "centre_angles",
    "cmc",
    "confusion",
    "det",
    "distractors",
    "error_by_range",
    "images_per_identity",
    "invariance",
    "invariance_tar",
    "learning_rates",
    "margin_curves",
    "margin_slopes",
    "open_set_det",
    "pair_angles",
    "pair_similarity",
    "plane",
    "projection",
    "roc",
    "seeds",
    "snapshot_angles",
    "snapshot_curves",
    "snapshot_map",
    "sphere",
    "sweep",
    "task_balance",
    "training_curves",
]
