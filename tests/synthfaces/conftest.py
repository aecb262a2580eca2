"""The mean head, read once, and a camera for single images."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from workbench import images
from workbench.synthfaces.anatomy import Anatomy, anatomy
from workbench.synthfaces.person import person
from workbench.synthfaces.scene import Dressed, Taken, dress, photograph
from workbench.synthfaces.shot import Shot, session

Camera = Callable[..., Taken]


@pytest.fixture(scope="session")
def faces_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with the anatomy: WORKBENCH_CACHE if set, since reading it takes seconds."""
    chosen = os.environ.get("WORKBENCH_CACHE")
    folder = Path(chosen) if chosen else tmp_path_factory.mktemp("faces")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_CACHE", str(folder))
        anatomy.cache_clear()
        anatomy()
    return folder


@pytest.fixture(autouse=True, scope="module")
def _use_faces_cache(faces_cache: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_CACHE", str(faces_cache))
        yield


@pytest.fixture(scope="session")
def head(faces_cache: Path) -> Anatomy:
    return anatomy()


@pytest.fixture(scope="session")
def take(head: Anatomy) -> Camera:
    """`take(number, yaw=30)` renders a plain image of a person, apart from the given settings."""

    @cache
    def dressed(number: int, age: float) -> Dressed:
        return dress(person(head, number), session(person(head, number), 0, age, plain=True))

    def photo(number: int, size: int = 112, age: float = 30.0, **changes: object) -> Taken:
        return photograph(
            dressed(number, age), Shot(**({"grain": 0.0, "quality": 95} | changes)), size
        )  # type: ignore[arg-type]

    return photo


@pytest.fixture(scope="session")
def luminance() -> Callable[[bytes], NDArray[np.float64]]:
    """Returns the (H, W) luminance 0..255 of a JPEG file."""
    return lambda jpeg: images.decode(jpeg).astype(np.float64) @ np.array([0.2126, 0.7152, 0.0722])
