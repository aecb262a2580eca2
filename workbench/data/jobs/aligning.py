"""Finds and aligns the faces of a whole set, and writes a folder for each identity.

OUT/
  IDENTITY/.../NAME.jpg   the aligned faces; `folder:OUT` opens them
  alignment.csv           a row for each image of the source, written when all images are done
  alignment.jsonl         the same while the work goes on, so that a later call can continue
                          (`alignment_log.py`)
"""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import warnings
from collections import Counter
from collections.abc import Collection, Sequence
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
"""Most bytes of a name. Most file systems allow 255; a number and a suffix follow the name."""
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
"""Columns of alignment.csv. `photo` is the name of the photo in its source, and `file` the name of
the face in OUT, which is empty if none was written. Coordinates are in pixels of the source image.
The other columns are described in `faces.AlignedFace` and `faces.Quality`."""
MOST_SHOWN = 10


@dataclass(frozen=True)
class Changes:
    """The differences between a call of `align` and the earlier calls into the same folder.

    Attributes:
        kept: Number of photos that did not change and were not processed again.
        new: Number of photos that were added, or that the earlier call did not reach.
        replaced: Number of photos with new contents under the same name, which were processed
            again.
        again: Number of photos that were processed again because their face was no longer in the
            folder or because they could not be read before.
        dropped: Number of photos that are no longer in the source. Their faces were removed.
        left: Faces that somebody changed after they were written. They are not removed and not
            overwritten.
    """

    kept: int = 0
    new: int = 0
    replaced: int = 0
    again: int = 0
    dropped: int = 0
    left: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """One line of text, a second line about changed faces, or "" for a first call."""
        if not (self.kept or self.replaced or self.again or self.dropped):
            return ""
        text = (
            f"since the last call: {self.kept:,} kept, {self.new:,} new, "
            f"{self.replaced:,} replaced, {self.again:,} processed again, "
            f"{self.dropped:,} removed because their photos are gone"
        )
        if self.left:
            text += f"\nkept because they were changed after they were written: {_first(self.left)}"
        return text


