"""What all writers share: reading the images one after another, new files and folders, and the
report."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tqdm.auto import tqdm

from workbench import images
from workbench.data.dataset import (
    HINT,
    Broken,
    Images,
    encoded_image,
    image_name,
    is_encoded,
    where_and_why,
)
from workbench.errors import WorkbenchError
from workbench.files import atomic_path


@dataclass(frozen=True)
class Written:
    """The report of a writer.

    Attributes:
        path: The file or folder that was written.
        images: Number of images in it.
        identities: Number of identities in it, or 0 if it has none.
        bytes: Size of all its files.
        broken: (name, reason) of each image that was left out.
        note: What the user of the file must know.
    """

    path: Path
    images: int
    identities: int
    bytes: int
    broken: list[tuple[str, str]] = field(default_factory=list)
    note: str = ""


def readable(
    reader: Images,
    broken: Broken = "stop",
    *,
    left_out: list[tuple[str, str]] | None = None,
    numbers: Iterable[int] | None = None,
    progress: bool = True,
    title: str = "writing",
) -> Iterator[tuple[int, bytes]]:
    """Iterate over the images that can be decoded.

    Args:
        reader: The images. Image files are returned byte for byte, other images as PNG.
        broken: "stop" raises the error of the first image that cannot be read, "skip" leaves it
            out.
        left_out: A list to which (name, reason) of each image left out is appended.
        numbers: Numbers of the images to read, in this order. The default is all images.
        progress: Show a progress bar.
        title: Title of the progress bar.

    Yields:
        The number and the encoded bytes of each image.

    Raises:
        WorkbenchError: If an image cannot be read and `broken` is "stop", if no image can be read,
            or if `broken` is neither "stop" nor "skip".
    """
    if broken not in ("stop", "skip"):
        raise WorkbenchError(f"broken={broken!r}: expected 'stop' or 'skip'")
    wanted = range(len(reader)) if numbers is None else list(numbers)
    count, last_error = 0, ""
    for number in tqdm(wanted, desc=title, unit="image", disable=not progress, dynamic_ncols=True):
        try:
            encoded = encoded_image(reader, number)
            if is_encoded(reader, number):
                images.decode(encoded, image_name(reader, number))
        except WorkbenchError as error:
            if broken == "stop":
                raise WorkbenchError(f"{error}; {HINT}") from None
            last_error = str(error)
            if left_out is not None:
                left_out.append(where_and_why(image_name(reader, number), last_error))
            continue
        count += 1
        yield number, encoded
    if not count and last_error:
        raise WorkbenchError(
            f"none of the {len(wanted)} images can be read; the last error: {last_error}"
        )


def portable(encoded: bytes, where: str) -> bytes:
    """Encode an image for programs that read only JPEG and PNG and ignore the orientation in EXIF.

    Args:
        encoded: The bytes of the image file.
        where: Name of the image for error messages.

    Returns:
        The same bytes if such programs read them correctly, and a PNG file if not.
    """

    return encoded if images.is_plain(encoded) else images.to_png(images.decode(encoded, where))


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, which is renamed to `path` at the end without
    error.

    Raises:
        WorkbenchError: If `path` exists already or cannot be written.
    """
    if path.exists():
        raise WorkbenchError(f"{path}: is there already; remove it or give another name")
    try:
        with atomic_path(path) as temporary:
            yield temporary
    except OSError as error:
        raise WorkbenchError(f"{path}: cannot be written ({error.strerror or error})") from None


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder next to `path`, which is renamed to `path` at the end.

    After an error the temporary folder is removed.

    Raises:
        WorkbenchError: If `path` exists already and is not an empty folder, or cannot be written.
    """
    path = Path(os.path.abspath(path))  # "." and "a/.." have no name.
    temporary: Path | None = None
    try:
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise WorkbenchError(f"{path}: is there already; remove it or give another name")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        yield temporary
        temporary.chmod(0o755)
        with suppress(FileNotFoundError):
            path.rmdir()  # An empty folder, which Windows does not replace.
        os.replace(temporary, path)
    except OSError as error:
        raise WorkbenchError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def size_of(folder: Path) -> int:
    """The size of all files in a folder, in bytes."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
