"""Find and align the faces of a whole set, into a folder per identity.

OUT/
  IDENTITY/.../NAME.jpg   the aligned faces; `folder:OUT` opens them
  alignment.csv           a row an image of the source, once all are done: what was found
  alignment.jsonl         the same as the work goes on: what a second call goes on from (`alignment_log.py`)
"""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from PIL import Image
from tqdm.auto import tqdm

from workbench import faces, images
from workbench.data.dataset import Dataset, Images, image_name
from workbench.data.io.not_listed import LeftOutWarning
from workbench.data.jobs import processes
from workbench.data.jobs.alignment_log import AlignmentLog, Row, digest, digest_of, stamp
from workbench.data.registry import open as open_dataset
from workbench.errors import WorkbenchError
from workbench.faces.alignment import height_width
from workbench.files import atomic_path

TABLE, UNFINISHED = "alignment.csv", ".unfinished"
OUTCOMES = ("aligned", "cropped", "missed", "broken")
FORMATS: dict[str, dict[str, Any]] = {
    "jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    "png": {"format": "PNG"},
}
CHUNK = 16
LONGEST_NAME = 200
"""In bytes; most file systems allow 255, and a suffix and a number follow."""
LANDMARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
COLUMNS = (
    "photo",
    "file",
    "identity",
    "outcome",
    "found",
    *("x0", "y0", "x1", "y1"),
    *(f"{point}_{axis}" for point in LANDMARKS for axis in "xy"),
    *("score", "residual", "profile", "eyes", "sharpness", "yaw", "reason"),
)
"""Of alignment.csv: the photo as its source calls it, and the file in OUT, empty where none was written. Places are in pixels of
the source image; for the others see `faces.AlignedFace` and `faces.Quality`."""
MOST_SHOWN = 10


@dataclass(frozen=True)
class Changes:
    """What a call did about photos that an earlier one into the same folder knew, or did not know.

    Attributes:
        kept: photos that are as they were; nothing was done about them.
        new: photos that were added, or that the earlier call did not come to.
        replaced: photos with other contents under the same name; their faces were looked for again.
        again: faces that were no longer in the folder, or photos that could not be read, and were looked at again.
        dropped: photos that are gone from the source, whose faces were removed.
        left: files that were changed since they were written; they are neither removed nor written over.
    """

    kept: int = 0
    new: int = 0
    replaced: int = 0
    again: int = 0
    dropped: int = 0
    left: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """A line, two where something was left; nothing of a first call."""
        if not (self.kept or self.replaced or self.again or self.dropped):
            return ""
        said = f"since the last time: {self.kept:,} kept, {self.new:,} new, {self.replaced:,} replaced, "
        said += f"{self.again:,} made again, {self.dropped:,} dropped as their photos are gone"
        if self.left:
            said += f"\nchanged since they were written, and left as they are: {_first(self.left)}"
        return said


@dataclass(frozen=True)
class Alignment:
    """What was found in a set.

    Attributes:
        path: the folder of the aligned faces.
        images: number of images of the source.
        outcomes: how many images were "aligned", "cropped" (no face found, their middle was taken), "missed" (no face found,
            left out) and "broken" (cannot be read, left out).
        profiles: how many aligned faces are seen from the side.
        several: how many images show more than one face.
        lost: identities of whom no image is left.
        misses: photos in which no face was found, as the source calls them.
        broken: (photo, reason) of the images that cannot be read.
        changes: what this call found different from the one before.
        note: what the source leaves out.
    """

    path: Path
    images: int
    outcomes: dict[str, int]
    profiles: int
    several: int
    lost: list[str] = field(default_factory=list)
    misses: list[str] = field(default_factory=list)
    broken: list[tuple[str, str]] = field(default_factory=list)
    changes: Changes = field(default_factory=Changes, compare=False)
    note: str = ""

    @property
    def table(self) -> Path:
        """The file with a row an image."""
        return self.path / TABLE

    def __str__(self) -> str:
        """A few lines for people."""
        count = self.outcomes
        lines = [
            f"{self.path}: {count['aligned']:,} of {self.images:,} image{'s' * (self.images != 1)} aligned, "
            f"{self.profiles:,} of them {'profiles' if self.profiles != 1 else 'a profile'}; "
            f"{self.several:,} {'show' if self.several != 1 else 'shows'} several faces"
        ]
        if self.misses:
            done = "their middle was taken" if count["cropped"] else "left out"
            lines += [f"no face found in {len(self.misses):,}, {done}:", *_listed(self.misses)]
        if self.broken:
            lines += [
                f"broken, left out: {len(self.broken):,}:",
                *_listed([reason for _, reason in self.broken]),
            ]
        if self.lost:
            lines.append(
                f"identities of whom nothing is left: {len(self.lost):,}: {_first(self.lost)}"
            )
        if self.note:
            lines.append(f"note: {self.note}")
        if str(self.changes):
            lines.append(str(self.changes))
        return "\n".join(lines)