@dataclass(frozen=True)
class Alignment:
    """The report of `align`.

    Attributes:
        path: The folder of the aligned faces.
        images: Number of images of the source.
        outcomes: Number of images that were "aligned", "cropped" (no face was found, and the middle
            was taken), "missed" (no face was found, and the image was left out) and "broken" (the
            image cannot be read, and was left out).
        profiles: Number of aligned faces that are seen from the side.
        several: Number of images that show more than one face.
        lost: Identities of which no image remains.
        misses: Names of the photos in which no face was found.
        broken: (photo, reason) of the images that cannot be read.
        changes: The differences from earlier calls into the same folder.
        note: What the source leaves out.
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
        """The file with a row for each image."""
        return self.path / TABLE

    def __str__(self) -> str:
        """A few lines of text."""
        count = self.outcomes
        image = "image" if self.images == 1 else "images"
        profiles = "a profile" if self.profiles == 1 else "profiles"
        show = "shows" if self.several == 1 else "show"
        lines = [
            f"{self.path}: {count['aligned']:,} of {self.images:,} {image} aligned, "
            f"{self.profiles:,} of them {profiles}; {self.several:,} {show} several faces"
        ]
        if self.misses:
            treatment = "their middle was taken" if count["cropped"] else "left out"
            lines.append(f"no face found in {len(self.misses):,}, {treatment}:")
            lines += _listed(self.misses)
        if self.broken:
            lines.append(f"cannot be read, left out: {len(self.broken):,}:")
            lines += _listed([reason for _, reason in self.broken])
        if self.lost:
            lines.append(
                f"identities of which no image remains: {len(self.lost):,}: {_first(self.lost)}"
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
    """Find the face on each image of a set and align it to the ArcFace template.

    `folder:OUT` opens the result. The call can be interrupted and repeated, also after photos were
    added, replaced or removed. Finished photos are not processed again, except those that could not
    be read. The face of a replaced photo is found again, and the face of a removed photo is
    removed. Photos are identified by their names and contents; if the size and the time of change
    are the same, the contents are not read. Files that no earlier call has written are never
    removed.

    Args:
        source: Any source of `wb.data.open`, or a data set.
        out: The folder to write. It is created if it does not exist. Otherwise it must be empty or
            come from an earlier call with the same source and settings.
        size: Size of the crops in pixels: one side, or (height, width).
        which: The face to take if an image shows several: "largest" or "central".
        detector: As in `wb.faces.detect`. Your own detector needs `workers=0`.
        miss: What to do with an image without a face: "skip" leaves it out, "crop" takes its
            middle.
        broken: What to do with an image that cannot be read: "skip" reports it at the end, "stop"
            raises its error.
        format: "jpg" (quality 95, colour at full resolution) or "png".
        workers: Number of worker processes, which use one thread each. 0 works in this process. The
            default is the number of CPU cores.
        progress: Show a progress bar.

    Returns:
        A report that can be printed. OUT/alignment.csv has the results of each image.

    Raises:
        WorkbenchError: If a setting is unknown, if the source or the detector cannot be opened, or
            if OUT is a file, contains something else, was made with other settings, or cannot be
            written.
        KeyboardInterrupt: If the user presses Ctrl-C. Finished images are kept.
    """
    _check_choice("which face", which, ("largest", "central"))
    _check_choice("miss", miss, ("skip", "crop"))
    _check_choice("broken", broken, ("skip", "stop"))
    _check_choice("format", format, FORMATS)
    height, width = height_width(size)
    faces.check_detector(detector)
    processes.check_workers(workers)
    folder = Path(out).expanduser()
    if os.path.isfile(folder):
        raise WorkbenchError(f"{folder}: is a file; expected a folder for the faces")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeftOutWarning)  # The report has the same text.
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
        # "auto" finds more faces if CenterFace is installed.
        settings["centerface"] = "not installed" if faces.CenterFace.lacks() else "installed"
    job = Aligner(
        dataset.images, folder.absolute(), (height, width), which, detector, miss, broken, format
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=0):
            return replace(_align(job, dataset, settings, workers, progress), path=folder)
    except Timeout:
        raise WorkbenchError(f"{folder}: another process is aligning into it") from None
    except OSError as error:
        raise _unwritable(folder, error) from None


def _check_choice(name: str, value: str, choices: Collection[str]) -> None:
    if value not in choices:
        raise WorkbenchError(f"{name}: expected {' or '.join(choices)}, got {value!r}")


def _align(
    job: Aligner, dataset: Dataset, settings: Row, workers: int | None, progress: bool
) -> Alignment:
    """Process the images that are not finished, then write the table.

    Only the offset of each image's line in the log is held in memory.
    """
    folder = job.out
    log = AlignmentLog.open(folder, settings, [".lock", UNFINISHED])
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    (folder / UNFINISHED).mkdir()
    try:
        places = _numbers_in_log(dataset, log)
        changes, todo = _compare(dataset, log, places, progress)
        if changes.left:
            places = _numbers_in_log(dataset, log)  # Faces that are kept need other names.
        names = [log.files[place] for place in places.tolist()]
        pieces = [
            [(number, names[number]) for number in todo[begin : begin + CHUNK]]
            for begin in range(0, len(todo), CHUNK)
        ]
        with tqdm(
            total=len(names),
            initial=len(names) - len(todo),
            desc="aligning",
            unit="image",
            disable=not progress,
            dynamic_ncols=True,
        ) as bar:

            def record(answers: list[Row]) -> None:
                log.add([row | {"number": int(places[row["number"]])} for row in answers])
                bar.update(len(answers))

            processes.work(job, pieces, record, workers=workers)
        report = _write_table(folder, dataset, names, log, places)
        return replace(report, changes=changes, note=dataset.note)
    finally:
        log.close()
        shutil.rmtree(folder / UNFINISHED, ignore_errors=True)


def _numbers_in_log(dataset: Dataset, log: AlignmentLog) -> NDArray[np.int64]:
    """The number of each image in the log, as (N,). New images are added to the log.

    Raises:
        WorkbenchError: If the data set has none of the photos in the log.
    """
    keys = _keys(dataset)
    if log.keys and not any(key in log.keys for key in keys):
        identity, photo, _ = next(iter(log.keys))
        raise WorkbenchError(
            f"{log.folder}: none of its {len(log.keys):,} photos "
            f"(e.g. {f'{identity}, {photo}'[:100]}) is in {dataset.name} as it is now; "
            "name another folder"
        )
    names = file_names(
        dataset, log.settings["format"], [log.file_of(key) for key in keys], log.folder
    )
    log.plan(keys, names)
    return np.array([log.keys[key] for key in keys], dtype=np.int64)


def _keys(dataset: Dataset) -> list[tuple[str, str, int]]:
    """The key of each image: its identity, its file, and a counter for repeated files."""
    files = dataset.attributes.get("file")
    names = [str(name) for name in dataset.identity_names]
    times: Counter[tuple[str, str]] = Counter()
    keys = []
    for number, identity in enumerate(dataset.identities.tolist()):
        photo = str(files[number]) if files is not None else f"image {number}"
        pair = (names[identity], photo)
        keys.append((*pair, times[pair]))
        times[pair] += 1
    return keys


def _compare(
    dataset: Dataset, log: AlignmentLog, places: NDArray[np.int64], progress: bool
) -> tuple[Changes, list[int]]:
    """Compare the data set with the log, and remove the faces of photos that are gone or were
    replaced.

    Returns:
        The differences, and the numbers of the images to process.
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
    """Whether an image is still the one of a row, by its size and time, and otherwise by its
    contents."""
    try:
        if row.get("stamp") is not None and stamp(reader, number) == row["stamp"]:
            return True
        return digest_of(reader, number) == row.get("digest")
    except WorkbenchError:  # Processing the image will raise this error again.
        return False


