"""`lfw`, `cfp_ff`, `cfp_fp`, `agedb_30`, `calfw`, `cplfw` - the verification packs that papers report, by name.

They come with InsightFace's training sets, as NAME.bin beside train.rec. `NAME` looks in the usual places, `NAME:PATH` takes a file
or the folder it is in.
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
"""Packs, and the pairs of their protocol."""
VARIABLE = "WORKBENCH_BENCHMARKS"


def places() -> list[Path]:
    """Where packs are looked for: the folders of $WORKBENCH_BENCHMARKS, the cache's `benchmarks`, `data` in the current folder."""
    chosen = os.environ.get(VARIABLE, "").split(os.pathsep)
    return [
        *(Path(os.path.expanduser(folder)) for folder in chosen if folder),
        cache_folder() / "benchmarks",
        Path("data"),
    ]


def open_named_pack(name: str, path: str = "") -> Benchmark:
    """Open NAME.bin from the usual places, or from a file or folder given.

    Raises:
        WorkbenchError: it is not there, with where it was looked for and how to get it, or no verification pack.
    """
    file = _find(name, path)
    pack = open_bin(str(file))
    found, known = len(pack.pairs), PAIRS[name]
    note = (
        ""
        if found == known
        else f"{file.name} holds {found:,} pairs, the protocol of {name} has {known:,}"
    )
    return replace(pack, name=name, note=note)


def _find(name: str, path: str) -> Path:
    if path:
        given = os.path.expanduser(path)
        candidates = [os.path.join(given, f"{name}.bin") if os.path.isdir(given) else given]
    else:
        candidates = [str(folder / f"{name}.bin") for folder in places()]
    found = next((file for file in candidates if os.path.isfile(file)), None)
    if found is not None:
        return Path(found)
    if path:
        raise WorkbenchError(
            f"{name}:{path}: no {candidates[0]}; expected a verification pack or a folder with {name}.bin"
        )
    unset = "" if os.environ.get(VARIABLE) else f" or ${VARIABLE}, which is not set"
    raise WorkbenchError(
        f"{name}: no {name}.bin in {', '.join(str(folder) for folder in places())}{unset}. It comes with InsightFace's training "
        f"sets; name it {name}:FILE or {name}:FOLDER, or make it: workbench data pack pairs:LIST@IMAGES data/{name}.bin"
    )


def _register(name: str) -> None:
    def open_pack(path: str = "") -> Benchmark:
        return open_named_pack(name, path)

    BENCHMARKS.register(name)(open_pack)


for _name in PAIRS:
    _register(_name)
