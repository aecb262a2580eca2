"""`megaface:PROBES@DISTRACTORS` - find the people of one set among the images of another, by MegaFace's rule.

Kemelmacher-Shlizerman et al., "The MegaFace benchmark: 1 million faces for recognition at scale", CVPR 2016: FaceScrub's people
among a million photos of strangers. `draw_identification` makes the same of any two sets.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

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
HOW = "megaface:PROBES@DISTRACTORS, each a folder, LIST:ROOT (MegaFace's json lists) or a source such as folder:DIR"


def draw_identification(
    dataset: Dataset,
    distractors: Dataset | Images,
    *,
    gallery: int = 1,
    seed: int | None = None,
    candidates: str = "gallery",
    name: str = "",
) -> Identification:
    """An identification benchmark from a labelled set and images of strangers.

    Of each identity with two or more images the first are enrolled, at least one is left as a probe. Identities with a single
    image play no part.

    Args:
        dataset: people to be found.
        distractors: images of other people; a reader where it is not known of whom. That nobody is in both sets is not looked at.
        gallery: images of each person that are enrolled.
        seed: enrol images drawn with this seed, not the first ones.
        candidates: "gallery" or "megaface", see `Identification`.
        name: of the benchmark; by default that of the data set.

    Raises:
        WorkbenchError: nobody has two images, or there are no distractors.
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
            f"{dataset.name}: nobody has two images; one is enrolled and another one is a probe"
        )
    drawn = (
        np.zeros(len(dataset)) if seed is None else np.random.default_rng(seed).random(len(dataset))
    )
    by_person = np.lexsort((drawn, dataset.identities))
    place = np.empty(len(dataset), dtype=np.int64)
    place[by_person] = np.arange(len(dataset)) - np.repeat(np.cumsum(counts) - counts, counts)
    asked = counts[dataset.identities] > 1
    enrolled = asked & (place < np.minimum(gallery, counts - 1)[dataset.identities])
    known, strangers = len(dataset), len(distractors)
    names, identities = list(dataset.identity_names), np.full(strangers, -1)
    notes = [
        f"{(counts > 1).sum():,} people, {_enrolled(gallery, seed)} of each enrolled, among {strangers:,} distractors"
    ]
    if alone := int((counts == 1).sum()):
        notes.append(f"{alone:,} with a single image left out")
    if isinstance(distractors, Dataset):
        identities, reader = dataset.num_identities + distractors.identities, distractors.images
        names += distractors.identity_names
        with suppress(WorkbenchError):  # numbers for names say nothing
            if both := overlap(distractors.identity_names, dataset.identity_names):
                notes.append(
                    f"{len(both):,} names are in both sets, e.g. {both[0][:40]}: as distractors they count as strangers"
                )
    else:
        reader = distractors
        notes.append("it is not known who they are")
    return Identification(
        name or dataset.name,
        Joined((dataset.images, reader)),
        np.concatenate([dataset.identities, identities]),
        np.flatnonzero(enrolled),
        np.flatnonzero(asked & ~enrolled),
        np.arange(known, known + strangers),
        tuple(names),
        "; ".join(notes),
        candidates=candidates,
    )


def _enrolled(count: int, seed: int | None) -> str:
    if count == 1:
        return "the first image" if seed is None else f"an image (seed {seed})"
    return f"up to {count} images" + ("" if seed is None else f" (seed {seed})")


@BENCHMARKS.register("megaface")
def open_megaface(path: str) -> Identification:
    """The people of PROBES among the images of DISTRACTORS, which lie at any depth below a folder.

    Either of them is a folder, a source (`KIND:PATH`), or `LIST:ROOT` with one of the json lists of MegaFace's development kit:
    `{"path": ["ANN/1.png", ...], "id": ["ANN", ...]}`, paths relative to ROOT; distractors need no "id". Behind a comma
    `gallery=N` enrols N images of each person, not one, and `candidates=gallery` compares with everybody who is enrolled.
    """
    spec, options = _options(path)
    asked, strangers = _divide(spec)
    dataset = _probes(asked)
    distractors, name = _distractors(strangers)
    roots = [os.path.realpath(os.path.expanduser(side)) for side in (asked, strangers)]
    if asked == strangers or (
        all(map(os.path.isdir, roots)) and os.path.commonpath(roots) in roots
    ):
        raise WorkbenchError(
            f"megaface:{path}: probes and distractors must be of different people, one lies in the other"
        )
    return draw_identification(dataset, distractors, name=f"{dataset.name}-among-{name}", **options)


