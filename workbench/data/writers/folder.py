"""A data set as a folder of image files, one folder an identity."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from workbench import images
from workbench.data.dataset import Broken, Dataset
from workbench.data.writers.common import Written, new_folder, readable, size_of

_FORBIDDEN = re.compile(
    r'[\x00-\x1f\x7f/\\:*?"<>|\ud800-\udfff]'
)  # surrogates stand for bytes that are not UTF-8
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
LONGEST_NAME = 100
"""Bytes of a folder's name; file systems take 255."""


def write_folder(
    dataset: Dataset, out: Path, *, broken: Broken = "stop", progress: bool = True
) -> Written:
    """A folder an identity, with files NAME/NAME_0001.jpg as LFW's, byte for byte as they were.

    What file systems do not take in a name becomes "_"; identities whose names are then the same, even but for case, get a number.

    Args:
        dataset: what is written.
        out: the folder.
        broken: "stop" or "skip".
        progress: show a bar.
    """
    left_out: list[tuple[str, str]] = []
    names = folder_names(dataset.identity_names)
    taken: dict[int, int] = {}
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
            who = int(dataset.identities[number])
            taken[who] = taken.get(who, 0) + 1
            folder = temporary / names[who]
            folder.mkdir(exist_ok=True)
            (folder / f"{names[who]}_{taken[who]:04d}{images.suffix_of(encoded)}").write_bytes(
                encoded
            )
        size = size_of(temporary)
    return Written(out, sum(taken.values()), len(taken), size, left_out)


def folder_names(names: Sequence[str]) -> list[str]:
    """Names that any file system takes, none twice, not even but for case; none hidden, none that leads elsewhere."""
    found: list[str] = []
    given: set[str] = set()
    for name in names:
        plain = (
            _FORBIDDEN.sub("_", name)
            .encode("utf-8", "replace")[:LONGEST_NAME]
            .decode("utf-8", "ignore")
            .strip(". ")
        )
        plain = f"_{plain}" if not plain or _RESERVED.fullmatch(plain) else plain
        new, number = plain, 2
        while new.casefold() in given:
            new, number = f"{plain}-{number}", number + 1
        given.add(new.casefold())
        found.append(new)
    return found
