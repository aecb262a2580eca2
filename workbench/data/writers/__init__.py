"""Data sets and benchmarks to files: RecordIO, verification packs, folders, tar shards, packs.

Nothing half-written ever has its final name, and what is there already is never written over.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from workbench.data.benchmark import Benchmark, ClosedSet, Identification
from workbench.data.dataset import Broken, Dataset
from workbench.data.templates import Templates
from workbench.data.writers.common import Written
from workbench.data.writers.folder import write_folder
from workbench.data.writers.pack import write_pack
from workbench.data.writers.pairs import write_bin
from workbench.data.writers.recordio import write_recordio
from workbench.data.writers.webdataset import write_webdataset
from workbench.errors import WorkbenchError, unknown_name


class Writer(Protocol):
    """`write_folder` and the others are such. Raises WorkbenchError for an image that cannot be read, if `broken` is "stop"."""

    def __call__(
        self, dataset: Dataset, out: Path, /, *, broken: Broken = "stop", progress: bool = True
    ) -> Written: ...


def write(
    data: Dataset | Benchmark | ClosedSet | Identification | Templates,
    out: Path,
    kind: str | None = None,
    *,
    broken: Broken = "stop",
    progress: bool = True,
) -> Written:
    """Write a data set, or the pairs of a benchmark.

    Args:
        data: what is written; only "bin" takes a benchmark.
        out: file or folder.
        kind: one of `WRITERS`: "pack", "rec", "bin", "tar" or "folder"; by default as the name of `out` ends.
        broken: "stop" ends with the error of the first image that cannot be read, "skip" leaves such images out.
        progress: show a bar.

    Raises:
        WorkbenchError: unknown kind, `out` is there already or cannot be written, broken images.
    """
    kind = format_of(out) if kind is None else kind
    if kind not in WRITERS:
        raise unknown_name("format", kind, WRITERS)
    data = data.dataset if isinstance(data, ClosedSet) else data
    if isinstance(data, Benchmark) and kind == "bin":
        return write_bin(data, out, broken=broken, progress=progress)
    if not isinstance(data, Dataset):
        raise WorkbenchError(
            f"{data.name} is a benchmark; only pairs can be written, to a verification pack, NAME.bin"
        )
    return WRITERS[kind](data, out, broken=broken, progress=progress)


def format_of(out: Path) -> str:
    """The format that a name ends in: .bin, .rec, .tar; otherwise "pack".

    Raises:
        WorkbenchError: the name is that of a file of some format that is not written.
    """
    kind = out.suffix.lower().removeprefix(".")
    if kind in NOT_WRITTEN:
        raise WorkbenchError(
            f"{out}: .{kind} is not written; a pack is a folder without such an ending, else give --format"
        )
    return kind if kind in ("bin", "rec", "tar") else "pack"


NOT_WRITTEN = frozenset(
    {"csv", "idx", "json", "npz", "txt", "tfrecord", "tfrecords", "tgz", "gz", "zip"}
)
"""Ends of names that nobody gives to a folder."""


WRITERS: dict[str, Writer] = {
    "pack": write_pack,
    "rec": write_recordio,
    "bin": write_bin,
    "tar": write_webdataset,
    "folder": write_folder,
}
