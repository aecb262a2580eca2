"""`celeba:ROOT` and `lfw-people:ROOT` - face sets in the folders that torchvision's classes of these names keep them in.

Liu et al., "Deep learning face attributes in the wild", ICCV 2015; Huang et al., "Labeled Faces in the Wild", 2007. torchvision
reads and checks the lists; the pictures are read here, when asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable
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
PARTS = ("train", "valid", "test", "all")
LFW_FILES = {
    "funneled": ("lfw-funneled.tgz", "lfw_funneled"),
    "deepfunneled": ("lfw-deepfunneled.tgz", "lfw-deepfunneled"),
    "original": ("lfw.tgz", "lfw"),
}


@SOURCES.register("celeba")
def open_celeba(path: str) -> Dataset:
    """ROOT/celeba/ with img_align_celeba/ and the five lists; `,split=valid` is another part than `train`, or `all`.

    Attributes are the 40 of its authors, true or false, and the five `landmarks`.
    """
    root, options = _place(path, "celeba", "split")
    split = _one_of("split of celeba", options.get("split", "train"), PARTS)
    folder = root / "celeba"
    missing = [name for name in CELEBA_LISTS if not (folder / name).is_file()]
    missing += (
        []
        if (folder / "img_align_celeba").is_dir()
        else ["img_align_celeba/ (unpacked from img_align_celeba.zip)"]
    )
    if missing:
        raise WorkbenchError(
            f"celeba:{path}: {folder} lacks {', '.join(missing)}; fetch them from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
        )
    from torchvision.datasets import CelebA

    read = _read("celeba", folder, lambda: CelebA(str(root), split=split, download=False))
    identities, names = number_identities(read.identity[:, 0].numpy())
    files = list(read.filename)
    flags = read.attr.numpy().astype(bool)
    attributes: dict[str, Any] = {
        name: flags[:, i] for i, name in enumerate(_titles(read.attr_names, flags.shape[1]))
    }
    landmarks = read.landmarks_align.numpy().astype(np.float32).reshape(len(files), -1, 2)
    name = "celeba" if split == "train" else f"celeba-{split}"
    reader = Files(folder / "img_align_celeba", files)
    return Dataset(
        name, reader, identities, names, {"file": files, **attributes, "landmarks": landmarks}
    )


@SOURCES.register("lfw-people")
def open_lfw_people(path: str) -> Dataset:
    """ROOT/lfw-py/ with the funneled images; `,images=deepfunneled` or `original`, `,split=train` or `test` of View 1, else all."""
    root, options = _place(path, "lfw-people", "images", "split")
    kind = _one_of("images of lfw-people", options.get("images", "funneled"), LFW_FILES)
    split = _one_of(
        "split of lfw-people", options.get("split", "10fold"), ("10fold", "train", "test")
    )
    folder = root / "lfw-py"
    archive, unpacked = LFW_FILES[kind]
    people = {"10fold": "people.txt", "train": "peopleDevTrain.txt", "test": "peopleDevTest.txt"}[
        split
    ]
    missing = [name for name in (archive, people, "lfw-names.txt") if not (folder / name).is_file()]
    missing += [] if (folder / unpacked).is_dir() else [f"{unpacked}/ (unpacked from {archive})"]
    if missing:
        raise WorkbenchError(
            f"lfw-people:{path}: {folder} lacks {', '.join(missing)}; torchvision downloads them no more; "
            "a copy of the images alone opens as folder:DIR"
        )
    from torchvision.datasets import LFWPeople

    read = _read(
        "lfw-people",
        folder,
        lambda: LFWPeople(str(root), split=split, image_set=kind, download=False),
    )
    names = [name for name, _ in sorted(read.class_to_idx.items(), key=lambda item: item[1])]
    files = [Path(file).relative_to(folder / unpacked).as_posix() for file in read.data]
    used, identities = np.unique(np.array(read.targets, dtype=np.int64), return_inverse=True)
    name = "lfw-people" if split == "10fold" else f"lfw-people-{split}"
    reader = Files(folder / unpacked, files)
    return Dataset(
        name, reader, identities.astype(np.int64), [names[i] for i in used], {"file": files}
    )


def _place(path: str, kind: str, *known: str) -> tuple[Path, dict[str, str]]:
    place, options = with_options(path, kind, known)
    return Path(os.path.abspath(existing(place, kind, "folder"))), options


def _one_of(what: str, given: str, known: Any) -> str:
    if given not in known:
        raise unknown_name(what, given[:40], known)
    return given


def _read(kind: str, folder: Path, make: Callable[[], Any]) -> Any:
    """What torchvision makes of a folder; it compares the lists' checksums."""
    try:
        return make()
    except Exception as error:  # RuntimeError for wrong checksums; lists that pass them cannot be malformed, but who knows
        reason = " ".join(
            str(error).replace("You can use download=True to download it", "").split()
        )[:120]
        raise WorkbenchError(
            f"{kind}: torchvision does not take what is in {folder} ({reason or type(error).__name__}); "
            "is a list or an archive cut off, or changed? it compares their checksums"
        ) from None


def _titles(names: list[str], count: int) -> list[str]:
    """The lists end their line of titles with a space, which older versions of torchvision make an empty title of."""
    titles = [name for name in names if name]
    return titles if len(titles) == count else [f"attribute {number}" for number in range(count)]
