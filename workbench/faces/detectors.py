"""What a detector is, and under which names they are found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workbench.errors import WorkbenchError
from workbench.faces.face import Face
from workbench.registry import Registry

Finder = Callable[[NDArray[np.uint8]], list[Face]]


class Detector(Protocol):
    """Finds the faces in a picture.

    Args:
        threshold: the score it asks for unless told otherwise.
        largest_face: longer side in pixels up to which it sees faces whole, so that larger ones are looked for on a smaller copy;
            0 if there is no such limit.
    """

    threshold: float
    largest_face: int

    def find(self, image: NDArray[np.uint8], threshold: float) -> list[Face]:
        """Faces of an (H, W, 3) uint8 RGB picture with at least that score, best first, in its pixels."""
        ...


DETECTORS: Registry[Detector] = Registry("face detector")
"""`DETECTORS.create(name, path=..., threads=...)` opens one; `path` stands behind the colon of a name such as yunet:FILE."""


def detectors() -> dict[str, str]:
    """Every detector's name, with what it lacks on this machine; an empty text where it is ready."""
    return {name: getattr(DETECTORS.get(name), "lacks", str)() for name in DETECTORS.names()}


def register(name: str) -> Callable[[Finder], Finder]:
    """Decorator: make a function from an (H, W, 3) uint8 picture to its faces the detector `name` of `detect`.

    Faces below the threshold that is asked for are dropped; without one, all it gives are kept.
    """

    def decorate(finder: Finder) -> Finder:
        def opened(path: str = "", threads: int = 1) -> Detector:
            if path:
                raise WorkbenchError(f"{name}:{path}: the face detector {name!r} takes no file")
            return _Function(finder)

        opened.__module__, opened.__qualname__ = finder.__module__, finder.__qualname__
        DETECTORS.register(name)(opened)
        return finder

    return decorate


class _Function:
    threshold, largest_face = 0.0, 0

    def __init__(self, finder: Finder) -> None:
        self.finder = finder

    def find(self, image: NDArray[np.uint8], threshold: float) -> list[Face]:
        return sorted(
            (face for face in self.finder(image) if face.score >= threshold),
            key=lambda face: -face.score,
        )
