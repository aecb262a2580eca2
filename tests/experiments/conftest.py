"""A training set, benchmarks of other people and a plan that trains within seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers import paint_people

from workbench.experiments.reference import PlannedRun

BASE: dict[str, Any] = {
    "image_size": 16,
    "embedding_dim": 4,
    "batch_size": 8,
    "epochs": 4,
    "backbone_options": {"width": 8},
    "device": "cpu",
    "precision": "fp32",
}


@pytest.fixture(scope="session")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folders of people: `train`, `validation` and `test`."""
    root = tmp_path_factory.mktemp("painted")
    paint_people(root / "train", 4, 4)
    paint_people(root / "validation", 5, 4, shade=30, seed=1)
    paint_people(root / "test", 6, 4, shade=20, seed=2)
    return root


@pytest.fixture
def plan(painted: Path, tmp_path: Path) -> dict[str, Any]:
    """A plan of two losses with two seeds each, in a folder of its own."""
    return {
        "name": "small",
        "directory": str(tmp_path / "out"),
        "base": {**BASE, "data": f"folder:{painted / 'train'}", "runs_dir": str(tmp_path / "runs")},
        "vary": {"loss": ["softmax", "arcface"], "seed": [0, 1]},
        "benchmarks": [f"folder:{painted / 'test'}"],
    }


@pytest.fixture(scope="session")
def tiny_plan(painted: Path) -> list[PlannedRun]:
    """Trainings of two reference runs with two seeds each, which take seconds."""
    return [
        PlannedRun(
            name=loss,
            seed=seed,
            ships=seed == 0,
            settings={
                **BASE,
                "epochs": 2,
                "data": f"folder:{painted / 'train'}",
                "loss": loss,
                "seed": seed,
            },
            benchmarks=(f"folder:{painted / 'test'}", "train"),
        )
        for seed in (0, 1)
        for loss in ("softmax", "arcface")
    ]