def align(
    source: str | Dataset,
    out: str | Path,
    *,
    size: int | tuple[int, int] = 112,
    which: str = "largest",
    detector: str = "auto",
    miss: str = "skip",
    broken: str = "skip",
    format: str = "jpg",
    workers: int | None = None,
    progress: bool = True,
) -> Alignment:
    """Find the face on each image of a set and bring it to ArcFace's crop; `folder:OUT` opens the result.

    Can be stopped and called again, also after photos were added, replaced or removed: what is there is not done again, but
    for images that were broken; the face of a photo that was replaced is found anew, that of one that is gone is removed.
    Photos are told by their names and contents, of which size and time of change are looked at first. Nothing is removed that
    an earlier call did not write.

    Args:
        source: any source of `wb.data.open`, or a data set.
        out: folder; made if missing, else it is empty or of an earlier call on the same source with the same settings.
        size: of the crops in pixels: a side, or (height, width).
        which: face where there are several: "largest" or "central".
        detector: as for `wb.faces.detect`; one of your own needs `workers=0`.
        miss: where no face is found: "skip" leaves the image out, "crop" takes its middle.
        broken: an image that cannot be read: "skip" reports it at the end, "stop" is an error.
        format: "jpg" (quality 95, colour at full resolution) or "png".
        workers: processes, one thread each; 0 works in this one. As many as there are cores by default.
        progress: show a bar with images a second.

    Returns:
        What was found; `print` it. The figures of each image are in OUT/alignment.csv.

    Raises:
        WorkbenchError: the source or the detector cannot be opened, OUT is a file, holds something else or was made with other
            settings, or cannot be written.
        KeyboardInterrupt: Ctrl-C; what is finished stays so.
    """
    for given, known, what in (
        (which, ("largest", "central"), "which face"),
        (miss, ("skip", "crop"), "miss"),
        (broken, ("skip", "stop"), "broken"),
        (format, FORMATS, "format"),
    ):
        if given not in known:
            raise WorkbenchError(f"{what}: expected {' or '.join(known)}, got {given!r}")
    height, width = height_width(size)
    faces.check_detector(detector)
    processes.check_workers(workers)
    folder = Path(out).expanduser()
    if os.path.isfile(folder):
        raise WorkbenchError(f"{folder}: is a file; a folder for the faces is wanted")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeftOutWarning)  # the result says it
        dataset = open_dataset(source) if isinstance(source, str) else source
    settings = {
        "source": dataset.name,
        "size": [height, width],
        "which": which,
        "detector": detector,
        "miss": miss,
        "format": format,
    }
    if detector == "auto":
        settings["centerface"] = (
            "not installed" if faces.CenterFace.lacks() else "installed"
        )  # finds more faces with it
    job = Aligner(
        dataset.images, folder.absolute(), (height, width), which, detector, miss, broken, format
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=0):
            return replace(_do(job, dataset, settings, workers, progress), path=folder)
    except Timeout:
        raise WorkbenchError(f"{folder}: another process is aligning into it") from None
    except OSError as error:
        raise _unwritable(folder, error) from None


