"""`aligned:SPEC` and `cropped:SPEC` - a benchmark of pairs whose faces are found first, to see what alignment is worth.

SPEC itself is the pictures as they are; `cropped:SPEC` is the detector's box, not turned; `aligned:SPEC` is ArcFace's crop.
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
from workbench.data.benchmark import Benchmark, ClosedSet, Identification
from workbench.data.dataset import HINT, Changed, EncodedImages, Images, source_of
from workbench.data.jobs import processes
from workbench.data.jobs.aligning import find_one
from workbench.data.leaving_out import without
from workbench.data.registry import BENCHMARKS, benchmark
from workbench.data.templates import Templates
from workbench.errors import WorkbenchError
from workbench.faces.alignment import height_width
from workbench.files import atomic_path, check_writable

Target = Benchmark | ClosedSet | Identification | Templates
VERSION = 2
"""Of what is kept in the cache; raised when detection changes, or what images are decoded to."""
PREPARATIONS = ("cropped", "aligned")
MARGIN = 0.2
CHUNK = 16
FEW = 64
"""Images that are not worth starting other processes for."""
MOST_IMAGES = 50_000
"""In a benchmark of more images faces are looked for only in those that are in a pair."""


@dataclass(frozen=True, eq=False)
class FoundFaces:
    """The face that is meant on each of N images.

    Attributes:
        count: (N,) how many faces the detector found; where it is 0 the others mean nothing.
        boxes: (N, 4), landmarks: (N, 5, 2), scores: (N,): float32, as in `faces.Face`.
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
    """Another reader's images, brought to the face when they are read; the middle of those on which none was found."""

    images: Images
    found: FoundFaces
    how: str
    size: tuple[int, int]
    margin: float = MARGIN

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        image, face = self.images[index], self.found[index]
        if face is None:
            return images.fit(image, self.size)
        if self.how == "aligned":
            return faces.warp(image, face.landmarks, self.size)
        return faces.crop(image, face, self.size, self.margin)


@BENCHMARKS.register("aligned")
def open_aligned(path: str) -> Benchmark:
    """`aligned:SPEC`: every image brought to ArcFace's crop of 112 x 112."""
    return _open(path, "aligned")


@BENCHMARKS.register("cropped")
def open_cropped(path: str) -> Benchmark:
    """`cropped:SPEC`: every image cut to a square around the face's box, 112 x 112, not turned."""
    return _open(path, "cropped")


def _open(path: str, how: str) -> Benchmark:
    if not path:
        raise WorkbenchError(
            f"{how}: needs a benchmark behind the colon, e.g. {how}:pairs:PAIRS.TXT@ROOT"
        )
    return _prepared(path, how, benchmark(path), ())


def _prepared(path: str, how: str, opened: Target, unreadable: Collection[int]) -> Benchmark:
    if not isinstance(opened, Benchmark):
        raise WorkbenchError(
            f"{how}:{path}: {how} is for benchmarks of pairs, and {path} is not one ({type(opened).__name__})"
        )
    return prepare(opened, how, unreadable=unreadable)


def open_without(spec: str, unreadable: Collection[int]) -> Target:
    """A benchmark by name, as `benchmark` opens it, without images that are known to be unreadable.

    Args:
        spec: as `benchmark` takes it; in the images of `aligned:SPEC` and `cropped:SPEC` no faces are looked for then.
        unreadable: numbers of images; see `leaving_out.without`. Of a closed set nothing is left out here.

    Raises:
        WorkbenchError: as `benchmark` and `leaving_out.without`.
    """
    kind, _, path = spec.partition(":")
    if kind in PREPARATIONS:
        return _prepared(path, kind, open_without(path, unreadable), unreadable)
    opened = benchmark(spec)
    return opened if isinstance(opened, ClosedSet) else without(opened, unreadable)


def unprepared(spec: str) -> str:
    """SPEC of `aligned:SPEC` and `cropped:SPEC`; any other name as it is."""
    kind, _, path = spec.partition(":")
    return unprepared(path) if kind in PREPARATIONS else spec


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
    """The same pairs with the face on each image found, and aligned or cropped.

    Faces are looked for once: where they are is kept in the cache, by the contents of the images.

    Args:
        benchmark: pairs of pictures.
        how: "aligned" (turned, scaled and shifted onto ArcFace's template) or "cropped" (the box and a margin, not turned).
        size: of the crops in pixels: a side, or (height, width).
        margin: free space on either side of the box, as a share of the box; for "cropped" only.
        which: face where there are several: "central" or "largest".
        detector: as for `wb.faces.detect`; one of your own needs `workers=0`.
        workers: processes that look for faces; as many as there are cores by default.
        unreadable: numbers of images that are in no pair as they cannot be read; they are left alone.
        progress: show a bar.

    Returns:
        A benchmark named NAME-aligned or NAME-cropped. Images on which no face was found are fitted centrally, as they would
        be without this; the note says how many they are.

    Raises:
        WorkbenchError: a setting is none of those, an image cannot be read, or the detector is not there.
    """
    if how not in PREPARATIONS:
        raise WorkbenchError(f"how: expected {' or '.join(PREPARATIONS)}, got {how!r}")
    if which not in ("central", "largest"):
        raise WorkbenchError(f"which face: expected central or largest, got {which!r}")
    every = len(benchmark.images) <= MOST_IMAGES
    wanted = np.arange(len(benchmark.images)) if every else np.unique(benchmark.pairs)
    wanted = np.setdiff1d(wanted, list(unreadable))
    found = find_faces(
        benchmark.images, wanted, which=which, detector=detector, workers=workers, progress=progress
    )
    missed = int((found.count[wanted] == 0).sum())
    said = f"faces found (detector: {detector}) and {how}"
    if missed == len(wanted):
        said = "no face found on any image: all are as they are"
    elif missed:
        said += (
            f"; no face found on {missed:,} of {len(wanted):,} images, of which the middle is taken"
        )
    return replace(
        benchmark,
        name=f"{benchmark.name}-{how}",
        images=PreparedImages(benchmark.images, found, how, height_width(size), margin),
        note="; ".join(part for part in (benchmark.note, said) if part),
    )


