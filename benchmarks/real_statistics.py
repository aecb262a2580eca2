"""Compares the look of face crops, such as rendered ones, with that of crops of real photos.

The real crops themselves are not needed: `real_statistics.json` holds the quantiles of each
statistic over them. `python benchmarks/real_statistics.py --help`
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from _command import add_out, between, check_folder, new_parser, report, run_script
from numpy.typing import NDArray
from scipy import ndimage

from workbench import data, faces, runs
from workbench.errors import WorkbenchError

STORED = Path(__file__).with_suffix(".json")
"""The quantiles of the statistics of real crops."""
WINDOW = slice(28, 108), slice(16, 96)
"""Rows and columns of a crop of 112 x 112 pixels in which the statistics are computed. Photos that
are cut closely around a face do not fill the rest of a crop."""
CHEEKS = (slice(66, 80), slice(26, 38)), (slice(66, 80), slice(74, 86))
FOREHEAD = slice(30, 40), slice(46, 66)
EYES = (slice(46, 58), slice(29, 48)), (slice(46, 58), slice(64, 83))
MOUTH = slice(86, 100), slice(44, 68)
BESIDE = (slice(30, 60), slice(16, 22)), (slice(30, 60), slice(90, 96))
"""Regions of a crop, at their places in the ArcFace template: the forehead, and pairs on the left
and the right of the image. `BESIDE` shows the hair and the background beside the face."""
BANDS = (1, 2, 4, 8, 16, 24, 32, 40)
"""Limits of the bands of the spectrum, in periods per window."""
QUANTILES = np.linspace(0.025, 0.975, 39)
LARGEST_YAW = 25.0
"""Largest absolute yaw of rendered crops that are compared, in degrees: photos of the real sets are
mostly frontal."""
GREY_DIFFERENCE = 1.0
"""Largest mean difference between red and blue of a grey crop, of 255."""

Crops = NDArray[np.uint8]
Values = dict[str, NDArray[np.float64]]
Rows = dict[str, dict[str, tuple[float, float, float]]]
"""The gaps of data sets to one real set, by the spec of the data set and the statistic."""


def main(arguments: list[str] | None = None) -> int:
    """Compares, prints a table, writes a JSON file with --out, and returns the exit code."""
    return run_script(_parser(), _store_or_compare, arguments)


def _store_or_compare(options: argparse.Namespace) -> None:
    if options.measure:
        check_folder(options.stored, "--stored")
        store(options.measure, options.stored, options.images)
    else:
        report(options, compare, tables)


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(__doc__)
    parser.add_argument(
        "--data",
        nargs="+",
        default=["synthfaces:100x8,seed=7"],
        help="data sets of aligned crops to compare (default: synthfaces:100x8,seed=7)",
    )
    parser.add_argument(
        "--real", nargs="+", help="names of the stored real sets (default: all of the file)"
    )
    parser.add_argument(
        "--images",
        type=between(10, 1_000_000),
        default=1000,
        help="largest number of crops of each set, evenly spaced (default: 1000)",
    )
    parser.add_argument(
        "--stored", type=Path, default=STORED, help=f"file of the quantiles (default: {STORED})"
    )
    parser.add_argument(
        "--measure",
        nargs="+",
        metavar="SPEC",
        help="align the photos of these data sets, e.g. utkface:FILE.zip orl, and write --stored",
    )
    add_out(parser)
    return parser


def compare(options: argparse.Namespace) -> dict[str, Rows]:
    """Returns the gaps of each data set to each real set: by real set and data set."""
    stored = load(options.stored)
    names = options.real or list(stored)
    for name in names:
        if name not in stored:
            raise WorkbenchError(
                f"{options.stored} has no statistics of {name!r}; it has {', '.join(stored)}"
            )
    values = {spec: statistics(crops(spec, options.images)) for spec in options.data}
    return {name: {spec: gaps(values[spec], stored[name]) for spec in values} for name in names}


def crops(spec: str, limit: int) -> Crops:
    """Opens a data set of crops of 112 x 112 pixels and returns the comparable ones.

    If the data set knows the yaw, the occlusion and whether an image is grey, crops of faces seen
    from the side, covered faces and grey images are left out.

    Args:
        spec: data set.
        limit: largest number of crops.

    Returns:
        (N, 112, 112, 3) uint8 RGB.

    Raises:
        WorkbenchError: if no crop is comparable, or if crops have another size.
    """
    dataset = data.open(spec)
    attributes = dataset.attributes
    comparable = np.ones(len(dataset), dtype=bool)
    if {"yaw", "occlusion", "grey"} <= set(attributes):
        comparable &= np.abs(np.asarray(attributes["yaw"], dtype=float)) <= LARGEST_YAW
        comparable &= np.asarray(attributes["occlusion"], dtype=float) < 0.02
        comparable &= ~np.asarray(attributes["grey"], dtype=bool)
    numbers = _evenly_spaced(np.flatnonzero(comparable), limit)
    if not len(numbers):
        raise WorkbenchError(f"{spec}: no image shows an uncovered face roughly from the front")
    images = [dataset.images[int(number)] for number in numbers]
    if any(image.shape[:2] != (112, 112) for image in images):
        raise WorkbenchError(f"{spec}: the images are not aligned crops of 112 x 112 pixels")
    return np.stack(images)


def aligned(spec: str, limit: int) -> Crops:
    """Detects and aligns the faces of photos.

    Photos without exactly one face, with a face seen from the side, and with a face so close to
    the edge that `WINDOW` is not filled are left out. So are people whose age is known and below
    20 years, since all synthetic people are adults.

    Args:
        spec: data set of photos.
        limit: largest number of photos.

    Returns:
        (N, 112, 112, 3) uint8 RGB.

    Raises:
        WorkbenchError: if no face is left.
    """
    photos = data.open(spec)
    numbers = np.arange(len(photos))
    if "age" in photos.attributes:
        numbers = numbers[np.asarray(photos.attributes["age"], dtype=float) >= 20]
    kept = []
    for number in _evenly_spaced(numbers, limit):
        photo = photos.images[int(number)]
        # A pixel that no crop of a photo contains marks where the photo ends.
        height, width = photo.shape[:2]
        inside = np.full((height, width, 3), 255, dtype=np.uint8)
        for face in faces.align(photo)[:2]:
            mask = faces.warp(inside, face.landmarks, 112)
            if not face.profile and mask[WINDOW].min() == 255:
                kept.append(face.image)
                break
    if not kept:
        raise WorkbenchError(f"{spec}: no photo shows one whole face from the front")
    return np.stack(kept)


def _evenly_spaced(numbers: NDArray[np.integer], limit: int) -> NDArray[np.integer]:
    """At most `limit` of the numbers, evenly spaced."""
    if len(numbers) <= limit:
        return numbers
    return np.asarray(numbers[np.linspace(0, len(numbers) - 1, limit).astype(int)])


def statistics(images: Crops) -> Values:
    """Computes the statistics of each crop.

    Sets of grey crops get only the statistics of grey values.

    Args:
        images: (N, 112, 112, 3) uint8 RGB.

    Returns:
        (N,) values by the name of the statistic. Colours and noise are in units of 1/255.
    """
    is_grey_set = float(np.abs(images[..., 0].astype(float) - images[..., 2]).mean()) < 0.1
    rows = []
    for image in images:
        values = image.astype(np.float64)
        if is_grey_set:
            rows.append(grey_statistics(values))
        elif np.abs(values[..., 0] - values[..., 2]).mean() > GREY_DIFFERENCE:
            rows.append(grey_statistics(values) | colour_statistics(values))
    return {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else [])}


def grey_statistics(image: NDArray[np.float64]) -> dict[str, float]:
    """Statistics of the luma of a (112, 112, 3) crop: brightness, contrast, edges and spectrum."""
    luma = image @ [0.299, 0.587, 0.114]
    window = luma[WINDOW]
    down, right = np.gradient(ndimage.gaussian_filter(window, 0.7))
    slope = np.hypot(down, right)
    cheeks = [luma[cheek] for cheek in CHEEKS]
    skin = np.mean([cheek.mean() for cheek in cheeks])
    eyes = np.concatenate([luma[eye].ravel() for eye in EYES])
    result = {
        "luma mean": window.mean(),
        "luma sd": window.std(),
        "dark (2 %)": np.quantile(window, 0.02),
        "bright (98 %)": np.quantile(window, 0.98),
        "brightest (99.8 %)": np.quantile(window, 0.998),
        "skin luma": skin,
        "skin texture": np.mean([_texture(cheek) for cheek in cheeks]),
        "cheek gradient": np.mean([_plane(cheek) for cheek in cheeks]),
        "left/right light": abs(cheeks[0].mean() - cheeks[1].mean()),
        "forehead/cheek": luma[FOREHEAD].mean() / max(skin, 1),
        "eyes dark/skin": np.quantile(eyes, 0.05) / max(skin, 1),
        "eyes bright/skin": np.quantile(eyes, 0.98) / max(skin, 1),
        "mouth bright/skin": np.quantile(luma[MOUTH], 0.97) / max(skin, 1),
        "mouth dark/skin": np.quantile(luma[MOUTH], 0.03) / max(skin, 1),
        "beside luma": np.mean([luma[side].mean() for side in BESIDE]),
        "beside sd": np.mean([luma[side].std() for side in BESIDE]),
        "edges mean": slope.mean(),
        "edges 99 %": np.quantile(slope, 0.99),
        "noise sigma": noise_sigma(window),
    }
    power = spectrum(window)
    for (low, high), value in zip(pairwise(BANDS), power, strict=True):
        result[f"power {low}-{high}"] = value
    return {name: float(value) for name, value in result.items()}


def colour_statistics(image: NDArray[np.float64]) -> dict[str, float]:
    """Statistics of the colours of a (112, 112, 3) crop."""
    window = image[WINDOW]
    result = {
        f"{name} mean": window[..., i].mean() for i, name in enumerate(("red", "green", "blue"))
    }
    result |= {
        f"{name} sd": window[..., i].std() for i, name in enumerate(("red", "green", "blue"))
    }
    skin = np.mean([image[cheek].mean(axis=(0, 1)) for cheek in CHEEKS], axis=0)
    mouth = image[MOUTH].reshape(-1, 3)
    reddest = mouth[np.argsort(mouth[:, 0] / np.maximum(mouth[:, 1], 1))[-60:]].mean(axis=0)
    eyes = np.concatenate([image[eye].reshape(-1, 3) for eye in EYES])
    brightest = eyes[np.argsort(eyes.sum(axis=1))[-12:]]
    beside = np.concatenate([image[side].reshape(-1, 3) for side in BESIDE])
    result |= {
        "saturation": _saturation(window.reshape(-1, 3)).mean(),
        "skin saturation": _saturation(skin[None])[0],
        "skin red/green": skin[0] / max(skin[1], 1),
        "skin blue/green": skin[2] / max(skin[1], 1),
        "lips/skin red/green": reddest[0] / max(reddest[1], 1) / (skin[0] / max(skin[1], 1)),
        "lips saturation": _saturation(reddest[None])[0],
        "eye white saturation": _saturation(brightest).mean(),
        "beside saturation": _saturation(beside).mean(),
        "chroma noise": np.mean(
            [
                noise_sigma(window[..., 0] - window[..., 1]),
                noise_sigma(window[..., 2] - window[..., 1]),
            ]
        ),
    }
    return {name: float(value) for name, value in result.items()}


def _saturation(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Saturation 0..1 of (N, 3) pixels, as in HSV."""
    largest = pixels.max(axis=1)
    return np.asarray((largest - pixels.min(axis=1)) / np.maximum(largest, 1))


