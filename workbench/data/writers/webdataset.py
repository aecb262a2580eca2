"""Writes a data set as tar shards, which `webdataset:DIR` and the library webdataset read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from workbench import images
from workbench.data.dataset import Broken, Dataset
from workbench.data.io.indexes import Texts, save
from workbench.data.io.shards import Index, look_through, require
from workbench.data.sources.webdataset import INDEX
from workbench.data.writers.common import Written, new_folder, readable, size_of
from workbench.errors import WorkbenchError

IMAGES_A_SHARD = 10_000


def write_webdataset(
    dataset: Dataset,
    out: Path,
    *,
    broken: Broken = "stop",
    progress: bool = True,
    images_a_shard: int = IMAGES_A_SHARD,
) -> Written:
    """Write a data set as a folder of tar shards and their index.

    The images are shuffled, so that a program that reads one shard after another gets images of all
    identities; the index stores the original order. Image files are copied byte for byte, and
    images held as pixels are written as PNG.

    Args:
        dataset: The data set to write.
        out: A folder that does not exist yet; it may be called NAME.tar.
        broken: What to do with an image that cannot be read: "stop" raises its error, "skip" leaves
            it out and reports it.
        progress: Show a progress bar.
        images_a_shard: Images in each shard except the last. A shard holds fewer images if they
            need more than a gigabyte.

    Returns:
        A report of what was written.

    Raises:
        WorkbenchError: If `out` exists already or cannot be written, or if an image cannot be read
            and `broken` is "stop", or if no image can be read.
    """
    require("webdataset", "writing shards")
    from webdataset.writer import ShardWriter  # Imports torch.

    if images_a_shard < 1:
        raise WorkbenchError(f"images_a_shard must be at least 1, got {images_a_shard}")
    left_out: list[tuple[str, str]] = []
    order = np.random.default_rng(0).permutation(len(dataset)).tolist()
    with new_folder(out) as temporary:
        pattern = (
            str(temporary / (out.stem if out.suffix.lower() == ".tar" else out.name)).replace(
                "%", "%%"
            )
            + "-%06d.tar"
        )
        with ShardWriter(
            pattern, maxcount=images_a_shard, maxsize=1e9, verbose=0, encoder=False, mtime=0
        ) as writer:
            for number, encoded in readable(
                dataset.images,
                broken,
                left_out=left_out,
                numbers=order,
                progress=progress,
                title="writing shards",
            ):
                label = str(int(dataset.identities[number])).encode()
                writer.write(
                    {
                        "__key__": f"{number:09d}",
                        images.suffix_of(encoded)[1:]: encoded,
                        "cls": label,
                    }
                )
        index = _index_of(dataset, temporary, progress)
        save(temporary / INDEX, index.arrays)
        size = size_of(temporary)
    return Written(out, len(index.names), len(index.identity_names), size, left_out)


def _index_of(dataset: Dataset, folder: Path, progress: bool) -> Index:
    """The index of the shards just written, in the order and with the names of the data set."""
    shards = sorted(folder.glob("*.tar"))
    found = look_through([shard.name for shard in shards], shards.__getitem__, progress)
    numbers = np.array([int(name.partition(".")[0]) for name in found.names], dtype=np.int64)
    order = np.argsort(numbers)
    files = dataset.attributes.get("file")
    names = (found.names[int(i)] if files is None else str(files[int(numbers[i])]) for i in order)
    return Index(
        found.shards,
        found.shard_bytes,
        found.shard_of[order],
        found.offsets[order],
        found.sizes[order],
        found.identities[order],
        Texts.of(dataset.identity_names[int(label)] for label in found.identity_names),
        Texts.of(names),
    )
