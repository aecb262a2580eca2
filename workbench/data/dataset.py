"""The type of a training set: images, each with an identity, whatever files they come from."""

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
HINT = (
    "to continue without images that cannot be read, give --broken skip (broken='skip' in Python)"
)


class Images(Protocol):
    """Random access to decoded images.

    `len(images)` is their number, and `images[i]` is a (H, W, 3) uint8 array in RGB. For example, a
    list of arrays has this interface. Readers of files can be pickled, so that worker processes can
    use them.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> NDArray[np.uint8]: ...


class EncodedImages(ABC):
    """Base class of readers of image files, wherever the files are stored.

    A subclass knows how many images there are and where their bytes are; decoding is the same for
    all of them.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def encoded(self, index: int) -> bytes:
        """Returns the bytes of the image file, as they are stored.

        Raises:
            WorkbenchError: if they cannot be read; the message begins with `where(index)`.
        """

    @abstractmethod
    def where(self, index: int) -> str:
        """Returns the name of an image for error messages, such as its path."""

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return images.decode(self.encoded(index), self.where(index))


class Sample(NamedTuple):
    """One training example.

    Attributes:
        image: (3, H, W) uint8 tensor.
        identity: number of the identity, 0..C-1.
        attributes: value of each attribute (age, yaw, file, ...).
    """

    image: Tensor
    identity: int
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Dataset:
    """Images with identities, ready for a `torch.utils.data.DataLoader`.

    Attributes:
        name: name for figures and file names.
        images: reader of N images.
        identities: (N,) int64, 0..C-1; every number occurs.
        identity_names: C names, such as those of folders.
        attributes: columns of N values each (age, yaw, file, ...).
        note: what a user must know, such as what was left out when the files were read.

    Raises:
        WorkbenchError: if there are no images, or the numbers of images, identities and names do
            not agree.

    Example:
        >>> import numpy as np
        >>> from workbench.data import Dataset
        >>> images = [np.full((8, 8, 3), grey, np.uint8) for grey in (0, 50, 100)]
        >>> dataset = Dataset("toy", images, np.array([0, 0, 1]), ["anna", "bert"])
        >>> dataset
        <Dataset toy: 3 images of 2 identities>
        >>> dataset[2].identity
        1
    """

    name: str
    images: Images
    identities: NDArray[np.int64]
    identity_names: Sequence[str]
    attributes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        count, identities = len(self.images), self.identities
        if count == 0:
            raise WorkbenchError(f"{self.name}: no images")
        if identities.shape != (count,):
            raise WorkbenchError(
                f"{self.name}: {count} images but identities of shape {identities.shape}"
            )
        # np.unique would sort a copy of millions of numbers, so it is only used in the message.
        in_range = identities.min() >= 0 and identities.max() < len(self.identity_names)
        used = np.count_nonzero(np.bincount(identities)) if in_range else -1
        if used != len(self.identity_names):
            raise WorkbenchError(
                f"{self.name}: {len(self.identity_names)} identity names, "
                f"but the images use {len(np.unique(identities))}"
            )

    def __repr__(self) -> str:
        return f"<Dataset {self.name}: {len(self):,} images of {self.num_identities:,} identities>"

    @property
    def num_identities(self) -> int:
        """Number of identities, C."""
        return len(self.identity_names)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        """Returns an image with its identity and attributes.

        Raises:
            IndexError: if there is no such image.
            WorkbenchError: if the image cannot be read; the message names it.
        """
        import torch

        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} images, no number {index}")
        index = index % len(self)
        image = torch.from_numpy(np.ascontiguousarray(self.images[index].transpose(2, 0, 1)))
        attributes = {key: _plain(column[index]) for key, column in self.attributes.items()}
        return Sample(image, int(self.identities[index]), attributes)

    def fingerprint(self) -> str:
        """Returns 16 hexadecimal digits that identify the data set.

        They change with the identities and their names, with the number and order of images, and
        with the images that a subset keeps. They do not depend on pixels.
        """
        digest = hashlib.sha256(self.identities.astype("<i8").tobytes())
        digest.update("\0".join(self.identity_names).encode("utf-8", "surrogateescape"))
        for keep in _selections(self.images):
            digest.update(keep.astype("<i8").tobytes())
        return digest.hexdigest()[:16]

    def subset(self, name: str, keep: NDArray[np.int64]) -> Dataset:
        """Returns a data set of some of the images, whose identities are numbered anew.

        Args:
            name: name of the new data set.
            keep: (n,) int64 numbers of the images to keep.
        """
        used, identities = np.unique(self.identities[keep], return_inverse=True)
        attributes = {
            key: column[keep] if isinstance(column, np.ndarray) else [column[i] for i in keep]
            for key, column in self.attributes.items()
        }
        return Dataset(
            name,
            Picked(self.images, keep),
            identities.astype(np.int64),
            [self.identity_names[i] for i in used],
            attributes,
            self.note,
        )