@dataclass(frozen=True)
class Aligner:
    """The job of a worker process: align some images, given as (number, name of the face)."""

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
            source = {"stamp": stamp(self.images, number), "digest": digest_of(self.images, number)}
            image = self.images[number]
        except WorkbenchError as error:
            if self.broken == "stop":
                raise
            return {"outcome": "broken", "reason": str(error)}
        return source | self._face(image, name)

    def _face(self, image: NDArray[np.uint8], name: str) -> Row:
        count, chosen = find_one(image, self.which, self.detector)
        if chosen is not None:
            face = faces.align_face(image, chosen, self.size)
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
            middle = self._write(name, images.fit(image, self.size))
            return {"outcome": "cropped", "found": count, **middle}
        return {"outcome": "missed", "found": count}

    def _write(self, name: str, pixels: NDArray[np.uint8]) -> Row:
        """Write a face under a temporary name and rename it.

        Returns:
            The size in bytes and a digest of the file.
        """
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, **FORMATS[self.format])
        file = self.out / name
        temporary = self.out / UNFINISHED / f"{os.getpid()}"
        temporary.write_bytes(buffer.getvalue())
        file.parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, file)
        return {"bytes": len(buffer.getvalue()), "crop": digest(buffer.getvalue())}


def find_one(image: NDArray[np.uint8], which: str, detector: str) -> tuple[int, faces.Face | None]:
    """Find the faces of an image and choose one.

    Args:
        image: (H, W, 3) uint8 in RGB.
        which: The face to choose: "largest" or "central".
        detector: As in `wb.faces.detect`.

    Returns:
        The number of faces, and the chosen face or None if no face can be aligned.
    """
    detected = faces.detect(image, detector=detector, threads=1)
    usable = [face for face in detected if faces.can_be_aligned(face)]
    chosen = faces.choose(usable, image.shape, which)
    return len(detected), chosen[0] if chosen else None


def file_names(
    dataset: Dataset, format: str, known: Sequence[str | None] = (), folder: Path | None = None
) -> list[str]:
    """Choose the name of the face of each image.

    The name is IDENTITY/... as in the source if the source has files in such folders, and otherwise
    IDENTITY/NUMBER. All names are allowed on any system and stay inside the folder. No two images
    get the same name, and no two identities the same folder.

    Args:
        dataset: The images.
        format: Suffix of the files, without a dot.
        known: The names that images have already, or None for an image without a name. Images and
            identities keep their names.
        folder: New names differ from those of all files in this folder.

    Returns:
        The name for each image, relative to the folder of the faces.
    """
    known = known or [None] * len(dataset)
    folder_of = _identity_folders(dataset, known)
    source_names = dataset.attributes.get("file") or [""] * len(dataset)
    used = {name.casefold() for name in known if name is not None}
    names: list[str] = []
    seen = [0] * dataset.num_identities
    for number, (identity, source_name) in enumerate(
        zip(dataset.identities.tolist(), source_names, strict=True)
    ):
        seen[identity] += 1
        if (name := known[number]) is not None:
            names.append(name)
            continue
        parts = PurePosixPath(str(source_name).replace("\\", "/")).parts
        if len(parts) > 1 and parts[0] == dataset.identity_names[identity]:
            parts = parts[1:]
        inner = [_safe(part) for part in parts[:-1]]
        stem = _safe(PurePosixPath(parts[-1]).stem) if parts else f"{seen[identity]:06d}"
        path = "/".join([folder_of[identity], *inner, stem])
        names.append(_unused(path, f".{format}", used, folder))
    return names


