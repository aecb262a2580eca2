"""Evaluates closed sets: labelled images of the classes that the run was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workbench import data, runs
from workbench.arrays import Integers
from workbench.errors import WorkbenchError
from workbench.evaluation.angles import Angles, to_centres, to_identity_means
from workbench.evaluation.closed_set import NEAREST_MEAN, closed_set, identity_means, nearest_mean
from workbench.evaluation.evaluators.base import (
    EvaluationContext,
    Evaluator,
    Measurement,
    among_all,
    evaluates,
)
from workbench.evaluation.protocol import FLIPS, Protocol


class _Predicted(NamedTuple):
    embeddings: NDArray[np.float32]
    classes: Integers
    angles: Angles
    prediction: str
    """how classes were predicted, for the protocol"""
    note: str = ""


@evaluates(data.ClosedSet)
class ClosedSetEvaluator(Evaluator[data.ClosedSet]):
    """Predicts a class for each image: by the highest logit, or else by the nearest class mean."""

    def evaluate(self, target: data.ClosedSet, context: EvaluationContext) -> Measurement:
        dataset = target.dataset
        numbers = np.setdiff1d(self.used_images(target), context.left_out.numbers)
        labels = dataset.identities[numbers]
        predict = _by_logits if context.model.centres is not None else _by_means
        predicted = predict(target, numbers, labels, context)
        names = tuple(dataset.identity_names)
        result = replace(
            closed_set(labels, predicted.classes, list(names)),
            note="; ".join(note for note in (target.note, predicted.note) if note),
            protocol={"prediction": predicted.prediction, "flip": FLIPS[context.flip]},
        )
        angles = among_all(predicted.angles, numbers, len(dataset))
        return Measurement(result, numbers, predicted.embeddings, labels, names, angles)

    def check(self, target: data.ClosedSet, protocol: Protocol) -> None:
        super().check(target, protocol)
        if protocol.flip == "concatenate":
            raise WorkbenchError(
                f"{target.name}: flip must be add or none for a closed set; class centres do not "
                "fit concatenated embeddings"
            )

    def without(
        self, target: data.ClosedSet, unreadable: Mapping[int, Any]
    ) -> tuple[data.ClosedSet, Mapping[str, tuple[int, int]]]:
        """Return the closed set unchanged, to keep its classes; `evaluate` skips the images."""
        return target, {}

    def compared_with_training(
        self, target: data.ClosedSet, spec: str, run: runs.Run
    ) -> data.ClosedSet:
        """Refuse a closed set whose source is not that of the training set.

        The classes of another source are not those that the run was trained on.
        """
        sources = [
            [part.kind for part in data.parts(one)] for one in (spec, str(run.config.get("data")))
        ]
        if sources[0] != sources[1]:
            raise _other_classes(target, "those", run)
        return target


def _by_logits(
    target: data.ClosedSet, numbers: Integers, labels: Integers, context: EvaluationContext
) -> _Predicted:
    """Predict with the class centres that the loss has learned."""
    model = context.model
    assert model.centres is not None
    _check_classes(context.run, target, len(model.centres))
    embeddings = context.embed(target.images, numbers)
    # A loss with a bias depends on the length of an embedding, so the sum of two is halved.
    factor = 0.5 if context.flip == "add" else 1.0
    return _Predicted(
        embeddings,
        model.classify(embeddings * np.float32(factor)),
        to_centres(embeddings, labels, model.centres),
        "highest logit, without margin; the label is not an input",
    )


def _by_means(
    target: data.ClosedSet, numbers: Integers, labels: Integers, context: EvaluationContext
) -> _Predicted:
    """Predict with the mean embeddings of the training images, as the loss has no class centres."""
    training, readable = context.training_set()
    _check_classes(context.run, target, training.num_identities)
    embeddings = context.embed(target.images, numbers)
    means = "mean embedding of each identity's training images"
    if target.fingerprint() == training.fingerprint():
        classes = nearest_mean(embeddings, labels)
        angles = to_identity_means(embeddings, labels)
        means += ", the image itself left out of its own"
    else:
        _check_all_have_images(training, readable)
        of_training = context.embed(training.images, readable, "training set")
        training_labels = training.identities[readable]
        classes = nearest_mean(of_training, training_labels, embeddings)
        angles = to_centres(embeddings, labels, identity_means(of_training, training_labels))
    return _Predicted(
        embeddings,
        classes,
        angles,
        f"{NEAREST_MEAN}, by cosine ({means})",
        "the loss has no class centres: compared with mean embeddings",
    )


def _check_all_have_images(training: data.Dataset, readable: Integers) -> None:
    counts = np.bincount(training.identities[readable], minlength=training.num_identities)
    if (empty := np.flatnonzero(counts == 0)).size:
        raise WorkbenchError(
            f"{training.name}: none of the images of {training.identity_names[empty[0]]} can be "
            "read, so this identity has no mean embedding; the loss has no class centres to use "
            "instead"
        )


def _check_classes(run: runs.Run, target: data.ClosedSet, classes: int) -> None:
    if target.dataset.num_identities != classes:
        raise _other_classes(target, f"the {classes}", run)


def _other_classes(target: data.ClosedSet, classes: str, run: runs.Run) -> WorkbenchError:
    """Return the error for a closed set whose classes are not those of the run."""
    if run.config.get("loss") == runs.IMPORTED:
        knows = "was imported and knows none"
    else:
        knows = f"knows {classes} of {run.config.get('data')!r}"
    return WorkbenchError(
        f"{target.name}: {target.dataset.num_identities} classes, but {run.name} {knows}; "
        "closed-set accuracy needs the classes of the training set"
    )
