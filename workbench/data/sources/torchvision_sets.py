"""`celeba:ROOT` and `lfw-people:ROOT` - face sets in the folders that torchvision keeps them in.

Liu et al., "Deep learning face attributes in the wild", ICCV 2015; Huang et al., "Labeled Faces in
the Wild", 2007. torchvision reads and checks the lists. The images are read here when they are
asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from workbench.data.dataset import Dataset, number_identities
from workbench.data.io.paths import with_options
from workbench.data.io.readers import Files
from workbench.data.registry import SOURCES, existing
from workbench.errors import WorkbenchError, unknown_name

CELEBA_LISTS = (
    "identity_CelebA.txt",
    "list_attr_celeba.txt",
    "list_bbox_celeba.txt",
    "list_eval_partition.txt",
    "list_landmarks_align_celeba.txt",
)
CELEBA_SPLITS = ("train", "valid", "test", "all")
LFW_FILES = {
    "funneled": ("lfw-funneled.tgz", "lfw_funneled"),
    "deepfunneled": ("lfw-deepfunneled.tgz", "lfw-deepfunneled"),
    "original": ("lfw.tgz", "lfw"),
}
"""Archive and folder of each kind of images."""
LFW_LISTS = {"10fold": "people.txt", "train": "peopleDevTrain.txt", "test": "peopleDevTest.txt"}
"""List of people of each split: all of them, or those of View 1."""


@SOURCES.register("celeba")
def open_celeba(path: str) -> Dataset:
    """Opens CelebA in ROOT/celeba/, which holds img_align_celeba/ and the five lists.

    The attributes are the 40 attributes of its authors, as booleans, and the five `landmarks`. The
    option `,split=valid` opens another part than `train`: `valid`, `test` or `all`.

    Args:
        path: ROOT, and options.

    Raises:
        WorkbenchError: if there is no such part, a file is missing, or torchvision refuses a list.
    """
    root, options = _root_and_options(path, "celeba", "split")
    split = _checked("split of celeba", options.get("split", "train"), CELEBA_SPLITS)
    folder = root / "celeba"
    missing = [name for name in CELEBA_LISTS if not (folder / name).is_file()]
    if not (folder / "img_align_celeba").is_dir():
        missing.append("img_align_celeba/ (unpacked from img_align_celeba.zip)")
    if missing:
        raise WorkbenchError(
            f"celeba:{path}: {folder} lacks {', '.join(missing)}; "
            "download them from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
        )
    from torchvision.datasets import CelebA

    celeba = _read("celeba", folder, lambda: CelebA(str(root), split=split, download=False))
    identities, names = number_identities(celeba.identity[:, 0].numpy())
    files = list(celeba.filename)
    flags = celeba.attr.numpy().astype(bool)
    titles = _titles(celeba.attr_names, flags.shape[1])
    attributes: dict[str, Any] = {"file": files}
    attributes |= {title: flags[:, i] for i, title in enumerate(titles)}
    landmarks = celeba.landmarks_align.numpy().astype(np.float32)
    attributes["landmarks"] = landmarks.reshape(len(files), -1, 2)
    name = "celeba" if split == "train" else f"celeba-{split}"
    return Dataset(name, Files(folder / "img_align_celeba", files), identities, names, attributes)


@SOURCES.register("lfw-people")
def open_lfw_people(path: str) -> Dataset:
    """Opens LFW in ROOT/lfw-py/, with the funneled images of all people.

    The option `,images=deepfunneled` or `original` opens other images, and `,split=train` or `test`
    only the people of one part of View 1.

    Args:
        path: ROOT, and options.

    Raises:
        WorkbenchError: if there are no such images or part, a file is missing, or torchvision
            refuses a list.
    """
    root, options = _root_and_options(path, "lfw-people", "images", "split")
    kind = _checked("images of lfw-people", options.get("images", "funneled"), LFW_FILES)
    split = _checked("split of lfw-people", options.get("split", "10fold"), LFW_LISTS)
    folder = root / "lfw-py"
    archive, unpacked = LFW_FILES[kind]
    needed = (archive, LFW_LISTS[split], "lfw-names.txt")
    missing = [name for name in needed if not (folder / name).is_file()]
    if not (folder / unpacked).is_dir():
        missing.append(f"{unpacked}/ (unpacked from {archive})")
    if missing:
        raise WorkbenchError(
            f"lfw-people:{path}: {folder} lacks {', '.join(missing)}; torchvision no longer "
            "downloads them; a copy of only the images opens as folder:DIR"
        )
    from torchvision.datasets import LFWPeople

    lfw = _read(
        "lfw-people",
        folder,
        lambda: LFWPeople(str(root), split=split, image_set=kind, download=False),
    )
    names = [name for name, _ in sorted(lfw.class_to_idx.items(), key=lambda item: item[1])]
    files = [Path(file).relative_to(folder / unpacked).as_posix() for file in lfw.data]
    used, identities = np.unique(np.array(lfw.targets, dtype=np.int64), return_inverse=True)
    return Dataset(
        "lfw-people" if split == "10fold" else f"lfw-people-{split}",
        Files(folder / unpacked, files),
        identities.astype(np.int64),
        [names[i] for i in used],
        {"file": files},
    )


def _root_and_options(path: str, kind: str, *options: str) -> tuple[Path, dict[str, str]]:
    root, values = with_options(path, kind, options)
    return Path(os.path.abspath(existing(root, kind, "folder"))), values


def _checked(option: str, value: str, choices: Iterable[str]) -> str:
    """Returns the value of an option if it is one of the choices."""
    if value not in choices:
        raise unknown_name(option, value[:40], choices)
    return value


def _read(kind: str, folder: Path, make: Callable[[], Any]) -> Any:
    """Returns torchvision's object for a folder; torchvision compares the lists' checksums."""
    try:
        return make()
    except Exception as error:  # RuntimeError for wrong checksums, others for malformed lists
        message = str(error).replace("You can use download=True to download it", "")
        reason = " ".join(message.split())[:120] or type(error).__name__
        raise WorkbenchError(
            f"{kind}: torchvision refuses the files in {folder} ({reason}); "
            "is a list or an archive truncated or changed? torchvision compares their checksums"
        ) from None


def _titles(names: list[str], count: int) -> list[str]:
    """Returns the titles of the attributes.

    The line of titles ends with a space, which older torchvision versions read as an empty title.
    """
    titles = [name for name in names if name]
    return titles if len(titles) == count else [f"attribute {number}" for number in range(count)]
