"""The one type of training set: images, each with an identity, whatever file they come from."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from workbench import images
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from torch import Tensor


Broken = Literal["stop", "skip"]
"""What to do about an image that cannot be read: raise its error, or leave it out and report it."""
HINT = "to go on without images that cannot be read give --broken skip (broken='skip' in Python)"


class Images(Protocol):
    """Random access to decoded pictures: `images[i]` is (H, W, 3) uint8. Readers can be pickled, for loader processes."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]: ...


class EncodedImages(ABC):
    """Base of readers of image files, wherever those are kept: a subclass says how many there are and where their bytes are."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def encoded(self, index: int) -> bytes:
        """The file's bytes, as they are stored. Raises WorkbenchError, with `where`, if they cannot be read."""

    @abstractmethod
    def where(self, index: int) -> str:
        """What to call the image in an error: a path, a record's key."""

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return images.decode(self.encoded(index), self.where(index))


class Sample(NamedTuple):
    """One training example: image (3, H, W) uint8, identity 0..C-1, whatever else is known of the picture."""

    image: Tensor
    identity: int
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Dataset:
    """Images with identities, ready for a `torch.utils.data.DataLoader`.

    Attributes:
        name: what to call it in figures and file names.
        images: reader, `images[i]` is (H, W, 3) uint8.
        identities: (N,) int64, 0..C-1, every number in use.
        identity_names: C names, e.g. of folders.
        attributes: columns of N values each (age, yaw, file, ...).
        note: what its user must know, e.g. what was left out where it was read.
    """

    name: str
    images: Images
    identities: NDArray[np.int64]
    identity_names: Sequence[str]
    attributes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        if len(self.images) == 0:
            raise WorkbenchError(f"{self.name}: no images")
        if self.identities.shape != (len(self.images),):
            raise WorkbenchError(
                f"{self.name}: {len(self.images)} images but identities of shape {self.identities.shape}"
            )
        low, high = (
            int(self.identities.min()),
            int(self.identities.max()),
        )  # not np.unique, which sorts a copy of millions
        used = (
            np.count_nonzero(np.bincount(self.identities))
            if low >= 0 and high < len(self.identity_names)
            else -1
        )
        if used != len(self.identity_names):
            raise WorkbenchError(
                f"{self.name}: {len(self.identity_names)} identity names, but the images use {len(np.unique(self.identities))}"
            )

    def __repr__(self) -> str:
        return f"<Dataset {self.name}: {len(self):,} images of {self.num_identities:,} identities>"

    @property
    def num_identities(self) -> int:
        return len(self.identity_names)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        """The image with its identity and attributes.

        Raises:
            IndexError: past the end. WorkbenchError: the picture is broken; the message names it.
        """
        import torch

        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} images, no number {index}")
        index = index % len(self)
        image = torch.from_numpy(np.ascontiguousarray(self.images[index].transpose(2, 0, 1)))
        return Sample(
            image,
            int(self.identities[index]),
            {key: _plain(column[index]) for key, column in self.attributes.items()},
        )

    def fingerprint(self) -> str:
        """16 hex digits that change when identities, their names, the number or order of images or a draw of them do.

        Pixels are not looked at.
        """
        digest = hashlib.sha256(self.identities.astype("<i8").tobytes())
        digest.update("\0".join(self.identity_names).encode("utf-8", "surrogateescape"))
        for drawn in _drawn(self.images):
            digest.update(drawn.astype("<i8").tobytes())
        return digest.hexdigest()[:16]

    def subset(self, name: str, keep: NDArray[np.int64]) -> Dataset:
        """The images with numbers `keep`, identities renumbered to those that remain."""
        used, identities = np.unique(self.identities[keep], return_inverse=True)
        return Dataset(
            name,
            Picked(self.images, keep),
            identities.astype(np.int64),
            [self.identity_names[i] for i in used],
            {
                key: column[keep] if isinstance(column, np.ndarray) else [column[i] for i in keep]
                for key, column in self.attributes.items()
            },
            self.note,
        )


def _plain(value: Any) -> Any:
    """NumPy's scalars as Python's, which print as what they are."""
    return value.item() if isinstance(value, np.generic) else value


@dataclass(frozen=True)
class Picked:
    """A selection of another reader's images."""

    images: Images
    keep: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.keep)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return self.images[int(self.keep[index])]


class Changed(ABC):
    """Base of readers that show another reader's images in another way, each under the number that it has there."""

    images: Images


@dataclass(frozen=True)
class Joined:
    """The images of several readers, one after the other."""

    parts: tuple[Images, ...]
    starts: NDArray[np.int64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "starts", np.cumsum([0, *map(len, self.parts)], dtype=np.int64))

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        part, number = self.at(index)
        return part[number]

    def at(self, index: int) -> tuple[Images, int]:
        """The reader that has an image, and the image's number in it. Raises IndexError past the end."""
        index = int(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"{len(self)} images, no number {index}")
        index %= len(self)
        part = int(np.searchsorted(self.starts, index, side="right")) - 1
        return self.parts[part], index - int(self.starts[part])


def _drawn(reader: Images) -> Iterator[NDArray[np.int64]]:
    """The numbers of the images that selections have kept."""
    if isinstance(reader, Picked):
        yield reader.keep
        yield from _drawn(reader.images)
    elif isinstance(reader, Joined):
        for part in reader.parts:
            yield from _drawn(part)


def source_of(reader: Images, index: int) -> tuple[Images, int]:
    """The reader that an image comes from, behind selections and joins, and the image's number there."""
    while isinstance(reader, Picked | Joined):
        reader, index = (
            reader.at(index)
            if isinstance(reader, Joined)
            else (reader.images, int(reader.keep[index]))
        )
    return reader, index


def is_encoded(reader: Images, index: int) -> bool:
    """Whether an image is kept as an image file, not as pixels."""
    return isinstance(source_of(reader, index)[0], EncodedImages)


def encoded_image(reader: Images, index: int) -> bytes:
    """An image as a file: byte for byte as it is stored where it is one, else as PNG.

    Raises:
        WorkbenchError: it cannot be read. That the bytes can be decoded is not looked at.
    """
    source, number = source_of(reader, index)
    return (
        source.encoded(number)
        if isinstance(source, EncodedImages)
        else images.to_png(source[number])
    )


def image_name(reader: Images, index: int) -> str:
    """What to call an image in an error: its path, its record's key, or just its number."""
    source, number = source_of(reader, index)
    while isinstance(source, Changed):
        source, number = source_of(source.images, number)
    return source.where(number) if isinstance(source, EncodedImages) else f"image {number}"


def where_and_why(where: str, message: str) -> tuple[str, str]:
    """An error's line without the place it begins with, which stands beside it."""
    return where, message.removeprefix(where).lstrip(": ")


def number_identities(labels: Sequence[Any] | NDArray[Any]) -> tuple[NDArray[np.int64], list[str]]:
    """Labels of any kind -> (N,) identities 0..C-1 in the labels' sorted order, and their C names."""
    values = np.asarray(labels)
    if (
        values.dtype.kind == "i"
        and len(values)
        and values.min() >= 0
        and values.max() < 4 * len(values) + 2**16
    ):
        used = np.bincount(values) > 0  # the same without sorting millions
        return (np.cumsum(used, dtype=np.int64) - 1)[values], [
            str(name) for name in np.flatnonzero(used).tolist()
        ]
    names, identities = np.unique(values, return_inverse=True)
    return identities.astype(np.int64), [str(name) for name in names]
