"""Readers of images that sources and benchmarks share: image files on the disk, and images held in memory."""

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
    """Image files, read when asked for."""

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
    """Encoded images held in memory."""

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
    """Pictures held in memory as pixels: (H, W, 3), (3, H, W) or grey (H, W) arrays, in RGB or in BGR."""

    name: str
    held: list[NDArray[np.uint8]]
    bgr: bool = False

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        pixels = self.held[index]
        if pixels.ndim == 2:
            return np.repeat(pixels[:, :, None], 3, axis=2)
        pixels = pixels if pixels.shape[2] == 3 else pixels.transpose(1, 2, 0)
        return np.ascontiguousarray(pixels[:, :, ::-1] if self.bgr else pixels)
