"""`cfp:DIR` - Celebrities in Frontal-Profile, in the folders that its authors distribute.

Sengupta et al., "Frontal to profile face verification in the wild", WACV 2016. The set has 500
people with 10 frontal and 4 profile images each, and two protocols. Each protocol has 10 splits of
350 genuine and 350 impostor pairs.

    DIR/Data/Images/001/frontal/01.jpg     images
    DIR/Protocol/Pair_list_F.txt           lines "NUMBER PATH", the frontal images
    DIR/Protocol/Pair_list_P.txt           the same for the profile images
    DIR/Protocol/Split/FP/01/same.txt      lines "I,J", genuine pairs of numbers in the two lists
    DIR/Protocol/Split/FP/01/diff.txt      the same for impostor pairs
"""

from __future__ import annotations

import posixpath
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from workbench.data.benchmark import Benchmark
from workbench.data.dataset import number_identities
from workbench.data.io.list_files import Place, read_lines
from workbench.data.io.paths import with_options
from workbench.data.io.readers import Files
from workbench.data.registry import BENCHMARKS, existing
from workbench.errors import WorkbenchError, unknown_name

VIEWS = {"F": "frontal", "P": "profile"}
PROTOCOLS = {"fp": ("F", "P"), "ff": ("F", "F")}
"""The lists that contain the first and the second image of a pair."""


@BENCHMARKS.register("cfp")
def open_cfp(path: str) -> Benchmark:
    """Open CFP, whose pairs have a frontal and a profile image, or two frontal images.

    Args:
        path: The folder with `Data` and `Protocol`. The option `,protocol=ff` selects the pairs of
            two frontal images; the default is `fp`.

    Returns:
        The benchmark, named "cfp-fp" or "cfp-ff", with a fold for each split and the attribute
        "view" ("frontal" or "profile") of each image.

    Raises:
        WorkbenchError: If a file or an image is missing, a line does not have the format, or a pair
            is listed as genuine and as impostor.

    Example:
        >>> from workbench import data
        >>> data.benchmark("cfp:cfp-dataset")  # doctest: +SKIP
        <Benchmark cfp-fp: 3,500 genuine and 3,500 impostor pairs>
    """
    folder, options = with_options(path, "cfp", ("protocol",))
    protocol = options.get("protocol", "fp")
    if protocol not in PROTOCOLS:
        raise unknown_name("protocol of CFP", protocol, PROTOCOLS)
    root = existing(folder, "cfp", "folder")
    if not (root / "Protocol").is_dir():
        raise WorkbenchError(
            f"cfp:{path}: no folder Protocol in it, expected CFP's own layout with Data/Images and "
            "Protocol/Split"
        )
    kinds = PROTOCOLS[protocol]
    lists = {kind: _read_list(root, kind) for kind in dict.fromkeys(kinds)}
    first_numbers: dict[str, int] = {}
    files: list[str] = []
    views: list[str] = []
    for kind, listed in lists.items():
        first_numbers[kind] = len(files)
        files += listed
        views += [VIEWS[kind]] * len(listed)
    counts = {kind: len(listed) for kind, listed in lists.items()}
    protocol_pairs = _read_splits(root / "Protocol" / "Split" / protocol.upper(), counts, kinds)
    # The numbers in the lists begin at 1.
    offsets = [first_numbers[kind] - 1 for kind in kinds]
    identities, names = number_identities([PurePosixPath(file).parts[-3] for file in files])
    return Benchmark(
        f"cfp-{protocol}",
        Files(root, files),
        np.array(protocol_pairs.numbers, dtype=np.int64) + np.array(offsets),
        np.array(protocol_pairs.same),
        np.array(protocol_pairs.folds, dtype=np.int64),
        identities,
        tuple(names),
        note="the images as they are in CFP's folder, which are not aligned unless you aligned "
        "them",
        attributes={"view": np.array(views)},
    )


