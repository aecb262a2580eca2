"""From a reader of images to batches for a network: decode, bring to size, stack, scale, mirror."""

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
"""Orders of the colours that networks take; AdaFace's checkpoints take BGR."""

_Batch = tuple[Tensor, Tensor, list[tuple[int, str]]]
"""Images, their numbers, and the number and error of each image that was left out."""

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
    return (
        _Kept(images, size)
        if not workers and len(images) * height * width * 3 <= KEPT_BYTES
        else images
    )


class _Kept:
    def __init__(self, images: Images, size: tuple[int, int]) -> None:
        self.images, self.size = images, size
        self.known: dict[int, NDArray[np.uint8]] = {}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        if index not in self.known:
            self.known[index] = fit(
                self.images[index], self.size
            ).copy()  # it may be a view of something larger
        return self.known[index]


class _Fitted(TorchDataset[Any]):
    """What loader processes call, with the numbers of a whole batch."""

    def __init__(self, images: Images, size: tuple[int, int], broken: Broken) -> None:
        self.images, self.size, self.broken = images, size, broken

    def __getitems__(self, numbers: list[int]) -> _Batch:
        pixels = np.empty((len(numbers), *self.size, 3), dtype=np.uint8)
        read: list[int] = []
        reasons: list[tuple[int, str]] = []
        for number in numbers:
            try:
                pixels[len(read)] = fit(self.images[number], self.size)
            except WorkbenchError as error:
                if self.broken == "stop":
                    raise
                reasons.append((number, str(error)))
            else:
                read.append(number)
        return (
            torch.from_numpy(pixels[: len(read)]).permute(0, 3, 1, 2),
            torch.tensor(read, dtype=torch.int64),
            reasons,
        )


def _as_it_is(batch: Any) -> Any:
    return batch


@dataclass(frozen=True)
class _Parts(Sampler[list[int]]):
    """Consecutive parts of an order."""

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
    """The images with the numbers `order`, in that order, whatever the number of workers.

    Args:
        images: reader.
        order: numbers of images.
        size: (height, width) that every image is brought to.
        batch_size: images a batch; the last one may be smaller.
        workers: processes that decode; 0 decodes in this one.
        broken: what to do about an image that cannot be read: raise its error, or leave it out of its batch.
        report: with "skip", is told the error's line of each image that is left out, once.

    Yields:
        images (B, 3, height, width) uint8, channels last in memory, and their numbers (B,) int64. With "skip" a batch may lack
        images, or be empty: it is yielded all the same, so that the n-th is always that of the n-th part of `order`.
    """
    loader: DataLoader[_Batch] = DataLoader(
        _Fitted(images, size, broken),
        batch_sampler=_Parts(np.asarray(order, dtype=np.int64), batch_size),
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=torch.cuda.is_available(),
    )
    # The loader draws a seed for its workers; from an own generator, so that the caller's random state is left alone.
    loader.generator = torch.Generator()
    reported: set[int] = set()
    try:
        for pictures, numbers, reasons in loader:
            for number, reason in reasons:
                if report is not None and number not in reported:
                    report(reason)
                reported.add(number)
            yield pictures, numbers
    except (
        WorkbenchError
    ) as error:  # a worker's comes with its traceback in the message; the last line is ours
        raise WorkbenchError(
            str(error).strip().splitlines()[-1].removeprefix("workbench.errors.WorkbenchError: ")
        ) from None


def to_network(images: Tensor, mean: PerChannel, std: PerChannel, channels: str = "rgb") -> Tensor:
    """(B, 3, H, W) uint8 RGB -> float32 `(x - mean) / std`, laid out channels last, which convolutions prefer.

    Args:
        images: as `batches` gives them.
        mean, std: in units of pixel values 0..255; one number, or one for each channel in the network's order, so that with
            "bgr" the first is that of blue.
        channels: the order that the network takes, one of `CHANNELS`.
    """
    ordered = images.flip(1) if channels == "bgr" else images
    scaled = (ordered.float() - _for_each_channel(mean, images)) / _for_each_channel(std, images)
    return scaled.contiguous(memory_format=torch.channels_last)


def _for_each_channel(value: PerChannel, images: Tensor) -> float | Tensor:
    return (
        torch.tensor(value, device=images.device).view(3, 1, 1)
        if isinstance(value, tuple)
        else value
    )


def mirror_some(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability 1/2."""
    chosen = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(chosen.to(images.device)[:, None, None, None], images.flip(-1), images)
