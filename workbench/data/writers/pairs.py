"""Writes the pairs of a benchmark as a verification pack of InsightFace or as a list of pairs."""

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
"""Number of folds in which all programs read a verification pack."""


def write_bin(
    data: Dataset | Benchmark, out: Path, *, broken: Broken = "stop", progress: bool = True
) -> Written:
    """Write a verification pack in the format of InsightFace's lfw.bin.

    The file is pickle((list of encoded images, list of bool)), with two images for each pair. It
    stores no folds: programs read it in 10 folds of consecutive pairs. The pairs are sorted by
    fold. If the folds of the benchmark differ from those that programs will read, the `note` of the
    report says so.

    Args:
        data: A benchmark of pairs, or a data set from which pairs are drawn as in `write_pairs`.
        out: The file to write.
        broken: "stop" raises the error of the first image that cannot be read. "skip" leaves out
            its pairs, or, for a data set, draws pairs from the other images.
        progress: Show a progress bar.

    Returns:
        A report of what was written.

    Raises:
        WorkbenchError: If `out` exists already or cannot be written, if an image cannot be read and
            `broken` is "stop", or if no pair remains.
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
    """Draw pairs from a data set and write them as a verification pack or as a list.

    The pairs are drawn by `draw_pairs` and cut to folds of the same size.

    Args:
        dataset: The data set, with at least 4 identities that have two images.
        out: NAME.bin, or NAME.txt for a list as `write_pair_list` writes it.
        folds: Number of folds with disjoint identities. Packs and lists of paths are always read in
            10 folds.
        per_fold: Most genuine pairs in a fold, and most impostor pairs.
        seed: Seed of the draw.
        broken: "stop" raises the error of the first image that cannot be read, "skip" draws pairs
            from the other images.
        progress: Show a progress bar.
        kind: "bin" or "txt". The default is the ending of the name `out`.

    Returns:
        A report of what was written.

    Raises:
        WorkbenchError: If there are too few identities, `out` has another ending, exists already or
            cannot be written, if an image cannot be read and `broken` is "stop", or if the images
            of a list are not files in one folder.
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
    """Read the images of all pairs.

    Returns:
        The bytes of each image that can be read, by its number; empty bytes unless `keep`.
    """
    numbers = np.unique(bench.pairs).tolist()
    readable_images = readable(
        bench.images,
        broken,
        left_out=left_out,
        numbers=numbers,
        progress=progress,
        title="reading pairs",
    )
    return {
        number: portable(encoded, image_name(bench.images, number)) if keep else b""
        for number, encoded in readable_images
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
        raise WorkbenchError(f"{bench.name}: every pair has an image that cannot be read")
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
        f"{what} is read in {PACK_FOLDS} folds of consecutive pairs, but {name} has {len(sizes)} "
        f"folds of {sizes.min():,} to {sizes.max():,} pairs: a person can be in two folds"
    )


def even_folds(bench: Benchmark) -> Benchmark:
    """Cut a benchmark to equal numbers of genuine and impostor pairs in all folds.

    Lists in LFW's format and verification packs store folds only by their length.

    Args:
        bench: A benchmark of pairs.

    Returns:
        The benchmark with the same number of genuine pairs and of impostor pairs in each fold,
        which is the smallest number in any fold. In each fold the genuine pairs come first.

    Raises:
        WorkbenchError: If a fold has no genuine pairs or no impostor pairs.
    """
    count = int(bench.folds.max()) + 1
    chosen = [
        [np.flatnonzero((bench.folds == fold) & (bench.same == same)) for same in (True, False)]
        for fold in range(count)
    ]
    least = min(len(numbers) for both in chosen for numbers in both)
    if not least:
        raise WorkbenchError(
            f"{bench.name}: a fold has no genuine or no impostor pairs, so the folds cannot be cut "
            "to the same length"
        )
    order = np.concatenate([numbers[:least] for both in chosen for numbers in both])
    return replace(
        bench, pairs=bench.pairs[order], same=bench.same[order], folds=bench.folds[order]
    )