def _options(path: str) -> tuple[str, dict[str, Any]]:
    """`PROBES@DISTRACTORS,gallery=2` -> what is before the comma, and the options behind it."""
    options: dict[str, Any] = {"candidates": "megaface"}
    while found := re.fullmatch(r"(.*),(gallery|candidates)=([^,]*)", path):
        path, name, value = found.groups()
        if name == "gallery" and not re.fullmatch("[1-9][0-9]{0,5}", value):
            raise WorkbenchError(
                f"megaface: gallery={value[:20]} is no number of images to enrol; 1 or more"
            )
        options[name] = int(value) if name == "gallery" else value
    return path, options


def _divide(spec: str) -> tuple[str, str]:
    """PROBES and DISTRACTORS, at the first @ that has something known on both sides: it may be in a path, and in a source."""
    sides = [(spec[: at.start()], spec[at.end() :]) for at in re.finditer("@", spec)]
    for probes, distractors in sides:
        if _kind(probes) and _kind(distractors):
            return probes, distractors
    for side in sides[0] if sides else ():
        if not _kind(side):
            raise WorkbenchError(
                f"megaface: {side[:200]!r} is neither a folder nor a source nor LIST:ROOT; expected {HOW}"
            )
    raise WorkbenchError(f"megaface:{spec[:200]}: expected {HOW}")


def _kind(side: str) -> str:
    """What one side is; empty if nothing known."""
    if os.path.isdir(os.path.expanduser(side)):
        return "folder"
    listed, colon, root = side.rpartition(":")
    if (
        colon
        and os.path.isfile(os.path.expanduser(listed))
        and os.path.isdir(os.path.expanduser(root))
    ):
        return "list"
    return "source" if is_source(side) else ""


def _probes(side: str) -> Dataset:
    kind = _kind(side)
    if kind == "source":
        return open(side)
    if kind == "folder":
        return SOURCES.create("folder", path=side)
    file, root, paths, people = _read_list(side)
    if people is None:
        raise WorkbenchError(
            f'{file}: has no "id", the list of who is on each image, which probes must have'
        )
    if len(set(paths)) < len(paths):
        twice = Counter(paths).most_common(1)[0][0]
        raise WorkbenchError(
            f"{file}: names {twice[:200]} twice; an image of the probes would find itself"
        )
    identities, names = number_identities(people)
    return Dataset(
        _list_name(file), Files(root, Texts.of(paths)), identities, names, {"file": paths}
    )


def _distractors(side: str) -> tuple[Dataset | Images, str]:
    """The images, and what to call them."""
    kind = _kind(side)
    if kind == "source":
        dataset = open(side)
        return dataset, dataset.name
    if kind == "list":
        file, root, paths, _ = _read_list(side)
        return Files(root, Texts.of(paths)), _list_name(file)
    root = Path(os.path.expanduser(side))
    left = NotListed(flat=True)
    found = sorted(pictures_below(root, left))
    left.warn(f"megaface, distractors {root}")
    if not found:
        raise WorkbenchError(f"megaface: no images in the folder of distractors {root}")
    return Files(root, Texts.of(found)), root.resolve().name


def _list_name(file: Path) -> str:
    return file.name.replace(".json", "")


def _read_list(side: str) -> tuple[Path, Path, list[str], list[str] | None]:
    """LIST:ROOT -> the list, the root, paths below it, and who is on each image where that is said."""
    listed, _, folder = side.rpartition(":")
    file, root = Path(os.path.expanduser(listed)), Path(os.path.expanduser(folder))
    try:
        held = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise WorkbenchError(f"{file}: cannot be read as json ({str(error)[:80]})") from None
    paths = held.get("path") if isinstance(held, dict) else None
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) for path in paths):
        raise WorkbenchError(
            f'{file}: not one of MegaFace\'s lists, {{"path": ["ANN/1.png", ...], "id": ["ANN", ...]}}'
        )
    people = held.get("id")
    if people is not None:
        if not isinstance(people, list) or len(people) != len(paths):
            count = len(people) if isinstance(people, list) else "no list of"
            raise WorkbenchError(
                f'{file}: {len(paths):,} in "path" but {count} in "id"; there must be one for each image'
            )
        if not all(isinstance(person, str | int) for person in people):
            raise WorkbenchError(f'{file}: "id" has what is neither a name nor a number')
        people = [str(person) for person in people]
    place = Place(root)
    found: list[str] = []
    missing: dict[str, int] = {}
    for number, path in enumerate(paths, 1):
        file_of_path = place.find(path)
        if file_of_path is None and place.leads_out(path):
            raise place.outside(f"{file}, entry {number}", path)
        if file_of_path is None:
            missing.setdefault(path, number)
        found.append(file_of_path or path)
    if missing:
        raise place.missing(file, missing, len(paths), "entry")
    return file, root, found, people