def _texture(patch: NDArray[np.float64]) -> float:
    """Standard deviation of the details of a patch that are smaller than about six pixels."""
    return float((patch - ndimage.gaussian_filter(patch, 2.0)).std())


def _plane(patch: NDArray[np.float64]) -> float:
    """Mean slope of a patch per pixel, as that of the plane that fits it best."""
    row, column = np.mgrid[: patch.shape[0], : patch.shape[1]].astype(float)
    row, column, centred = row - row.mean(), column - column.mean(), patch - patch.mean()
    down = (row * centred).sum() / (row**2).sum()
    right = (column * centred).sum() / (column**2).sum()
    return math.hypot(down, right)


def noise_sigma(image: NDArray[np.float64]) -> float:
    """Estimates the standard deviation of white noise in an image.

    The estimate is that of Immerkaer (1996), "Fast noise variance estimation": the mean absolute
    response to a filter that cancels planes and most edges.

    Args:
        image: (H, W) grey values.

    Returns:
        The standard deviation in the unit of the grey values.

    Example:
        >>> round(noise_sigma(np.random.default_rng(0).normal(0, 3.0, (200, 200))), 1)
        3.0
    """
    mask = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])
    response = ndimage.convolve(image, mask)[1:-1, 1:-1]
    return float(np.abs(response).mean() * math.sqrt(math.pi / 2) / 6)


