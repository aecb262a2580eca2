"""Measures where dlib's face chip lies in ArcFace's crop, as `workbench import dlib` assumes it.

Each photo is aligned to ArcFace's template. On the same photo, dlib detects the face and its own
five landmarks and places its chip. The centre and the side of the chip in the aligned crop are
averaged over the photos and printed beside the constants of `workbench/exchange/dlib_graph.py`.

`python benchmarks/dlib_crop.py --help` lists the options. It needs the extra `reference`.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _command import add_out, between, new_parser, report, run_script
from _machine import machine
from numpy.typing import NDArray
from tqdm.auto import tqdm

from workbench import data, faces
from workbench.errors import WorkbenchError, missing_extra
from workbench.exchange.packaged import DLIB_FILE
from workbench.faces.weights import file_of_package

LANDMARKS = Path(DLIB_FILE).with_name("shape_predictor_5_face_landmarks.dat")
"""dlib's detector of five landmarks, in the package face-recognition-models."""
PADDING = 0.25
"""Padding of the face chips on which dlib's network was trained, as dlib's documentation says."""
QUANTITIES = ("centre x", "centre y", "side")


class Chip(NamedTuple):
    """A square in ArcFace's crop, in pixels.

    Attributes:
        x: Horizontal place of the centre, from the left edge of the crop.
        y: Vertical place of the centre, from the top edge of the crop.
        side: Length of a side.
    """

    x: float
    y: float
    side: float


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints a table, writes a JSON file with --out, and returns the exit code."""
    return run_script(_parser(), lambda options: report(options, measure, table), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__)
    parser.add_argument(
        "--data",
        default="orl",
        help="data set of photos, such as utkface:FILE.zip (default: orl)",
    )
    parser.add_argument(
        "--images",
        type=between(2, 1_000_000),
        default=400,
        help="largest number of photos, evenly spaced (default: 400)",
    )
    parser.add_argument(
        "--youngest",
        type=between(0, 116),
        default=0,
        help="leave out younger people, in a data set that knows the age (default: 0)",
    )
    add_out(parser)
    return parser


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the mean place of the chip, its standard error and spread, and the constants."""
    place = _placement()
    photos = data.open(options.data)
    numbers = np.arange(len(photos))
    if "age" in photos.attributes:
        age = np.asarray(photos.attributes["age"], dtype=float)
        numbers = numbers[age >= options.youngest]
    step = max(math.ceil(len(numbers) / options.images), 1)
    chips = []
    for number in tqdm(numbers[::step], desc="chips", unit="photo", dynamic_ncols=True):
        chip = place(photos.images[int(number)])
        if chip is not None:
            chips.append(chip)
    if len(chips) < 2:
        raise WorkbenchError(f"{options.data}: both detectors find one face on {len(chips)} photos")
    values = np.array(chips)
    deviation = values.std(axis=0, ddof=1)
    from workbench.exchange.dlib_graph import CENTRE, SIDE

    return {
        "machine": machine("dlib-bin", "face-recognition-models"),
        "data": options.data,
        "photos": len(numbers[::step]),
        "chips": len(chips),
        "mean": values.mean(axis=0).tolist(),
        "standard_error": (deviation / math.sqrt(len(chips))).tolist(),
        "standard_deviation": deviation.tolist(),
        "in_use": [*CENTRE, SIDE],
    }


def _placement() -> Any:
    """Returns a function that places dlib's chip in ArcFace's crop of a photo.

    The function returns None if not both detectors find exactly one face.
    """
    try:
        import dlib
    except ImportError:
        raise missing_extra("dlib", "reference", "this script") from None
    path = file_of_package("face-recognition-models", str(LANDMARKS))
    if path is None:
        raise missing_extra("face-recognition-models", "reference", "this script")
    detect, find_landmarks = dlib.get_frontal_face_detector(), dlib.shape_predictor(str(path))

    def place(photo: NDArray[np.uint8]) -> Chip | None:
        boxes, own = detect(photo, 1), faces.detect(photo)
        if len(boxes) != 1 or len(own) != 1:
            return None
        fit = faces.fit(own[0].landmarks, faces.template())
        details = dlib.get_face_chip_details(find_landmarks(photo, boxes[0]), 150, PADDING)
        centre = details.rect.dcenter()
        # dlib counts pixels from their centres, and its rectangles hold their last pixel.
        return in_crop(fit.matrix, (centre.x, centre.y), details.rect.width(), fit.scale)

    return place


def in_crop(
    matrix: NDArray[np.float64], centre: tuple[float, float], side: float, scale: float
) -> Chip:
    """Maps a square from a photo to ArcFace's crop.

    Args:
        matrix: (2, 3) similarity transform from the photo to the crop, for places that count from
            the centre of the first pixel.
        centre: Centre (x, y) of the square in the photo, counted in the same way.
        side: Side of the square in pixels of the photo.
        scale: Pixels of the crop per pixel of the photo.

    Returns:
        The square in the crop, whose places count from the corner of the crop.
    """
    x, y = matrix @ (*centre, 1.0)
    return Chip(float(x) + 0.5, float(y) + 0.5, side * scale)


def table(figures: dict[str, Any]) -> list[str]:
    """Formats the figures as lines of text."""
    lines = [f"{key:25}{value}" for key, value in figures["machine"].items()]
    lines += ["", f"{figures['data']}: {figures['chips']} chips on {figures['photos']} photos"]
    lines += ["", f"{'pixels of the crop':20}{'mean':>8}{'std error':>11}{'std':>8}{'in use':>9}"]
    columns = ("mean", "standard_error", "standard_deviation", "in_use")
    for name, *row in zip(QUANTITIES, *(figures[column] for column in columns), strict=True):
        mean, error, deviation, in_use = row
        lines.append(f"{name:20}{mean:8.2f}{error:11.2f}{deviation:8.2f}{in_use:9.1f}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
