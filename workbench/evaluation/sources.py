"""Opens the benchmark and the run's training set, without images that cannot be read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from workbench import data, runs
from workbench.arrays import Integers
from workbench.data.dataset import Broken
from workbench.errors import WorkbenchError
from workbench.evaluation.evaluators import Target, evaluator_of

TRAIN = "train"
"""Name of the closed-set evaluation on a run's own training data."""


@dataclass(frozen=True)
class Sources:
    """The images that an evaluation needs, of the benchmark and of the run's training set.

    Attributes:
        run: the run that is evaluated.
        broken: "stop" or "skip"; None means "stop", but for the training set what the run was
            trained with.
        training_data: where the run's training set is now; None if config.yaml is right.
        progress: whether progress bars are shown.
    """

    run: runs.Run
    broken: Broken | None = None
    training_data: str | None = None
    progress: bool = True

    def open(self, benchmark: str | Target) -> tuple[Target, str, data.LeftOut]:
        """Open a benchmark.

        Args:
            benchmark: spec of the benchmark, "train", or an opened benchmark.

        Returns:
            The benchmark without what needs an unreadable image; the fingerprint of the whole
            benchmark; and what is left out.

        Raises:
            WorkbenchError: if it cannot be opened, or too many images cannot be read.
        """
        broken = self.broken or (self.run.config.get("broken") if benchmark == TRAIN else "stop")
        if broken != "skip":
            target = self._open(benchmark)
            return target, target.fingerprint(), data.LeftOut()
        # Faces can be detected only on readable images, so the images of SPEC are read first.
        original = data.unprepared(benchmark) if isinstance(benchmark, str) else benchmark
        whole = self._open(original)
        evaluator = evaluator_of(whole)
        used = evaluator.used_images(whole)
        unreadable = data.find_unreadable(whole.images, used, self._bar(whole.name))
        target, lost_parts = evaluator.without(whole, unreadable)
        left_out = data.LeftOut(unreadable, len(used), lost_parts)
        if isinstance(benchmark, str) and original != benchmark:
            target = self._open(benchmark, unreadable)
        return target, whole.fingerprint(), left_out

    def training_set(self) -> tuple[data.Dataset, Integers]:
        """Open the run's training set.

        Returns:
            The data set, and the numbers of its images that can be used.

        Raises:
            WorkbenchError: as `open_training_set`.
        """
        dataset = open_training_set(self.run, self.training_data)
        numbers = np.arange(len(dataset))
        if (self.broken or self.run.config.get("broken")) != "skip":
            return dataset, numbers
        unreadable = data.find_unreadable(dataset.images, numbers, self._bar("training set"))
        return dataset, np.setdiff1d(numbers, list(unreadable))

    def _bar(self, what: str) -> str:
        """Return the title of the progress bar while images are read; empty for none."""
        return f"{what}: reading" if self.progress else ""

    def _open(self, benchmark: str | Target, unreadable: Collection[int] = ()) -> Target:
        if not isinstance(benchmark, str):
            return benchmark
        if benchmark == TRAIN:
            dataset = open_training_set(self.run, self.training_data)
            note = "training images: shows how well the run fits them, not how it does on new ones"
            return data.ClosedSet(dataset, note)
        target: Target = data.open_without(benchmark, unreadable)
        # Whether faces are cropped or not, the people are the same.
        spec = data.unprepared(benchmark)
        compared: Target = evaluator_of(target).compared_with_training(target, spec, self.run)
        return compared


def open_training_set(run: runs.Run, training_data: str | None = None) -> data.Dataset:
    """Open the data set that a run was trained on.

    Args:
        run: run directory.
        training_data: spec of where the set is now; by default where config.yaml says.

    Returns:
        The data set.

    Raises:
        WorkbenchError: if it cannot be opened, if it is not what the run recorded, or if the run
            was imported, so that its training set is not known.
    """
    if run.config.get("loss") == runs.IMPORTED:
        raise WorkbenchError(
            f"{run.name}: was imported, so what it was trained on is not known; "
            "evaluate on a benchmark"
        )
    trained_on = str(run.config.get("data"))
    if training_data is None:
        remedy = "say where it is now with --data SPEC (training_data in Python)"
        dataset = data.open_stored(trained_on, run.data_folder, str(run.path / runs.CONFIG), remedy)
    else:
        dataset = data.open(training_data)
    recorded = run.environment.get("data")
    fingerprint = recorded.get("fingerprint") if isinstance(recorded, dict) else None
    if dataset.fingerprint() == fingerprint:
        return dataset
    if training_data is None:
        raise WorkbenchError(
            f"{trained_on!r} is no longer what {run.name} was trained on (fingerprint "
            f"{fingerprint})"
        )
    raise WorkbenchError(
        f"--data {training_data}: is not what {run.name} was trained on ({trained_on}): its "
        f"fingerprint is {dataset.fingerprint()}, not {fingerprint}, so it has other images, "
        "people or another order of them"
    )
