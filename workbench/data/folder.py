"""`folder:DIR` - one folder per identity, as CASIA-WebFace, VGGFace2, MS1M, K-Face and most own collections come.

With `,list=FILE` the images and whose they are come from a list instead.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from workbench import images
from workbench.data.dataset import Dataset, EncodedImages, number_identities
from workbench.data.image_lists import STATED, ImageList, ListWarning, read_image_list
from workbench.data.paths import with_options
from workbench.data.registry import SOURCES, existing
from workbench.errors import WorkbenchError

K_FACE = re.compile(r"[^/]+/(S\d+)/(L\d+)/(E\d+)/(C\d+)\.\w+")
PARTS = {"train", "training", "test", "testing", "val", "valid", "validation"}
K_FACE_COLUMNS = ("session", "light", "expression", "camera")


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


@SOURCES.register("folder")
def open_folder(path: str) -> Dataset:
    """The images below DIR/IDENTITY/, at any depth; other files and hidden ones are passed over.

    With `,list=FILE`, a file or one in DIR: the images that it lists, relative to DIR, each with the identity that it says, else
    with its folder's name. `,path=COLUMN` and `,identity=COLUMN` state the columns where they cannot be told (`image_lists.py`).
    """
    place, options = with_options(path, "folder", ("list", *STATED))
    root = existing(place, "folder", "folder")
    if options and "list" not in options:
        raise WorkbenchError(f"folder:{path}: {next(iter(options))}= is about the columns of a list; give list=FILE too")
    files, labels, note = _listed(root, options) if options else (*_found(root, path), "")
    identities, names = number_identities(labels)
    return Dataset(root.resolve().name, Files(root, files), identities, names, {"file": files, **_k_face(files)}, note)


def _found(root: Path, path: str) -> tuple[list[str], list[str]]:
    """Files and the first folder on the way to each."""
    inside_folders: list[str] = []
    beside = False
    with tqdm(desc=f"look through {root.name}", unit="image", delay=2, dynamic_ncols=True) as bar:
        for entry in _entries(root):
            if entry.is_dir():  # links to folders, too, but none further down: they could lead in a circle
                for name in _pictures_below(entry.path, entry.name):
                    inside_folders.append(name)
                    bar.update()
            else:
                beside = beside or _is_picture(entry)
    if not inside_folders:
        where = "only beside, not inside, identity folders" if beside else "none"
        raise WorkbenchError(f"folder:{path}: expected images in DIR/IDENTITY/, found {where}")
    inside_folders.sort(key=lambda name: name.split("/"))
    labels = [name.partition("/")[0] for name in inside_folders]
    if PARTS.issuperset(labels) and all(name.count("/") > 1 for name in inside_folders):  # as VGGFace2 is unpacked
        raise WorkbenchError(
            f"folder:{path}: holds the parts {', '.join(sorted(set(labels)))}; open one, e.g. folder:{path}/{labels[-1]}"
        )
    return inside_folders, labels


def _pictures_below(folder: str, name: str) -> Iterator[str]:
    """Pictures at any depth. `os.scandir` knows without a look at each file what it is, which pathlib asks for."""
    waiting = [(folder, name)]
    while waiting:
        folder, name = waiting.pop()
        for entry in _entries(folder):
            if entry.is_dir(follow_symlinks=False):
                waiting.append((entry.path, f"{name}/{entry.name}"))
            elif _is_picture(entry):
                yield f"{name}/{entry.name}"


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """What is in a folder, but for what is hidden."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise WorkbenchError(f"{folder}: cannot be read ({error.strerror})") from None


def _is_picture(entry: os.DirEntry[str]) -> bool:
    return os.path.splitext(entry.name)[1].lower() in images.SUFFIXES and entry.is_file()


def _listed(root: Path, options: dict[str, str]) -> ImageList:
    """What a list says, which is a file or one in DIR."""
    name, stated = options["list"], {option: value for option, value in options.items() if option != "list"}
    beside = root / os.path.expanduser(name)
    file = beside if name and not os.path.isfile(os.path.expanduser(name)) and beside.is_file() else existing(name, "list", "file")
    found = read_image_list(file, root, stated)
    warnings.warn(f"folder:{root}: {found.note}", ListWarning, stacklevel=3)
    return found


def _k_face(files: list[str]) -> dict[str, list[Any]]:
    """K-Face's ID/S001/L1/E01/C1.jpg as columns, where all files are named so."""
    if not K_FACE.fullmatch(files[0]):
        return {}
    matches = [K_FACE.fullmatch(name) for name in files]
    if not all(matches):
        return {}
    return {column: [match[i] for match in matches if match] for i, column in enumerate(K_FACE_COLUMNS, 1)}