def _read_list(root: Path, kind: str) -> list[str]:
    """Read Pair_list_F.txt or Pair_list_P.txt, with lines "NUMBER PATH".

    The numbers begin at 1. The paths are relative to the folder Protocol.

    Returns:
        The paths relative to the root.
    """
    list_file = root / "Protocol" / f"Pair_list_{kind}.txt"
    place = Place(root)
    lines: dict[str, int] = {}
    missing: dict[str, int] = {}
    for number, line in read_lines(list_file):
        where = f"{list_file}, line {number}"
        count, *rest = line.split(None, 1)
        path = rest[0].strip() if rest else ""
        if count != str(len(lines) + 1) or not path:
            raise WorkbenchError(f"{where}: expected '{len(lines) + 1} PATH', found {line[:80]!r}")
        if not path.startswith("/"):
            path = f"Protocol/{path}"
        file = place.find(path)
        if file is None and not place.leads_out(path):
            file = posixpath.normpath(path.replace("\\", "/"))
            missing[file] = number
        if file is None or len(PurePosixPath(file).parts) < 3:
            raise WorkbenchError(
                f"{where}: expected a path such as ../Data/Images/001/{VIEWS[kind]}/01.jpg, "
                f"found {line[:80]!r}"
            )
        first = lines.setdefault(file, number)
        if first != number:
            raise WorkbenchError(
                f"{where}: {file} is in line {first} too; each image must have one number"
            )
    if not lines:
        raise WorkbenchError(f"{list_file}: empty, expected lines 'NUMBER PATH'")
    if missing:
        raise place.missing(list_file, missing, len(lines))
    return list(lines)


class _ProtocolPairs(NamedTuple):
    """All pairs of a protocol: their numbers in the lists, from 1, labels and folds."""

    numbers: list[tuple[int, int]]
    same: list[bool]
    folds: list[int]


def _read_splits(splits: Path, counts: dict[str, int], kinds: tuple[str, str]) -> _ProtocolPairs:
    """Read all splits of a protocol, each of which becomes a fold.

    Args:
        splits: Protocol/Split/FP or Protocol/Split/FF.
        counts: Number of images in each list.
        kinds: The lists of the first and the second image of a pair.
    """
    folders: list[Path] = []
    if splits.is_dir():
        folders = sorted(entry for entry in splits.iterdir() if entry.is_dir())
    if len(folders) < 2:
        raise WorkbenchError(
            f"{splits}: expected folders 01 to 10 with the splits, found {len(folders)}"
        )
    pairs = _ProtocolPairs([], [], [])
    file_of_pair: dict[tuple[str, int, str, int], str] = {}
    for fold, folder in enumerate(folders):
        for name, genuine in (("same.txt", True), ("diff.txt", False)):
            numbers = _read_pairs(folder / name, counts, kinds, file_of_pair)
            pairs.numbers.extend(numbers)
            pairs.same.extend([genuine] * len(numbers))
            pairs.folds.extend([fold] * len(numbers))
    return pairs


def _read_pairs(
    file: Path,
    counts: dict[str, int],
    kinds: tuple[str, str],
    file_of_pair: dict[tuple[str, int, str, int], str],
) -> list[tuple[int, int]]:
    """Read same.txt or diff.txt, with lines "I,J" of numbers in the two lists.

    Args:
        file: The file.
        counts: Number of images in each list.
        kinds: The lists of the first and the second image of a pair.
        file_of_pair: The name of the file that had each pair first. The pairs of this file are
            added.
    """
    pairs = []
    for number, line in read_lines(file):
        where = f"{file}, line {number}"
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != 2 or not all(field.isdecimal() and len(field) < 10 for field in fields):
            raise WorkbenchError(f"{where}: expected 'I,J', found {line[:80]!r}")
        first, second = map(int, fields)
        for value, kind in zip((first, second), kinds, strict=True):
            if not 1 <= value <= counts[kind]:
                raise WorkbenchError(
                    f"{where}: no image {value} in Pair_list_{kind}.txt, which has {counts[kind]}"
                )
        if kinds[0] == kinds[1] and first == second:
            raise WorkbenchError(f"{where}: image {first} is paired with itself")
        one, other = sorted([(kinds[0], first), (kinds[1], second)])
        earlier = file_of_pair.setdefault((*one, *other), file.name)
        if earlier != file.name:
            raise WorkbenchError(
                f"{where}: the pair {line.strip()} is also in {earlier} of a split; it must be "
                "either genuine or impostor"
            )
        pairs.append((first, second))
    if not pairs:
        raise WorkbenchError(f"{file}: empty, expected lines 'I,J'")
    return pairs
