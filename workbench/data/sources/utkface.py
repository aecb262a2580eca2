"""`utkface:DIR` or `utkface:FILE.zip` - UTKFace, whose file names say age, gender and race: AGE_GENDER_RACE_DATE.jpg.

Zhang, Song and Qi, "Age progression/regression by conditional adversarial autoencoder", CVPR 2017. Nobody knows who is on
which picture, so "identity" is one of the labels, gender unless told otherwise.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from workbench.data.dataset import Dataset, EncodedImages
from workbench.data.io.not_listed import NotListed, pictures_below
from workbench.data.io.paths import with_options
from workbench.data.io.readers import Files
from workbench.data.io.zipped import ZippedImages, names_in
from workbench.data.registry import SOURCES
from workbench.errors import WorkbenchError, WorkbenchWarning, unknown_name

GENDERS = ("male", "female")
RACES = ("White", "Black", "Asian", "Indian", "other")
AGES = ("0-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60 and older")
"""Decades, of which the last takes in all above; multi-task sets know the same seven classes."""
OLDEST = 116  # as its authors say


class Labels(NamedTuple):
    """What a file name says."""

    age: int
    gender: int
    race: int


CLASSES: dict[str, tuple[tuple[str, ...], Callable[[Labels], int]]] = {
    "gender": (GENDERS, lambda labels: labels.gender),
    "age": (AGES, lambda labels: min(labels.age // 10, len(AGES) - 1)),
    "race": (RACES, lambda labels: labels.race),
}


def parse_name(name: str) -> Labels | None:
    """What `AGE_GENDER_RACE_DATE.jpg` says, or `.jpg.chip.jpg`; None where a part is missing, as it is in some, or impossible."""
    match = re.fullmatch(r"([0-9]{1,3})_([01])_([0-4])_[0-9]+(\.\w+)+", name.rpartition("/")[2])
    if match is None or int(match[1]) > OLDEST:
        return None
    return Labels(int(match[1]), int(match[2]), int(match[3]))


@SOURCES.register("utkface")
def open_utkface(path: str) -> Dataset:
    """The pictures of a folder or a zip, at any depth. Classes: `male` and `female`.

    With `,label=age` seven classes of age, with `,label=race` what the authors tell apart. Files that are named otherwise
    are passed over, with a warning that counts them.
    """
    place, options = with_options(path, "utkface", ("label",))
    label = options.get("label", "gender")
    if label not in CLASSES:
        raise unknown_name("label of utkface", label[:40], CLASSES)
    root = Path(os.path.expanduser(place))
    if not place or not (os.path.isdir(root) or os.path.isfile(root)):
        raise WorkbenchError(
            f"utkface:{path}: no such folder or zip; expected utkface:DIR or utkface:FILE.zip"
        )
    left = NotListed(flat=True)
    listed = pictures_below(root, left) if root.is_dir() else filter(left.takes, _files_in(root))
    pictures = sorted(name for name in listed if not re.search(r"[\x00-\x1f]", name))
    known = [(name, labels) for name in pictures if (labels := parse_name(name))]
    if not known:
        found = f"e.g. {pictures[0][:80]!r}" if pictures else "no pictures"
        raise WorkbenchError(
            f"utkface:{path}: expected pictures named AGE_GENDER_RACE_DATE.jpg, found {found}"
        )
    if len(known) < len(pictures):
        odd = next(name for name in pictures if not parse_name(name))
        warnings.warn(
            f"utkface:{path}: {len(pictures) - len(known)} of {len(pictures)} pictures are passed over, whose names are not "
            f"AGE_GENDER_RACE_DATE.jpg, e.g. {odd[:80]!r}",
            WorkbenchWarning,
            stacklevel=2,
        )
    left.warn(f"utkface:{path}")
    files = [name for name, _ in known]
    reader: EncodedImages = Files(root, files) if root.is_dir() else ZippedImages(root, files)
    names, class_of = CLASSES[label]
    used, identities = np.unique([class_of(labels) for _, labels in known], return_inverse=True)
    return Dataset(
        root.resolve().stem,
        reader,
        identities.astype(np.int64),
        [names[number] for number in used],
        {
            "file": files,
            "age": [labels.age for _, labels in known],
            "gender": [GENDERS[labels.gender] for _, labels in known],
            "race": [RACES[labels.race] for _, labels in known],
        },
        str(left),
    )


def _files_in(archive: Path) -> Iterator[str]:
    """The names of a zip's members that are files."""
    return (name for name in names_in(archive) if not name.endswith("/"))
