"""Writes a data set as MXNet RecordIO in the form of InsightFace's training sets.

The files are train.rec, train.idx and property.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from workbench import images
from workbench.data.dataset import Broken, Dataset, image_name
from workbench.data.sources.recordio import FRAME, HEADER, MAGIC, NAMES
from workbench.data.writers.common import Written, new_folder, portable, readable, size_of

MOST_KEYS = 2**24
"""The number of keys from which float32, in which record 0 stores ranges of keys, skips integers.
"""
WORD = struct.pack("<I", MAGIC)


def write_recordio(
    dataset: Dataset, out: Path, *, broken: Broken = "stop", progress: bool = True
) -> Written:
    """Write train.rec, train.idx and property into a folder, as MXNet and InsightFace read them.

    The images are sorted by identity and labelled 0..C-1. Record 0, and one record for each
    identity after the images, hold ranges of keys. Other programs read only JPEG and PNG files, and
    ignore the orientation in EXIF; all other images are therefore written as PNG. The format has no
    place for the names of identities, which are written to identities.txt.

    Args:
        dataset: The data set to write.
        out: The folder, which may be called NAME.rec, or the path of train.rec in it.
        broken: What to do with an image that cannot be read: "stop" raises its error, "skip" leaves
            it out and reports it.
        progress: Show a progress bar.

    Returns:
        A report of what was written.

    Raises:
        WorkbenchError: If `out` exists already or cannot be written, or if an image cannot be read
            and `broken` is "stop", or if no image can be read.
    """
    folder = out.parent if out.name == "train.rec" else out
    left_out: list[tuple[str, str]] = []
    with new_folder(folder) as temporary:
        with (
            (temporary / "train.rec").open("wb") as rec,
            (temporary / "train.idx").open("w", encoding="ascii", newline="\n") as idx,
        ):

            def append(key: int, *parts: bytes) -> None:
                idx.write(f"{key}\t{rec.tell()}\n")
                rec.write(framed(b"".join(parts)))

            with_ranges = len(dataset) + dataset.num_identities < MOST_KEYS
            first = 1 if with_ranges else 0
            if with_ranges:
                append(0, _range_record(0, 0))  # Overwritten below, when the keys are known.
            begins, firsts = list[int](), list[int]()
            shape, last, key = (0, 0), -1, first
            for key, (number, encoded) in enumerate(
                _by_identity(dataset, broken, left_out, progress, "writing records"), first
            ):
                if dataset.identities[number] != last:
                    last = int(dataset.identities[number])
                    begins.append(key)
                    firsts.append(number)
                if key == first:
                    shape = images.decode(encoded).shape[:2]
                append(key, HEADER.pack(0, len(begins) - 1, key, 0), encoded)
            end = key + 1
            if with_ranges:
                for identity, span in enumerate(zip(begins, [*begins[1:], end], strict=True)):
                    append(end + identity, _range_record(*span))
                rec.seek(0)
                rec.write(framed(_range_record(end, end + len(begins))))
        names = [
            " ".join(dataset.identity_names[dataset.identities[number]].split())
            for number in firsts
        ]
        (temporary / NAMES).write_text(
            "".join(f"{name}\n" for name in names), encoding="utf-8", errors="surrogateescape"
        )
        (temporary / "property").write_text(
            f"{len(begins)},{shape[0]},{shape[1]}", encoding="ascii"
        )
        size = size_of(temporary)
    return Written(folder, end - first, len(begins), size, left_out)


def _range_record(first: int, last: int) -> bytes:
    """A record whose two labels are the first key of a range and the key after its last."""
    return HEADER.pack(2, 0.0, 0, 0) + struct.pack("<2f", first, last)


def framed(payload: bytes) -> bytes:
    """Frame a record as dmlc-core does.

    The payload is cut where an aligned word of four bytes equals the magic number, which is left
    out. Each part is padded to a multiple of four bytes.
    """
    cuts, at = [], payload.find(WORD)
    while at >= 0:
        if at % 4 == 0:
            cuts.append(at)
        at = payload.find(WORD, at + (4 if at % 4 == 0 else 1))
    parts = [
        payload[begin:end]
        for begin, end in zip([0, *(cut + 4 for cut in cuts)], [*cuts, len(payload)], strict=True)
    ]
    kinds = [0] if len(parts) == 1 else [1, *[2] * (len(parts) - 2), 3]
    return b"".join(
        FRAME.pack(MAGIC, kind << 29 | len(part)) + part + bytes(-len(part) % 4)
        for kind, part in zip(kinds, parts, strict=True)
    )


def _by_identity(
    dataset: Dataset, broken: Broken, left_out: list[tuple[str, str]], progress: bool, title: str
) -> Iterator[tuple[int, bytes]]:
    """The number and the encoded bytes of each image, sorted by identity."""
    order = np.argsort(dataset.identities, kind="stable")
    for number, encoded in readable(
        dataset.images,
        broken,
        left_out=left_out,
        numbers=order.tolist(),
        progress=progress,
        title=title,
    ):
        yield number, portable(encoded, image_name(dataset.images, number))
