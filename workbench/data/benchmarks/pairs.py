"""`pairs:PAIRS.TXT@ROOT` - a list of pairs of images in a folder or a zip archive."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
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
"""Matches a path of K-Face: folders for person, accessory, light and expression, and the camera.

Choi et al., "K-FACE: a large-scale KIST face database in consideration with unconstrained
environments", 2021.
"""
K_FACE_ATTRIBUTES = ("accessory", "light", "expression", "camera")


@BENCHMARKS.register("pairs")
def open_pairs(path: str) -> Benchmark:
    """Open a list in LFW's format, or a list with a line "PATH_A PATH_B LABEL" for each pair.

    The first line shows which of the two it is. In LFW's format, image J of NAME is
    ROOT/NAME/NAME_000J.jpg, or has any other extension of an image file. Paths are relative to
    ROOT, or to a single folder in ROOT that contains all images.

    Args:
        path: `PAIRS.TXT@ROOT`, where ROOT is a folder or a zip archive. The option `,label=COLUMN`
            states the column of the labels. The option `,same=LABEL` states the label of genuine
            pairs, if it is not 1, "same", "true" or a similar word.

    Returns:
        The benchmark, named after ROOT. Identities are taken from the names of people, or from
        folders if these agree with the labels. Images of K-Face have their conditions as
        attributes.

    Raises:
        WorkbenchError: If the list or ROOT does not exist, a line does not have the format, pairs
            contradict each other, or images are missing.

    Example:
        >>> from workbench import data
        >>> data.benchmark("pairs:pairs.txt@lfw.zip")  # doctest: +SKIP
        <Benchmark lfw: 3,000 genuine and 3,000 impostor pairs>
    """
    list_path, root, options = _divide(path)
    file = existing(list_path, "pairs", "file")
    place = Place(root, loose=True)
    listing = read_pair_list(file, place, options)
    file_of = _files_of_stems(place, listing) if listing.stems else _files_of_paths(place, listing)
    pairs_of_files = [(file_of[first], file_of[second]) for first, second in listing.named]
    repeated = check_pairs(listing, pairs_of_files)
    files = list(dict.fromkeys(name for pair in pairs_of_files for name in pair))
    number_of = {name: number for number, name in enumerate(files)}
    pairs = np.array(
        [[number_of[name] for name in pair] for pair in pairs_of_files], dtype=np.int64
    )
    if listing.stems:
        stem_of = {name: stem for stem, name in file_of.items()}
        people: list[str] | None = [plain(stem_of[name].rpartition("_")[0]) for name in files]
    else:
        people = _people(files, pairs, listing.same)
    inverted = _inverted_labels_note(files, pairs, listing.same) if people is None else ""
    identities, identity_names = (None, []) if people is None else number_identities(people)
    reader: Images = Files(root, files) if root.is_dir() else ZippedImages(root, files)
    return Benchmark(
        root.resolve().stem,
        reader,
        pairs,
        listing.same,
        listing.folds,
        identities,
        tuple(identity_names),
        note="; ".join(part for part in (listing.note, repeated, inverted) if part),
        attributes=_k_face([name.removeprefix(place.around) for name in files]),
    )


# The spec


def _divide(path: str) -> tuple[str, Path, dict[str, str]]:
    """Split `LIST@ROOT,label=3` into the list, the root and the options.

    A path may contain an @ too, so the first @ counts that has existing paths on both sides.
    """
    spec, options = path, dict[str, str]()
    if not _sides(path):
        spec, options = with_options(path, "pairs", STATED)
    if sides := _sides(spec):
        return *sides, options
    for listed, root in _cuts(spec):
        if root and os.path.isfile(os.path.expanduser(listed)):
            raise WorkbenchError(f"pairs: no such folder or zip {os.path.expanduser(root)}")
    listed, at, root = spec.rpartition("@")
    if at and root:
        existing(listed, "pairs", "file")
    raise WorkbenchError(
        f"pairs:{path}: expected pairs:PAIRS.TXT@ROOT, where ROOT is a folder or a zip of images"
    )


def _cuts(spec: str) -> list[tuple[str, str]]:
    """Return the texts before and after each @."""
    return [(spec[: at.start()], spec[at.end() :]) for at in re.finditer("@", spec)]


def _sides(spec: str) -> tuple[str, Path] | None:
    """Return the list and the root, or None if no @ has existing paths on both sides."""
    for listed, root in _cuts(spec):
        if root and os.path.isfile(os.path.expanduser(listed)):
            path = os.path.expanduser(root)
            if os.path.isdir(path) or os.path.isfile(path):
                return listed, Path(path)
    return None


# The images


def _files_of_stems(place: Place, listing: PairList) -> dict[str, str]:
    """Return the file below the root of each stem "NAME_0001"."""
    exact: dict[str, list[str]] = {}
    normalised: dict[str, list[str]] = {}
    not_listed = NotListed(flat=True)
    for name in place.pictures(not_listed):
        if match := STEM.fullmatch(name):
            exact.setdefault(match[2], []).append(name)
            normalised.setdefault(plain(match[2]), []).append(name)
    file_of: dict[str, str] = {}
    missing: dict[str, int] = {}
    first_lines = _first_lines(listing)
    for stem, line in first_lines.items():
        files = exact.get(stem) or normalised.get(plain(stem), [])
        if len(files) > 1:
            raise WorkbenchError(
                f"{listing.file}, line {line}: {stem!r} is at two places, {files[0]!r} and "
                f"{files[1]!r}; keep one of them"
            )
        if files:
            file_of[stem] = files[0]
        else:
            missing[f"{stem.rpartition('_')[0]}/{stem}.jpg"] = line
    if missing:
        error = place.missing(listing.file, missing, len(first_lines))
        texts = [text for text in (str(error), str(not_listed)) if text]
        raise WorkbenchError("; ".join(texts))
    return file_of


def _files_of_paths(place: Place, listing: PairList) -> dict[str, str]:
    """Return the file of each path, relative to the root."""
    file_of: dict[str, str] = {}
    missing: dict[str, int] = {}
    first_lines = _first_lines(listing)
    for name, line in first_lines.items():
        file = place.find(name)
        if file is not None:
            file_of[name] = file
        elif place.leads_out(name):
            raise place.outside(f"{listing.file}, line {line}", name)
        else:
            missing[name] = line
    if missing:
        raise place.missing(listing.file, missing, len(first_lines))
    return file_of


def _first_lines(listing: PairList) -> dict[str, int]:
    """Return each name in the list, with the number of the first line that has it."""
    first_lines: dict[str, int] = {}
    for line, pair in zip(listing.lines, listing.named, strict=True):
        for name in pair:
            first_lines.setdefault(name, line)
    return first_lines


# The people and the attributes


def _people(
    paths: Sequence[str], pairs: NDArray[np.int64], same: NDArray[np.bool_]
) -> list[str] | None:
    """Return the person on each image, whose name is that of a folder.

    Returns:
        The outermost folders in which the paths differ, or the innermost folders, whichever agree
        with the labels of all pairs; None if neither do.
    """
    folders = [path.split("/")[:-1] for path in paths]
    # Folders that the first and the last path in sorted order share are shared by all paths.
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


def _inverted_labels_note(
    files: Sequence[str], pairs: NDArray[np.int64], same: NDArray[np.bool_]
) -> str:
    """Return a warning if folders show that the labels mean the opposite, as distances do."""
    if _people(files, pairs, ~same) is None:
        return ""
    return (
        "in all pairs labelled genuine the images are from two folders, and in all others from one "
        "folder: if the labels are distances, add ,same=0"
    )


def _k_face(paths: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return the conditions that the paths of K-Face state; nothing for other paths."""
    matches = [match for path in paths if (match := K_FACE.fullmatch(path))]
    if len(matches) < len(paths):
        return {}
    columns = zip(*(match.groups() for match in matches), strict=True)
    return dict(zip(K_FACE_ATTRIBUTES, map(np.array, columns), strict=True))
