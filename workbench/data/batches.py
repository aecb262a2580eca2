"""From a reader of images to batches for a network: decode, bring to size, stack, scale, mirror."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from workbench.data.dataset import Images
from workbench.errors import WorkbenchError
from workbench.images import fit

CHANNELS = ("rgb", "bgr")
"""Orders of the colours that networks take; AdaFace's checkpoints take BGR."""

KEPT_BYTES = 2**30
"""Sets that take no more than this, at the network's size, are kept in memory while a run trains on them."""


def kept(images: Images, size: tuple[int, int], workers: int = 0) -> Images:
    """A reader for many epochs: each image is decoded and fitted once, when it is first read, and kept from then on.

    Args:
        images: reader.
        size: (height, width) that every image is brought to.
        workers: as for `batches`.

    Returns:
        A reader of the fitted images. `images` itself where all of them take more than `KEPT_BYTES`, and with workers, whose
        memory ends with the epoch.
    """
    height, width = size
    return _Kept(images, size) if not workers and len(images) * height * width * 3 <= KEPT_BYTES else images


class _Kept:
    def __init__(self, images: Images, size: tuple[int, int]) -> None:
        self.images, self.size = images, size
        self.known: dict[int, NDArray[np.uint8]] = {}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        if index not in self.known:
            self.known[index] = fit(self.images[index], self.size).copy()  # it may be a view of something larger
        return self.known[index]


class _Fitted(TorchDataset[Tensor]):
    def __init__(self, images: Images, size: tuple[int, int]) -> None:
        self.images, self.size = images, size

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(fit(self.images[index], self.size).transpose(2, 0, 1)))


def batches(
    images: Images, order: Sequence[int] | NDArray[np.int64], size: tuple[int, int], batch_size: int, workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """The images with the numbers `order`, in that order, whatever the number of workers.

    Args:
        images: reader.
        order: numbers of images.
        size: (height, width) that every image is brought to.
        batch_size: images a batch; the last one may be smaller.
        workers: processes that decode; 0 decodes in this one.

    Yields:
        images (B, 3, height, width) uint8, and their numbers (B,) int64.
    """
    numbers = torch.as_tensor(np.asarray(order, dtype=np.int64))
    loader: DataLoader[Tensor] = DataLoader(
        _Fitted(images, size),
        batch_size=batch_size,
        sampler=numbers.tolist(),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
    )
    # The loader draws a seed for its workers; from an own generator, so that the caller's random state is left alone.
    loader.generator = torch.Generator()
    try:
        if len(numbers):  # split makes one empty part of nothing, the loader none
            yield from zip(loader, torch.split(numbers, batch_size), strict=True)
    except WorkbenchError as error:  # a worker's comes with its traceback in the message; the last line is ours
        raise WorkbenchError(str(error).strip().splitlines()[-1].removeprefix("workbench.errors.WorkbenchError: ")) from None


def to_network(images: Tensor, mean: float, std: float, channels: str = "rgb") -> Tensor:
    """(B, 3, H, W) uint8 RGB -> float32 `(x - mean) / std`, laid out channels last, which convolutions prefer.

    Args:
        images: as `batches` gives them.
        mean, std: in units of pixel values 0..255.
        channels: the order that the network takes, one of `CHANNELS`.
    """
    ordered = images.flip(1) if channels == "bgr" else images
    return ((ordered.float() - mean) / std).contiguous(memory_format=torch.channels_last)


def mirror_some(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability 1/2."""
    chosen = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(chosen.to(images.device)[:, None, None, None], images.flip(-1), images)