def spectrum(window: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the mean power of a square window in each of `BANDS`, in decibels.

    The window is multiplied by a Hann window before the Fourier transform. The power does not
    depend on the contrast: 0 dB is the mean power of all frequencies in the bands.

    Args:
        window: (S, S) grey values.

    Returns:
        One value in decibels for each band.
    """
    side = len(window)
    hann = np.hanning(side)
    flat = (window - window.mean()) * hann[:, None] * hann[None, :]
    power = np.abs(np.fft.fft2(flat)) ** 2
    frequency = np.fft.fftfreq(side) * side
    radius = np.hypot(frequency[:, None], frequency[None, :])
    inside = (radius >= BANDS[0]) & (radius < BANDS[-1])
    reference = max(power[inside].mean(), 1e-12)
    bands = [power[(radius >= low) & (radius < high)].mean() for low, high in pairwise(BANDS)]
    return np.asarray(10 * np.log10(np.maximum(bands, 1e-12) / reference))


def quantiles(values: NDArray[np.float64]) -> list[float]:
    """`QUANTILES` of the values of a statistic, rounded to five digits."""
    return [float(f"{value:.5g}") for value in np.quantile(values, QUANTILES)]


def gaps(rendered: Values, real: dict[str, list[float]]) -> dict[str, tuple[float, float, float]]:
    """Compares the distribution of each statistic with its distribution over real crops.

    Args:
        rendered: values by statistic, as from `statistics`.
        real: `QUANTILES` over real crops by statistic.

    Returns:
        For each statistic that both have: the median, the real median, and the gap. The gap is the
        Wasserstein distance between both distributions (without their outer 2.5 %), divided by the
        half distance between the 16 % and the 84 % quantile of the real one, which is the standard
        deviation of a normal distribution.
    """
    result = {}
    for name, target in real.items():
        if name not in rendered:
            continue
        own, expected = np.quantile(rendered[name], QUANTILES), np.array(target)
        low, high = np.interp([0.16, 0.84], QUANTILES, expected)
        spread = max((high - low) / 2, 1e-6)
        middle = len(QUANTILES) // 2
        distance = float(np.abs(own - expected).mean()) / spread
        result[name] = float(own[middle]), float(expected[middle]), distance
    return result


def tables(figures: dict[str, Rows]) -> list[str]:
    """Formats the gaps to all real sets as lines, with a table for each."""
    return [line for name, rows in figures.items() for line in table(name, rows)]


def table(name: str, rows: Rows) -> list[str]:
    """Formats gaps of several data sets to one real set as lines, the largest gap first."""
    specs = list(rows)
    lines = ["", f"real set: {name}"]
    lines += [f"({letter}) {spec}" for letter, spec in zip(_letters(), specs, strict=False)]
    header = f"{'statistic':24}{'real median':>12}"
    for letter, _ in zip(_letters(), specs, strict=False):
        header += f"{f'median ({letter})':>14}{f'gap ({letter})':>10}"
    lines.append(header)
    first = rows[specs[0]]
    for statistic in sorted(first, key=lambda key: -first[key][2]):
        line = f"{statistic:24}{first[statistic][1]:12.3f}"
        for spec in specs:
            own, _, gap = rows[spec][statistic]
            line += f"{own:14.3f}{gap:10.2f}"
        lines.append(line)
    means = [np.mean([gap for _, _, gap in row.values()]) for row in rows.values()]
    lines.append(f"{'mean gap':36}" + "".join(f"{'':14}{mean:10.2f}" for mean in means))
    return lines


def _letters() -> Iterator[str]:
    """The letters that stand for data sets in the table."""
    return iter("abcdefghijklmnopqrstuvwxyz")


def store(specs: list[str], file: Path, limit: int) -> None:
    """Measures real photos and writes the quantiles of their statistics.

    Args:
        specs: data sets of photos. The name of each is the part before the colon.
        file: JSON file to write.
        limit: largest number of photos of each set.
    """
    content: dict[str, Any] = {
        "about": "quantiles of statistics of aligned crops of real photos",
        "made with": "python benchmarks/real_statistics.py --measure "
        + " ".join(spec if ":" not in spec else f"{spec.split(':')[0]}:FILE" for spec in specs),
        "quantiles": [round(float(q), 3) for q in QUANTILES],
        "sets": {},
    }
    for spec in specs:
        images = aligned(spec, limit)
        values = statistics(images)
        content["sets"][spec.split(":")[0]] = {
            "crops": len(images),
            "statistics": {name: quantiles(column) for name, column in values.items()},
        }
        print(f"{spec}: {len(images)} crops")
    runs.write_json(file, content)


def load(file: Path) -> dict[str, dict[str, list[float]]]:
    """Reads the quantiles that `store` has written: by set and statistic."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {name: one["statistics"] for name, one in content["sets"].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WorkbenchError(f"{file}: cannot be read as stored statistics ({error})") from None


if __name__ == "__main__":
    sys.exit(main())
