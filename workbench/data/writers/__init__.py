"""Writers of data sets and benchmarks: packs, folders, RecordIO, tar shards and verification packs.

A file or folder gets its final name when it is complete, and an existing one is never overwritten.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from workbench.data.benchmark import Benchmark, Identification, Labelled
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
    """The signature of the writers, such as `write_folder`."""

    def __call__(
        self, dataset: Dataset, out: Path, /, *, broken: Broken = "stop", progress: bool = True
    ) -> Written: ...


def write(
    data: Dataset | Benchmark | Labelled | Identification | Templates,
    out: Path,
    kind: str | None = None,
    *,
    broken: Broken = "stop",
    progress: bool = True,
) -> Written:
    """Write a data set, or the pairs of a benchmark.

    Args:
        data: What to write. A benchmark of pairs can only be written as "bin".
        out: The file or folder to write.
        kind: One of `WRITERS`: "pack", "rec", "bin", "tar" or "folder". The default depends on the
            ending of the name `out`.
        broken: What to do with an image that cannot be read: "stop" raises its error, "skip" leaves
            it out and reports it.
        progress: Show a progress bar.

    Returns:
        A report of what was written.

    Raises:
        WorkbenchError: If `kind` is unknown, if `out` exists already or cannot be written, or if an
            image cannot be read and `broken` is "stop".
    """
    kind = format_of(out) if kind is None else kind
    if kind not in WRITERS:
        raise unknown_name("format", kind, WRITERS)
    data = data.dataset if isinstance(data, Labelled) else data
    if isinstance(data, Benchmark) and kind == "bin":
        return write_bin(data, out, broken=broken, progress=progress)
    if not isinstance(data, Dataset):
        raise WorkbenchError(
            f"{data.name} is a benchmark; only its pairs can be written, "
            "as a verification pack NAME.bin"
        )
    return WRITERS[kind](data, out, broken=broken, progress=progress)


def format_of(out: Path) -> str:
    """The format that belongs to the ending of a name: .bin, .rec or .tar, and otherwise "pack".

    Args:
        out: The file or folder to write.

    Returns:
        A key of `WRITERS`.

    Raises:
        WorkbenchError: If the ending belongs to a format that the workbench does not write.

    Example:
        >>> format_of(Path("faces.rec")), format_of(Path("faces"))
        ('rec', 'pack')
    """
    kind = out.suffix.lower().removeprefix(".")
    if kind in NOT_WRITTEN:
        raise WorkbenchError(
            f"{out}: the format .{kind} is not written; give a name without an ending for a pack, "
            "or choose a format with --format"
        )
    return kind if kind in ("bin", "rec", "tar") else "pack"


NOT_WRITTEN = frozenset(
    {"csv", "idx", "json", "npz", "txt", "tfrecord", "tfrecords", "tgz", "gz", "zip"}
)
"""Endings that are not names of folders."""


WRITERS: dict[str, Writer] = {
    "pack": write_pack,
    "rec": write_recordio,
    "bin": write_bin,
    "tar": write_webdataset,
    "folder": write_folder,
}
