"""Pairs of a benchmark, written: InsightFace's verification packs, and lists of pairs."""

from __future__ import annotations

import csv
import pickle
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from workbench.data.benchmark import Benchmark, consecutive_folds, draw_pairs
from workbench.data.dataset import Broken, Dataset, image_name, source_of
from workbench.data.io.list_files import plain
from workbench.data.io.pair_lists import STEM
from workbench.data.writers.common import Written, new_file, portable, readable
from workbench.errors import WorkbenchError

BYTE_ORDER_MARKS = ("\ufeff", "\udcff\udcfe", "\udcfe\udcff")
PACK_FOLDS = 10
"""Folds in which a verification pack is read, by everybody."""


def write_bin(
    data: Dataset | Benchmark, out: Path, *, broken: Broken = "stop", progress: bool = True
) -> Written:
    """A verification pack, as InsightFace's lfw.bin is: pickle((list of encoded images, list of bool)), two images a pair.

    Such a pack has no folds; it is read in 10, of consecutive pairs. The pairs come in the order of their folds, and where the
    benchmark's folds are not just those, `note` says so.

    Args:
        data: a benchmark of pairs, or a data set from which pairs are drawn as by `write_pairs`.
        out: the file.
        broken: "stop"; "skip" leaves out pairs of images that cannot be read, or draws from the others.
        progress: show a bar.
    """
    if isinstance(data, Dataset):
        return write_pairs(data, out, broken=broken, progress=progress, kind="bin")
    left_out: list[tuple[str, str]] = []
    with new_file(out) as temporary:
        encoded = _read(data, broken, left_out, progress)
        return _pickle(data, encoded, left_out, temporary, out)


def write_pairs(
    dataset: Dataset,
    out: Path,
    *,
    folds: int = 10,
    per_fold: int = 300,
    seed: int = 0,
    broken: Broken = "stop",
    progress: bool = True,
    kind: Literal["bin", "txt"] | None = None,
) -> Written:
    """Pairs of a data set, drawn by `draw_pairs` and cut to folds of the same size: a verification pack or a list.

    Args:
        dataset: at least 4 identities with two images.
        out: NAME.bin, or NAME.txt for a list as `write_pair_list` writes it.
        folds: wanted; nobody is in two of them. Packs and lists of paths are always read in 10.
        per_fold: most pairs of each kind in a fold.
        seed: of the draw.
        broken: "stop" ends with the error of the first image that cannot be read, "skip" draws from the others.
        progress: show a bar.
        kind: "bin" or "txt"; by default as the name of `out` ends.

    Raises:
        WorkbenchError: too few people, another suffix, `out` is there already, broken images, or a list of images that are not
            files in one folder.
    """
    if kind is None and out.suffix.lower() not in (".bin", ".txt"):
        raise WorkbenchError(
            f"{out}: pairs are written to NAME.bin, a verification pack, or NAME.txt, a list"
        )
    as_list = kind == "txt" or (kind is None and out.suffix.lower() == ".txt")
    files = _files(dataset) if as_list else []
    left_out: list[tuple[str, str]] = []
    with new_file(out) as temporary:
        usable = np.ones(len(dataset), dtype=bool)
        while True:
            kept = np.flatnonzero(usable)
            readable_part = dataset if usable.all() else dataset.subset(dataset.name, kept)
            drawn = draw_pairs(readable_part, folds, per_fold, seed)
            bench = replace(
                drawn, images=dataset.images, pairs=kept[drawn.pairs], identities=dataset.identities
            )
            bench = even_folds(replace(bench, identity_names=tuple(dataset.identity_names)))
            encoded = _read(bench, broken, left_out, progress, keep=not as_list)
            if len(encoded) == len(np.unique(bench.pairs)):
                break
            usable[np.setdiff1d(bench.pairs, list(encoded))] = False
        if as_list:
            return _list(bench, files, left_out, temporary, out)
        return _pickle(bench, encoded, left_out, temporary, out)


def _read(
    bench: Benchmark,
    broken: Broken,
    left_out: list[tuple[str, str]],
    progress: bool,
    keep: bool = True,
) -> dict[int, bytes]:
    """The images of all pairs that can be read, by number; without their bytes, which may be many, if these are not wanted."""
    numbers = np.unique(bench.pairs).tolist()
    found = readable(
        bench.images,
        broken,
        left_out=left_out,
        numbers=numbers,
        progress=progress,
        title="reading pairs",
    )
    return {
        number: portable(encoded, image_name(bench.images, number)) if keep else b""
        for number, encoded in found
    }


def _pickle(
    bench: Benchmark,
    encoded: Mapping[int, bytes],
    left_out: list[tuple[str, str]],
    temporary: Path,
    out: Path,
) -> Written:
    order = np.argsort(bench.folds, kind="stable")
    order = order[np.isin(bench.pairs[order], list(encoded)).all(axis=1)]
    if not len(order):
        raise WorkbenchError(f"{bench.name}: in every pair is an image that cannot be read")
    pairs, folds = bench.pairs[order], bench.folds[order]
    bins = [encoded[image] for image in pairs.ravel().tolist()]
    with temporary.open("wb") as file:
        pickle.dump((bins, bench.same[order].tolist()), file, protocol=4)
    note = _folds_note(bench.name, folds, "a pack")
    return Written(out, len(bins), _people(bench, pairs), temporary.stat().st_size, left_out, note)


def _people(bench: Benchmark, pairs: NDArray[np.int64]) -> int:
    return 0 if bench.identities is None else len(np.setdiff1d(bench.identities[pairs], [-1]))


