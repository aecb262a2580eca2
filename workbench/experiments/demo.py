"""The configs and the benchmarks of the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workbench.training import TrainConfig

DEMO_BENCHMARKS = tuple(
    f"synthfaces-{kind}"
    for kind in ("frontal", "pose", "age", "light", "occlusion", "id", "invariance")
)
"""Benchmarks on which the demo evaluates its runs."""
DEMO_LOSSES: dict[str, dict[str, Any]] = {
    "softmax": {},
    "normface": {"loss_options": {"s": 32.0}},
    "sphereface": {"loss_options": {"m": 2.0, "lambda_base": 100.0, "lambda_min": 2.0}},
    "cosface": {"loss_options": {"s": 32.0, "m": 0.25}, "margin_ramp_epochs": 2.0},
    "arcface": {"loss_options": {"s": 32.0, "m": 0.35}, "margin_ramp_epochs": 2.0},
    "triplet": {"loss_options": {"mining": "all"}},
}
"""Losses of the demo, and the settings of each.

The papers chose their scales and margins for thousands of classes and long training. The demo
uses half of these scales and somewhat smaller margins, which grow from 0 in the first two epochs
so that training converges sooner. The annealing of SphereFace is shortened to the length of the
demo. The triplet loss uses all triplets, because batch-hard mining needs longer training.
"""


def demo_configs(runs_dir: str | Path = "runs") -> list[TrainConfig]:
    """Returns the configs of the demo, which trains six losses on 200 synthetic people.

    Args:
        runs_dir: Folder of the run directories.

    Example:
        >>> from workbench import experiments
        >>> [config.loss for config in experiments.demo_configs()]
        ['softmax', 'normface', 'sphereface', 'cosface', 'arcface', 'triplet']
    """
    return [
        TrainConfig(
            **{
                "data": "synthfaces",
                "backbone": "smallresnet",
                "loss": loss,
                "image_size": 64,
                "epochs": 4,
                "batch_size": 128,
                "decay_norm_and_bias": True,  # all weights decay, as in arcface_torch
                "log_every": 5,
                "runs_dir": str(runs_dir),
                "name": f"{loss}-synthfaces-demo",
                **settings,
            }
        )
        for loss, settings in DEMO_LOSSES.items()
    ]
