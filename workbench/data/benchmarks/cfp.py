"""`cfp:DIR` - Celebrities in Frontal-Profile, as its authors give it out: Data/Images and Protocol.

Sengupta et al., "Frontal to profile face verification in the wild", WACV 2016: 500 people with 10 frontal and 4 profile
photos; two protocols, each of 10 splits of 350 genuine and 350 impostor pairs.
"""

from __future__ import annotations

import posixpath
from pathlib import Path, PurePosixPath

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
"""Which lists the first and the second number of a pair count in."""


@BENCHMARKS.register("cfp")
def open_cfp(path: str) -> Benchmark:
    """Frontal against profile photos; `cfp:DIR,protocol=ff` compares frontal ones among themselves."""
    folder, options = with_options(path, "cfp", ("protocol",))
    protocol = options.get("protocol", "fp")
    if protocol not in PROTOCOLS:
        raise unknown_name("protocol of CFP", protocol, PROTOCOLS)
    root = existing(folder, "cfp", "folder")
    if not (root / "Protocol").is_dir():
        raise WorkbenchError(
            f"cfp:{path}: no folder Protocol in it, expected CFP's own layout with Data/Images and Protocol/Split"
        )
    kinds = PROTOCOLS[protocol]
    lists = {kind: _read_list(root, kind) for kind in dict.fromkeys(kinds)}
    starts: dict[str, int] = {}
    files: list[str] = []
    views: list[str] = []
    for kind, listed in lists.items():
        starts[kind] = len(files)
        files += listed
        views += [VIEWS[kind]] * len(listed)
    splits = root / "Protocol" / "Split" / protocol.upper()
    folders = (
        sorted(entry for entry in splits.iterdir() if entry.is_dir()) if splits.is_dir() else []
    )
    if len(folders) < 2:
        raise WorkbenchError(
            f"{splits}: expected folders 01 to 10 with the splits, found {len(folders)}"
        )
    pairs: list[tuple[int, int]] = []
    same, folds = [], []
    seen: dict[tuple[str, int, str, int], str] = {}
    for fold, split in enumerate(folders):
        for name, genuine in (("same.txt", True), ("diff.txt", False)):
            numbers = _read_split(
                split / name, {kind: len(listed) for kind, listed in lists.items()}, kinds, seen
            )
            pairs += [
                (starts[kinds[0]] + first - 1, starts[kinds[1]] + second - 1)
                for first, second in numbers
            ]
            same += [genuine] * len(numbers)
            folds += [fold] * len(numbers)
    identities, names = number_identities([PurePosixPath(file).parts[-3] for file in files])
    return Benchmark(
        f"cfp-{protocol}",
        Files(root, files),
        np.array(pairs, dtype=np.int64),
        np.array(same),
        np.array(folds, dtype=np.int64),
        identities,
        tuple(names),
        note="the photos as they are in CFP's folder, not aligned unless they were before",
        attributes={"view": np.array(views)},
    )


def _read_list(root: Path, kind: str) -> list[str]:
    """Pair_list_F.txt or Pair_list_P.txt: lines "NUMBER PATH", from 1 on, with the path as seen from Protocol/."""
    listed = root / "Protocol" / f"Pair_list_{kind}.txt"
    place = Place(root)
    lines: dict[str, int] = {}
    missing: dict[str, int] = {}
    for number, line in read_lines(listed):
        count, *rest = line.split(None, 1)
        path = rest[0].strip() if rest else ""
        if count != str(len(lines) + 1) or not path:
            raise WorkbenchError(
                f"{listed}, line {number}: expected '{len(lines) + 1} PATH', found {line[:80]!r}"
            )
        path = path if path.startswith("/") else f"Protocol/{path}"
        file = place.find(path)
        if file is None and not place.leads_out(path):
            missing[(file := posixpath.normpath(path.replace("\\", "/")))] = number
        if file is None or len(PurePosixPath(file).parts) < 3:
            raise WorkbenchError(
                f"{listed}, line {number}: expected a path such as ../Data/Images/001/{VIEWS[kind]}/01.jpg, found {line[:80]!r}"
            )
        if (before := lines.setdefault(file, number)) != number:
            raise WorkbenchError(
                f"{listed}, line {number}: {file} is in line {before} too; each image has one number"
            )
    if not lines:
        raise WorkbenchError(f"{listed}: empty, expected lines 'NUMBER PATH'")
    if missing:
        raise place.missing(listed, missing, len(lines))
    return list(lines)


def _read_split(
    file: Path,
    counts: dict[str, int],
    kinds: tuple[str, str],
    seen: dict[tuple[str, int, str, int], str],
) -> list[tuple[int, int]]:
    """same.txt or diff.txt: lines "I,J", numbers in the two lists; `seen` gathers which file had a pair first."""
    numbers = []
    for number, line in read_lines(file):
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != 2 or not all(field.isdecimal() and len(field) < 10 for field in fields):
            raise WorkbenchError(f"{file}, line {number}: expected 'I,J', found {line[:80]!r}")
        first, second = map(int, fields)
        for value, kind in zip((first, second), kinds, strict=True):
            if not 1 <= value <= counts[kind]:
                raise WorkbenchError(
                    f"{file}, line {number}: no image {value} in Pair_list_{kind}.txt, which has {counts[kind]}"
                )
        if kinds[0] == kinds[1] and first == second:
            raise WorkbenchError(f"{file}, line {number}: image {first} is paired with itself")
        one, other = sorted([(kinds[0], first), (kinds[1], second)])
        before = seen.setdefault((*one, *other), file.name)
        if before != file.name:
            raise WorkbenchError(
                f"{file}, line {number}: the pair {line.strip()} is in {before} of a split too; it cannot be both"
            )
        numbers.append((first, second))
    if not numbers:
        raise WorkbenchError(f"{file}: empty, expected lines 'I,J'")
    return numbers
