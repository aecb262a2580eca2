"""Rendered people, kept: a set of pictures is rendered once, packed into a folder of the cache, and read from there.

CACHE/synthfaces/ALBUM-PEOPLExIMAGES-FINGERPRINT/
  images.bin    the JPEGs, one behind the other
  index.npz     where each begins, its CRC-32, landmarks and attributes
  about.json    settings, sizes and SHA-256 of both; written last: a set without it is not finished
  parts/        one file a person while the set is being rendered (`rendering.py`)
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
    """What a set is made of; together with the renderer's version it fixes every byte.

    Attributes:
        people: how many.
        images: pictures of each.
        album: what the pictures vary, one of the renderer's albums.
        first: number of the first person.
        seed: of everything drawn.
        size: height and width in pixels.
        renderer: module with `VERSION` and `portraits(person, images=, album=, seed=, size=)`, as `workbench.synthfaces` is.
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
        """The people's numbers."""
        return range(self.first, self.first + self.people)

    @cached_property
    def about(self) -> dict[str, object]:
        """The settings and the renderer's version."""
        return {"version": import_module(self.renderer).VERSION, "settings": asdict(self)}

    @property
    def folder(self) -> Path:
        """Where in the cache the set is, or will be."""
        fingerprint = hashlib.sha256(json.dumps(self.about, sort_keys=True).encode()).hexdigest()[
            :12
        ]
        name = f"{self.album}-{self.people}x{self.images}-{fingerprint}"
        return cache_folder() / self.renderer.rpartition(".")[2] / name


def open_packed(settings: RenderSettings, name: str, remedy: str) -> Dataset:
    """Open a set that is finished.

    Sizes and the index are checked now, each picture when it is read.

    Args:
        settings: what was rendered.
        name: what to call it in figures and file names.
        remedy: what to do where it is damaged, for the message.

    Returns:
        A data set with the renderer's attributes as columns, and `landmarks` (N, 5, 2) float32, x and y in pixels: eye left
        in the image, eye right, nose tip, mouth corner left, right.

    Raises:
        WorkbenchError: a file is missing, cut off, changed, or of another set.
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
