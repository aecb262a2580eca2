"""Portraits of people who do not exist, whose landmarks are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from workbench import images, synthfaces

SIZE = 224


@pytest.fixture(scope="session")
def portraits() -> list[synthfaces.Portrait]:
    """Frontal ones of four people, 224 x 224."""
    return [
        synthfaces.portraits(person, images=1, album="frontal", size=SIZE)[0] for person in range(4)
    ]


@pytest.fixture(scope="session")
def poses() -> list[synthfaces.Portrait]:
    """One person from all sides and in all lights, 160 x 160."""
    return synthfaces.portraits(
        4, images=synthfaces.INVARIANCE_IMAGES, album="invariance", size=160
    )


@pytest.fixture(scope="session")
def portrait(portraits: list[synthfaces.Portrait]) -> NDArray[np.uint8]:
    """(224, 224, 3), one face in the middle."""
    return images.decode(portraits[0].jpeg)