def _do(
    job: Aligner, dataset: Dataset, settings: Row, workers: int | None, progress: bool
) -> Alignment:
    """Do what is missing, then write the table. In memory is only where in the log each image's line begins."""
    folder = job.out
    log = AlignmentLog.open(folder, settings, [".lock", UNFINISHED])
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    (folder / UNFINISHED).mkdir()
    try:
        places = _places(dataset, log)
        changes, todo = _compared(dataset, log, places, progress)
        if changes.left:
            places = _places(dataset, log)  # with other names in their stead
        names = [log.files[place] for place in places.tolist()]
        pieces = [
            [(number, names[number]) for number in todo[begin : begin + CHUNK]]
            for begin in range(0, len(todo), CHUNK)
        ]
        there = len(names) - len(todo)
        with tqdm(
            total=len(names),
            initial=there,
            desc="aligning",
            unit="image",
            disable=not progress,
            dynamic_ncols=True,
        ) as bar:

            def done(answers: list[Row]) -> None:
                log.add([row | {"number": int(places[row["number"]])} for row in answers])
                bar.update(len(answers))

            processes.work(job, pieces, done, workers=workers)
        return replace(
            _report(folder, dataset, names, log, places), changes=changes, note=dataset.note
        )
    finally:
        log.close()
        shutil.rmtree(folder / UNFINISHED, ignore_errors=True)


def _places(dataset: Dataset, log: AlignmentLog) -> NDArray[np.int64]:
    """(N,) the number of each image in the log, to which images that it does not know are added.

    Raises:
        WorkbenchError: none of the photos that it knows is in the data set.
    """
    keys = _keys(dataset)
    known = len(log.keys)
    if known and not any(key in log.keys for key in keys):
        identity, photo, _ = next(iter(log.keys))
        raise WorkbenchError(
            f"{log.folder}: none of its {known:,} photos (e.g. {f'{identity}, {photo}'[:100]}) is in {dataset.name} as it is now; "
            "name another folder"
        )
    names = file_names(
        dataset, log.settings["format"], [log.file_of(key) for key in keys], log.folder
    )
    log.plan(keys, names)
    return np.array([log.keys[key] for key in keys], dtype=np.int64)


def _keys(dataset: Dataset) -> list[tuple[str, str, int]]:
    """What each image is known by: its identity, its file, and a number for one that is there several times."""
    called = dataset.attributes.get("file")
    names = [str(name) for name in dataset.identity_names]
    times: Counter[tuple[str, str]] = Counter()
    keys = []
    for number, identity in enumerate(dataset.identities.tolist()):
        pair = (names[identity], str(called[number]) if called is not None else f"image {number}")
        keys.append((*pair, times[pair]))
        times[pair] += 1
    return keys


def _compared(
    dataset: Dataset, log: AlignmentLog, places: NDArray[np.int64], progress: bool
) -> tuple[Changes, list[int]]:
    """What has changed since the log was written, and the numbers of the images that are to be worked on.

    Faces of photos that are gone or were replaced are removed.
    """
    kept = new = replaced = again = 0
    left: list[str] = []
    todo, forgotten = [], []
    for number, place in enumerate(
        tqdm(
            places.tolist(),
            desc="comparing",
            unit="image",
            delay=2,
            disable=not progress,
            dynamic_ncols=True,
        )
    ):
        row = log.row(place)
        if row is None:
            new += 1
        elif row["outcome"] == "broken":
            again += 1
        elif not _same_photo(dataset.images, number, row):
            replaced += 1
            if not log.remove(place, row):
                left.append(log.files[place])
                forgotten.append(place)
        elif row["outcome"] == "missed" or log.still_there(place, row):
            kept += 1
            continue
        elif _is_picture(log.folder / log.files[place]):
            kept += 1
            left.append(log.files[place])
            continue
        else:
            again += 1
        todo.append(number)
    gone = sorted(set(range(len(log.files))).difference(places.tolist()).difference(log.gone))
    for place in gone:
        row = log.row(place)
        if row is not None and not log.remove(place, row):
            left.append(log.files[place])
    log.add([{"number": place, "outcome": "gone"} for place in [*gone, *forgotten]])
    return Changes(kept, new, replaced, again, len(gone), left), todo


def _is_picture(file: Path) -> bool:
    try:
        images.read(file)
    except WorkbenchError:
        return False
    return True