def _folds_note(name: str, folds: NDArray[np.int64], what: str) -> str:
    _, own = np.unique(folds, return_inverse=True)
    if len(folds) < PACK_FOLDS or np.array_equal(own, consecutive_folds(len(folds), PACK_FOLDS)):
        return ""
    sizes = np.bincount(own)
    return (
        f"{what} is read in {PACK_FOLDS} folds of consecutive pairs, {name} has {len(sizes)} of {sizes.min():,} to "
        f"{sizes.max():,} pairs: the same people can be in two of those read"
    )


def even_folds(bench: Benchmark) -> Benchmark:
    """The benchmark with as many genuine and as many impostor pairs in every fold as in the poorest, genuine ones first.

    Both the lists of LFW and verification packs know folds only by their length.
    """
    count = int(bench.folds.max()) + 1
    chosen = [
        [np.flatnonzero((bench.folds == fold) & (bench.same == same)) for same in (True, False)]
        for fold in range(count)
    ]
    least = min(len(numbers) for both in chosen for numbers in both)
    if not least:
        raise WorkbenchError(
            f"{bench.name}: a fold has no pairs of one kind, so that folds cannot be cut to the same length"
        )
    order = np.concatenate([numbers[:least] for both in chosen for numbers in both])
    return replace(
        bench, pairs=bench.pairs[order], same=bench.same[order], folds=bench.folds[order]
    )


def write_pair_list(bench: Benchmark, files: Sequence[str], out: Path) -> Written:
    """A text with the pairs of a benchmark, which `pairs:OUT@ROOT` reads again.

    It is in LFW's format where every file is called NAME/NAME_0001.jpg, with any number and suffix, and no two differ but in their
    suffix; else it has lines "PATH<TAB>PATH<TAB>1" for genuine pairs and 0 for impostor pairs, which are read in 10 folds. Paths
    with quotes, tabs, or blanks at their ends are in quotes as in CSV; bytes of names that are not UTF-8 are written as they are.

    Args:
        bench: pairs with the same number of each kind in every fold, as `even_folds` leaves them.
        files: path of each image below ROOT.
        out: the text file.

    Raises:
        WorkbenchError: a name has a line end in it, which no list can hold; or `out` cannot be written.
    """
    with new_file(out) as temporary:
        return _list(bench, files, [], temporary, out)


def _list(
    bench: Benchmark,
    files: Sequence[str],
    left_out: list[tuple[str, str]],
    temporary: Path,
    out: Path,
) -> Written:
    both = list(zip(bench.pairs.tolist(), bench.same.tolist(), strict=True))
    numbers = np.unique(bench.pairs).tolist()
    if broken_line := next(
        (files[number] for number in numbers if re.search("[\r\n]", files[number])), ""
    ):
        raise WorkbenchError(
            f"{out}: no list can hold {broken_line[:120]!r}, whose name has a line end; write a NAME.bin instead"
        )
    stems = _stems(files, numbers)
    rows: list[tuple[str, ...]]
    note = ""
    if stems is not None:
        folds = int(bench.folds.max()) + 1
        rows = [(str(folds), str(len(both) // (2 * folds)))]
        for (a, b), same in both:
            (first, i), (second, j) = stems[a], stems[b]
            rows.append(
                (first, str(int(i)), str(int(j)))
                if same
                else (first, str(int(i)), second, str(int(j)))
            )
    else:
        rows = [(files[a], files[b], str(int(same))) for (a, b), same in both]
        note = _folds_note(bench.name, bench.folds, "a list of paths")
    quoting: Literal[0, 1] = (
        csv.QUOTE_ALL
        if any(map(_odd, (files[number] for number in numbers)))
        else csv.QUOTE_MINIMAL
    )
    with temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        if stems is not None:  # whose readers know no quotes
            file.write("".join("\t".join(row) + "\n" for row in rows))
        else:
            csv.writer(file, delimiter="\t", lineterminator="\n", quoting=quoting).writerows(rows)
    return Written(
        out, len(numbers), _people(bench, bench.pairs), temporary.stat().st_size, left_out, note
    )


def _stems(files: Sequence[str], numbers: Sequence[int]) -> dict[int, tuple[str, str]] | None:
    """NAME and 0001 of each image, if all are called NAME/NAME_0001.jpg and `pairs:` finds no other under the same name."""
    found = {
        number: match
        for number in numbers
        if (match := re.fullmatch(r"([^/\s]+)/\1_([0-9]{4})\.\w+", files[number]))
    }
    if len(found) < len(numbers) or any(map(_odd, (match[1] for match in found.values()))):
        return None
    places = Counter(plain(match[2]) for name in files if (match := STEM.fullmatch(name)))
    unique = all(places[plain(f"{match[1]}_{match[2]}")] == 1 for match in found.values())
    return {number: (match[1], match[2]) for number, match in found.items()} if unique else None


def _odd(name: str) -> bool:
    """Whether a name begins or ends with what readers of lists take off, or take for a comment."""
    return name != name.strip() or name.startswith(("#", '"', *BYTE_ORDER_MARKS))


def _files(dataset: Dataset) -> list[str]:
    """Path of each image below the one folder that all lie in."""
    files = dataset.attributes.get("file")
    readers = {id(source_of(dataset.images, number)[0]) for number in range(len(dataset))}
    if files is None or len(readers) > 1:
        what = "come from several places" if len(readers) > 1 else "are not files"
        raise WorkbenchError(
            f"{dataset.name}: a list is of files in one folder, and its images {what}; write a NAME.bin instead"
        )
    return [str(file) for file in files]