def _identity_folders(dataset: Dataset, known: Sequence[str | None]) -> dict[int, str]:
    """The folder of each identity: the one that it has in the known names, or a new one."""
    folder_of: dict[int, str] = {}
    for identity, name in zip(dataset.identities.tolist(), known, strict=True):
        if name is not None:
            folder_of.setdefault(identity, name.partition("/")[0])
    used = {folder.casefold() for folder in folder_of.values()}
    for identity, identity_name in enumerate(dataset.identity_names):
        if identity not in folder_of:
            folder_of[identity] = _unused(_safe(str(identity_name)), "", used)
    return folder_of


def _unused(stem: str, suffix: str, used: set[str], folder: Path | None = None) -> str:
    """Append -2, -3, ... to a name that is in use, ignoring case, or is a file in `folder`."""
    name, number = stem + suffix, 2
    while name.casefold() in used or (folder is not None and os.path.lexists(folder / name)):
        name, number = f"{stem}-{number}{suffix}", number + 1
    used.add(name.casefold())
    return name


def _safe(name: str) -> str:
    """Turn a name into a part of a path that is not hidden and that every file system allows."""
    allowed = re.sub(r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udfff]', "_", name)
    plain = allowed.encode()[:LONGEST_NAME].decode(errors="ignore").rstrip(". ")
    if not plain or plain.startswith("."):
        plain = f"_{plain.lstrip('.')}"
    return plain


def _write_table(
    folder: Path,
    dataset: Dataset,
    names: Sequence[str],
    log: AlignmentLog,
    places: NDArray[np.int64],
) -> Alignment:
    """Write alignment.csv, and sum it up in a report."""
    files = dataset.attributes.get("file")
    outcomes, profiles, several = dict.fromkeys(OUTCOMES, 0), 0, 0
    has_image = np.zeros(dataset.num_identities, dtype=bool)
    misses, broken = [], []
    with (
        atomic_path(folder / TABLE) as temporary,
        temporary.open("w", encoding="utf-8", errors="replace", newline="") as file,
    ):
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for number, place in enumerate(places.tolist()):
            row = log.row(place)
            assert row is not None  # Every image was processed.
            identity = int(dataset.identities[number])
            name = dataset.identity_names[identity]
            photo = str(files[number]) if files is not None else image_name(dataset.images, number)
            outcome = row["outcome"]
            written = names[number] if outcome in ("aligned", "cropped") else ""
            coordinates = [*row.get("box", [""] * 4), *row.get("landmarks", [""] * 10)]
            quality = [row.get(key, "") for key in COLUMNS[-7:]]
            found = row.get("found", "")
            table.writerow([photo, written, name, outcome, found, *coordinates, *quality])
            outcomes[outcome] += 1
            profiles += bool(row.get("profile"))
            several += row.get("found", 0) > 1
            has_image[identity] |= bool(written)
            if outcome in ("cropped", "missed"):
                misses.append(photo)
            elif outcome == "broken":
                broken.append((photo, str(row["reason"])))
    lost = [dataset.identity_names[identity] for identity in np.flatnonzero(~has_image).tolist()]
    return Alignment(folder, len(dataset), outcomes, profiles, several, lost, misses, broken)


def _first(names: Sequence[str]) -> str:
    """The first few names, in one line."""
    more = ", ..." if len(names) > MOST_SHOWN else ""
    return ", ".join(names[:MOST_SHOWN]) + more


def _listed(names: Sequence[str]) -> list[str]:
    """The first few names, one in each line, and the number of further names."""
    lines = [f"  {name}" for name in names[:MOST_SHOWN]]
    if len(names) > MOST_SHOWN:
        lines.append(f"  ... and {len(names) - MOST_SHOWN:,} more, see {TABLE}")
    return lines


def _unwritable(folder: Path, error: OSError) -> WorkbenchError:
    return WorkbenchError(
        f"{folder}: cannot be written ({error.strerror or error}); what is finished is kept"
    )
