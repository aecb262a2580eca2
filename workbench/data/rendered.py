"""Rendered people, kept: a set of pictures is rendered once, packed into a folder of the cache, and read from there.

CACHE/synthfaces/ALBUM-PEOPLExIMAGES-FINGERPRINT/
  images.bin    the JPEGs, one behind the other
  index.npz     where each begins, its CRC-32, landmarks and attributes
  about.json    settings, sizes and SHA-256 of both; written last: a set without it is not finished
  parts/        one file a person while the set is being rendered (`rendering.py`)
"""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workbench import runs
from workbench.cache import cache_folder
from workbench.data.dataset import Dataset, EncodedImages
from workbench.errors import WorkbenchError

PICTURES, INDEX, ABOUT, PARTS = "images.bin", "index.npz", "about.json", "parts"


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
        fingerprint = hashlib.sha256(json.dumps(self.about, sort_keys=True).encode()).hexdigest()[:12]
        name = f"{self.album}-{self.people}x{self.images}-{fingerprint}"
        return cache_folder() / self.renderer.rpartition(".")[2] / name


@dataclass(frozen=True)
class PackedImages(EncodedImages):
    """JPEGs of one file; nothing is held in memory but where they begin.

    The file is opened anew for each, so that loader processes never share a position. It is not mapped into memory: a
    mapped file that is cut off later ends the process, where reading it is an error of one line.
    """

    path: Path
    offsets: NDArray[np.int64]  # (N + 1,)
    checksums: NDArray[np.uint32]
    remedy: str

    def __len__(self) -> int:
        return len(self.checksums)

    def where(self, index: int) -> str:
        return f"{self.path}, image {index}"

    def encoded(self, index: int) -> bytes:
        index = range(len(self))[index]
        begin, end = int(self.offsets[index]), int(self.offsets[index + 1])
        try:
            with self.path.open("rb") as file:
                file.seek(begin)
                encoded = file.read(end - begin)
        except OSError as error:
            raise WorkbenchError(f"{self.path}: cannot be read ({error.strerror}); {self.remedy}") from None
        if zlib.crc32(encoded) != self.checksums[index]:
            raise WorkbenchError(f"{self.where(index)}: damaged (its checksum is wrong); {self.remedy}")
        return encoded


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
    folder = settings.folder
    try:
        about = runs.read_json(folder / ABOUT)
        if {key: about.get(key) for key in settings.about} != settings.about:
            raise WorkbenchError(f"{ABOUT} is of another set")
        size = (folder / PICTURES).stat().st_size
        if size != about.get("bytes"):
            raise WorkbenchError(f"{PICTURES} has {size:,} bytes, expected {about.get('bytes')}")
        index = (folder / INDEX).read_bytes()
        if hashlib.sha256(index).hexdigest() != about.get("index_sha256"):
            raise WorkbenchError(f"{INDEX} was changed or is of another set")
        with np.load(io.BytesIO(index), allow_pickle=False) as archive:
            columns = {key: archive[key] for key in archive.files}
        offsets, checksums = columns.pop("offsets"), columns.pop("checksums")
        if checksums.shape != (settings.people * settings.images,) or offsets[-1] != size:
            raise WorkbenchError(f"{INDEX} and {PICTURES} do not belong together")
    except Exception as error:  # beside missing files whatever a damaged archive leads to
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())[:160]
        raise WorkbenchError(f"{folder}: damaged ({reason or type(error).__name__}); {remedy}") from None
    return Dataset(
        name,
        PackedImages(folder / PICTURES, offsets, checksums, remedy),
        np.repeat(np.arange(settings.people), settings.images),
        [f"person {number:05d}" for number in settings.numbers],
        columns,
    )
