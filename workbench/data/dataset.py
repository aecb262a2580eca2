"""The one type of training set: images, each with an identity, whatever file they come from."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from workbench import images
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from torch import Tensor


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
    """

    name: str
    images: Images
    identities: NDArray[np.int64]
    identity_names: Sequence[str]
    attributes: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.images) == 0:
            raise WorkbenchError(f"{self.name}: no images")
        if self.identities.shape != (len(self.images),):
            raise WorkbenchError(f"{self.name}: {len(self.images)} images but identities of shape {self.identities.shape}")
        low, high = int(self.identities.min()), int(self.identities.max())  # not np.unique, which sorts a copy of millions
        used = np.count_nonzero(np.bincount(self.identities)) if low >= 0 and high < len(self.identity_names) else -1
        if used != len(self.identity_names):
            raise WorkbenchError(
                f"{self.name}: {len(self.identity_names)} identity names, but the images use {len(np.unique(self.identities))}"
            )

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
        return Sample(image, int(self.identities[index]), {key: _plain(column[index]) for key, column in self.attributes.items()})

    def fingerprint(self) -> str:
        """16 hex digits that change when identities, their names or the number or order of images do (not with pixels)."""
        digest = hashlib.sha256(self.identities.astype("<i8").tobytes())
        digest.update("\0".join(self.identity_names).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:16]

    def subset(self, name: str, keep: NDArray[np.int64]) -> Dataset:
        """The images with numbers `keep`, identities renumbered to those that remain."""
        used, identities = np.unique(self.identities[keep], return_inverse=True)
        return Dataset(
            name,
            Picked(self.images, keep),
            identities.astype(np.int64),
            [self.identity_names[i] for i in used],
            {key: [column[i] for i in keep] for key, column in self.attributes.items()},
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


def number_identities(labels: Sequence[Any] | NDArray[Any]) -> tuple[NDArray[np.int64], list[str]]:
    """Labels of any kind -> (N,) identities 0..C-1 in the labels' sorted order, and their C names."""
    names, identities = np.unique(np.asarray(labels), return_inverse=True)
    return identities.astype(np.int64), [str(name) for name in names]
