"""Readers that sources and benchmarks share: image files on the disk, and images in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workbench import images
from workbench.data.dataset import EncodedImages


@dataclass(frozen=True)
class Files(EncodedImages):
    """Reader of image files, each of which is read when it is asked for.

    Attributes:
        root: the folder that the names are relative to.
        names: N paths of image files.
    """

    root: Path
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def encoded(self, index: int) -> bytes:
        return images.read_bytes(self.root / self.names[index])

    def where(self, index: int) -> str:
        return str(self.root / self.names[index])


@dataclass(frozen=True)
class HeldImages(EncodedImages):
    """Reader of encoded images that are held in memory.

    Attributes:
        name: what they come from, for error messages.
        held: the bytes of N image files.
    """

    name: str
    held: list[bytes | bytearray]

    def __len__(self) -> int:
        return len(self.held)

    def encoded(self, index: int) -> bytes:
        return bytes(self.held[index])

    def where(self, index: int) -> str:
        return f"{self.name}, image {index}"


@dataclass(frozen=True)
class HeldPixels:
    """Reader of decoded images that are held in memory.

    Attributes:
        name: what they come from.
        held: N arrays, each (H, W, 3), (3, H, W) or, for a grey image, (H, W).
        bgr: whether the order of the colours is blue, green, red.
    """

    name: str
    held: list[NDArray[np.uint8]]
    bgr: bool = False

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        pixels = self.held[index]
        if pixels.ndim == 2:
            return np.repeat(pixels[:, :, None], 3, axis=2)
        if pixels.shape[2] != 3:
            pixels = pixels.transpose(1, 2, 0)
        return np.ascontiguousarray(pixels[:, :, ::-1] if self.bgr else pixels)
