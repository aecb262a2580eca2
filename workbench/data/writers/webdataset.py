"""A data set as tar shards, which `webdataset:DIR` opens and the library webdataset reads."""

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
    """Write a data set as shards of a folder, with their index: `webdataset:OUT` opens it, and so does the library webdataset.

    The images are shuffled, so that whoever reads shard after shard meets all identities; the index knows their order. Image files
    are kept byte for byte, what are pixels becomes PNG.

    Args:
        dataset: what is written.
        out: a folder that is not there yet; it may be called NAME.tar.
        broken: "stop" or "skip".
        progress: show a bar.
        images_a_shard: images in each shard but the last; fewer where they take more than a gigabyte.

    Raises:
        WorkbenchError: `out` is there already or cannot be written; a broken image and `broken` is "stop"; or all are broken.
    """
    require("webdataset", "writing shards")
    from webdataset.writer import ShardWriter  # brings torch with it

    if images_a_shard < 1:
        raise WorkbenchError(f"images_a_shard is {images_a_shard}: at least 1")
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
    """The index of shards just written, in the order of the data set and with its names."""
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
