"""Finding and aligning faces: speed beside the bare network, and misses on photos of your own.

`python benchmarks/faces.py --help`
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from _command import add_out, between, new_parser, report, run_script
from _machine import machine
from numpy.typing import NDArray
from PIL import Image
from tqdm.auto import tqdm

from workbench import faces, images, synthfaces

Picture = NDArray[np.uint8]
SIZES = {"250x250": (250, 250), "640x480": (480, 640), "4000x3000": (3000, 4000)}
NETWORK, DETECT, ALIGN = "network alone", "detect", "align"


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints a table, writes a JSON file with --out, and returns the exit code."""
    return run_script(
        _parser(),
        lambda options: report(options, measure, table),
        arguments,
        errors=(BadZipFile,),
    )


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__)
    parser.add_argument(
        "--sizes",
        nargs="+",
        choices=SIZES,
        default=list(SIZES),
        help="of the pictures (default: all)",
    )
    parser.add_argument(
        "--rounds",
        type=between(1, 1000),
        default=20,
        help="times each is measured; the median counts (default: 20)",
    )
    parser.add_argument(
        "--processes",
        type=between(1, 256),
        default=2,
        help="for images a second at 250x250 (default: 2)",
    )
    parser.add_argument(
        "--images",
        type=Path,
        help="a zip of photos with a face each: counts misses and pictures of several faces",
    )
    add_out(parser)
    return parser


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    found: dict[str, Any] = {"machine": machine("onnxruntime", "pillow")}
    pictures = {name: picture(*SIZES[name]) for name in given.sizes}
    found["milliseconds"] = {
        name: speed(pictures[name], given.rounds)
        for name in tqdm(pictures, desc="speed", unit="size")
    }
    with get_context("spawn").Pool(given.processes) as pool:
        found["processes"] = {
            "count": given.processes,
            "images_per_second": sum(pool.map(rate, [given.rounds] * given.processes, 1)),
        }
    if given.images is not None:
        found["photos"] = misses(given.images)
    return found


def picture(height: int, width: int) -> Picture:
    """A rendered face in the middle of a grey picture, 2/3 as high."""
    side = height * 2 // 3
    face = Image.fromarray(
        images.decode(synthfaces.portraits(0, images=1, album="frontal", size=224)[0].jpeg)
    )
    canvas = np.full((height, width, 3), 128, dtype=np.uint8)
    y, x = (height - side) // 2, (width - side) // 2
    canvas[y : y + side, x : x + side] = np.asarray(
        face.resize((side, side), Image.Resampling.BILINEAR)
    )
    return canvas


def speed(image: Picture, rounds: int) -> dict[str, float]:
    """Median milliseconds on one thread: RetinaFace's network on the shrunk picture, `detect`,
    `align`. They take turns.
    """
    scale = min(1.0, 960 / max(image.shape))
    height, width = round(image.shape[0] * scale), round(image.shape[1] * scale)
    network = faces.RetinaFace(threads=1).network
    pixels = np.zeros((1, 3, height, width), dtype=np.float32)
    tasks: dict[str, Callable[[], object]] = {
        NETWORK: lambda: network.run(None, {"input": pixels}),
        DETECT: lambda: faces.detect(image, detector="retinaface"),
        ALIGN: lambda: faces.align(image, detector="retinaface"),
    }
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(rounds + 1):
        for name, task in tasks.items():
            begin = time.perf_counter()
            task()
            if turn:  # the first is to warm up
                taken[name].append(1000 * (time.perf_counter() - begin))
    return {name: median(times) for name, times in taken.items()}


def rate(rounds: int) -> float:
    """Images a second that one process finds and aligns, 250x250."""
    image = picture(250, 250)
    faces.align(image)
    begin = time.perf_counter()
    for _ in range(10 * rounds):
        faces.align(image)
    return 10 * rounds / (time.perf_counter() - begin)


def misses(path: Path) -> dict[str, Any]:
    """How many photos of a zip hold no face that is found, and how many hold several."""
    none, several, profiles, begin = [], 0, 0, time.perf_counter()
    with ZipFile(path) as archive:
        names = [
            name for name in archive.namelist() if Path(name).suffix.lower() in images.SUFFIXES
        ]
        for name in tqdm(names, desc=path.name, unit="image", dynamic_ncols=True):
            found = faces.align(images.decode(archive.read(name), name), which="all")
            several += len(found) > 1
            profiles += any(face.profile for face in found[:1])
            if not found:
                none.append(name)
    seconds = time.perf_counter() - begin
    return {
        "photos": len(names),
        "missed": none,
        "several": several,
        "profiles": profiles,
        "seconds": seconds,
    }


def table(found: dict[str, Any]) -> list[str]:
    """The figures as lines of text."""
    lines = [f"{key:15}{value}" for key, value in found["machine"].items()]
    lines += [
        "",
        f"{'ms, one thread':15}{NETWORK:>15}{DETECT:>10}{'ratio':>8}{ALIGN:>10}{'ratio':>8}",
    ]
    for name, row in found["milliseconds"].items():
        alone, detect, align = row[NETWORK], row[DETECT], row[ALIGN]
        lines.append(
            f"{name:15}{alone:15.1f}{detect:10.1f}{detect / alone:8.2f}"
            f"{align:10.1f}{align / alone:8.2f}"
        )
    row = found["processes"]
    lines += [
        "",
        f"250x250, {row['count']} processes of one thread: {row['images_per_second']:.0f} "
        f"images/s found and aligned",
    ]
    if "photos" in found:
        row = found["photos"]
        lines.append(
            f"{row['photos']} photos: {len(row['missed'])} without a face that is found, "
            f"{row['several']} with several, "
            f"{row['profiles']} profiles, {row['photos'] / row['seconds']:.0f} images/s"
        )
        lines += [f"  missed: {name}" for name in row["missed"][:20]]
    return lines


if __name__ == "__main__":
    sys.exit(main())