def write_pair_list(bench: Benchmark, files: Sequence[str], out: Path) -> Written:
    """Write the pairs of a benchmark as a list, which `pairs:OUT@ROOT` reads.

    The list is in LFW's format if every file is called NAME/NAME_0001.jpg, with any number and
    suffix, and no two names differ only in their suffix. Otherwise it has a line
    "PATH<TAB>PATH<TAB>1" for each genuine pair, with 0 for impostor pairs, and is read in 10 folds.
    Paths with quotes, with tabs, or with spaces at their ends are quoted as in CSV. Bytes of names
    that are not UTF-8 are written unchanged.

    Args:
        bench: Pairs with the same number of each kind in every fold, as `even_folds` returns them.
        files: The path of each image below ROOT.
        out: The text file to write.

    Returns:
        A report of what was written.

    Raises:
        WorkbenchError: If a name contains a line break, or if `out` exists already or cannot be
            written.
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
    with_line_break = [files[number] for number in numbers if re.search("[\r\n]", files[number])]
    if with_line_break:
        raise WorkbenchError(
            f"{out}: a list cannot hold {with_line_break[0][:120]!r}, whose name has a line break; "
            "write a NAME.bin instead"
        )
    stems = _stems(files, numbers)
    rows: list[tuple[str, ...]]
    note = ""
    if stems is not None:
        folds = int(bench.folds.max()) + 1
        rows = [(str(folds), str(len(both) // (2 * folds)))]
        for (a, b), same in both:
            (first, i), (second, j) = stems[a], stems[b]
            if same:
                rows.append((first, str(int(i)), str(int(j))))
            else:
                rows.append((first, str(int(i)), second, str(int(j))))
    else:
        rows = [(files[a], files[b], str(int(same))) for (a, b), same in both]
        note = _folds_note(bench.name, bench.folds, "a list of paths")
    quoting: Literal[0, 1] = csv.QUOTE_MINIMAL
    if any(_needs_quotes(files[number]) for number in numbers):
        quoting = csv.QUOTE_ALL
    with temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        if stems is not None:  # Readers of LFW's format do not know quotes.
            file.write("".join("\t".join(row) + "\n" for row in rows))
        else:
            csv.writer(file, delimiter="\t", lineterminator="\n", quoting=quoting).writerows(rows)
    return Written(
        out, len(numbers), _people(bench, bench.pairs), temporary.stat().st_size, left_out, note
    )


def _stems(files: Sequence[str], numbers: Sequence[int]) -> dict[int, tuple[str, str]] | None:
    """NAME and 0001 of each image if the list can be in LFW's format, and otherwise None.

    All files must be called NAME/NAME_0001.jpg, and no two may differ only in their suffix.
    """
    matches = {
        number: match
        for number in numbers
        if (match := re.fullmatch(r"([^/\s]+)/\1_([0-9]{4})\.\w+", files[number]))
    }
    if len(matches) < len(numbers) or any(_needs_quotes(match[1]) for match in matches.values()):
        return None
    places = Counter(plain(match[2]) for name in files if (match := STEM.fullmatch(name)))
    unique = all(places[plain(f"{match[1]}_{match[2]}")] == 1 for match in matches.values())
    return {number: (match[1], match[2]) for number, match in matches.items()} if unique else None


def _needs_quotes(name: str) -> bool:
    """Whether readers would strip a part of the name, or take it for a comment."""
    return name != name.strip() or name.startswith(("#", '"', *BYTE_ORDER_MARKS))


def _files(dataset: Dataset) -> list[str]:
    """The path of each image below the folder that contains all images."""
    files = dataset.attributes.get("file")
    readers = {id(source_of(dataset.images, number)[0]) for number in range(len(dataset))}
    if files is None or len(readers) > 1:
        what = "are not files"
        if len(readers) > 1:
            what = "come from several places"
        raise WorkbenchError(
            f"{dataset.name}: a list needs files in one folder, but the images {what}; "
            "write a NAME.bin instead"
        )
    return [str(file) for file in files]
