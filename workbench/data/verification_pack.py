"""`bin:FILE` - InsightFace's verification packs (lfw.bin, agedb_30.bin, cfp_fp.bin, ...): pickled JPEGs and pair labels."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench import images
from workbench.data.benchmark import Benchmark, consecutive_folds
from workbench.data.registry import BENCHMARKS, existing
from workbench.errors import WorkbenchError

_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("_codecs", "encode"),  # how protocol 2 writes bytes
}


class _PackUnpickler(pickle.Unpickler):
    """Lets through what a pack is made of - lists, bytes, bools and numpy arrays - and nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no verification pack needs")
        return super().find_class(module, name)


@dataclass(frozen=True)
class EncodedImages:
    """Encoded images held in memory."""

    where: str
    encoded: list[bytes]

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return images.decode(self.encoded[index], f"{self.where}, image {index}")


@BENCHMARKS.register("bin")
def open_bin(path: str) -> Benchmark:
    """Pair i is images 2i and 2i + 1; the pairs are cut into 10 consecutive folds, fewer where there are fewer than 10."""
    file = existing(path, "bin", "file")
    encoded, same = _unpack(file)
    pairs = np.arange(len(encoded), dtype=np.int64).reshape(-1, 2)
    return Benchmark(file.stem, EncodedImages(file.name, encoded), pairs, same, consecutive_folds(len(pairs), min(10, len(pairs))))


def _unpack(file: Path) -> tuple[list[bytes], NDArray[np.bool_]]:
    try:
        with file.open("rb") as stream:
            content = _PackUnpickler(stream, encoding="bytes").load()
    # A hostile or cut-off pickle can raise nearly anything on its way to failing.
    except Exception as error:
        raise WorkbenchError(f"{file}: not a verification pack ({str(error) or type(error).__name__})") from None
    if not isinstance(content, tuple | list) or len(content) != 2 or not isinstance(content[0], list):
        raise WorkbenchError(f"{file}: expected a pickled pair (images, issame), found {type(content).__name__}")
    try:
        same = np.asarray(content[1]).astype(bool).reshape(-1)
    except (TypeError, ValueError):
        raise WorkbenchError(f"{file}: the second part is not a list of booleans") from None
    if len(content[0]) != 2 * len(same) or not len(same):
        raise WorkbenchError(f"{file}: {len(content[0])} images for {len(same)} pairs, expected two a pair")
    encoded = [_as_bytes(entry, file, number) for number, entry in enumerate(content[0])]
    return encoded, same


def _as_bytes(entry: Any, file: Path, number: int) -> bytes:
    if isinstance(entry, bytes):
        return entry
    if isinstance(entry, np.ndarray) and entry.dtype == np.uint8:
        return entry.tobytes()
    raise WorkbenchError(f"{file}, image {number}: expected encoded bytes or a uint8 array, found {type(entry).__name__}")
