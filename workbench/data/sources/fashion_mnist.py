"""`fashion-mnist` - 70,000 grey 28 x 28 images of clothes in 10 classes.

Xiao et al., "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms",
2017. The files are read from Debian's package dataset-fashion-mnist if it is installed. Otherwise
they are downloaded once through torchvision.
"""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workbench.cache import cache_folder
from workbench.data.benchmark import ClosedSet
from workbench.data.dataset import Dataset
from workbench.data.registry import BENCHMARKS, SOURCES
from workbench.errors import WorkbenchError, unknown_name

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
CLASSES = (
    "T-shirt",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
PREFIX = {"train": "train", "test": "t10k"}


@dataclass(frozen=True)
class GreyArray:
    """Reader of grey images in memory, which it returns as RGB.

    Attributes:
        pixels: (N, H, W) uint8.
    """

    pixels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return np.repeat(self.pixels[index][:, :, None], 3, axis=2)


@SOURCES.register("fashion-mnist")
def open_fashion_mnist(path: str = "") -> Dataset:
    """Opens Fashion-MNIST.

    Args:
        path: "train" (60,000 images, the default) or "test" (10,000).

    Raises:
        WorkbenchError: if there is no such part, or the files cannot be downloaded or are damaged.
    """
    part = path or "train"
    if part not in PREFIX:
        raise unknown_name("part of fashion-mnist", path, PREFIX)
    folder = _folder()
    pixels = read_idx(_gzipped_or_not(folder, f"{PREFIX[part]}-images-idx3-ubyte"), dimensions=3)
    labels = read_idx(_gzipped_or_not(folder, f"{PREFIX[part]}-labels-idx1-ubyte"), dimensions=1)
    name = "fashion-mnist-test" if part == "test" else "fashion-mnist"
    return Dataset(name, GreyArray(pixels), labels.astype(np.int64), CLASSES)


@BENCHMARKS.register("fashion-mnist")
def open_fashion_mnist_benchmark(path: str = "") -> ClosedSet:
    """Opens the 10,000 test images as a benchmark for runs that were trained on `fashion-mnist`.

    Args:
        path: "test" (the default) or "train".
    """
    return ClosedSet(replace(open_fashion_mnist(path or "test"), name="fashion-mnist"))


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Reads a file of bytes in the IDX format.

    Args:
        path: the file, gzipped if its name ends with .gz.
        dimensions: number of dimensions that the array must have.

    Returns:
        The array.

    Raises:
        WorkbenchError: if the file is damaged, or of another type or number of dimensions.
    """
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise WorkbenchError(f"{path}: cannot be read ({error})") from None
    header = 4 + 4 * dimensions
    if len(data) < header or data[:4] != bytes([0, 0, 8, dimensions]):
        raise WorkbenchError(f"{path}: not an IDX file of {dimensions}-dimensional bytes")
    shape = tuple(int(side) for side in np.frombuffer(data, ">u4", dimensions, offset=4))
    if len(data) - header != math.prod(shape):
        raise WorkbenchError(
            f"{path}: {len(data) - header} bytes of data, its header announces {shape}; "
            "is it truncated?"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _gzipped_or_not(folder: Path, name: str) -> Path:
    gzipped = folder / f"{name}.gz"
    return gzipped if gzipped.is_file() else folder / name


def _folder() -> Path:
    """Returns the folder of the files; downloads them if they are nowhere."""
    if DEBIAN.is_dir():
        return DEBIAN
    folder = cache_folder() / "FashionMNIST" / "raw"
    images = [_gzipped_or_not(folder, f"{prefix}-images-idx3-ubyte") for prefix in PREFIX.values()]
    if not all(file.is_file() for file in images):
        from torchvision.datasets import FashionMNIST

        try:
            FashionMNIST(str(cache_folder()), download=True)
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:120]
            raise WorkbenchError(
                f"fashion-mnist: cannot be downloaded ({reason}); without internet, install "
                f"Debian's dataset-fashion-mnist or put its four files into {folder}"
            ) from None
    return folder
