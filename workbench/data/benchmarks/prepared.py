"""`aligned:SPEC` and `cropped:SPEC` - a benchmark of pairs whose faces are detected first.

They show how much alignment improves a result. The benchmark SPEC itself has the images as they
are, `cropped:SPEC` has the box of the detected face, not rotated, and `aligned:SPEC` has the face
aligned to ArcFace's template.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from workbench import faces, images
from workbench.cache import cache_folder
from workbench.data.benchmark import Benchmark, Identification, Labelled
from workbench.data.dataset import HINT, Changed, EncodedImages, Images, source_of
from workbench.data.jobs import processes
from workbench.data.jobs.aligning import find_one
from workbench.data.leaving_out import without
from workbench.data.registry import BENCHMARKS, benchmark
from workbench.data.templates import Templates
from workbench.errors import WorkbenchError
from workbench.faces.alignment import height_width
from workbench.files import atomic_path, check_writable

Target = Benchmark | Labelled | Identification | Templates
VERSION = 2
"""Version of the cached faces. It must be raised when detection or the decoding of images
changes."""
PREPARATIONS = ("cropped", "aligned")
MARGIN = 0.2
CHUNK = 16
"""Images that a worker process receives at a time."""
FEW = 64
"""Most images for which no worker processes are started by default."""
MOST_IMAGES = 50_000
"""In a benchmark of more images, faces are detected only on those that are in a pair."""
ROW_LENGTH = 16
"""Values that are cached for each image: the number of faces, then box (4 values), landmarks (10)
and score of the chosen face. They are 0 if no face was found."""


@dataclass(frozen=True, eq=False)
class DetectedFaces:
    """The chosen face on each of N images.

    Attributes:
        count: (N,) int64 number of faces that were detected. If it is 0, the other values of the
            image have no meaning.
        boxes: (N, 4) float32, as in `faces.Face`.
        landmarks: (N, 5, 2) float32, as in `faces.Face`.
        scores: (N,) float32, as in `faces.Face`.
    """

    count: NDArray[np.int64]
    boxes: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    scores: NDArray[np.float32]

    def __getitem__(self, number: int) -> faces.Face | None:
        if not self.count[number]:
            return None
        return faces.Face(self.boxes[number], self.landmarks[number], float(self.scores[number]))


@dataclass(frozen=True, eq=False)
class PreparedImages(Changed):
    """Reader that aligns or crops another reader's images when they are read.

    Images on which no face was detected are fitted centrally.

    Attributes:
        images: Reader of N images.
        detected: The faces on them.
        how: "aligned" or "cropped".
        size: Height and width of the result in pixels.
        margin: Margin on each side of the box as a share of the box, for "cropped".
    """

    images: Images
    detected: DetectedFaces
    how: str
    size: tuple[int, int]
    margin: float = MARGIN

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        image, face = self.images[index], self.detected[index]
        if face is None:
            return images.fit(image, self.size)
        if self.how == "aligned":
            return faces.warp(image, face.landmarks, self.size)
        return faces.crop(image, face, self.size, self.margin)


# Opening by a spec


@BENCHMARKS.register("aligned")
def open_aligned(path: str) -> Benchmark:
    """Open a benchmark and align its images to ArcFace's template of 112 x 112 pixels.

    Args:
        path: The spec of a benchmark of pairs.

    Returns:
        The benchmark, as `prepare` returns it.

    Raises:
        WorkbenchError: If it cannot be opened, is not a benchmark of pairs, or an image cannot be
            read.
    """
    return _open(path, "aligned")


@BENCHMARKS.register("cropped")
def open_cropped(path: str) -> Benchmark:
    """Open a benchmark and crop its images to a square around the face, 112 x 112 pixels.

    The images are not rotated.

    Args:
        path: The spec of a benchmark of pairs.

    Returns:
        The benchmark, as `prepare` returns it.

    Raises:
        WorkbenchError: If it cannot be opened, is not a benchmark of pairs, or an image cannot be
            read.
    """
    return _open(path, "cropped")


def _open(path: str, how: str) -> Benchmark:
    if not path:
        raise WorkbenchError(
            f"{how}: needs a benchmark after the colon, e.g. {how}:pairs:PAIRS.TXT@ROOT"
        )
    return _prepared(path, how, benchmark(path), ())


def _prepared(path: str, how: str, opened: Target, unreadable: Collection[int]) -> Benchmark:
    if not isinstance(opened, Benchmark):
        raise WorkbenchError(
            f"{how}:{path}: {how} is for benchmarks of pairs, and {path} is not one "
            f"({type(opened).__name__})"
        )
    return prepare(opened, how, unreadable=unreadable)


def open_without(spec: str, unreadable: Collection[int]) -> Target:
    """Open a benchmark by its spec, without images that cannot be read.

    Args:
        spec: The spec, as `benchmark` takes it. For `aligned:SPEC` and `cropped:SPEC`, no faces are
            detected on these images.
        unreadable: Numbers of the images; see `without`.

    Returns:
        The benchmark. A closed set is returned whole.

    Raises:
        WorkbenchError: If `benchmark` or `without` raises it.

    Example:
        >>> from workbench import data
        >>> bench = data.open_without("aligned:folder:photos", [17])  # doctest: +SKIP
        >>> 17 in bench.pairs  # doctest: +SKIP
        False
    """
    kind, _, path = spec.partition(":")
    if kind in PREPARATIONS:
        return _prepared(path, kind, open_without(path, unreadable), unreadable)
    opened = benchmark(spec)
    return opened if isinstance(opened, Labelled) else without(opened, unreadable)


def unprepared(spec: str) -> str:
    """Return the SPEC in `aligned:SPEC` or `cropped:SPEC`, and any other spec unchanged.

    Example:
        >>> from workbench.data import unprepared
        >>> unprepared("aligned:folder:photos"), unprepared("lfw")
        ('folder:photos', 'lfw')
    """
    kind, _, path = spec.partition(":")
    return unprepared(path) if kind in PREPARATIONS else spec


# Detecting faces


def prepare(
    benchmark: Benchmark,
    how: str = "aligned",
    *,
    size: int | tuple[int, int] = 112,
    margin: float = MARGIN,
    which: str = "central",
    detector: str = "auto",
    workers: int | None = None,
    unreadable: Collection[int] = (),
    progress: bool = True,
) -> Benchmark:
    """Detect the face on each image of a benchmark, and align or crop the images to it.

    The detected faces are cached, by the contents of the images.

    Args:
        benchmark: A benchmark of pairs.
        how: "aligned" (rotated, scaled and shifted onto ArcFace's template) or "cropped" (the box
            with a margin, not rotated).
        size: Size of the results in pixels: one side of a square, or (height, width).
        margin: Margin on each side of the box as a share of the box, for "cropped".
        which: The face to choose if there are several: "central" or "largest".
        detector: As in `wb.faces.detect`. A detector that you registered needs `workers=0`.
        workers: Number of worker processes. The default is the number of CPU cores, or 0 for few
            images.
        unreadable: Numbers of images that cannot be read and are in no pair. They are not read.
        progress: Show a progress bar.

    Returns:
        A benchmark of the same pairs, named NAME-aligned or NAME-cropped. Images on which no face
        was detected are fitted centrally, as they would be without this function. The note states
        their number.

    Raises:
        WorkbenchError: If a parameter has an invalid value, an image cannot be read, or the
            detector is not installed.

    Example:
        >>> from workbench import data
        >>> lfw = data.benchmark("pairs:pairs.txt@lfw.zip")  # doctest: +SKIP
        >>> data.prepare(lfw, "cropped", margin=0.1).name  # doctest: +SKIP
        'lfw-cropped'
    """
    if how not in PREPARATIONS:
        raise WorkbenchError(f"how: expected {' or '.join(PREPARATIONS)}, got {how!r}")
    if which not in ("central", "largest"):
        raise WorkbenchError(f"which face: expected central or largest, got {which!r}")
    numbers = np.arange(len(benchmark.images))
    if len(benchmark.images) > MOST_IMAGES:
        numbers = np.unique(benchmark.pairs)
    numbers = np.setdiff1d(numbers, list(unreadable))
    detected = find_faces(
        benchmark.images,
        numbers,
        which=which,
        detector=detector,
        workers=workers,
        progress=progress,
    )
    missed = int((detected.count[numbers] == 0).sum())
    note = _note(how, detector, missed, len(numbers))
    return replace(
        benchmark,
        name=f"{benchmark.name}-{how}",
        images=PreparedImages(benchmark.images, detected, how, height_width(size), margin),
        note="; ".join(part for part in (benchmark.note, note) if part),
    )


def _note(how: str, detector: str, missed: int, count: int) -> str:
    if missed == count:
        return "no face found on any image: all are as they are"
    note = f"faces found (detector: {detector}) and {how}"
    if missed:
        note += f"; no face found on {missed:,} of {count:,} images, of which the middle is taken"
    return note


def find_faces(
    reader: Images,
    numbers: NDArray[np.int64],
    *,
    which: str,
    detector: str,
    workers: int | None = None,
    progress: bool = True,
) -> DetectedFaces:
    """Detect the faces on images, or read them from the cache.

    Args:
        reader: Reader of N images.
        numbers: Numbers of the images on which faces are detected.
        which: The face to choose if there are several: "central" or "largest".
        detector: As in `wb.faces.detect`.
        workers: Number of worker processes. The default is the number of CPU cores, or 0 for few
            images.
        progress: Show a progress bar.

    Returns:
        The chosen face on each of the N images, with none on images that are not in `numbers`.

    Raises:
        WorkbenchError: If an image cannot be read, the cache cannot be written, or the detector is
            not installed.
    """
    about = {
        "version": VERSION,
        "images": _digest(reader, numbers, progress),
        "which": which,
        "detector": detector,
        **_available(detector),
    }
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    path = cache_folder() / "faces" / f"{key[:32]}.npz"
    rows = _load(path, len(numbers))
    if rows is None:
        _check_cache(path, len(numbers))
        rows = _detect(reader, numbers, which, detector, workers, progress)
        _save(path, rows)
    count = np.zeros(len(reader), dtype=np.int64)
    count[numbers] = rows[:, 0].astype(np.int64)
    values = np.zeros((len(reader), ROW_LENGTH - 1), dtype=np.float32)
    values[numbers] = rows[:, 1:]
    landmarks = values[:, 4:14].reshape(-1, 5, 2)
    return DetectedFaces(count, values[:, :4], landmarks, values[:, 14])


def _available(detector: str) -> dict[str, bool]:
    """Return whether CenterFace is installed, if the detector is "auto", which then uses it."""
    return {"centerface": not faces.CenterFace.lacks()} if detector == "auto" else {}


def _digest(reader: Images, numbers: NDArray[np.int64], progress: bool) -> str:
    """Return a digest of the contents of images. Image files are read but not decoded."""
    digest = hashlib.sha256()
    for number in tqdm(
        numbers.tolist(),
        desc="reading",
        unit="image",
        disable=not progress,
        dynamic_ncols=True,
        delay=2,
    ):
        source, inner = source_of(reader, number)
        if isinstance(source, EncodedImages):
            content = source.encoded(inner)
        else:
            pixels = source[inner]
            content = repr(pixels.shape).encode() + pixels.tobytes()
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


@dataclass(frozen=True)
class Finder:
    """The job of a worker process: detect the faces on images, given as (row, number).

    It returns the row of each image, followed by the `ROW_LENGTH` values to be cached.
    """

    images: Images
    which: str
    detector: str

    def __call__(self, piece: Sequence[tuple[int, int]]) -> list[list[float]]:
        return [[row, *self._values(self._read(number))] for row, number in piece]

    def _read(self, number: int) -> NDArray[np.uint8]:
        try:
            return self.images[number]
        except WorkbenchError as error:
            raise WorkbenchError(f"{error}; {HINT}") from None

    def _values(self, image: NDArray[np.uint8]) -> list[float]:
        count, face = find_one(image, self.which, self.detector)
        if face is None:
            return [0.0] * ROW_LENGTH
        return [count, *face.box.tolist(), *face.landmarks.ravel().tolist(), face.score]


def _detect(
    reader: Images,
    numbers: NDArray[np.int64],
    which: str,
    detector: str,
    workers: int | None,
    progress: bool,
) -> NDArray[np.float64]:
    """Return (n, ROW_LENGTH) values for n images."""
    tasks = list(enumerate(numbers.tolist()))
    pieces = [tasks[begin : begin + CHUNK] for begin in range(0, len(tasks), CHUNK)]
    rows = np.zeros((len(tasks), ROW_LENGTH))
    if workers is None and len(tasks) <= FEW:
        workers = 0
    with tqdm(
        total=len(tasks),
        desc="finding faces",
        unit="image",
        disable=not progress,
        dynamic_ncols=True,
    ) as bar:

        def store(answers: list[list[float]]) -> None:
            for row, *values in answers:
                rows[int(row)] = values
            bar.update(len(answers))

        processes.work(Finder(reader, which, detector), pieces, store, workers=workers)
    return rows


# The cache


def _load(path: Path, count: int) -> NDArray[np.float64] | None:
    """Return the cached values for `count` images; None if there are none, or they are damaged."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            rows: NDArray[Any] = archive["faces"]
    except Exception:  # The file does not exist, or any error that a damaged archive causes.
        return None
    is_valid = (
        rows.shape == (count, ROW_LENGTH)
        and rows.dtype == np.float64
        and np.isfinite(rows).all()
        and (rows[:, 0] >= 0).all()
    )
    return rows if is_valid else None


def _check_cache(path: Path, count: int) -> None:
    """Raise an error before minutes are spent on detection if its result cannot be cached."""
    try:
        check_writable(path.parent, ROW_LENGTH * 8 * count)
    except WorkbenchError as error:
        raise WorkbenchError(
            f"the detected faces cannot be written into the cache: {error}, or set WORKBENCH_CACHE "
            "to another folder"
        ) from None


def _save(path: Path, rows: NDArray[np.float64]) -> None:
    # If the disk has become full since the check, faces are detected again the next time.
    with suppress(WorkbenchError), atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, faces=rows)
