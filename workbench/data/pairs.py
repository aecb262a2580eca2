"""`pairs:PAIRS.TXT@ROOT` - a list of pairs, with the images in a folder or a zip."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench import images
from workbench.data.benchmark import Benchmark
from workbench.data.dataset import Images, number_identities
from workbench.data.folder import Files
from workbench.data.pair_lists import read_pair_list
from workbench.data.registry import BENCHMARKS, existing
from workbench.data.zipped import ZippedImages, names_in
from workbench.errors import WorkbenchError

K_FACE = re.compile(r"(?:.+/)?\d{8}/(S\d{3})/(L\d{1,2})/(E\d{2})/(C\d{1,2})\.\w+")
"""A person's folder, accessory, light, expression and camera: Choi et al., "K-FACE: a large-scale KIST face database", 2021."""


@BENCHMARKS.register("pairs")
def open_pairs(path: str) -> Benchmark:
    """LFW's lists (image J of NAME is ROOT/NAME/NAME_000J.jpg, or any other image suffix), or "PATH_A PATH_B LABEL" a line.

    Which of the two it is, its first line tells. Paths are relative to ROOT, a folder or a zip; a single folder around all
    is allowed. People are known by their folders where these agree with the labels.
    """
    listed, at, root = path.rpartition("@")
    if not at or not root:
        raise WorkbenchError(f"pairs:{path}: name the images too, pairs:PAIRS.TXT@ROOT with ROOT a folder or a zip")
    file = existing(listed, "pairs", "file")
    listing = read_pair_list(file)
    place = Path(os.path.expanduser(root))
    if not os.path.isdir(place) and not os.path.isfile(place):
        raise WorkbenchError(f"pairs: no such folder or zip {place}")
    number_of = {name: number for number, name in enumerate(dict.fromkeys(name for pair in listing.named for name in pair))}
    pairs = np.array([[number_of[name] for name in pair] for pair in listing.named], dtype=np.int64)
    names = list(number_of)
    files = _files_of_stems(place, names, file) if listing.stems else _files_of_paths(place, names, file)
    reader: Images = Files(place, files) if place.is_dir() else ZippedImages(place, files)
    people: list[str] | None = [name.rpartition("_")[0] for name in names] if listing.stems else _people(names, pairs, listing.same)
    identities, identity_names = (None, []) if people is None else number_identities(people)
    return Benchmark(
        place.resolve().stem,
        reader,
        pairs,
        listing.same,
        listing.folds,
        identities,
        tuple(identity_names),
        note=listing.note,
        attributes=_k_face(names),
    )


def _files_of_stems(root: Path, stems: list[str], listed: Path) -> list[str]:
    """The file of each stem "NAME_0001" under `root`."""
    if root.is_dir():
        everything = [file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file()]
    else:
        everything = names_in(root)
    pattern = re.compile(r"(?:[^/]+/)?([^/]+)/(\1_\d{4})(\.\w+)")
    matches = [pattern.fullmatch(name) for name in everything]
    file_of = {match[2]: match[0] for match in matches if match and match[3].lower() in images.SUFFIXES}
    missing = [f"{stem.rpartition('_')[0]}/{stem}.jpg" for stem in stems if stem not in file_of]
    _complain(root, missing, len(stems), listed)
    return [file_of[stem] for stem in stems]


def _files_of_paths(root: Path, paths: list[str], listed: Path) -> list[str]:
    """Each path under `root`, or under the one folder in it that holds them."""
    is_there: Callable[[str], bool]
    tops: Iterable[str]
    if root.is_dir():  # looked up one by one: a whole K-Face has millions of files
        is_there = lambda name: os.path.isfile(root / name)  # noqa: E731
        tops = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    else:
        members = set(names_in(root))
        is_there = members.__contains__
        tops = sorted({name.partition("/")[0] for name in members if "/" in name} - {"", ".", ".."})
    around = ["", *(f"{top}/" for top in tops)]
    within = next((top for path in paths[:20] for top in around if is_there(top + path)), "")
    files = [within + path for path in paths]
    _complain(root, [path for path, file in zip(paths, files, strict=True) if not is_there(file)], len(paths), listed)
    return files


def _complain(root: Path, missing: list[str], count: int, listed: Path) -> None:
    if missing:
        raise WorkbenchError(
            f"{root}: {len(missing)} of the {count} images that {listed.name} lists are missing, e.g. {missing[0][:200]}"
        )


def _people(paths: list[str], pairs: NDArray[np.int64], same: NDArray[np.bool_]) -> list[str] | None:
    """Who is on each image, by the outermost folder in which the paths differ, or by the innermost; None if neither fits."""
    folders = [path.split("/")[:-1] for path in paths]
    least, greatest = min(folders), max(folders)
    shared = next((i for i, (a, b) in enumerate(zip(least, greatest, strict=False)) if a != b), min(len(least), len(greatest)))
    outermost = [parts[shared] if len(parts) > shared else "" for parts in folders]
    innermost = [parts[-1] if parts else "" for parts in folders]
    for people in (outermost, innermost):
        numbers = np.unique(people, return_inverse=True)[1]
        if ((numbers[pairs[:, 0]] == numbers[pairs[:, 1]]) == same).all():
            return people
    return None


def _k_face(paths: list[str]) -> dict[str, NDArray[Any]]:
    """What K-Face's paths say of the pictures."""
    matches = [match for path in paths if (match := K_FACE.fullmatch(path))]
    if len(matches) < len(paths):
        return {}
    columns = zip(*(match.groups() for match in matches), strict=True)
    return dict(zip(("accessory", "light", "expression", "camera"), map(np.array, columns), strict=True))
