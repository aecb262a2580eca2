"""`folder:DIR` - one folder per identity, as CASIA-WebFace, VGGFace2, MS1M and K-Face have it.

With `,list=FILE` the images and their identities come from a list instead.
"""

from __future__ import annotations

import os
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from workbench.data.dataset import Dataset, number_identities
from workbench.data.io.image_lists import STATED, ImageList, ListWarning, read_image_list
from workbench.data.io.not_listed import NotListed, pictures_below
from workbench.data.io.paths import with_options
from workbench.data.io.readers import Files
from workbench.data.registry import SOURCES, existing
from workbench.errors import WorkbenchError

K_FACE = re.compile(r"[^/]+/(S\d+)/(L\d+)/(E\d+)/(C\d+)\.\w+")
K_FACE_COLUMNS = ("session", "light", "expression", "camera")
PARTS = {"train", "training", "test", "testing", "val", "valid", "validation"}
"""Names of folders that are the parts of a data set."""
MANY_INSIDE = 3
"""If folders hold on average more folders than this, all with different names, each may hold
several identities rather than be one."""
MOST_JOINED = 3
"""Folders that a hint joins by +."""


@SOURCES.register("folder")
def open_folder(path: str) -> Dataset:
    """Opens the images below DIR/IDENTITY/, at any depth, also those behind links.

    The `note` of the data set counts what is left out, and a warning says it. The options are:

    - `,list=FILE`: a file, or one in DIR, that lists images relative to DIR, with the identity of
      each. Without a column of identities, each image's folder is its identity.
    - `,path=COLUMN` and `,identity=COLUMN`: the columns of the list, if they are ambiguous.

    Args:
        path: DIR, and options.

    Raises:
        WorkbenchError: if there is no such folder, it has no images in DIR/IDENTITY/, or the list
            cannot be read.
    """
    place, options = with_options(path, "folder", ("list", *STATED))
    root = existing(place, "folder", "folder")
    if options and "list" not in options:
        option = next(iter(options))
        raise WorkbenchError(
            f"folder:{path}: {option}= states a column of a list; give list=FILE, too"
        )
    if options:
        files, labels, note = _read_list(root, options)
    else:
        not_listed = NotListed()
        files, labels = _search(root, path, not_listed)
        not_listed.warn(f"folder:{path}")
        note = str(not_listed)
    identities, names = number_identities(labels)
    attributes = {"file": files, **_k_face(files)}
    return Dataset(root.resolve().name, Files(root, files), identities, names, attributes, note)


def _search(root: Path, path: str, not_listed: NotListed) -> tuple[list[str], list[str]]:
    """Returns the images below a folder, and the first folder on the path to each."""
    files: list[str] = []
    with tqdm(desc=f"look through {root.name}", unit="image", delay=2, dynamic_ncols=True) as bar:
        for name in pictures_below(root, not_listed):
            (files if "/" in name else not_listed.loose_images).append(name)
            bar.update()
    if not files:
        where = (
            "only directly in DIR, not in identity folders" if not_listed.loose_images else "none"
        )
        not_listed.loose_images = []
        rest = f"; {not_listed}" if str(not_listed) else ""
        raise WorkbenchError(
            f"folder:{path}: expected images in DIR/IDENTITY/, found {where}{rest}"
        )
    files.sort(key=lambda name: name.split("/"))
    labels = [name.partition("/")[0] for name in files]
    # VGGFace2 is unpacked to train/IDENTITY/ and test/IDENTITY/.
    if PARTS.issuperset(labels) and all(name.count("/") > 1 for name in files):
        raise WorkbenchError(
            f"folder:{path}: holds the parts {', '.join(sorted(set(labels)))}; "
            f"open one, e.g. folder:{path}/{labels[-1]}"
        )
    not_listed.without_images = sorted(
        set(not_listed.folders).difference(labels, not_listed.repeated_links)
    )
    not_listed.same_names = _same_names(set(labels))
    not_listed.hint = _one_level_down(path, files)
    return files, labels


def _same_names(labels: set[str]) -> list[str]:
    """Returns names that several folders have, in different Unicode normalisations.

    They look the same, and may stand for one person.
    """
    counts = Counter(unicodedata.normalize("NFC", label) for label in labels)
    return sorted(name for name, count in counts.items() if count > 1)


def _one_level_down(path: str, files: Sequence[str]) -> str:
    """Returns a hint if the identities seem to be one level below the folders that count as such.

    Returns:
        A sentence that says what to open instead; empty if there is no sign of it.
    """
    images: Counter[str] = Counter()
    subfolders: dict[str, set[str]] = {}
    with_images: set[str] = set()
    for name in files:
        folder, second, *rest = name.split("/")
        images[folder] += 1
        if rest:
            subfolders.setdefault(folder, set()).add(second)
        else:
            with_images.add(folder)
    spec = f"folder:{path.rstrip('/')}"
    largest, count = images.most_common(1)[0]
    inside = len(subfolders.get(largest, ()))
    if largest not in with_images and inside > 1 and 2 * count > len(files):
        return (
            f"{count:,} of the {len(files):,} images count as one person, {largest}, and lie in "
            f"{inside:,} folders in it; if these are the people, open {spec}/{largest}"
        )
    names = [name for folder_names in subfolders.values() for name in folder_names]
    if not with_images and len(names) > MANY_INSIDE * len(images) and len(set(names)) == len(names):
        joined = "+".join(f"{spec}/{name}" for name in sorted(images)[:MOST_JOINED])
        more = "+..." if len(images) > MOST_JOINED else ""
        return (
            f"no image lies directly in the folders of the {len(images):,} people, which hold "
            f"{len(names):,} folders of different names; if these are the people, "
            f"open {joined}{more}"
        )
    return ""


def _read_list(root: Path, options: dict[str, str]) -> ImageList:
    """Reads the list of the option `list`, which is a file or a file in DIR."""
    name = options["list"]
    stated = {option: value for option, value in options.items() if option != "list"}
    expanded = os.path.expanduser(name)
    in_root = root / expanded
    only_in_root = name and not os.path.isfile(expanded) and in_root.is_file()
    file = in_root if only_in_root else existing(name, "list", "file")
    listing = read_image_list(file, root, stated)
    warnings.warn(f"folder:{root}: {listing.note}", ListWarning, stacklevel=3)
    return listing


def _k_face(files: list[str]) -> dict[str, list[Any]]:
    """Returns the parts of K-Face's ID/S001/L1/E01/C1.jpg as columns, if all files are like it."""
    if not K_FACE.fullmatch(files[0]):
        return {}
    matches = [K_FACE.fullmatch(name) for name in files]
    if not all(matches):
        return {}
    return {
        column: [match[i] for match in matches if match]
        for i, column in enumerate(K_FACE_COLUMNS, 1)
    }