def _same_photo(reader: Images, number: int, row: Row) -> bool:
    """Whether an image is the one that a row is about: by size and time of change, else by its contents."""
    known = row.get("stamp")
    try:
        return bool(known is not None and stamp(reader, number) == known) or digest_of(
            reader, number
        ) == row.get("digest")
    except WorkbenchError:  # it will be complained of when it is worked on
        return False


@dataclass(frozen=True)
class Aligner:
    """What a worker process does with (number, name of the file to be written) of some images."""

    images: Images
    out: Path
    size: tuple[int, int]
    which: str
    detector: str
    miss: str
    broken: str
    format: str

    def __call__(self, piece: Sequence[tuple[int, str]]) -> list[Row]:
        try:
            return [self._one(number, name) | {"number": number} for number, name in piece]
        except OSError as error:
            raise _unwritable(self.out, error) from None

    def _one(self, number: int, name: str) -> Row:
        try:
            known = {"stamp": stamp(self.images, number), "digest": digest_of(self.images, number)}
            image = self.images[number]
        except WorkbenchError as error:
            if self.broken == "stop":
                raise
            return {"outcome": "broken", "reason": str(error)}
        return known | self._face(image, name)

    def _face(self, image: NDArray[np.uint8], name: str) -> Row:
        count, meant = find_one(image, self.which, self.detector)
        if meant is not None:
            face = faces.align_face(image, meant, self.size)
            hints = {
                "eyes": face.quality.eyes,
                "sharpness": face.quality.sharpness,
                "yaw": face.quality.yaw,
            }
            row = {
                "outcome": "aligned",
                "found": count,
                "box": np.round(face.box.astype(float), 2).tolist(),
                "landmarks": np.round(face.landmarks.astype(float), 2).ravel().tolist(),
                "score": round(face.score, 4),
                "residual": round(face.residual, 3),
                "profile": face.profile,
                **{key: round(value, 3) for key, value in hints.items()},
            }
            return row | self._write(name, face.image)
        if self.miss == "crop":
            return {
                "outcome": "cropped",
                "found": count,
                **self._write(name, images.fit(image, self.size)),
            }
        return {"outcome": "missed", "found": count}

    def _write(self, name: str, pixels: NDArray[np.uint8]) -> Row:
        """Write a face under a temporary name and rename it; its size in bytes, and a digest of them."""
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, **FORMATS[self.format])
        file = self.out / name
        temporary = self.out / UNFINISHED / f"{os.getpid()}"
        temporary.write_bytes(buffer.getvalue())
        file.parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, file)
        return {"bytes": len(buffer.getvalue()), "crop": digest(buffer.getvalue())}


def find_one(image: NDArray[np.uint8], which: str, detector: str) -> tuple[int, faces.Face | None]:
    """How many faces an image shows, and the one that is meant: None where none is found that can be aligned."""
    found = faces.detect(image, detector=detector, threads=1)
    chosen = faces.choose(
        [face for face in found if faces.can_be_aligned(face)], image.shape, which
    )
    return len(found), chosen[0] if chosen else None


def file_names(
    dataset: Dataset, format: str, known: Sequence[str | None] = (), folder: Path | None = None
) -> list[str]:
    """Where each image goes: IDENTITY/..., as it was where the source has files in such folders, else IDENTITY/NUMBER.

    The names are safe on any system and stay inside the folder, whatever the source calls its identities and files; no two
    images get the same one, and no two identities the same folder.

    Args:
        dataset: the images.
        format: suffix of the files, without a dot.
        known: the names that images have already, None where there is none; images and identities that have one keep it.
        folder: in which no other image gets the name of a file that is there.
    """
    known = known or [None] * len(dataset)
    folder_of: dict[int, str] = {}
    for identity, name in zip(dataset.identities.tolist(), known, strict=True):
        if name is not None:
            folder_of.setdefault(identity, name.partition("/")[0])
    folders = {folder.casefold() for folder in folder_of.values()}
    for identity, identity_name in enumerate(dataset.identity_names):
        if identity not in folder_of:
            folder_of[identity] = _free(_safe(str(identity_name)), "", folders)
    source_names = dataset.attributes.get("file") or [""] * len(dataset)
    taken = {name.casefold() for name in known if name is not None}
    found: list[str] = []
    seen = [0] * dataset.num_identities
    for number, (identity, source_name) in enumerate(
        zip(dataset.identities.tolist(), source_names, strict=True)
    ):
        seen[identity] += 1
        if (name := known[number]) is not None:
            found.append(name)
            continue
        parts = PurePosixPath(str(source_name).replace("\\", "/")).parts
        if len(parts) > 1 and parts[0] == dataset.identity_names[identity]:
            parts = parts[1:]
        inner = [_safe(part) for part in parts[:-1]] if parts else []
        stem = _safe(PurePosixPath(parts[-1]).stem) if parts else f"{seen[identity]:06d}"
        found.append(
            _free("/".join([folder_of[identity], *inner, stem]), f".{format}", taken, folder)
        )
    return found


