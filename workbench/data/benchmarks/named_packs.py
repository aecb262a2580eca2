"""`lfw`, `cfp_ff`, `cfp_fp`, `agedb_30`, `calfw`, `cplfw` - verification packs by name.

InsightFace's training sets contain them, as NAME.bin next to train.rec. `NAME` searches the usual
folders, and `NAME:PATH` reads a file, or NAME.bin in a folder.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from workbench.cache import cache_folder
from workbench.data.benchmark import Benchmark
from workbench.data.benchmarks.verification_pack import open_bin
from workbench.data.registry import BENCHMARKS
from workbench.errors import WorkbenchError

PAIRS = {
    "lfw": 6000,
    "cfp_ff": 7000,
    "cfp_fp": 7000,
    "agedb_30": 6000,
    "calfw": 6000,
    "cplfw": 6000,
}
"""The packs, and the number of pairs in the protocol of each."""
VARIABLE = "WORKBENCH_BENCHMARKS"


def places() -> list[Path]:
    """Return the folders that are searched for packs, the first one first.

    They are the folders that the environment variable WORKBENCH_BENCHMARKS lists, `benchmarks` in
    the cache, and `data` in the current folder.
    """
    listed = os.environ.get(VARIABLE, "").split(os.pathsep)
    return [
        *(Path(os.path.expanduser(folder)) for folder in listed if folder),
        cache_folder() / "benchmarks",
        Path("data"),
    ]


def open_named_pack(name: str, path: str = "") -> Benchmark:
    """Open a verification pack by its name.

    Args:
        name: A name in `PAIRS`.
        path: The file, or the folder that contains NAME.bin. The default searches `places()`.

    Returns:
        The benchmark. If it does not have as many pairs as the protocol, its note says so.

    Raises:
        WorkbenchError: If there is no such file, or it is not a verification pack. The message
            lists the folders that were searched and says how to get the pack.
    """
    file = _find(name, path)
    pack = open_bin(str(file))
    count, expected = len(pack.pairs), PAIRS[name]
    note = ""
    if count != expected:
        note = f"{file.name} holds {count:,} pairs, the protocol of {name} has {expected:,}"
    return replace(pack, name=name, note=note)


def _find(name: str, path: str) -> Path:
    if path:
        return _find_at(name, path)
    for folder in places():
        file = os.path.join(folder, f"{name}.bin")
        if os.path.isfile(file):
            return Path(file)
    searched = ", ".join(str(folder) for folder in places())
    if not os.environ.get(VARIABLE):
        searched += f" or ${VARIABLE}, which is not set"
    raise WorkbenchError(
        f"{name}: no {name}.bin in {searched}. InsightFace's training sets contain it; open it as "
        f"{name}:FILE or {name}:FOLDER, or make it: workbench data pack pairs:LIST@IMAGES "
        f"data/{name}.bin"
    )


def _find_at(name: str, path: str) -> Path:
    file = os.path.expanduser(path)
    if os.path.isdir(file):
        file = os.path.join(file, f"{name}.bin")
    if not os.path.isfile(file):
        raise WorkbenchError(
            f"{name}:{path}: no {file}; expected a verification pack or a folder with {name}.bin"
        )
    return Path(file)


def _register(name: str) -> None:
    def open_pack(path: str = "") -> Benchmark:
        return open_named_pack(name, path)

    BENCHMARKS.register(name)(open_pack)


for _name in PAIRS:
    _register(_name)
