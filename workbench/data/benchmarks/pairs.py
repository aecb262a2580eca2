"""`pairs:PAIRS.TXT@ROOT` - a list of pairs, with the images in a folder or a zip."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.data.benchmark import Benchmark
from workbench.data.dataset import Images, number_identities
from workbench.data.io.list_files import Place, plain
from workbench.data.io.not_listed import NotListed
from workbench.data.io.pair_lists import STATED, STEM, PairList, check_pairs, read_pair_list
from workbench.data.io.paths import with_options
from workbench.data.io.readers import Files
from workbench.data.io.zipped import ZippedImages
from workbench.data.registry import BENCHMARKS, existing
from workbench.errors import WorkbenchError

K_FACE = re.compile(r"(?:.+/)?\d{8}/(S\d{3})/(L\d{1,2})/(E\d{2})/(C\d{1,2})\.\w+")
"""A person's folder, accessory, light, expression and camera: Choi et al., "K-FACE: a large-scale KIST face database", 2021."""


@BENCHMARKS.register("pairs")
def open_pairs(path: str) -> Benchmark:
    """LFW's lists (image J of NAME is ROOT/NAME/NAME_000J.jpg, or any other image suffix), or "PATH_A PATH_B LABEL" a line.

    Which of the two it is, its first line tells. Paths are relative to ROOT, a folder or a zip; a single folder around all
    is allowed. People are known by their folders where these agree with the labels. `,label=COLUMN` behind ROOT states the
    column of labels, and `,same=LABEL` that of genuine pairs, where they are not 1, same, true or the like.
    """
    listed, root, options = _divide(path)
    file = existing(listed, "pairs", "file")
    place = Place(root, loose=True)
    listing = read_pair_list(file, place, options)
    found = (_files_of_stems if listing.stems else _files_of_paths)(place, listing)
    pairs_of_files = [(found[first], found[second]) for first, second in listing.named]
    again = check_pairs(listing, pairs_of_files)
    number_of = {
        name: number
        for number, name in enumerate(
            dict.fromkeys(name for pair in pairs_of_files for name in pair)
        )
    }
    pairs = np.array(
        [[number_of[name] for name in pair] for pair in pairs_of_files], dtype=np.int64
    )
    files = list(number_of)
    reader: Images = Files(root, files) if root.is_dir() else ZippedImages(root, files)
    if listing.stems:
        stem_of = {name: stem for stem, name in found.items()}
        people: list[str] | None = [plain(stem_of[name].rpartition("_")[0]) for name in files]
    else:
        people = _people(files, pairs, listing.same)
    upside_down = "" if listing.stems or people else _upside_down(files, pairs, listing.same)
    identities, identity_names = (None, []) if people is None else number_identities(people)
    return Benchmark(
        root.resolve().stem,
        reader,
        pairs,
        listing.same,
        listing.folds,
        identities,
        tuple(identity_names),
        note="; ".join(part for part in (listing.note, again, upside_down) if part),
        attributes=_k_face([name.removeprefix(place.around) for name in files]),
    )


def _divide(path: str) -> tuple[str, Path, dict[str, str]]:
    """The list, the root and the options of `LIST@ROOT,label=3`: at the first @ with both on its sides, as paths may have one."""
    spec, options = path, dict[str, str]()
    if not _sides(path):
        spec, options = with_options(path, "pairs", STATED)
    if found := _sides(spec):
        return *found, options
    listed = next(
        (left for left, right in _cuts(spec) if right and os.path.isfile(os.path.expanduser(left))),
        "",
    )
    if listed:
        raise WorkbenchError(
            f"pairs: no such folder or zip {os.path.expanduser(spec.removeprefix(f'{listed}@'))}"
        )
    before, at, root = spec.rpartition("@")
    if at and root:
        existing(before, "pairs", "file")
    raise WorkbenchError(
        f"pairs:{path}: name the images too, pairs:PAIRS.TXT@ROOT with ROOT a folder or a zip"
    )


def _cuts(spec: str) -> list[tuple[str, str]]:
    """What is before and behind each @."""
    return [(spec[: at.start()], spec[at.end() :]) for at in re.finditer("@", spec)]


def _sides(spec: str) -> tuple[str, Path] | None:
    for listed, root in _cuts(spec):
        place = Path(os.path.expanduser(root))
        if (
            root
            and os.path.isfile(os.path.expanduser(listed))
            and (os.path.isdir(place) or os.path.isfile(place))
        ):
            return listed, place
    return None


def _files_of_stems(place: Place, listing: PairList) -> dict[str, str]:
    """The file of each stem "NAME_0001" under the root."""
    exactly: dict[str, list[str]] = {}
    loosely: dict[str, list[str]] = {}
    left = NotListed(flat=True)
    for name in place.pictures(left):
        if match := STEM.fullmatch(name):
            exactly.setdefault(match[2], []).append(name)
            loosely.setdefault(plain(match[2]), []).append(name)
    found: dict[str, str] = {}
    missing: dict[str, int] = {}
    stems = _first_lines(listing)
    for stem, line in stems.items():
        places = exactly.get(stem) or loosely.get(plain(stem), [])
        if len(places) > 1:
            raise WorkbenchError(
                f"{listing.file}, line {line}: {stem!r} is at two places, {places[0]!r} and {places[1]!r}; keep one of them"
            )
        if places:
            found[stem] = places[0]
        else:
            missing[f"{stem.rpartition('_')[0]}/{stem}.jpg"] = line
    if missing:
        error = place.missing(listing.file, missing, len(stems))
        raise WorkbenchError(f"{error}{f'; {left}' * bool(str(left))}")
    return found


def _files_of_paths(place: Place, listing: PairList) -> dict[str, str]:
    """The file of each path under the root, or under the one folder in it that holds them."""
    names = _first_lines(listing)
    found: dict[str, str] = {}
    missing: dict[str, int] = {}
    for name, line in names.items():
        there = place.find(name)
        if there is not None:
            found[name] = there
        elif place.leads_out(name):
            raise place.outside(f"{listing.file}, line {line}", name)
        else:
            missing[name] = line
    if missing:
        raise place.missing(listing.file, missing, len(names))
    return found


def _first_lines(listing: PairList) -> dict[str, int]:
    """Each name, with the number of the line that has it first."""
    lines: dict[str, int] = {}
    for line, pair in zip(listing.lines, listing.named, strict=True):
        for name in pair:
            lines.setdefault(name, line)
    return lines


def _upside_down(files: list[str], pairs: NDArray[np.int64], same: NDArray[np.bool_]) -> str:
    """A word of warning where folders say that the labels mean the opposite, as distances do."""
    if _people(files, pairs, ~same) is None:
        return ""
    return "all pairs taken for genuine are of two folders, and the others of one: if the labels are distances, add ,same=0"


def _people(
    paths: list[str], pairs: NDArray[np.int64], same: NDArray[np.bool_]
) -> list[str] | None:
    """Who is on each image, by the outermost folder in which the paths differ, or by the innermost; None if neither fits."""
    folders = [path.split("/")[:-1] for path in paths]
    least, greatest = min(folders), max(folders)
    shared = next(
        (i for i, (a, b) in enumerate(zip(least, greatest, strict=False)) if a != b),
        min(len(least), len(greatest)),
    )
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
    return dict(
        zip(("accessory", "light", "expression", "camera"), map(np.array, columns), strict=True)
    )