def _free(stem: str, suffix: str, taken: set[str], folder: Path | None = None) -> str:
    """The name, with -2, -3, ... where it is taken, be it with other capitals, or by a file in `folder`."""
    name, number = stem + suffix, 2
    while name.casefold() in taken or (folder is not None and os.path.lexists(folder / name)):
        name, number = f"{stem}-{number}{suffix}", number + 1
    taken.add(name.casefold())
    return name


def _safe(name: str) -> str:
    """A part of a path: nothing that leads elsewhere, hides the file, or that some file system does not allow."""
    plain = (
        re.sub(r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udfff]', "_", name)
        .encode()[:LONGEST_NAME]
        .decode(errors="ignore")
    )
    plain = plain.rstrip(". ")
    return f"_{plain.lstrip('.')}" if plain.startswith(".") or not plain else plain


def _report(
    folder: Path,
    dataset: Dataset,
    names: Sequence[str],
    log: AlignmentLog,
    places: NDArray[np.int64],
) -> Alignment:
    """Write the table, and sum it up."""
    called = dataset.attributes.get("file")
    outcomes, profiles, several = dict.fromkeys(OUTCOMES, 0), 0, 0
    some = np.zeros(dataset.num_identities, dtype=bool)
    misses, broken = [], []
    with (
        atomic_path(folder / TABLE) as temporary,
        temporary.open("w", encoding="utf-8", errors="replace", newline="") as file,
    ):
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for number, place in enumerate(places.tolist()):
            row = log.row(place)
            assert row is not None  # every image was worked on
            identity = int(dataset.identities[number])
            where = [*row.get("box", [""] * 4), *row.get("landmarks", [""] * 10)]
            rest = [row.get(key, "") for key in COLUMNS[-7:]]
            photo = (
                str(called[number]) if called is not None else image_name(dataset.images, number)
            )
            outcome = row["outcome"]
            written = names[number] if outcome in ("aligned", "cropped") else ""
            table.writerow(
                [
                    photo,
                    written,
                    dataset.identity_names[identity],
                    outcome,
                    row.get("found", ""),
                    *where,
                    *rest,
                ]
            )
            outcomes[outcome] += 1
            profiles += bool(row.get("profile"))
            several += row.get("found", 0) > 1
            some[identity] |= bool(written)
            if outcome in ("cropped", "missed"):
                misses.append(photo)
            elif outcome == "broken":
                broken.append((photo, str(row["reason"])))
    lost = [dataset.identity_names[identity] for identity in np.flatnonzero(~some).tolist()]
    return Alignment(folder, len(dataset), outcomes, profiles, several, lost, misses, broken)


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_SHOWN]) + (", ..." if len(names) > MOST_SHOWN else "")


def _listed(names: Sequence[str]) -> list[str]:
    """The first of them, a line each, and how many more there are."""
    more = len(names) - MOST_SHOWN
    return [f"  {name}" for name in names[:MOST_SHOWN]] + (
        [f"  ... and {more:,} more, see {TABLE}"] if more > 0 else []
    )


def _unwritable(folder: Path, error: OSError) -> WorkbenchError:
    return WorkbenchError(
        f"{folder}: cannot be written ({error.strerror or error}); what is finished is kept"
    )