def _plain(value: Any) -> Any:
    """Returns a NumPy scalar as a Python value, which is easier to read when it is printed."""
    return value.item() if isinstance(value, np.generic) else value


@dataclass(frozen=True)
class Picked:
    """Reader of a selection of another reader's images.

    Attributes:
        images: the other reader.
        keep: (n,) int64 numbers of the images in it.
    """

    images: Images
    keep: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.keep)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return self.images[int(self.keep[index])]


class Changed(ABC):
    """Base class of readers that change the images of another reader, but not their numbers."""

    images: Images


@dataclass(frozen=True)
class Joined:
    """Reader of the images of several readers, one reader after the other.

    Attributes:
        parts: the readers.
        starts: number of the first image of each reader, and the number of all images.
    """

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
        """Returns the reader that has an image, and the image's number in it.

        Raises:
            IndexError: if there is no such image.
        """
        index = int(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"{len(self)} images, no number {index}")
        index %= len(self)
        part = int(np.searchsorted(self.starts, index, side="right")) - 1
        return self.parts[part], index - int(self.starts[part])


def _selections(reader: Images) -> Iterator[NDArray[np.int64]]:
    """Yields the numbers of the images that each selection in a reader keeps."""
    if isinstance(reader, Picked):
        yield reader.keep
        yield from _selections(reader.images)
    elif isinstance(reader, Joined):
        for part in reader.parts:
            yield from _selections(part)


def source_of(reader: Images, index: int) -> tuple[Images, int]:
    """Returns the reader that an image originally comes from, and the image's number there.

    Selections (`Picked`) and joins (`Joined`) are resolved.
    """
    while isinstance(reader, Picked | Joined):
        if isinstance(reader, Joined):
            reader, index = reader.at(index)
        else:
            index = int(reader.keep[index])
            reader = reader.images
    return reader, index


def is_encoded(reader: Images, index: int) -> bool:
    """Returns whether an image is stored as an image file, and not as pixels."""
    return isinstance(source_of(reader, index)[0], EncodedImages)


def encoded_image(reader: Images, index: int) -> bytes:
    """Returns an image as an image file.

    Returns:
        The bytes as they are stored, or a PNG if the image is stored as pixels. Whether they can be
        decoded is not checked.

    Raises:
        WorkbenchError: if the image cannot be read.
    """
    source, number = source_of(reader, index)
    if isinstance(source, EncodedImages):
        return source.encoded(number)
    return images.to_png(source[number])


def image_name(reader: Images, index: int) -> str:
    """Returns the name of an image for error messages: its path, its record's key or its number."""
    source, number = source_of(reader, index)
    while isinstance(source, Changed):
        source, number = source_of(source.images, number)
    return source.where(number) if isinstance(source, EncodedImages) else f"image {number}"


def where_and_why(where: str, message: str) -> tuple[str, str]:
    """Splits an error message that begins with the name of an image into the name and the reason.

    Example:
        >>> where_and_why("a.jpg", "a.jpg: empty file")
        ('a.jpg', 'empty file')
    """
    return where, message.removeprefix(where).lstrip(": ")


def number_identities(labels: Sequence[Any] | NDArray[Any]) -> tuple[NDArray[np.int64], list[str]]:
    """Numbers labels of any kind.

    Args:
        labels: N labels, such as names or numbers.

    Returns:
        (N,) int64 identities 0..C-1 in the sorted order of the labels, and the C labels as texts.

    Example:
        >>> number_identities(["bert", "anna", "bert"])
        (array([1, 0, 1]), ['anna', 'bert'])
    """
    values = np.asarray(labels)
    countable = values.dtype.kind == "i" and len(values) > 0 and values.min() >= 0
    if countable and values.max() < 4 * len(values) + 2**16:
        # Counting gives the same as np.unique without sorting millions of numbers.
        used = np.bincount(values) > 0
        identities = (np.cumsum(used, dtype=np.int64) - 1)[values]
        return identities, [str(label) for label in np.flatnonzero(used).tolist()]
    names, identities = np.unique(values, return_inverse=True)
    return identities.astype(np.int64), [str(name) for name in names]
