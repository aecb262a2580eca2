"""Evaluates identification: probes are searched for in a gallery and among distractors."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from workbench import data
from workbench.arrays import Integers
from workbench.errors import WorkbenchError
from workbench.evaluation.angles import to_identity_means
from workbench.evaluation.evaluators.base import (
    EvaluationContext,
    Evaluator,
    Measurement,
    among_all,
    evaluates,
)
from workbench.evaluation.identification import Candidates, IdentificationResult, identification
from workbench.evaluation.open_set import open_set
from workbench.evaluation.protocol import FLIPS, SCORES

if TYPE_CHECKING:
    from workbench.evaluation.model import Model

CHUNK = 100_000
"""Most embeddings of distractors that are held in memory; more are held in a file."""


@evaluates(data.Identification)
class IdentificationEvaluator(Evaluator[data.Identification]):
    """Computes closed-set and open-set identification. Angles and map show only enrolled people."""

    def evaluate(self, target: data.Identification, context: EvaluationContext) -> Measurement:
        numbers = np.unique(np.concatenate([target.gallery, target.probes]))
        embeddings = context.embed(target.images, numbers)
        with _embedded(target.images, target.distractors, context) as distractors:
            result = _identify(target, embeddings, numbers, distractors, context)
        labels = target.identities[numbers]
        angles = among_all(to_identity_means(embeddings, labels), numbers, len(target.images))
        return Measurement(result, numbers, embeddings, labels, target.identity_names, angles)

    def used_images(self, target: data.Identification) -> Integers:
        return np.unique(np.concatenate([target.gallery, target.probes, target.distractors]))

    def stored_bytes(self, target: data.Identification, model: Model) -> int:
        in_file = len(target.distractors) if len(target.distractors) > CHUNK else 0
        return 32 * len(target.images) + in_file * 4 * 2 * model.net.embedding_dim

    def without(
        self, target: data.Identification, unreadable: Mapping[int, Any]
    ) -> tuple[data.Identification, Mapping[str, tuple[int, int]]]:
        reduced = cast(data.Identification, data.without(target, unreadable))
        return reduced, data.lost_parts(target, reduced)


def _identify(
    target: data.Identification,
    embeddings: NDArray[np.float32],
    numbers: Integers,
    distractors: NDArray[np.float32],
    context: EvaluationContext,
) -> IdentificationResult:
    """Search the gallery for the probes, and for the distractors too in the open set."""
    probes = embeddings[np.searchsorted(numbers, target.probes)]
    gallery = embeddings[np.searchsorted(numbers, target.gallery)]
    identities = target.identities[target.probes], target.identities[target.gallery]
    closed = identification(
        probes,
        gallery,
        distractors,
        *identities,
        candidates=cast(Candidates, target.candidates),
        bootstrap=context.bootstrap,
    )
    opened = open_set(
        probes,
        gallery,
        distractors,
        *identities,
        target.identities[target.distractors],
        bootstrap=context.bootstrap,
    )
    scored = {"score": SCORES["cosine"], "flip": FLIPS[context.flip]}
    opened = replace(opened, protocol=scored | opened.protocol)
    return replace(closed, open_set=opened, note=target.note, protocol=scored | closed.protocol)


@contextmanager
def _embedded(
    images: data.Images, numbers: Integers, context: EvaluationContext
) -> Iterator[NDArray[np.float32]]:
    """Embed distractors; more than `CHUNK` are held in a temporary file in the run directory."""
    if len(numbers) <= CHUNK:
        yield context.embed(images, numbers, "distractors")
        return
    path = context.run.path
    with tempfile.TemporaryFile(dir=path) as file:
        count = -(-len(numbers) // CHUNK)
        for part in range(count):
            chunk = numbers[part * CHUNK : (part + 1) * CHUNK]
            embeddings = context.embed(images, chunk, f"distractors, part {part + 1} of {count}")
            try:
                file.write(embeddings.tobytes())
                file.flush()
            except OSError as error:
                size = len(numbers) * embeddings.shape[1] * 4 / 1e9
                raise WorkbenchError(
                    f"{path}: no room for the distractors' embeddings, {size:.1f} GB "
                    f"({error.strerror})"
                ) from None
        yield np.memmap(file, np.float32, "r", shape=(len(numbers), embeddings.shape[1]))
