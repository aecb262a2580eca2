"""Evaluates benchmarks of pairs: are the two images of a pair of the same person?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workbench import data, runs
from workbench.arrays import Integers
from workbench.evaluation.angles import to_identity_means
from workbench.evaluation.evaluators.base import (
    EvaluationContext,
    Evaluator,
    Measurement,
    among_all,
    check_both_kinds,
    evaluates,
)
from workbench.evaluation.invariance import pair_gaps
from workbench.evaluation.protocol import Protocol
from workbench.evaluation.verification import VerificationResult, verification

if TYPE_CHECKING:
    from workbench.evaluation.model import Model

MOST_IMAGES = 50_000
"""In a benchmark with more images than this, only images that are in a pair are embedded."""


@evaluates(data.Benchmark)
class PairsEvaluator(Evaluator[data.Benchmark]):
    """Scores each pair and computes verification figures."""

    def evaluate(self, target: data.Benchmark, context: EvaluationContext) -> Measurement:
        gaps = pair_gaps(target.attributes, target.pairs, target.same, target.identities)
        numbers = np.setdiff1d(self.used_images(target), context.left_out.numbers)
        embeddings = context.embed(target.images, numbers)
        result = _verify(target, _at_all_places(embeddings, numbers, len(target.images)), context)
        if target.identities is None:
            labels = np.full(len(numbers), -1, dtype=np.int64)
            angles = None
        else:
            labels = target.identities[numbers]
            of_some = to_identity_means(embeddings, labels)
            angles = among_all(of_some, numbers, len(target.images))
        return Measurement(result, numbers, embeddings, labels, target.identity_names, angles, gaps)

    def check(self, target: data.Benchmark, protocol: Protocol) -> None:
        check_both_kinds(target, target.same)

    def used_images(self, target: data.Benchmark) -> Integers:
        """Return all images, which angles and the map show.

        If identities are unknown or there are very many images, only those in pairs are returned.
        """
        if target.identities is not None and len(target.images) <= MOST_IMAGES:
            return np.arange(len(target.images))
        return np.unique(target.pairs)

    def stored_bytes(self, target: data.Benchmark, model: Model) -> int:
        return 32 * (len(target.images) + len(target.pairs))

    def without(
        self, target: data.Benchmark, unreadable: Mapping[int, Any]
    ) -> tuple[data.Benchmark, Mapping[str, tuple[int, int]]]:
        reduced = data.without(target, unreadable)
        return reduced, data.lost_parts(target, reduced)

    def compared_with_training(
        self, target: data.Benchmark, spec: str, run: runs.Run
    ) -> data.Benchmark:
        """Add a note to pairs that are drawn from the data set that the run was trained on."""
        trained_on = str(run.config.get("data"))
        if not (data.is_drawn(spec) and data.same_source(spec, trained_on)):
            return target
        of_pairs, of_training = data.parts(spec), data.parts(trained_on)
        all_trained_on = {part.source for part in of_pairs} <= {part.source for part in of_training}
        if all_trained_on and not any(part.options for part in [*of_pairs, *of_training]):
            note = "pairs of the training images: the figures are far too good for unseen people"
        else:
            note = (
                "pairs from a data set that the run was also trained on: the figures are far too "
                "good if people are in both parts"
            )
        return replace(target, note=f"{note}; {target.note}")


def _at_all_places(
    embeddings: NDArray[np.float32], numbers: Integers, count: int
) -> NDArray[np.float32]:
    """Return one row for each image of the benchmark; it is 0 if the image was not embedded."""
    if len(numbers) == count:
        return embeddings
    placed = np.zeros((count, embeddings.shape[1]), dtype=np.float32)
    placed[numbers] = embeddings
    return placed


def _verify(
    target: data.Benchmark, embeddings: NDArray[np.float32], context: EvaluationContext
) -> VerificationResult:
    """Score the pairs and compute the result, with note and protocol."""
    protocol = context.protocol
    folds = protocol.folds_of(target.folds)
    people = None if target.identities is None else target.identities[target.pairs]
    result = verification(
        protocol.scores(embeddings, target.pairs, folds),
        target.same,
        folds,
        people=people,
        candidates=protocol.candidates,
        intervals=context.bootstrap > 0,
    )
    words = {**protocol.words(), **result.protocol, **protocol.candidates_in_words}
    return replace(result, note=target.note, protocol=words)
