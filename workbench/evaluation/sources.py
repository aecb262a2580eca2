"""The images of an evaluation: a benchmark's and a run's training set, with or without those that cannot be read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from workbench import data, runs
from workbench.arrays import Integers
from workbench.data.dataset import Broken
from workbench.errors import WorkbenchError

TRAIN = "train"
"""Name of the closed-set evaluation on a run's own training data."""
MOST_IMAGES = 50_000
"""A benchmark's images that are embedded without being in a pair."""
Target = data.Benchmark | data.ClosedSet | data.Identification | data.Templates


@dataclass(frozen=True)
class Sources:
    """The images that an evaluation needs: the benchmark's, and those that the run was trained on.

    Attributes:
        run: whose evaluation it is.
        broken: "stop", "skip", or None for what the run was trained with on its training set, and "stop" on all others.
        training_data: where the run's training set is now; None where config.yaml is right.
        progress: show bars.
    """

    run: runs.Run
    broken: Broken | None = None
    training_data: str | None = None
    progress: bool = True

    def open(self, benchmark: str | Target) -> tuple[Target, str, data.LeftOut]:
        """The benchmark as it is evaluated; the fingerprint of the whole one; and what it is then without."""
        broken = self.broken or (self.run.config.get("broken") if benchmark == TRAIN else "stop")
        if broken != "skip":
            target = _open(self.run, benchmark, self.training_data)
            return target, target.fingerprint(), data.LeftOut()
        # Faces are looked for only in what can be read, so what is beneath aligned:SPEC is read first.
        beneath = data.unprepared(benchmark) if isinstance(benchmark, str) else benchmark
        whole = _open(self.run, beneath, self.training_data)
        used, title = used_images(whole), f"{whole.name}: reading" * self.progress
        if isinstance(whole, data.ClosedSet):  # its classes stay as they are
            unreadable = data.find_unreadable(whole.dataset.images, used, title)
            return whole, whole.fingerprint(), data.LeftOut(unreadable, len(used))
        unreadable = data.find_unreadable(whole.images, used, title)
        target = data.without(whole, unreadable)
        left_out = data.LeftOut(unreadable, len(used), data.lost_parts(whole, target))
        if isinstance(benchmark, str) and beneath != benchmark:
            return (
                _open(self.run, benchmark, self.training_data, unreadable),
                whole.fingerprint(),
                left_out,
            )
        return target, whole.fingerprint(), left_out

    def training_set(self) -> tuple[data.Dataset, Integers]:
        """What the run was trained on, and the numbers of its images that are to be used."""
        dataset = open_training_set(self.run, self.training_data)
        every = np.arange(len(dataset))
        if (self.broken or self.run.config.get("broken")) != "skip":
            return dataset, every
        unreadable = data.find_unreadable(
            dataset.images, every, "training set: reading" * self.progress
        )
        return dataset, np.setdiff1d(every, list(unreadable))


def used_images(target: Target) -> Integers:
    """Numbers of the images that will be embedded."""
    if isinstance(target, data.ClosedSet):
        return np.arange(len(target.dataset))
    if isinstance(target, data.Identification):
        return np.unique(np.concatenate([target.gallery, target.probes, target.distractors]))
    return in_templates(target) if isinstance(target, data.Templates) else in_pairs(target)


def in_pairs(target: data.Benchmark) -> Integers:
    """All the benchmark's images, for angles and map; those in pairs alone where there are very many."""
    all_of_them = target.identities is not None and len(target.images) <= MOST_IMAGES
    return np.arange(len(target.images)) if all_of_them else np.unique(target.pairs)


def in_templates(target: data.Templates) -> Integers:
    """The images of templates that are in a pair."""
    return np.flatnonzero(np.isin(target.templates, target.pairs))


def _open(
    run: runs.Run,
    benchmark: str | Target,
    training_data: str | None,
    unreadable: Collection[int] = (),
) -> Target:
    if not isinstance(benchmark, str):
        return benchmark
    trained_on = str(run.config.get("data"))
    if benchmark == TRAIN:
        dataset = open_training_set(run, training_data)
        note = "training images: says how well the run fits them, not how it does on new ones"
        return data.ClosedSet(dataset, note)
    target = data.open_without(benchmark, unreadable)
    benchmark = data.unprepared(benchmark)  # cropped or not, they are the same people
    kinds = [[part.kind for part in data.parts(spec)] for spec in (benchmark, trained_on)]
    if isinstance(target, data.ClosedSet) and kinds[0] != kinds[1]:
        raise other_classes(target, "those", run)
    if (
        isinstance(target, data.Benchmark)
        and data.is_drawn(benchmark)
        and data.same_source(benchmark, trained_on)
    ):
        drawn, known = data.parts(benchmark), data.parts(trained_on)
        whole = {part.source for part in drawn} <= {part.source for part in known}
        whole = whole and not any(part.options for part in [*drawn, *known])
        note = "pairs of the training images: far too good for unseen people"
        note = (
            note
            if whole
            else "from a data set that was trained on too: far too good if people are in both parts"
        )
        return replace(target, note=f"{note}; {target.note}")
    return target


def open_training_set(run: runs.Run, given: str | None = None) -> data.Dataset:
    """The set that the run was trained on.

    Args:
        run: its run directory.
        given: where the set is now; by default where config.yaml says.

    Raises:
        WorkbenchError: it cannot be opened, is not what the run recorded, or was never known, as the run was imported.
    """
    if run.config.get("loss") == runs.IMPORTED:
        raise WorkbenchError(
            f"{run.name}: was imported, so what it was trained on is not known; evaluate on a benchmark"
        )
    trained_on = str(run.config.get("data"))
    if given is None:
        remedy = "say where it is now with --data SPEC (training_data in Python)"
        dataset = data.open_stored(trained_on, run.data_folder, str(run.path / runs.CONFIG), remedy)
    else:
        dataset = data.open(given)
    recorded = run.environment.get("data")
    known = recorded.get("fingerprint") if isinstance(recorded, dict) else None
    if dataset.fingerprint() == known:
        return dataset
    if given is None:
        raise WorkbenchError(
            f"{trained_on!r} is no longer what {run.name} was trained on (fingerprint {known})"
        )
    raise WorkbenchError(
        f"--data {given}: is not what {run.name} was trained on ({trained_on}): its fingerprint is {dataset.fingerprint()}, "
        f"not {known}, so it has other images, people or another order of them"
    )


def other_classes(target: data.ClosedSet, known: str, run: runs.Run) -> WorkbenchError:
    """The error for a closed set whose classes are not those of the run."""
    imported = run.config.get("loss") == runs.IMPORTED
    knows = (
        "was imported and knows none"
        if imported
        else f"knows {known} of {run.config.get('data')!r}"
    )
    return WorkbenchError(
        f"{target.name}: {target.dataset.num_identities} classes, but {run.name} {knows}; "
        "closed-set accuracy needs the classes of the training set"
    )
