"""Batches for a network: decodes, fits, stacks and scales images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from workbench.data.dataset import Broken, Images
from workbench.errors import WorkbenchError
from workbench.images import fit
from workbench.scaling import PerChannel

CHANNELS = ("rgb", "bgr")
"""Orders of the colour channels that networks take. AdaFace's checkpoints take BGR."""

_Batch = tuple[Tensor, Tensor, list[tuple[int, str]]]
"""Images, their numbers, and the number and error message of each image that was left out."""

KEPT_BYTES = 2**30
"""A data set that takes no more bytes at the network's size is kept in memory during training."""


def kept(images: Images, size: tuple[int, int], workers: int = 0) -> Images:
    """Returns a reader for many epochs, which keeps each image in memory after its first reading.

    Args:
        images: reader of N images.
        size: (height, width) to which every image is fitted.
        workers: number of worker processes, as for `batches`.

    Returns:
        A reader of the fitted images. It is `images` itself if all of them take more than
        `KEPT_BYTES`, or if there are worker processes, whose memory ends with the epoch.
    """
    height, width = size
    if workers or len(images) * height * width * 3 > KEPT_BYTES:
        return images
    return _Kept(images, size)


class _Kept:
    """Reader that keeps the images that it has decoded and fitted."""

    def __init__(self, images: Images, size: tuple[int, int]) -> None:
        self.images, self.size = images, size
        self.fitted: dict[int, NDArray[np.uint8]] = {}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        if index not in self.fitted:
            # The fitted image may be a view of a larger array, which the copy does not keep.
            self.fitted[index] = fit(self.images[index], self.size).copy()
        return self.fitted[index]


class _BatchReader(TorchDataset[Any]):
    """The data set that worker processes read; they ask for a whole batch at once."""

    def __init__(self, images: Images, size: tuple[int, int], broken: Broken) -> None:
        self.images, self.size, self.broken = images, size, broken

    def __getitems__(self, numbers: list[int]) -> _Batch:
        pixels = np.empty((len(numbers), *self.size, 3), dtype=np.uint8)
        read: list[int] = []
        left_out: list[tuple[int, str]] = []
        for number in numbers:
            try:
                pixels[len(read)] = fit(self.images[number], self.size)
            except WorkbenchError as error:
                # The message travels with the batch. An error that a worker process raises would
                # arrive with a traceback in its message.
                left_out.append((number, str(error)))
                if self.broken == "stop":
                    break
            else:
                read.append(number)
        return (
            torch.from_numpy(pixels[: len(read)]).permute(0, 3, 1, 2),
            torch.tensor(read, dtype=torch.int64),
            left_out,
        )


def _unchanged(batch: Any) -> Any:
    """Replaces the collate function of the loader, as the batches are complete already."""
    return batch


@dataclass(frozen=True)
class _Chunks(Sampler[list[int]]):
    """Yields numbers in consecutive chunks of one size; the last one may be smaller."""

    numbers: NDArray[np.int64]
    size: int

    def __iter__(self) -> Iterator[list[int]]:
        for begin in range(0, len(self.numbers), self.size):
            yield self.numbers[begin : begin + self.size].tolist()

    def __len__(self) -> int:
        return math.ceil(len(self.numbers) / self.size)


def batches(
    images: Images,
    order: Sequence[int] | NDArray[np.int64],
    size: tuple[int, int],
    batch_size: int,
    workers: int = 0,
    *,
    broken: Broken = "stop",
    report: Callable[[str], object] | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields images in a given order, which does not depend on the number of worker processes.

    Args:
        images: reader.
        order: numbers of images.
        size: (height, width) to which every image is fitted.
        batch_size: images in a batch; the last one may be smaller.
        workers: worker processes that decode images; 0 decodes in this process.
        broken: "stop" raises the error of an image that cannot be read, "skip" leaves the image out
            of its batch.
        report: with "skip", is called once with the error message of each image that is left out.

    Yields:
        Images (B, 3, height, width) uint8, channels last in memory, and their numbers (B,) int64.
        With "skip" a batch may have fewer images or none. It is still yielded, so that the n-th
        batch always belongs to the n-th part of `order`.

    Raises:
        WorkbenchError: if an image cannot be read and `broken` is "stop".

    Example:
        >>> import numpy as np
        >>> from workbench.data.batches import batches
        >>> images = [np.full((8, 8, 3), grey, np.uint8) for grey in range(5)]
        >>> for pixels, numbers in batches(images, [4, 0, 2], size=(4, 4), batch_size=2):
        ...     print(tuple(pixels.shape), numbers.tolist())
        (2, 3, 4, 4) [4, 0]
        (1, 3, 4, 4) [2]
    """
    loader: DataLoader[_Batch] = DataLoader(
        _BatchReader(images, size, broken),
        batch_sampler=_Chunks(np.asarray(order, dtype=np.int64), batch_size),
        num_workers=workers,
        collate_fn=_unchanged,
        pin_memory=torch.cuda.is_available(),
    )
    # The loader draws a seed for its workers. With its own generator it leaves the random state of
    # the caller unchanged.
    loader.generator = torch.Generator()
    reported: set[int] = set()
    for pixels, numbers, left_out in loader:
        for number, message in left_out:
            if broken == "stop":
                raise WorkbenchError(message)
            if report is not None and number not in reported:
                report(message)
            reported.add(number)
        yield pixels, numbers


def to_network(images: Tensor, mean: PerChannel, std: PerChannel, channels: str = "rgb") -> Tensor:
    """Returns images as the input of a network, `(x - mean) / std`.

    Args:
        images: (B, 3, H, W) uint8 in RGB, as `batches` yields them.
        mean: subtracted from pixel values 0..255; one number, or one of each channel in the
            network's order (with "bgr" the first one is that of blue).
        std: divides the result; as `mean`.
        channels: the order of the channels that the network takes, one of `CHANNELS`.

    Returns:
        (B, 3, H, W) float32, channels last in memory, which convolutions prefer.

    Example:
        >>> import torch
        >>> from workbench.data.batches import to_network
        >>> white = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
        >>> to_network(white, mean=127.5, std=127.5).unique()
        tensor([1.])
    """
    ordered = images.flip(1) if channels == "bgr" else images
    scaled = (ordered.float() - _broadcast(mean, images)) / _broadcast(std, images)
    return scaled.contiguous(memory_format=torch.channels_last)


def _broadcast(value: PerChannel, images: Tensor) -> float | Tensor:
    """Returns one number a channel as a (3, 1, 1) tensor."""
    if isinstance(value, tuple):
        return torch.tensor(value, device=images.device).view(3, 1, 1)
    return value
