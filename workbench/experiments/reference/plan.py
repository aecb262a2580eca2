"""The plan of the reference runs: which runs the package ships, and how each is trained.

This file is the one place where the settings, the seeds and the benchmarks of the reference runs
are determined. `workbench reference train` trains what is written here.

Settings are compared only on people whom no figure of the reference runs shows: those of main runs
on the benchmarks `synthfaces-...:seed=7`, and those of flat runs on the training people
`synthfaces:10x40,seed=7`. docs/guide/reference-runs.md says which settings were compared so far.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError, unknown_name
from workbench.training import TrainConfig

SEEDS = (0, 1, 2)
"""Seeds with which each main run is trained, for the table. The weights of the first one ship."""

COMMON: dict[str, Any] = {
    "backbone": "smallresnet",
    "augment": "mirror",
    "log_every": 10,
    "snapshots": ["train", "synthfaces-frontal"],
}
"""Settings of all reference runs."""

MAIN: dict[str, Any] = {
    "data": "synthfaces",
    "image_size": 48,
    "batch_size": 128,
    "epochs": 16,
    "optimizer": "SGD",
    "lr": 0.1,
}
"""Settings of the main runs: 200 people with 40 images each, embeddings of length 128."""

MAIN_LOSSES: dict[str, dict[str, Any]] = {
    "softmax": {},
    "normface": {"loss_options": {"s": 16.0}},
    "sphereface": {"loss_options": {"m": 2.0, "lambda_base": 100.0, "lambda_min": 2.0}},
    "cosface": {"loss_options": {"s": 16.0, "m": 0.35}, "margin_ramp_epochs": 6.0},
    "arcface": {"loss_options": {"s": 32.0, "m": 0.5}, "margin_ramp_epochs": 6.0},
    "adaface": {"loss_options": {"s": 32.0, "m": 0.4}, "margin_ramp_epochs": 6.0},
    "triplet": {"loss_options": {"mining": "all"}},
    "center": {},
}
"""Losses of the main runs, and what each is trained with besides `MAIN`.

The papers chose their scales for thousands of classes and long training; the usual scale is 64.
For 200 people, 16 and 32 were compared on the validation people for NormFace, CosFace and ArcFace.
A margin grows from 0 over the first part of the training. `center` is softmax with the centre loss.
"""

FLAT: dict[str, Any] = {
    "data": "synthfaces@10x40",
    "backbone_options": {"width": 8},
    "image_size": 48,
    "batch_size": 40,
    "epochs": 60,
    "optimizer": "Adam",
    "lr": 0.003,
    "weight_decay": 5e-5,
    "warmup_epochs": 4.0,
}
"""Settings of the runs with embeddings of length 2 and 3: the first 10 people of `synthfaces`. In
the plane, class centres can hardly pass each other. Adam with a small scale lets them spread."""

FLAT_DIMENSIONS = (2, 3)

FLAT_LOSSES: dict[str, dict[str, Any]] = {
    "softmax": {"lr_factor_loss": 10.0},
    "normface": {"loss_options": {"s": 8.0}},
    "cosface": {"loss_options": {"s": 8.0, "m": 0.15}, "margin_ramp_epochs": 40.0},
    "arcface": {"loss_options": {"s": 8.0, "m": 0.25}, "margin_ramp_epochs": 40.0},
}
"""Losses of the flat runs, and what each is trained with besides `FLAT`.

The class centres of softmax also learn their lengths. With the learning rate of the network, some
of them stayed in the same direction.
"""

BENCHMARKS = (
    "synthfaces-frontal",
    "synthfaces-pose",
    "synthfaces-age",
    "synthfaces-light",
    "synthfaces-occlusion",
    "synthfaces-id",
    "train",
)
"""Benchmarks on which each main run is evaluated, with every seed. `train` is the training set."""

SHIPPED_BENCHMARKS = (*BENCHMARKS, "synthfaces-invariance")
"""Benchmarks on which the main runs are evaluated whose weights ship."""

FLAT_BENCHMARKS = ("synthfaces-frontal", "train")
"""Benchmarks on which the flat runs are evaluated."""


@dataclass(frozen=True)
class PlannedRun:
    """One training of a reference run.

    Attributes:
        name: Name of the reference run, such as "arcface-2d".
        seed: The seed.
        ships: Whether the weights of this seed ship with the package.
        settings: All settings but the folder and the name of the run directory.
        benchmarks: Specs of the benchmarks on which it is evaluated.
    """

    name: str
    seed: int
    ships: bool
    settings: dict[str, Any]
    benchmarks: tuple[str, ...]

    @property
    def title(self) -> str:
        """The run in words, for messages."""
        return f"{self.name}, seed {self.seed}"

    def config(self, folder: str | Path) -> TrainConfig:
        """Returns the settings of the training.

        Args:
            folder: Folder in which the run directory is created.
        """
        return TrainConfig(
            **self.settings, runs_dir=str(folder), name=f"{self.name}-seed{self.seed}"
        )


def planned_runs(
    only: Iterable[str] | None = None, seeds: Sequence[int] | None = None
) -> list[PlannedRun]:
    """Returns the trainings that the reference runs consist of, those that ship first.

    Args:
        only: Names of the reference runs, such as ["arcface", "arcface-2d"]; by default all.
        seeds: Seeds; by default all of the plan.

    Returns:
        The trainings. Flat runs have only the first seed.

    Raises:
        WorkbenchError: if there is no reference run of a name, or no training with a seed.

    Example:
        >>> from workbench.experiments.reference import planned_runs
        >>> [planned.title for planned in planned_runs(["arcface", "arcface-2d"], [0, 1])]
        ['arcface, seed 0', 'arcface-2d, seed 0', 'arcface, seed 1']
    """
    planned = [*_main_runs(), *_flat_runs()]
    names = {one.name for one in planned}
    wanted = names if only is None else set(only)
    for name in wanted:
        if name not in names:
            raise unknown_name("reference run", name, names)
    chosen = [one for one in planned if one.name in wanted and (seeds is None or one.seed in seeds)]
    if not chosen:
        raise WorkbenchError(
            f"no reference run in {', '.join(sorted(wanted))} has the seed "
            f"{', '.join(map(str, seeds or ()))}; the seeds are "
            f"{', '.join(map(str, SEEDS))}, of flat runs only {SEEDS[0]}"
        )
    return sorted(chosen, key=lambda one: one.seed)


def main_settings(loss: str, seed: int) -> dict[str, Any]:
    """Returns the settings of a main run, without its name and folder.

    Args:
        loss: One of `MAIN_LOSSES`.
        seed: The seed.
    """
    return {**COMMON, **MAIN, "loss": loss, "seed": seed, **MAIN_LOSSES[loss]}


def _main_runs() -> list[PlannedRun]:
    return [
        PlannedRun(
            name=loss,
            seed=seed,
            ships=seed == SEEDS[0],
            settings=main_settings(loss, seed),
            benchmarks=SHIPPED_BENCHMARKS if seed == SEEDS[0] else BENCHMARKS,
        )
        for loss in MAIN_LOSSES
        for seed in SEEDS
    ]


def _flat_runs() -> list[PlannedRun]:
    return [
        PlannedRun(
            name=f"{loss}-{dimension}d",
            seed=SEEDS[0],
            ships=True,
            settings={
                **COMMON,
                **FLAT,
                "loss": loss,
                "embedding_dim": dimension,
                "seed": SEEDS[0],
                **settings,
            },
            benchmarks=FLAT_BENCHMARKS,
        )
        for dimension in FLAT_DIMENSIONS
        for loss, settings in FLAT_LOSSES.items()
    ]
