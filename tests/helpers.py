"""Functions and types that several test files use; fixtures are in conftest.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import hypothesis
import numpy as np
from PIL import Image


class CommandResult(NamedTuple):
    """What a command returned and printed."""

    code: int
    out: str
    err: str


RunCommand = Callable[..., CommandResult]
Complaint = Callable[..., AbstractContextManager[None]]


def in_proportion(examples: int) -> int:
    """The number of examples under the loaded Hypothesis profile; all of them without a profile.

    A profile of 20 examples, where Hypothesis itself has 100, gives a fifth of each number.
    """
    share = min(hypothesis.settings.default.max_examples / 100, 1)
    return max(round(examples * share), 5)


def paint_people(
    root: Path,
    people: int,
    images: int | Sequence[int],
    *,
    shade: float = 50,
    noise: tuple[float, float] = (0, 60),
    seed: int = 0,
    size: int = 16,
) -> Path:
    """Writes a folder of PNG files, one folder a person, in which people differ in brightness.

    Args:
        root: The folder to create.
        people: The number of people. Their folders are called p0, p1, ...
        images: The number of images of each person, or one number a person.
        shade: The difference in brightness between two consecutive people.
        noise: The range of the uniform noise that is added to each pixel.
        seed: The seed of the noise.
        size: The height and width of the images.

    Returns:
        `root`.
    """
    rng = np.random.default_rng(seed)
    counts = [images] * people if isinstance(images, int) else images
    for person, count in enumerate(counts):
        folder = root / f"p{person}"
        folder.mkdir(parents=True)
        for number in range(count):
            pixels = shade * person + rng.integers(*noise, (size, size, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return root
