"""MXNet RecordIO as InsightFace's training sets have it, written: train.rec, train.idx, property."""

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
"""From there on float32, in which record 0 has its ranges of keys, leaves numbers out."""
WORD = struct.pack("<I", MAGIC)


def write_recordio(
    dataset: Dataset, out: Path, *, broken: Broken = "stop", progress: bool = True
) -> Written:
    """train.rec, train.idx and property in a folder, as MXNet and InsightFace read them, and a list of the identities' names.

    Images come identity by identity, labelled 0..C-1; record 0 and a record an identity, behind the images, hold ranges of keys.
    Other programs know JPEG and PNG that lie as they are shown; what is neither, or is turned by EXIF, is written as PNG.

    Args:
        dataset: what is written. The format has no place for names of identities; these go to identities.txt.
        out: the folder, which may be called NAME.rec, or the train.rec that is to be in it.
        broken: "stop" or "skip".
        progress: show a bar.
    """
    folder = out.parent if out.name == "train.rec" else out
    left_out: list[tuple[str, str]] = []
    with new_folder(folder) as temporary:
        with (
            (temporary / "train.rec").open("wb") as rec,
            (temporary / "train.idx").open("w", encoding="ascii", newline="\n") as idx,
        ):

            def put(key: int, *parts: bytes) -> None:
                idx.write(f"{key}\t{rec.tell()}\n")
                rec.write(framed(b"".join(parts)))

            with_ranges = len(dataset) + dataset.num_identities < MOST_KEYS
            first = 1 if with_ranges else 0
            if with_ranges:
                put(0, _ranges(0, 0))  # written again when the numbers are known; it stays as long
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
                put(key, HEADER.pack(0, len(begins) - 1, key, 0), encoded)
            end = key + 1
            if with_ranges:
                for identity, span in enumerate(zip(begins, [*begins[1:], end], strict=True)):
                    put(end + identity, _ranges(*span))
                rec.seek(0)
                rec.write(framed(_ranges(end, end + len(begins))))
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


def _ranges(first: int, last: int) -> bytes:
    """A record of two labels: a range of keys."""
    return HEADER.pack(2, 0.0, 0, 0) + struct.pack("<2f", first, last)


def framed(payload: bytes) -> bytes:
    """A record as dmlc-core writes it: cut where a word of four bytes is the magic, which is left out; each part padded."""
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
    """Number and bytes of each image, identity by identity."""
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
