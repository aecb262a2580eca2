"""`megaface:PROBES@DISTRACTORS` - identification of the people of one set among other images.

Kemelmacher-Shlizerman et al., "The MegaFace benchmark: 1 million faces for recognition at scale",
CVPR 2016: the people of FaceScrub are searched for among a million images of other people.
`draw_identification` makes such a benchmark from any two sets.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workbench.data.benchmark import Identification
from workbench.data.dataset import Dataset, Images, Joined, number_identities
from workbench.data.io.indexes import Texts
from workbench.data.io.list_files import Place
from workbench.data.io.not_listed import NotListed, pictures_below
from workbench.data.io.readers import Files
from workbench.data.joining import overlap
from workbench.data.registry import BENCHMARKS, SOURCES, is_source, open
from workbench.errors import WorkbenchError, unknown_name

RULES = ("gallery", "megaface")
EXPECTED = (
    "megaface:PROBES@DISTRACTORS, each a folder, LIST:ROOT (MegaFace's json lists) or a source "
    "such as folder:DIR"
)


# Drawing a benchmark from two sets


def draw_identification(
    dataset: Dataset,
    distractors: Dataset | Images,
    *,
    gallery: int = 1,
    seed: int | None = None,
    candidates: str = "gallery",
    name: str = "",
) -> Identification:
    """Make an identification benchmark from a data set and images of other people.

    The first images of each identity are enrolled, and its other images are probes; at least one
    image of an identity is a probe. Identities with a single image are left out.

    Args:
        dataset: The people to be identified.
        distractors: Images of other people: a data set, or a reader of images if the people are
            unknown. It is not checked that they differ from those of `dataset`.
        gallery: Most images that are enrolled of each identity, at least 1.
        seed: Seed of a draw of the enrolled images; None enrols the first images.
        candidates: "gallery" or "megaface"; see `Identification`.
        name: Name of the benchmark. The default is the name of `dataset`.

    Returns:
        The benchmark. Its images are those of `dataset`, followed by the distractors.

    Raises:
        WorkbenchError: If no identity has two images, there are no distractors, `gallery` is less
            than 1, or there is no such rule for `candidates`.

    Example:
        >>> import numpy as np
        >>> from workbench.data import Dataset, draw_identification
        >>> images = [np.full((8, 8, 3), grey, np.uint8) for grey in range(9)]
        >>> dataset = Dataset("toy", images, np.arange(9) // 3, ["anna", "bert", "carl"])
        >>> others = [np.full((8, 8, 3), grey, np.uint8) for grey in (100, 200)]
        >>> draw_identification(dataset, others)
        <Identification toy: 6 probes, 3 enrolled images, 2 distractors>
    """
    if gallery < 1:
        raise WorkbenchError(
            f"gallery={gallery}: at least one image of each person must be enrolled"
        )
    if candidates not in RULES:
        raise unknown_name("rule for candidates", candidates, RULES)
    counts = np.bincount(dataset.identities)
    if counts.max() < 2:
        raise WorkbenchError(
            f"{dataset.name}: nobody has two images; one must be enrolled and another one be a "
            "probe"
        )
    has_probe = counts[dataset.identities] > 1
    enrolled_counts = np.minimum(gallery, counts - 1)[dataset.identities]
    enrolled = has_probe & (_rank_in_identity(dataset, seed) < enrolled_counts)
    notes = [
        f"{(counts > 1).sum():,} people, {_enrolled_text(gallery, seed)} of each enrolled, among "
        f"{len(distractors):,} distractors"
    ]
    if single := int((counts == 1).sum()):
        notes.append(f"{single:,} with a single image left out")
    identity_names = list(dataset.identity_names)
    if isinstance(distractors, Dataset):
        reader = distractors.images
        distractor_identities = dataset.num_identities + distractors.identities
        identity_names += distractors.identity_names
        notes += _common_names(distractors, dataset)
    else:
        reader = distractors
        distractor_identities = np.full(len(distractors), -1)
        notes.append("the people on the distractors are unknown")
    return Identification(
        name or dataset.name,
        Joined((dataset.images, reader)),
        np.concatenate([dataset.identities, distractor_identities]),
        np.flatnonzero(enrolled),
        np.flatnonzero(has_probe & ~enrolled),
        np.arange(len(dataset), len(dataset) + len(distractors)),
        tuple(identity_names),
        "; ".join(notes),
        candidates=candidates,
    )


def _rank_in_identity(dataset: Dataset, seed: int | None) -> NDArray[np.int64]:
    """Return the rank 0, 1, ... of each image among those of its identity.

    Images are ranked in their order, or by random numbers if there is a seed.
    """
    sort_keys = np.zeros(len(dataset))
    if seed is not None:
        sort_keys = np.random.default_rng(seed).random(len(dataset))
    by_identity = np.lexsort((sort_keys, dataset.identities))
    counts = np.bincount(dataset.identities)
    starts = np.cumsum(counts) - counts
    ranks = np.empty(len(dataset), dtype=np.int64)
    ranks[by_identity] = np.arange(len(dataset)) - np.repeat(starts, counts)
    return ranks


def _enrolled_text(count: int, seed: int | None) -> str:
    if count > 1:
        text = f"up to {count} images"
    elif seed is None:
        text = "the first image"
    else:
        text = "an image"
    return text if seed is None else f"{text} (seed {seed})"


def _common_names(distractors: Dataset, dataset: Dataset) -> list[str]:
    """Return a note about names of identities that are in both data sets, if there are any."""
    common: list[str] = []
    with suppress(WorkbenchError):  # Names that are only numbers cannot be compared.
        common = overlap(distractors.identity_names, dataset.identity_names)
    if not common:
        return []
    return [
        f"{len(common):,} names are in both sets, e.g. {common[0][:40]}: as distractors they count "
        "as other people"
    ]


# Opening MegaFace


@BENCHMARKS.register("megaface")
def open_megaface(path: str) -> Identification:
    """Open a benchmark that searches for the people of PROBES among the images of DISTRACTORS.

    Each of the two is a folder, a source (`KIND:PATH`), or `LIST:ROOT` with a JSON list of
    MegaFace's development kit, `{"path": ["ANN/1.png", ...], "id": ["ANN", ...]}`, whose paths are
    relative to ROOT. A folder of probes has a folder for each identity. Distractors can be at any
    depth in their folder, and a list of distractors needs no "id".

    Args:
        path: `PROBES@DISTRACTORS`. The option `,gallery=N` enrols up to N images of each person
            instead of one. The option `,candidates=gallery` compares probes with all enrolled
            people; by default MegaFace's rule holds (`Identification`).

    Returns:
        The benchmark, named PROBES-among-DISTRACTORS.

    Raises:
        WorkbenchError: If a side is none of these, probes and distractors are the same images, a
            list does not have the format or names missing images, or nobody has two images.

    Example:
        >>> from workbench import data
        >>> bench = data.benchmark("megaface:facescrub@FlickrFinal2")  # doctest: +SKIP
        >>> bench.name  # doctest: +SKIP
        'facescrub-among-FlickrFinal2'
    """
    spec, options = _options(path)
    probes, distractors = _divide(spec)
    dataset = _open_probes(probes)
    distractor_images, name = _open_distractors(distractors)
    paths = [os.path.realpath(os.path.expanduser(side)) for side in (probes, distractors)]
    nested = all(map(os.path.isdir, paths)) and os.path.commonpath(paths) in paths
    if probes == distractors or nested:
        raise WorkbenchError(
            f"megaface:{path}: probes and distractors must be of different people, but one lies in "
            "the other"
        )
    return draw_identification(
        dataset, distractor_images, name=f"{dataset.name}-among-{name}", **options
    )


def _options(path: str) -> tuple[str, dict[str, Any]]:
    """Split `PROBES@DISTRACTORS,gallery=2` into the text before the options, and the options."""
    options: dict[str, Any] = {"candidates": "megaface"}
    while match := re.fullmatch(r"(.*),(gallery|candidates)=([^,]*)", path):
        path, name, value = match.groups()
        if name == "candidates":
            options[name] = value
        elif re.fullmatch("[1-9][0-9]{0,5}", value):
            options[name] = int(value)
        else:
            raise WorkbenchError(
                f"megaface: gallery={value[:20]}: expected a number of images to enrol, 1 or more"
            )
    return path, options


def _divide(spec: str) -> tuple[str, str]:
    """Split a spec into PROBES and DISTRACTORS.

    A path or a source may contain an @ too, so the first @ counts that has something that can be
    opened on both sides.
    """
    sides = [(spec[: at.start()], spec[at.end() :]) for at in re.finditer("@", spec)]
    for probes, distractors in sides:
        if _kind(probes) and _kind(distractors):
            return probes, distractors
    for side in sides[0] if sides else ():
        if not _kind(side):
            raise WorkbenchError(
                f"megaface: {side[:200]!r} is neither a folder nor a source nor LIST:ROOT; "
                f"expected {EXPECTED}"
            )
    raise WorkbenchError(f"megaface:{spec[:200]}: expected {EXPECTED}")


def _kind(side: str) -> Literal["folder", "list", "source", ""]:
    """Return what a side of the @ is; "" if it cannot be opened."""
    if os.path.isdir(os.path.expanduser(side)):
        return "folder"
    file, colon, root = side.rpartition(":")
    is_file = os.path.isfile(os.path.expanduser(file))
    if colon and is_file and os.path.isdir(os.path.expanduser(root)):
        return "list"
    return "source" if is_source(side) else ""


def _open_probes(side: str) -> Dataset:
    kind = _kind(side)
    if kind == "source":
        return open(side)
    if kind == "folder":
        return SOURCES.create("folder", path=side)
    listed = _read_list(side)
    if listed.people is None:
        raise WorkbenchError(
            f'{listed.file}: has no "id", which must name the person on each probe'
        )
    if len(set(listed.names)) < len(listed.names):
        repeated = Counter(listed.names).most_common(1)[0][0]
        raise WorkbenchError(
            f"{listed.file}: names {repeated[:200]} twice; an image of the probes would find itself"
        )
    identities, identity_names = number_identities(listed.people)
    return Dataset(
        _list_name(listed.file),
        Files(listed.root, Texts.of(listed.names)),
        identities,
        identity_names,
        {"file": listed.names},
    )


def _open_distractors(side: str) -> tuple[Dataset | Images, str]:
    """Return the images, and a name for them."""
    kind = _kind(side)
    if kind == "source":
        dataset = open(side)
        return dataset, dataset.name
    if kind == "list":
        listed = _read_list(side)
        return Files(listed.root, Texts.of(listed.names)), _list_name(listed.file)
    root = Path(os.path.expanduser(side))
    not_listed = NotListed(flat=True)
    names = sorted(pictures_below(root, not_listed))
    not_listed.warn(f"megaface, distractors {root}")
    if not names:
        raise WorkbenchError(f"megaface: no images in the folder of distractors {root}")
    return Files(root, Texts.of(names)), root.resolve().name


# MegaFace's lists


class _ImageList(NamedTuple):
    """The contents of `LIST:ROOT`.

    Attributes:
        file: The list.
        root: The folder that contains the images.
        names: N paths of images, relative to the root.
        people: N names of the people on them; None if the list has none.
    """

    file: Path
    root: Path
    names: list[str]
    people: list[str] | None


def _list_name(file: Path) -> str:
    return file.name.replace(".json", "")


def _read_list(side: str) -> _ImageList:
    """Read a list and check that all its images exist."""
    list_name, _, folder = side.rpartition(":")
    file, root = Path(os.path.expanduser(list_name)), Path(os.path.expanduser(folder))
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise WorkbenchError(f"{file}: cannot be read as json ({str(error)[:80]})") from None
    paths = content.get("path") if isinstance(content, dict) else None
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) for path in paths):
        raise WorkbenchError(
            f"{file}: not one of MegaFace's lists, "
            '{"path": ["ANN/1.png", ...], "id": ["ANN", ...]}'
        )
    people = _read_people(file, content, len(paths))
    return _ImageList(file, root, _files(file, root, paths), people)


def _read_people(file: Path, content: dict[str, Any], count: int) -> list[str] | None:
    """Return the person on each image; None if the list has no "id"."""
    people = content.get("id")
    if people is None:
        return None
    if not isinstance(people, list):
        raise WorkbenchError(f'{file}: "id" is not a list; it must have an entry for each image')
    if len(people) != count:
        raise WorkbenchError(
            f'{file}: {count:,} entries in "path" but {len(people):,} in "id"; there must be one '
            "for each image"
        )
    if not all(isinstance(person, str | int) for person in people):
        raise WorkbenchError(f'{file}: an entry in "id" is neither a name nor a whole number')
    return [str(person) for person in people]


def _files(file: Path, root: Path, paths: Sequence[str]) -> list[str]:
    """Return the image file of each path of a list, relative to the root."""
    place = Place(root)
    names: list[str] = []
    missing: dict[str, int] = {}
    for number, path in enumerate(paths, 1):
        name = place.find(path)
        if name is None and place.leads_out(path):
            raise place.outside(f"{file}, entry {number}", path)
        if name is None:
            missing.setdefault(path, number)
        else:
            names.append(name)
    if missing:
        raise place.missing(file, missing, len(paths), "entry")
    return names
