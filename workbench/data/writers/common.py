"""What every writer of data sets shares: the images it can write, one after the other, and its report."""

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
    """What a writer wrote.

    Attributes:
        path: the file or folder.
        images: number of images in it.
        identities: number of identities in it; 0 where it has none.
        bytes: size of all its files.
        broken: (where, reason) of each image that was left out.
        note: what whoever uses it must know.
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
    """Number and encoded bytes of each image, after a look whether they can be decoded.

    Args:
        reader: images of any kind; image files come byte for byte as they are stored, others as PNG.
        broken: "stop" raises the error of the first image that cannot be read, "skip" passes over it.
        left_out: list to which (where, reason) of each image passed over is appended.
        numbers: of the images wanted, in the order wanted; all by default.
        progress: show a bar.
        title: what the bar says.

    Raises:
        WorkbenchError: an image cannot be read and `broken` is "stop", or none at all can; `broken` is neither.
    """
    if broken not in ("stop", "skip"):
        raise WorkbenchError(f"broken={broken!r}: expected 'stop' or 'skip'")
    wanted = range(len(reader)) if numbers is None else list(numbers)
    given, last = 0, ""
    for number in tqdm(wanted, desc=title, unit="image", disable=not progress, dynamic_ncols=True):
        try:
            encoded = encoded_image(reader, number)
            if is_encoded(reader, number):
                images.decode(encoded, image_name(reader, number))
        except WorkbenchError as error:
            if broken == "stop":
                raise WorkbenchError(f"{error}; {HINT}") from None
            last = str(error)
            if left_out is not None:
                left_out.append(where_and_why(image_name(reader, number), last))
            continue
        given += 1
        yield number, encoded
    if not given and last:
        raise WorkbenchError(f"none of the {len(wanted)} images can be read; the last: {last}")


def portable(encoded: bytes, where: str) -> bytes:
    """An image as programs read it that know JPEG and PNG alone and no orientation: as it is if it can be, else as PNG."""
    return encoded if images.is_plain(encoded) else images.to_png(images.decode(encoded, where))


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give out a temporary path beside `path`, which becomes `path` when all went well.

    Raises:
        WorkbenchError: something is there already, or it cannot be written.
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
    """Give out a temporary folder beside `path`, which becomes `path` when all went well and is removed when not.

    Raises:
        WorkbenchError: something other than an empty folder is there already, or it cannot be written.
    """
    path = Path(os.path.abspath(path))  # "." and "a/.." have no name to put a temporary one beside
    temporary: Path | None = None
    try:
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise WorkbenchError(f"{path}: is there already; remove it or give another name")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        yield temporary
        temporary.chmod(0o755)
        with suppress(FileNotFoundError):
            path.rmdir()  # an empty one, which Windows does not replace
        os.replace(temporary, path)
    except OSError as error:
        raise WorkbenchError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
