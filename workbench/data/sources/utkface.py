"""`utkface:DIR` or `utkface:FILE.zip` - UTKFace, with age, gender and race in the file names.

Zhang, Song and Qi, "Age progression/regression by conditional adversarial autoencoder", CVPR 2017.
A file is called AGE_GENDER_RACE_DATE.jpg. The people are unknown, so one of the labels takes the
place of the identity: the gender by default.
"""

from __future__ import annotations

import os
import re
import warnings
import zlib
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
"""Decades of age. Multi-task sets (`packed:PREFIX`) have the same seven classes."""
PARTS = ("train", "test")
"""Values of the option `part`. The data set has no official division."""
TEST_SHARE = 5
"""One of this many images is a test image."""
OLDEST = 116
"""The highest age in the data set, according to its authors."""


class Labels(NamedTuple):
    """The labels in a file name.

    Attributes:
        age: years.
        gender: number in `GENDERS`.
        race: number in `RACES`.
    """

    age: int
    gender: int
    race: int


CLASSES: dict[str, tuple[tuple[str, ...], Callable[[Labels], int]]] = {
    "gender": (GENDERS, lambda labels: labels.gender),
    "age": (AGES, lambda labels: min(labels.age // 10, len(AGES) - 1)),
    "race": (RACES, lambda labels: labels.race),
}
"""Names of the classes for each value of the option `label`, and the class of an image."""


def parse_name(name: str) -> Labels | None:
    """Returns the labels in the name of a file.

    Args:
        name: path of the file, such as `AGE_GENDER_RACE_DATE.jpg` or
            `AGE_GENDER_RACE_DATE.jpg.chip.jpg`.

    Returns:
        The labels; None if a part is missing, as in some names of the data set, or impossible.

    Example:
        >>> parse_name("part1/26_1_2_20170116184024662.jpg.chip.jpg")
        Labels(age=26, gender=1, race=2)
    """
    match = re.fullmatch(r"([0-9]{1,3})_([01])_([0-4])_[0-9]+(\.\w+)+", name.rpartition("/")[2])
    if match is None or int(match[1]) > OLDEST:
        return None
    return Labels(int(match[1]), int(match[2]), int(match[3]))


@SOURCES.register("utkface")
def open_utkface(path: str) -> Dataset:
    """Opens the images of a folder or a zip archive, at any depth.

    The classes are male and female.

    With the option `,label=age` there are seven classes of age, and with `,label=race` those that
    the authors distinguish. `,part=test` keeps about a fifth of the images, and `,part=train` the
    others; the checksum of the file's name decides. Files with other names are left out, and a
    warning counts them.

    The columns are `age` in years, `gender` ("male" or "female"), `race` and `file`.

    Args:
        path: the folder or archive, and options.

    Raises:
        WorkbenchError: if there is no such folder or archive, or it has no image of UTKFace.
    """
    place, options = with_options(path, "utkface", ("label", "part"))
    label, part = options.get("label", "gender"), options.get("part")
    if label not in CLASSES:
        raise unknown_name("label of utkface", label[:40], CLASSES)
    if part is not None and part not in PARTS:
        raise unknown_name("part of utkface", part[:40], PARTS)
    root = Path(os.path.expanduser(place))
    if not place or not (os.path.isdir(root) or os.path.isfile(root)):
        raise WorkbenchError(
            f"utkface:{path}: no such folder or zip; expected utkface:DIR or utkface:FILE.zip"
        )
    not_listed = NotListed(flat=True)
    files, labels = _labelled(path, list(_images(root, not_listed)))
    not_listed.warn(f"utkface:{path}")
    if part is not None:
        keep = [number for number, file in enumerate(files) if part_of(file) == part]
        files, labels = [files[number] for number in keep], [labels[number] for number in keep]
        if not files:
            raise WorkbenchError(f"utkface:{path}: no image is in the part {part}")
    reader: EncodedImages = Files(root, files) if root.is_dir() else ZippedImages(root, files)
    class_names, class_of = CLASSES[label]
    used, identities = np.unique(list(map(class_of, labels)), return_inverse=True)
    return Dataset(
        root.resolve().stem + (f"-{part}" if part else ""),
        reader,
        identities.astype(np.int64),
        [class_names[number] for number in used],
        {
            "file": files,
            "age": [age for age, _, _ in labels],
            "gender": [GENDERS[gender] for _, gender, _ in labels],
            "race": [RACES[race] for _, _, race in labels],
        },
        str(not_listed),
    )


def part_of(name: str) -> str:
    """Returns the part that an image is in, "train" or "test".

    Args:
        name: path of the file; its folder does not matter.

    Example:
        >>> part_of("part1/26_1_2_20170116184024662.jpg.chip.jpg")
        'train'
    """
    digest = zlib.crc32(name.rpartition("/")[2].encode("utf-8", "surrogateescape"))
    return "test" if digest % TEST_SHARE == 0 else "train"


def places(path: str) -> tuple[str, str | None]:
    """Returns the folder or archive and the part in what follows `utkface:` in a spec."""
    place, options = with_options(path, "utkface", ("label", "part"))
    return os.path.realpath(os.path.expanduser(place)), options.get("part")


def _labelled(path: str, images: list[str]) -> tuple[list[str], list[Labels]]:
    """Returns the images whose names hold labels, sorted, and their labels.

    Warns of images with other names.
    """
    images = sorted(name for name in images if not re.search(r"[\x00-\x1f]", name))
    parsed = [(name, parse_name(name)) for name in images]
    labelled = [(name, labels) for name, labels in parsed if labels is not None]
    if not labelled:
        example = f"e.g. {images[0][:80]!r}" if images else "no images"
        raise WorkbenchError(
            f"utkface:{path}: expected images named AGE_GENDER_RACE_DATE.jpg, found {example}"
        )
    if len(labelled) < len(images):
        odd = next(name for name, labels in parsed if labels is None)
        warnings.warn(
            f"utkface:{path}: {len(images) - len(labelled)} of {len(images)} images are left out, "
            f"because their names are not AGE_GENDER_RACE_DATE.jpg, e.g. {odd[:80]!r}",
            WorkbenchWarning,
            stacklevel=3,
        )
    return [name for name, _ in labelled], [labels for _, labels in labelled]


def _images(root: Path, not_listed: NotListed) -> Iterator[str]:
    """Returns the names of the images in a folder or a zip archive."""
    if root.is_dir():
        return pictures_below(root, not_listed)
    files = (name for name in names_in(root) if not name.endswith("/"))
    return filter(not_listed.takes, files)