def find_faces(
    reader: Images,
    wanted: NDArray[np.int64],
    *,
    which: str,
    detector: str,
    workers: int | None = None,
    progress: bool = True,
) -> FoundFaces:
    """The faces on the images with numbers `wanted`, from the cache where they were looked for before.

    Args:
        reader: images of any kind.
        wanted: numbers of images; on the others none is found.
        which: "central" or "largest".
        detector: as for `faces.detect`.
        workers: processes; as many as there are cores by default.
        progress: show a bar.

    Raises:
        WorkbenchError: an image cannot be read, or the detector is not there.
    """
    contents = _contents(reader, wanted, progress)
    about = {
        "version": VERSION,
        "images": contents,
        "which": which,
        "detector": detector,
    } | _available(detector)
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    path = cache_folder() / "faces" / f"{key[:32]}.npz"
    rows = _kept(path, len(wanted))
    if rows is None:
        _check_cache(path, len(wanted))
        rows = _looked_for(reader, wanted, which, detector, workers, progress)
        _keep(path, rows)
    count = np.zeros(len(reader), dtype=np.int64)
    places = np.zeros((len(reader), 15), dtype=np.float32)
    count[wanted], places[wanted] = rows[:, 0].astype(np.int64), rows[:, 1:]
    return FoundFaces(count, places[:, :4], places[:, 4:14].reshape(-1, 5, 2), places[:, 14])


def _available(detector: str) -> dict[str, bool]:
    """What "auto" has at hand, as it finds more faces once CenterFace is installed."""
    return {"centerface": not faces.CenterFace.lacks()} if detector == "auto" else {}


def _contents(reader: Images, wanted: NDArray[np.int64], progress: bool) -> str:
    """Digest of the images themselves, which are read for it but not decoded."""
    digest = hashlib.sha256()
    for number in tqdm(
        wanted.tolist(),
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
    """What a worker process does with (place, number) of some images: place, count, box, landmarks and score of each."""

    images: Images
    which: str
    detector: str

    def __call__(self, piece: Sequence[tuple[int, int]]) -> list[list[float]]:
        return [[place, *self._one(self._read(number))] for place, number in piece]

    def _read(self, number: int) -> NDArray[np.uint8]:
        try:
            return self.images[number]
        except WorkbenchError as error:
            raise WorkbenchError(f"{error}; {HINT}") from None

    def _one(self, image: NDArray[np.uint8]) -> list[float]:
        count, face = find_one(image, self.which, self.detector)
        return (
            [0.0] * 16
            if face is None
            else [count, *face.box.tolist(), *face.landmarks.ravel().tolist(), face.score]
        )


def _looked_for(
    reader: Images,
    wanted: NDArray[np.int64],
    which: str,
    detector: str,
    workers: int | None,
    progress: bool,
) -> NDArray[np.float64]:
    todo = list(enumerate(wanted.tolist()))
    pieces = [todo[begin : begin + CHUNK] for begin in range(0, len(todo), CHUNK)]
    rows = np.zeros((len(todo), 16))
    with tqdm(
        total=len(todo),
        desc="finding faces",
        unit="image",
        disable=not progress,
        dynamic_ncols=True,
    ) as bar:

        def done(answers: list[list[float]]) -> None:
            for place, *found in answers:
                rows[int(place)] = found
            bar.update(len(answers))

        few = workers is None and len(todo) <= FEW
        processes.work(Finder(reader, which, detector), pieces, done, workers=0 if few else workers)
    return rows


def _kept(path: Path, count: int) -> NDArray[np.float64] | None:
    """What an earlier call found; None where there is none, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            rows: NDArray[Any] = archive["faces"]
    except Exception:  # a missing file, or whatever a damaged archive leads to
        return None
    fits = (
        rows.shape == (count, 16)
        and rows.dtype == np.float64
        and np.isfinite(rows).all()
        and (rows[:, 0] >= 0).all()
    )
    return rows if fits else None


def _check_cache(path: Path, count: int) -> None:
    """Before minutes are spent on finding faces that would have to be found again each time."""
    try:
        check_writable(path.parent, 16 * 8 * count)
    except WorkbenchError as error:
        what = "where faces are cannot be written into the cache"
        raise WorkbenchError(f"{what}: {error}, or set WORKBENCH_CACHE to another folder") from None


def _keep(path: Path, rows: NDArray[np.float64]) -> None:
    # Where the disk has become full meanwhile, the faces are only looked for again the next time.
    with suppress(WorkbenchError), atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, faces=rows)
