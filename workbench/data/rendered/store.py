"""The folder of the cache in which a rendered set of synthetic people is kept.

A set is rendered once (`rendering.py`), packed into such a folder, and read from there.

CACHE/synthfaces/ALBUM-PEOPLExIMAGES-FINGERPRINT/
  images.bin    the JPEG files, one after the other
  index.npz     the offset and CRC-32 of each image, its landmarks and its attributes
  about.json    the settings, and the size and SHA-256 of the other two files. It is written last:
                a set without it is not finished.
  parts/        one file for each person while the set is being rendered
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path

import numpy as np

from workbench.cache import cache_folder
from workbench.data.dataset import Dataset
from workbench.data.sources.pack import damaged, opened
from workbench.errors import WorkbenchError

PARTS = "parts"


@dataclass(frozen=True)
class RenderSettings:
    """The settings of a rendered set.

    The settings and the version of the renderer determine every byte of the set.

    Attributes:
        people: Number of people.
        images: Number of images of each person.
        album: One of the renderer's albums, which says what varies between the images of a person.
        first: Number of the first person.
        seed: Seed of all random choices.
        size: Height and width of the images in pixels.
        renderer: Name of a module that has `VERSION` and
            `portraits(person, images=, album=, seed=, size=)`, as `workbench.synthfaces` has.
    """

    people: int
    images: int
    album: str = "wild"
    first: int = 0
    seed: int = 0
    size: int = 112
    renderer: str = "workbench.synthfaces"

    @property
    def numbers(self) -> range:
        """The numbers of the people."""
        return range(self.first, self.first + self.people)

    @cached_property
    def about(self) -> dict[str, object]:
        """The settings and the version of the renderer, as they are stored in about.json."""
        return {"version": import_module(self.renderer).VERSION, "settings": asdict(self)}

    @property
    def folder(self) -> Path:
        """The folder of the cache that holds the set once it is rendered."""
        digest = hashlib.sha256(json.dumps(self.about, sort_keys=True).encode()).hexdigest()
        name = f"{self.album}-{self.people}x{self.images}-{digest[:12]}"
        return cache_folder() / self.renderer.rpartition(".")[2] / name


def open_packed(settings: RenderSettings, name: str, remedy: str) -> Dataset:
    """Open a set that was rendered completely.

    The sizes of the files and the index are checked now, and each image when it is read.

    Args:
        settings: The settings of the set.
        name: Name of the data set in figures and file names.
        remedy: What the user can do if the set is damaged; it ends the error message.

    Returns:
        A data set with the attributes of the renderer as columns, and with `landmarks`, which is
        (N, 5, 2) float32 with x and y in pixels. The five landmarks are the eye on the left of the
        image, the eye on the right, the tip of the nose, and the left and right corner of the
        mouth.

    Raises:
        WorkbenchError: If a file is missing, truncated, changed, or belongs to another set.
    """
    folder, count = settings.folder, settings.people * settings.images
    images, columns, _ = opened(folder, settings.about, remedy)
    if len(images) != count:
        raise damaged(folder, WorkbenchError(f"{len(images)} images, expected {count}"), remedy)
    return Dataset(
        name,
        images,
        np.repeat(np.arange(settings.people), settings.images),
        [f"person {number:05d}" for number in settings.numbers],
        columns,
    )
