"""Writes a data set as a folder of image files, with one folder for each identity."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from workbench import images
from workbench.data.dataset import Broken, Dataset
from workbench.data.writers.common import Written, new_folder, readable, size_of

# Surrogates stand for bytes that are not UTF-8.
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|\ud800-\udfff]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
LONGEST_NAME = 100
"""Most bytes in the name of a folder. File systems allow 255."""


def write_folder(
    dataset: Dataset, out: Path, *, broken: Broken = "stop", progress: bool = True
) -> Written:
    """Write a data set as a folder for each identity, with files NAME/NAME_0001.jpg as in LFW.

    Image files are copied byte for byte. Characters that file systems do not allow become "_".
    Identities whose names are then equal, ignoring case, get a number.

    Args:
        dataset: The data set to write.
        out: The folder to write. It must not exist, or be empty.
        broken: What to do with an image that cannot be read: "stop" raises its error, "skip" leaves
            it out and reports it.
        progress: Show a progress bar.

    Returns:
        A report of what was written.

    Raises:
        WorkbenchError: If `out` exists already or cannot be written, or if an image cannot be read
            and `broken` is "stop", or if no image can be read.
    """
    left_out: list[tuple[str, str]] = []
    names = folder_names(dataset.identity_names)
    images_of: dict[int, int] = {}
    order = np.argsort(dataset.identities, kind="stable").tolist()
    with new_folder(out) as temporary:
        for number, encoded in readable(
            dataset.images,
            broken,
            left_out=left_out,
            numbers=order,
            progress=progress,
            title="writing files",
        ):
            identity = int(dataset.identities[number])
            images_of[identity] = images_of.get(identity, 0) + 1
            name = names[identity]
            folder = temporary / name
            folder.mkdir(exist_ok=True)
            file = folder / f"{name}_{images_of[identity]:04d}{images.suffix_of(encoded)}"
            file.write_bytes(encoded)
        size = size_of(temporary)
    return Written(out, sum(images_of.values()), len(images_of), size, left_out)


def folder_names(names: Sequence[str]) -> list[str]:
    """Turn names of identities into names of folders that every file system accepts.

    No two names are equal, even if case is ignored. No name is hidden or leads out of the folder.

    Args:
        names: The names of the identities.

    Returns:
        A name of a folder for each identity.

    Example:
        >>> folder_names(["Ann", "ann", "a/b", ".."])
        ['Ann', 'ann-2', 'a_b', '_']
    """
    folders: list[str] = []
    used: set[str] = set()
    for name in names:
        allowed = _FORBIDDEN.sub("_", name).encode("utf-8", "replace")[:LONGEST_NAME]
        plain = allowed.decode("utf-8", "ignore").strip(". ")
        if not plain or _RESERVED.fullmatch(plain):
            plain = f"_{plain}"
        folder, number = plain, 2
        while folder.casefold() in used:
            folder, number = f"{plain}-{number}", number + 1
        used.add(folder.casefold())
        folders.append(folder)
    return folders
