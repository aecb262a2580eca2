"""The interface of a detector, and the registry of all detectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workbench.errors import WorkbenchError
from workbench.faces.face import Face
from workbench.registry import Registry

DetectFunction = Callable[[NDArray[np.uint8]], list[Face]]


class Detector(Protocol):
    """The interface that every detector implements.

    A class may also have a static method `lacks` that returns what is missing on this machine
    before the detector can be used, or an empty text.

    Attributes:
        threshold: lowest score in [0, 1] that is used by default.
        largest_face: longest side in pixels up to which the detector recognises a face as a whole.
            Larger faces are searched on a smaller copy of the image. 0 means that there is no such
            limit.
    """

    threshold: float
    largest_face: int

    def find(self, image: NDArray[np.uint8], threshold: float) -> list[Face]:
        """Detects faces at the size of the image.

        Args:
            image: (H, W, 3) uint8 RGB.
            threshold: lowest score in [0, 1].

        Returns:
            The faces in pixels of `image`, in descending order of their scores.
        """
        ...


DETECTORS: Registry[Detector] = Registry("face detector")
"""The registered detectors. `DETECTORS.create(name, path=..., threads=...)` opens one; `path` is
the part after the colon of a name such as yunet:FILE."""


def detectors() -> dict[str, str]:
    """Returns the registered detectors and what each of them lacks on this machine.

    Returns:
        For each name, what is missing, or an empty text if the detector is ready.

    Example:
        >>> detectors()["retinaface"]
        ''
    """
    return {name: getattr(DETECTORS.get(name), "lacks", str)() for name in DETECTORS.names()}


def register(name: str) -> Callable[[DetectFunction], DetectFunction]:
    """Registers a function as a detector (a decorator).

    The function receives an (H, W, 3) uint8 RGB image and returns its faces. `detect` drops the
    faces whose score is below the threshold; without a threshold it keeps all.

    Args:
        name: name of the detector for `detect`. The name must be free, unless the same function
            is registered again, for example in an edited notebook cell.

    Returns:
        The decorator, which returns the function unchanged.

    Raises:
        WorkbenchError: if the name is taken.
    """

    def decorate(function: DetectFunction) -> DetectFunction:
        def open_detector(path: str = "", threads: int = 1) -> Detector:
            if path:
                raise WorkbenchError(f"{name}:{path}: the face detector {name!r} takes no file")
            return _FunctionDetector(function)

        # The registry compares where two factories of the same name are defined.
        open_detector.__module__ = function.__module__
        open_detector.__qualname__ = function.__qualname__
        DETECTORS.register(name)(open_detector)
        return function

    return decorate


class _FunctionDetector:
    """A detector that calls a function."""

    threshold, largest_face = 0.0, 0

    def __init__(self, function: DetectFunction) -> None:
        self.function = function

    def find(self, image: NDArray[np.uint8], threshold: float) -> list[Face]:
        faces = [face for face in self.function(image) if face.score >= threshold]
        return sorted(faces, key=lambda face: -face.score)
