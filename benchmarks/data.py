"""How fast training images are read, beside the JPEG decoder alone and a plain loader.

`python benchmarks/data.py --help` lists the options.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import simplejpeg
import torch
from _command import add_out, between, new_parser, report, run_script
from _machine import machine
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from tqdm.auto import tqdm

from workbench import data, images
from workbench.data.batches import batches
from workbench.data.dataset import Dataset, encoded_image
from workbench.data.io import indexes
from workbench.data.sources import pack
from workbench.data.sources.recordio import MAGIC
from workbench.data.writers.pack import Pictures, finish, write_pack
from workbench.data.writers.recordio import write_recordio
from workbench.errors import WorkbenchError

PARTS = {
    "speed": "images a second of one core, of all ways in turn in one process",
    "open": "seconds and memory to open an index of millions of images, each in a process of "
    "its own",
}
DECODER, USUAL, RECORDIO, PACK = "decoder", "usual", "recordio", "pack"
NAMES = {
    DECODER: "simplejpeg.decode_jpeg of bytes in memory: the least any reader does",
    USUAL: "a DataLoader that seeks, reads, decodes with Pillow and collates",
    RECORDIO: "workbench.data.batches of a .rec",
    PACK: "workbench.data.batches of a pack",
}
KINDS = {
    "recordio": "a .rec with record 0 and its identities' ranges",
    "shuffled": "a .rec without record 0, opened for the second time; its labels are kept only "
    "where reading them took over 2 s",
    "pack": "a pack",
}
BATCH = 128


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints a table, writes a JSON file with --out, and returns the exit code."""
    return run_script(
        _parser(), _measure_or_open, arguments, errors=(subprocess.CalledProcessError,)
    )


def _measure_or_open(options: argparse.Namespace) -> None:
    """Measures, or opens a data set in one of the processes that are started for that."""
    if options.opened:
        print(json.dumps(opening(*options.opened)))
    else:
        report(options, measure, table)


def _parser() -> argparse.ArgumentParser:
    listed = [f"  {name:10}{what}" for name, what in (PARTS | NAMES | KINDS).items()]
    titles = ["parts:", "speed:", "open:"]
    ends = [len(PARTS), len(PARTS) + len(NAMES), len(listed)]
    epilog = "\n".join(
        line
        for title, a, b in zip(titles, [0, *ends], ends, strict=False)
        for line in (title, *listed[a:b], "")
    )
    parser = new_parser(__doc__, epilog)
    parser.add_argument(
        "--source",
        help="measure on the JPEGs of this training set, KIND:PATH (default: made-up pictures)",
    )
    parser.add_argument(
        "--images", type=between(2, 10**6), default=2000, help="images to read (default: 2000)"
    )
    parser.add_argument(
        "--rounds",
        type=between(1, 1000),
        default=7,
        help="times each is measured; the median counts (default: 7)",
    )
    parser.add_argument(
        "--index",
        type=between(1000, 10**7),
        default=5_800_000,
        help="images of the index (default: 5800000)",
    )
    parser.add_argument(
        "--identities",
        type=between(10, 10**7),
        default=85_742,
        help="identities of the index (default: 85742)",
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=list(PARTS),
        help="what to measure (default: all)",
    )
    add_out(parser)
    parser.add_argument(
        "--opened", nargs=2, help=argparse.SUPPRESS
    )  # the processes that it starts itself
    return parser


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """The figures of the parts asked for, of files that are thrown away afterwards."""
    if given.identities > given.index // 2:
        raise WorkbenchError(
            f"--identities {given.identities}: give at most half of --index {given.index}"
        )
    found: dict[str, Any] = {"machine": machine("numpy", "torch", "pillow", "simplejpeg")}
    with tempfile.TemporaryDirectory() as folder:
        if "speed" in given.parts:
            found["speed"] = speed(given, Path(folder))
        if "open" in given.parts:
            found["open"] = {"images": given.index, "identities": given.identities}
            for kind in tqdm(KINDS, desc="open", unit="index", dynamic_ncols=True):
                spec = SIMULATED[kind](
                    Path(folder) / f"index-{kind}", given.index, given.identities
                )
                found["open"][kind] = in_a_process(
                    spec, Path(folder) / "cache", 2 if kind == "shuffled" else 1
                )
    return found


