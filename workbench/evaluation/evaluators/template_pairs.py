"""Evaluates pairs of templates, as on IJB-B and IJB-C: do two sets of images show one person?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from workbench import data
from workbench.arrays import Integers
from workbench.evaluation.evaluators.base import (
    EvaluationContext,
    Evaluator,
    Measurement,
    check_both_kinds,
    evaluates,
)
from workbench.evaluation.protocol import FLIPS, Protocol
from workbench.evaluation.templates import pool, template_scores, template_verification
from workbench.evaluation.verification import IJB_PROTOCOL

if TYPE_CHECKING:
    from workbench.evaluation.model import Model


@evaluates(data.Templates)
class TemplatesEvaluator(Evaluator[data.Templates]):
    """Pools the embeddings of each template, scores each pair of templates, and verifies."""

    def evaluate(self, target: data.Templates, context: EvaluationContext) -> Measurement:
        numbers = self.used_images(target)
        embeddings = context.embed(target.faces, numbers)
        weights = None if target.detector_scores is None else target.detector_scores[numbers]
        templates, pooled = pool(
            embeddings,
            target.templates[numbers],
            target.media[numbers],
            weights,
            keep_norm=target.keep_norm,
        )
        scores = template_scores(templates, pooled, target.pairs, context.bar("pairs"))
        result = template_verification(scores, target.same, intervals=context.bootstrap > 0)
        protocol = _protocol_in_words(target, context) | result.protocol
        unknown = np.full(len(numbers), -1, dtype=np.int64)
        annotated = replace(result, note=target.note, protocol=protocol)
        return Measurement(annotated, numbers, embeddings, unknown)

    def check(self, target: data.Templates, protocol: Protocol) -> None:
        super().check(target, protocol)
        check_both_kinds(target, target.same)

    def used_images(self, target: data.Templates) -> Integers:
        """Return the images of the templates that are in a pair."""
        return np.flatnonzero(np.isin(target.templates, target.pairs))

    def stored_bytes(self, target: data.Templates, model: Model) -> int:
        return 32 * (len(target.images) + len(target.pairs))

    def without(
        self, target: data.Templates, unreadable: Mapping[int, Any]
    ) -> tuple[data.Templates, Mapping[str, tuple[int, int]]]:
        reduced = cast(data.Templates, data.without(target, unreadable))
        return reduced, data.lost_parts(target, reduced)


def _protocol_in_words(target: data.Templates, context: EvaluationContext) -> dict[str, Any]:
    weights = "none" if target.detector_scores is None else "the detector's score"
    aligned = "by the benchmark's landmarks, 112 x 112"
    return {
        "protocol": IJB_PROTOCOL,
        "score": (
            "cosine of the templates: mean of the embeddings of each photo or video, sum of these"
        ),
        "flip": FLIPS[context.flip],
        "length of embeddings": "as it is" if target.keep_norm else "1",
        "weight of embeddings": weights,
        "alignment": "images as they are" if target.landmarks is None else aligned,
    }
