"""Evaluates benchmarks of attributes: the heads of a run's tasks estimate them for each image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import data, runs
from workbench.arrays import Integers
from workbench.data.sources.utkface import places
from workbench.errors import WorkbenchError
from workbench.evaluation.attributes import (
    AttributesResult,
    class_estimates,
    number_estimates,
)
from workbench.evaluation.evaluators.base import (
    EvaluationContext,
    Evaluator,
    Measurement,
    evaluates,
)
from workbench.evaluation.protocol import FLIPS, Protocol

if TYPE_CHECKING:
    from workbench.tasks import Head

TRAINED_ON = (
    "the run was also trained on these images or a part of them: the figures are far too good for "
    "new images"
)


@evaluates(data.Attributes)
class AttributesEvaluator(Evaluator[data.Attributes]):
    """Compares the estimates of each task whose attribute the benchmark has."""

    def evaluate(self, target: data.Attributes, context: EvaluationContext) -> Measurement:
        heads = _heads_for(target, context)
        dataset = target.dataset
        numbers = np.setdiff1d(self.used_images(target), context.left_out.numbers)
        embeddings = context.embed(target.images, numbers)
        estimates = context.model.estimate(embeddings)
        people = dataset.identities[numbers] if target.has_people else None
        result = AttributesResult({}, {}, {name: head.attribute for name, head in heads.items()})
        for name, head in heads.items():
            column = [dataset.attributes[head.attribute][number] for number in numbers.tolist()]
            where = f"{target.name}, {head.attribute}"
            estimate = estimates[name]
            if estimate.classes is not None:
                true = head.targets(column, where)
                known = _labelled(true, where)
                result.classes[name] = class_estimates(
                    true[known].astype(np.int64),
                    estimate.classes[known],
                    estimate.class_names,
                    None if people is None else people[known],
                )
            if estimate.numbers is not None:
                true = head.numbers(column, where)
                known = _labelled(true, where)
                result.numbers[name] = number_estimates(
                    true[known],
                    estimate.numbers[known],
                    None if people is None else people[known],
                )
        unit = "people" if target.has_people else "images (people are not known)"
        result = replace(
            result,
            note=target.note,
            protocol={
                "estimates": "heads of the tasks on the embedding",
                "flip": FLIPS[context.flip],
                "interval": f"95 %, jackknife over {unit}",
            },
        )
        labels = np.full(len(numbers), -1) if people is None else people
        names = tuple(dataset.identity_names) if target.has_people else ()
        return Measurement(result, numbers, embeddings, labels, names)

    def check(self, target: data.Attributes, protocol: Protocol) -> None:
        super().check(target, protocol)
        if protocol.flip == "concatenate":
            raise WorkbenchError(
                f"{target.name}: flip must be add or none for attributes; the heads of tasks do "
                "not fit concatenated embeddings"
            )

    def without(
        self, target: data.Attributes, unreadable: Mapping[int, Any]
    ) -> tuple[data.Attributes, Mapping[str, tuple[int, int]]]:
        """Return the benchmark unchanged; `evaluate` skips the images."""
        return target, {}

    def compared_with_training(
        self, target: data.Attributes, spec: str, run: runs.Run
    ) -> data.Attributes:
        """Add a note if the run was trained on images of the benchmark."""
        benchmark = spec.removeprefix("attributes:")
        if not data.is_source(benchmark):  # synthetic people of no training set
            return target
        tasks = run.config.get("tasks") or {}
        trained_on = [run.config.get("data"), *(one.get("data") for one in tasks.values())]
        if any(overlap(benchmark, str(one)) for one in trained_on if one is not None):
            note = f"{TRAINED_ON}; {target.note}" if target.note else TRAINED_ON
            return replace(target, note=note)
        return target


def overlap(benchmark: str, trained_on: str) -> bool:
    """Return whether two data sets may have images in common, judged by their specs.

    Args:
        benchmark: spec of the data set that is evaluated.
        trained_on: spec of the training set.

    Returns:
        Whether both name the same source, unless they are different parts of UTKFace.

    Example:
        >>> overlap("utkface:faces,part=test", "utkface:faces,part=train")
        False
        >>> overlap("utkface:faces,part=test", "utkface:faces")
        True
    """
    return any(
        _same_images(one, other)
        for one in data.parts(benchmark)
        for other in data.parts(trained_on)
    )


def _same_images(one: data.Part, other: data.Part) -> bool:
    if one.kind != other.kind:
        return False
    if one.kind != "utkface":
        return one.source == other.source
    (place, part), (other_place, other_part) = places(one.path), places(other.path)
    return place == other_place and (None in (part, other_part) or part == other_part)


def _heads_for(target: data.Attributes, context: EvaluationContext) -> dict[str, Head]:
    """Return the heads of the tasks whose attribute the benchmark has."""
    heads = context.model.heads
    usable = {name: one for name, one in heads.items() if one.attribute in target.columns}
    if not heads:
        raise WorkbenchError(
            f"{context.run.name}: has no heads of tasks, so it cannot estimate attributes; train "
            "with the setting tasks, such as tasks: {gender: {kind: classes}}"
        )
    if not usable:
        raise WorkbenchError(
            f"{target.name}: has the attributes {', '.join(target.columns)[:120]}, but the tasks "
            f"of {context.run.name} estimate {', '.join(one.attribute for one in heads.values())}"
        )
    return usable


def _labelled(true: np.ndarray, where: str) -> Integers:
    known = np.flatnonzero(~np.isnan(true))
    if not len(known):
        raise WorkbenchError(f"{where}: no image has a label")
    return known