def pictures(count: int) -> list[bytes]:
    """JPEGs of 112 x 112 pixels and about 4 kB each, as faces of MS1M have them."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        pixels = np.full((112, 112, 3), 128.0)
        for cells, strength in ((4, 45), (14, 20), (56, 7)):
            noise = rng.normal(0, strength, (cells, cells, 3)).astype(np.float32)
            channels = [
                Image.fromarray(noise[:, :, i]).resize((112, 112), Image.Resampling.BICUBIC)
                for i in range(3)
            ]
            pixels += np.stack([np.asarray(channel) for channel in channels], axis=2)
        picture = np.ascontiguousarray(pixels.clip(0, 255).astype(np.uint8))
        made.append(simplejpeg.encode_jpeg(picture, quality=92, colorsubsampling="420"))
    return made


def _written(given: argparse.Namespace, folder: Path) -> tuple[Dataset, Dataset]:
    """The same images as .rec and as pack."""
    if given.source:
        source = data.open(given.source)
        if len(source) > given.images:
            source = source.subset(
                source.name, np.random.default_rng(0).permutation(len(source))[: given.images]
            )
        if not all(
            encoded_image(source.images, i).startswith(b"\xff\xd8\xff") for i in range(len(source))
        ):
            raise WorkbenchError(
                f"--source {given.source}: has images that are no JPEGs, which the bare "
                f"decoder is not for"
            )
    else:
        for number, jpeg in enumerate(pictures(given.images)):
            file = folder / "pictures" / f"{number // 10:06d}" / f"{number:07d}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(jpeg)
        source = data.open(f"folder:{folder / 'pictures'}")
    write_recordio(source, folder / "rec", progress=False)
    write_pack(data.open(f"recordio:{folder / 'rec'}"), folder / "pack", progress=False)
    return data.open(f"recordio:{folder / 'rec'}"), data.open(f"pack:{folder / 'pack'}")


class Usual(TorchDataset[Any]):
    """How readers of packed images are usually written."""

    def __init__(self, path: Path, offsets: NDArray[np.int64]) -> None:
        self.path, self.offsets = path, offsets

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with self.path.open("rb") as file:
            file.seek(int(self.offsets[index]))
            encoded = file.read(int(self.offsets[index + 1] - self.offsets[index]))
        pixels = np.array(Image.open(io.BytesIO(encoded)).convert("RGB"))
        return torch.from_numpy(pixels).permute(2, 0, 1), index


def speed(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Images a second of the processor's time, so that others at work disturb less.

    The files are in the system's memory.
    """
    rec, packed = _written(given, folder)
    encoded = [encoded_image(packed.images, i) for i in range(len(packed))]
    height, width = images.decode(encoded[0]).shape[:2]
    order = np.random.default_rng(1).permutation(len(packed))
    plain = Usual(folder / "pack" / pack.PICTURES, packed.images.offsets)  # type: ignore[attr-defined]

    def decoder() -> None:
        for number in order.tolist():
            simplejpeg.decode_jpeg(encoded[number])

    def usual() -> None:
        for _ in DataLoader(plain, batch_size=BATCH, sampler=order.tolist()):
            pass

    def ours(dataset: Dataset) -> None:
        for _ in batches(dataset.images, order, (height, width), BATCH):
            pass

    ways: dict[str, Callable[[], None]] = {
        DECODER: decoder,
        USUAL: usual,
        RECORDIO: lambda: ours(rec),
        PACK: lambda: ours(packed),
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in tqdm(range(given.rounds + 1), desc="speed", unit="round", dynamic_ncols=True):
        for name, run in ways.items():
            begin = time.process_time()
            run()
            if turn:  # the first is to warm up
                taken[name].append(time.process_time() - begin)
    torch.set_num_threads(threads)
    seconds = {name: median(times) for name, times in taken.items()}
    rates = {name: len(order) / value for name, value in seconds.items()}
    about = {
        "source": given.source or "made-up pictures",
        "images": len(order),
        "size": [height, width],
    }
    return {
        **about,
        "bytes_per_image": sum(map(len, encoded)) / len(encoded),
        "images_per_second": rates,
    }


def _write_index(path: Path, offsets: NDArray[np.int64]) -> None:
    with path.open("w", encoding="ascii") as file:
        for begin in range(0, len(offsets), 100_000):
            part = offsets[begin : begin + 100_000].tolist()
            file.write("".join(f"{key}\t{offset}\n" for key, offset in enumerate(part, begin)))


def _ranged(folder: Path, count: int, people: int) -> str:
    """A .rec of 4,000 bytes an image, with holes where the images would be."""
    folder.mkdir()
    bounds = np.linspace(1, count + 1, people + 1).astype(int).tolist()
    spans = struct.Struct("<IIIfQQff")
    behind = spans.size + 4000 * count
    with (folder / "train.rec").open("wb") as file:
        file.write(spans.pack(MAGIC, 32, 2, 0, 0, 0, count + 1, count + 1 + people))
        for person, key in enumerate(bounds[:-1]):
            file.seek(spans.size + 4000 * (key - 1))
            file.write(struct.pack("<IIIfQQ", MAGIC, 3992, 0, person, key, 0))
        file.seek(behind)
        for first, last in pairwise(bounds):
            file.write(spans.pack(MAGIC, 32, 2, 0, 0, 0, first, last))
    places = [
        np.zeros(1, dtype=np.int64),
        spans.size + 4000 * np.arange(count),
        behind + spans.size * np.arange(people),
    ]
    _write_index(folder / "train.idx", np.concatenate(places))
    return f"recordio:{folder}"


def _shuffled(folder: Path, count: int, people: int) -> str:
    """A .rec of headers, with four bytes in the place of each image.

    A first record without any would be taken for record 0.
    """
    folder.mkdir()
    kind = [
        ("magic", "<u4"),
        ("length", "<u4"),
        ("flag", "<u4"),
        ("label", "<f4"),
        ("id", "<u8"),
        ("id2", "<u8"),
        ("image", "<u4"),
    ]
    records = np.zeros(count, dtype=kind)
    records["magic"], records["length"] = MAGIC, 28
    records["label"] = np.random.default_rng(0).permutation(np.arange(count) % people)
    records.tofile(folder / "train.rec")
    _write_index(folder / "train.idx", records.itemsize * np.arange(count))
    return f"recordio:{folder}"


def _packed(folder: Path, count: int, people: int) -> str:
    """A pack of 4,000 bytes an image, with a hole where the images would be."""
    folder.mkdir()
    with Pictures(folder / pack.PICTURES) as pictures:
        pictures.file.truncate(4000 * count)
        pictures.offsets.extend(range(4000, 4000 * count + 1, 4000))
        pictures.checksums.extend(range(count))
    names = json.dumps([str(person) for person in range(people)])
    columns = {
        "identities": (np.arange(count) % people).astype(np.int32),
        "identity_names": np.frombuffer(names.encode(), dtype=np.uint8),
    }
    finish(
        folder, pictures, columns, {"format": pack.FORMAT, "version": pack.VERSION}, compress=False
    )
    return f"pack:{folder}"


SIMULATED: dict[str, Callable[[Path, int, int], str]] = {
    "recordio": _ranged,
    "shuffled": _shuffled,
    "pack": _packed,
}


def in_a_process(spec: str, cache: Path, times: int) -> dict[str, float]:
    """What `opening` finds in a process of its own, the last of so many."""
    command = [sys.executable, __file__, "--opened", spec, "kept" if times > 1 else "new"]
    for _ in range(times):
        environment = os.environ | {"WORKBENCH_CACHE": str(cache)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise WorkbenchError(
                f"{spec}: "
                f"{done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'was ended'}"
            )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def opening(spec: str, kept: str) -> dict[str, float]:
    """Seconds to open a training set, and peak memory in MB (10^6 bytes) above what the process had
    before.
    """
    with patch.object(indexes, "KEPT_SECONDS", -1.0 if kept == "kept" else indexes.KEPT_SECONDS):
        before, begin = _memory("VmRSS"), time.perf_counter()
        dataset = data.open(spec)
        seconds = time.perf_counter() - begin
    return {"seconds": seconds, "peak_mb": _memory("VmHWM") - before, "images": len(dataset)}


def _memory(field: str) -> float:
    """Resident memory now (VmRSS) or at its peak (VmHWM), in MB."""
    status = Path("/proc/self/status")
    if not status.is_file():
        raise WorkbenchError("memory is read from /proc, which is not there; measure --parts speed")
    lines = dict(line.split(":", 1) for line in status.read_text(encoding="ascii").splitlines())
    return int(lines[field].split()[0]) * 1024 / 1e6


def table(found: dict[str, Any]) -> list[str]:
    """The figures as lines of text."""
    lines = [f"{key:15}{value}" for key, value in found["machine"].items()]
    if "speed" in found:
        row, rates = found["speed"], found["speed"]["images_per_second"]
        height, width = row["size"]
        lines += [
            "",
            f"{row['images']:,} JPEGs of {row['source']}, {height} x {width}, "
            f"{row['bytes_per_image']:,.0f} bytes each",
        ]
        lines += [f"{'':12}images/s per core  / decoder  / usual"]
        lines += [
            f"{name:12}{rate:17,.0f}{rate / rates[DECODER]:11.2f}{rate / rates[USUAL]:9.2f}"
            for name, rate in rates.items()
        ]
    if "open" in found:
        row = found["open"]
        lines += ["", f"opening {row['images']:,} images of {row['identities']:,} identities"]
        lines += [
            f"{kind:12}{row[kind]['seconds']:6.2f} s{row[kind]['peak_mb']:8.0f} MB"
            for kind in KINDS
        ]
    return lines


if __name__ == "__main__":
    sys.exit(main())
