"""`folder:DIR` - one folder per identity, as CASIA-WebFace, VGGFace2, MS1M, K-Face and most own collections come.

With `,list=FILE` the images and whose they are come from a list instead.
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
PARTS = {"train", "training", "test", "testing", "val", "valid", "validation"}
K_FACE_COLUMNS = ("session", "light", "expression", "camera")
MANY_INSIDE = 3
"""From how many folders each on, all of different names, folders may hold people rather than be people."""
MOST_JOINED = 3


@SOURCES.register("folder")
def open_folder(path: str) -> Dataset:
    """The images below DIR/IDENTITY/, at any depth, also behind links; `note` counts what is left out, and a warning says it.

    With `,list=FILE`, a file or one in DIR: the images that it lists, relative to DIR, each with the identity that it says, else
    with its folder's name. `,path=COLUMN` and `,identity=COLUMN` state the columns where they cannot be told (`image_lists.py`).
    """
    place, options = with_options(path, "folder", ("list", *STATED))
    root = existing(place, "folder", "folder")
    if options and "list" not in options:
        raise WorkbenchError(
            f"folder:{path}: {next(iter(options))}= is about the columns of a list; give list=FILE too"
        )
    if options:
        files, labels, note = _listed(root, options)
    else:
        left = NotListed()
        files, labels = _found(root, path, left)
        left.warn(f"folder:{path}")
        note = str(left)
    identities, names = number_identities(labels)
    return Dataset(
        root.resolve().name,
        Files(root, files),
        identities,
        names,
        {"file": files, **_k_face(files)},
        note,
    )


def _found(root: Path, path: str, left: NotListed) -> tuple[list[str], list[str]]:
    """Files and the first folder on the way to each."""
    found: list[str] = []
    with tqdm(desc=f"look through {root.name}", unit="image", delay=2, dynamic_ncols=True) as bar:
        for name in pictures_below(root, left):
            (found if "/" in name else left.loose).append(name)
            bar.update()
    if not found:
        where = "only beside, not inside, identity folders" if left.loose else "none"
        left.loose = []
        raise WorkbenchError(
            f"folder:{path}: expected images in DIR/IDENTITY/, found {where}{f'; {left}' * bool(str(left))}"
        )
    found.sort(key=lambda name: name.split("/"))
    labels = [name.partition("/")[0] for name in found]
    if PARTS.issuperset(labels) and all(
        name.count("/") > 1 for name in found
    ):  # as VGGFace2 is unpacked
        raise WorkbenchError(
            f"folder:{path}: holds the parts {', '.join(sorted(set(labels)))}; open one, e.g. folder:{path}/{labels[-1]}"
        )
    left.lost = sorted(set(left.folders).difference(labels, left.links))
    left.alike = _alike(set(labels))
    left.hint = _one_level_down(path, found)
    return found, labels


def _alike(labels: set[str]) -> list[str]:
    """Names that several folders have, in different Unicode normalisations: they look the same, and may be one person's."""
    counts = Counter(unicodedata.normalize("NFC", label) for label in labels)
    return sorted(name for name, count in counts.items() if count > 1)


def _one_level_down(path: str, files: Sequence[str]) -> str:
    """What to open where the people seem to be one level below the folders that are taken for them; empty where they do not."""
    counts: Counter[str] = Counter()
    inside: dict[str, set[str]] = {}
    loose: set[str] = set()
    for name in files:
        first, second, *rest = name.split("/")
        counts[first] += 1
        if rest:
            inside.setdefault(first, set()).add(second)
        else:
            loose.add(first)
    first, most = counts.most_common(1)[0]
    folders, here = len(inside.get(first, ())), f"folder:{path.rstrip('/')}"
    if first not in loose and folders > 1 and 2 * most > len(files):
        return (
            f"{most:,} of the {len(files):,} images are taken for one person, {first}, and lie in {folders:,} folders in it; "
            f"if these are the people, open {here}/{first}"
        )
    albums = [album for names in inside.values() for album in names]
    if not loose and len(albums) > MANY_INSIDE * len(counts) and len(set(albums)) == len(albums):
        several = "+".join(f"{here}/{name}" for name in sorted(counts)[:MOST_JOINED])
        return (
            f"no image lies directly in the folders of the {len(counts):,} people, which hold {len(albums):,} folders of different "
            f"names; if these are the people, open {several}{'+...' * (len(counts) > MOST_JOINED)}"
        )
    return ""


def _listed(root: Path, options: dict[str, str]) -> ImageList:
    """What a list says, which is a file or one in DIR."""
    name, stated = (
        options["list"],
        {option: value for option, value in options.items() if option != "list"},
    )
    beside = root / os.path.expanduser(name)
    file = (
        beside
        if name and not os.path.isfile(os.path.expanduser(name)) and beside.is_file()
        else existing(name, "list", "file")
    )
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
    return {
        column: [match[i] for match in matches if match]
        for i, column in enumerate(K_FACE_COLUMNS, 1)
    }
