"""`pairs:PAIRS.TXT@ROOT` - a pair list in LFW's format, with the images in a folder or a zip."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
from numpy.typing import NDArray

from workbench import images
from workbench.data.benchmark import Benchmark
from workbench.data.dataset import EncodedImages, Images
from workbench.data.folder import Files
from workbench.data.registry import BENCHMARKS, existing
from workbench.errors import WorkbenchError

MAX_FILE_BYTES = 50_000_000


@dataclass(frozen=True)
class ZippedImages(EncodedImages):
    """Image files within a zip; nothing is unpacked to disk."""

    path: Path
    names: list[str]
    _open: dict[int, ZipFile] = field(default_factory=dict, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def where(self, index: int) -> str:
        return f"{self.path}, {self.names[index]}"

    def encoded(self, index: int) -> bytes:
        where = self.where(index)
        try:
            # One open zip per process: a forked loader process must not share its parent's file position.
            archive = self._open.get(os.getpid()) or self._open.setdefault(os.getpid(), ZipFile(self.path))
            member = archive.getinfo(self.names[index])
            size = member.file_size
            if size > MAX_FILE_BYTES:
                raise WorkbenchError(f"{where}: {size / 1e6:.0f} MB unpacked, more than the {MAX_FILE_BYTES / 1e6:.0f} allowed")
            if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
                raise WorkbenchError(f"{where}: compressed in a way that cannot be unpacked bit by bit; zip it with 'deflate'")
            with archive.open(member) as stream:
                return stream.read(size)  # the size is only a claim: without it a bomb would be unpacked first
        except WorkbenchError:
            raise
        except Exception as error:  # zipfile raises BadZipFile, zlib.error, RuntimeError, struct.error, ... on damaged files
            raise WorkbenchError(f"{where}: cannot be unpacked ({error})") from None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "names": self.names, "_open": {}}


@BENCHMARKS.register("pairs")
def open_pairs(path: str) -> Benchmark:
    """LFW's View 2 format: a line "FOLDS PAIRS", then for each fold PAIRS lines "NAME I J" and PAIRS lines "NAME I NAME J".

    Image J of NAME is ROOT/NAME/NAME_000J.jpg, or any other image suffix; a single folder around all is allowed.
    """
    listed, at, root = path.rpartition("@")
    if not at or not root:
        raise WorkbenchError(f"pairs:{path}: name the images too, pairs:PAIRS.TXT@ROOT with ROOT a folder or a zip")
    file = existing(listed, "pairs", "file")
    named, same, folds = _parse(file)
    stem_of = {stem: number for number, stem in enumerate(dict.fromkeys(stem for pair in named for stem in pair))}
    reader, name = _reader(Path(os.path.expanduser(root)), list(stem_of), file)
    pairs = np.array([[stem_of[stem] for stem in pair] for pair in named], dtype=np.int64)
    people, identities = np.unique([stem.rpartition("_")[0] for stem in stem_of], return_inverse=True)
    return Benchmark(name, reader, pairs, same, folds, identities.astype(np.int64), tuple(people.tolist()))


def _parse(file: Path) -> tuple[list[tuple[str, str]], NDArray[np.bool_], NDArray[np.int64]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WorkbenchError(f"{file}: cannot be read as text ({error})") from None
    rows = [(number, line.split()) for number, line in enumerate(lines, 1) if line.strip()]
    header = rows[0][1] if rows else []
    if not 1 <= len(header) <= 2 or not all(_is_number(field) for field in header):
        raise WorkbenchError(f"{file}, line 1: expected 'FOLDS PAIRS' or 'PAIRS', found {' '.join(header)[:60]!r}")
    # View 1 lists have a single set of pairs; cut into tenths of each half it still gives ten balanced folds.
    fold_count, per_fold = (int(header[0]), int(header[1])) if len(header) == 2 else (1, int(header[0]))
    if fold_count < 1 or per_fold < 1 or len(rows) - 1 != 2 * fold_count * per_fold:
        raise WorkbenchError(
            f"{file}: the first line promises {fold_count} x ({per_fold} + {per_fold}) pairs, {max(len(rows) - 1, 0)} follow"
        )
    named, same = [], []
    for position, (number, fields) in enumerate(rows[1:]):
        genuine = position % (2 * per_fold) < per_fold
        first, second = (fields[:2], [fields[0], *fields[2:]]) if len(fields) == 3 else (fields[:2], fields[2:])
        if len(fields) != (3 if genuine else 4) or not _is_number(first[1]) or not _is_number(second[1]):
            wanted = "NAME I J" if genuine else "NAME I NAME J"
            raise WorkbenchError(f"{file}, line {number}: expected {wanted!r}, found {' '.join(fields)[:80]!r}")
        named.append((_stem(*first), _stem(*second)))
        same.append(genuine)
    order = np.arange(len(named))
    if fold_count == 1:
        ten = min(10, per_fold)
        if ten < 2:
            raise WorkbenchError(f"{file}: one genuine and one impostor pair; at least two of each are needed")
        folds = (order % per_fold) * ten // per_fold
    else:
        folds = order // (2 * per_fold)
    return named, np.array(same), folds


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) < 10


def _stem(name: str, number: str) -> str:
    return f"{name}_{int(number):04d}"


def _reader(root: Path, stems: list[str], listed: Path) -> tuple[Images, str]:
    """Find the file of each stem under `root`."""
    if root.is_dir():
        everything = [file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file()]
    elif root.is_file():
        try:
            with ZipFile(root) as archive:
                everything = archive.namelist()
        except Exception as error:  # beside BadZipFile whatever a damaged directory leads to
            raise WorkbenchError(f"{root}: not a zip file ({error})") from None
    else:
        raise WorkbenchError(f"pairs: no such folder or zip {root}")
    pattern = re.compile(r"(?:[^/]+/)?([^/]+)/(\1_\d{4})(\.\w+)")
    matches = [pattern.fullmatch(name) for name in everything]
    file_of = {match[2]: match[0] for match in matches if match and match[3].lower() in images.SUFFIXES}
    missing = [stem for stem in stems if stem not in file_of]
    if missing:
        raise WorkbenchError(
            f"{root}: {len(missing)} of the {len(stems)} images that {listed.name} lists are missing, e.g. "
            f"{missing[0].rpartition('_')[0]}/{missing[0]}.jpg"
        )
    names = [file_of[stem] for stem in stems]
    return (Files(root, names) if root.is_dir() else ZippedImages(root, names)), root.resolve().stem
