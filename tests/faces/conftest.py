"""Rendered portraits with known landmarks."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from workbench import images, synthfaces

SIZE = 224


@pytest.fixture(scope="session")
def portraits() -> list[synthfaces.Portrait]:
    """Frontal portraits of four people, 224 x 224."""
    return [
        synthfaces.portraits(person, images=1, album="frontal", size=SIZE)[0] for person in range(4)
    ]


@pytest.fixture(scope="session")
def poses() -> list[synthfaces.Portrait]:
    """One person in all poses, in all light and at all ages, 160 x 160."""
    return synthfaces.portraits(
        4, images=synthfaces.INVARIANCE_IMAGES, album="invariance", size=160
    )


@pytest.fixture(scope="session")
def portrait(portraits: list[synthfaces.Portrait]) -> NDArray[np.uint8]:
    """(224, 224, 3) image with one face in the middle."""
    return images.decode(portraits[0].jpeg)
