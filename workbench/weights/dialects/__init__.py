"""Translating the names that other programs give to the weights of registered backbones."""

from __future__ import annotations

from collections.abc import Iterator

from workbench.weights.dialects import adaface, mobilefacenets, transformers
from workbench.weights.dialects.reading import Reading
from workbench.weights.state_dict import StateDict

__all__ = ["Reading", "readings"]

TRANSLATIONS = (
    mobilefacenets.arcface_torch,
    mobilefacenets.foamliu,
    adaface.adaface_ir,
    transformers.face_vit,
)
"""Functions that translate the names of one program; each returns None for other names."""


def readings(state: StateDict) -> Iterator[Reading]:
    """Yields the state_dict translated, if its names are of a known program, and unchanged.

    Args:
        state: Tensors by the names in the file.

    Yields:
        The possible readings. The last one has the names of the file.
    """
    for translate in TRANSLATIONS:
        reading = translate(state)
        if reading is not None:
            yield reading
    yield Reading(state)
