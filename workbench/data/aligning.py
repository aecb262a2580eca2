"""Find and align the faces of a whole set, into a folder per identity.

OUT/
  IDENTITY/.../NAME.jpg   the aligned faces; `folder:OUT` opens them
  alignment.csv           a row an image of the source, once all are done: what was found
  alignment.jsonl         the same as the work goes on, behind a line with the settings: what a second call goes on from
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from PIL import Image
from tqdm.auto import tqdm

from workbench import faces, images, runs
from workbench.data import processes
from workbench.data.dataset import Dataset, Images, image_name
from workbench.data.registry import open as open_dataset
from workbench.errors import WorkbenchError
from workbench.faces.alignment import height_width
from workbench.files import atomic_path

LOG, TABLE, UNFINISHED = "alignment.jsonl", "alignment.csv", ".unfinished"
OUTCOMES = ("aligned", "cropped", "missed", "broken")
FORMATS: dict[str, dict[str, Any]] = {"jpg": {"format": "JPEG", "quality": 95, "subsampling": 0}, "png": {"format": "PNG"}}
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

Row = dict[str, Any]


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
    """

    path: Path
    images: int
    outcomes: dict[str, int]
    profiles: int
    several: int
    lost: list[str] = field(default_factory=list)
    misses: list[str] = field(default_factory=list)
    broken: list[tuple[str, str]] = field(default_factory=list)

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
            lines += [f"broken, left out: {len(self.broken):,}:", *_listed([reason for _, reason in self.broken])]
        if self.lost:
            lines.append(f"identities of whom nothing is left: {len(self.lost):,}: {_first(self.lost)}")
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

    Can be stopped and called again: what is there is not done again, but for images that were broken.

    Args:
        source: any source of `wb.data.open`, or a data set.
        out: folder; made if missing, else it is empty or of an earlier call with the same settings.
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
    dataset = open_dataset(source) if isinstance(source, str) else source
    settings = {
        "source": dataset.name,
        "fingerprint": _fingerprint(dataset),
        "size": [height, width],
        "which": which,
        "detector": detector,
        "miss": miss,
        "format": format,
    }
    job = Aligner(dataset.images, folder.absolute(), (height, width), which, detector, miss, broken, format)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=0):
            return replace(_do(job, dataset, settings, workers, progress), path=folder)
    except Timeout:
        raise WorkbenchError(f"{folder}: another process is aligning into it") from None
    except OSError as error:
        raise _unwritable(folder, error) from None


def _fingerprint(dataset: Dataset) -> str:
    """Changes when the identities or the files' names do."""
    files = "\0".join(map(str, dataset.attributes.get("file", ())))
    return hashlib.sha256(f"{dataset.fingerprint()}\0{files}".encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _do(job: Aligner, dataset: Dataset, settings: Row, workers: int | None, progress: bool) -> Alignment:
    """Do what is missing, then write the table. In memory is only where in the log each image's line begins."""
    folder = job.out
    names = file_names(dataset, job.format)
    begins = _begun(folder, settings, names)
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    (folder / UNFINISHED).mkdir()
    todo = [(number, names[number]) for number in np.flatnonzero(begins < 0).tolist()]
    pieces = [todo[begin : begin + CHUNK] for begin in range(0, len(todo), CHUNK)]
    there = len(names) - len(todo)
    try:
        with (
            (folder / LOG).open("ab") as log,
            tqdm(total=len(names), initial=there, desc="aligning", unit="image", disable=not progress, dynamic_ncols=True) as bar,
        ):

            def done(answers: list[Row]) -> None:
                for row in answers:
                    begins[row["number"]] = log.tell()
                    log.write(json.dumps(row).encode() + b"\n")
                log.flush()
                bar.update(len(answers))

            processes.work(job, pieces, done, workers=workers)
    finally:
        shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    return _report(folder, dataset, names, begins)


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
            image = self.images[number]
        except WorkbenchError as error:
            if self.broken == "stop":
                raise
            return {"outcome": "broken", "reason": str(error)}
        count, meant = find_one(image, self.which, self.detector)
        if meant is not None:
            face = faces.align_face(image, meant, self.size)
            hints = {"eyes": face.quality.eyes, "sharpness": face.quality.sharpness, "yaw": face.quality.yaw}
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
            return row | {"bytes": self._write(name, face.image)}
        if self.miss == "crop":
            return {"outcome": "cropped", "found": count, "bytes": self._write(name, images.fit(image, self.size))}
        return {"outcome": "missed", "found": count}

    def _write(self, name: str, pixels: NDArray[np.uint8]) -> int:
        """Write a face under a temporary name and rename it; its size in bytes."""
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, **FORMATS[self.format])
        file = self.out / name
        temporary = self.out / UNFINISHED / f"{os.getpid()}"
        temporary.write_bytes(buffer.getvalue())
        file.parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, file)
        return len(buffer.getvalue())


def find_one(image: NDArray[np.uint8], which: str, detector: str) -> tuple[int, faces.Face | None]:
    """How many faces an image shows, and the one that is meant: None where none is found that can be aligned."""
    found = faces.detect(image, detector=detector, threads=1)
    chosen = faces.choose([face for face in found if faces.can_be_aligned(face)], image.shape, which)
    return len(found), chosen[0] if chosen else None


def file_names(dataset: Dataset, format: str) -> list[str]:
    """Where each image goes: IDENTITY/..., as it was where the source has files in such folders, else IDENTITY/NUMBER.

    The names are safe on any system and stay inside the folder, whatever the source calls its identities and files; no two
    images get the same one, and no two identities the same folder.
    """
    folders: set[str] = set()
    folder_of = [_free(_safe(str(name)), "", folders) for name in dataset.identity_names]
    source_names = dataset.attributes.get("file") or [""] * len(dataset)
    taken: set[str] = set()
    found = []
    seen = [0] * dataset.num_identities
    for identity, source_name in zip(dataset.identities.tolist(), source_names, strict=True):
        seen[identity] += 1
        parts = PurePosixPath(str(source_name).replace("\\", "/")).parts
        if len(parts) > 1 and parts[0] == dataset.identity_names[identity]:
            parts = parts[1:]
        inner = [_safe(part) for part in parts[:-1]] if parts else []
        stem = _safe(PurePosixPath(parts[-1]).stem) if parts else f"{seen[identity]:06d}"
        found.append(_free("/".join([folder_of[identity], *inner, stem]), f".{format}", taken))
    return found


def _free(stem: str, suffix: str, taken: set[str]) -> str:
    """The name, with -2, -3, ... where it is taken, be it with other capitals."""
    name, number = stem + suffix, 2
    while name.casefold() in taken:
        name, number = f"{stem}-{number}{suffix}", number + 1
    taken.add(name.casefold())
    return name


def _safe(name: str) -> str:
    """A part of a path: nothing that leads elsewhere, hides the file, or that some file system does not allow."""
    plain = re.sub(r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udfff]', "_", name).encode()[:LONGEST_NAME].decode(errors="ignore")
    plain = plain.rstrip(". ")
    return f"_{plain.lstrip('.')}" if plain.startswith(".") or not plain else plain


def _begun(folder: Path, settings: Row, names: Sequence[str]) -> NDArray[np.int64]:
    """(N,) where in the log the line of each image begins that an earlier call did and that is still there; -1 for the others.

    Begins the log where there was no such call, or one that finished nothing.
    """
    path, begins = folder / LOG, np.full(len(names), -1, dtype=np.int64)
    others = sorted(entry.name for entry in folder.iterdir() if entry.name not in (".lock", UNFINISHED, LOG))
    if not path.is_file() or (not others and _has_settings_alone(path)):
        if others:
            raise WorkbenchError(f"{folder}: is not empty (it has {others[0]}) and was not made by aligning; name another folder")
        runs.write_text(path, json.dumps(settings) + "\n")
        return begins
    with path.open("rb") as log:
        first = _row(log.readline())
        if first != settings:
            raise WorkbenchError(f"{folder}: {_difference(first, settings)}; name another folder")
        begin, line = log.tell(), b"\n"
        for line in log:
            row = _row(line)
            number = row.get("number")
            if isinstance(number, int) and 0 <= number < len(names):  # of two lines the later one counts
                begins[number] = begin if _still_there(folder / names[number], row) else -1
            begin += len(line)
    if not line.endswith(b"\n"):  # cut off by a kill
        with path.open("ab") as log:
            log.write(b"\n")
    return begins


def _has_settings_alone(path: Path) -> bool:
    with path.open("rb") as log:
        return bool(_row(log.readline())) and not log.read(1)


def _row(line: bytes) -> Row:
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}


def _still_there(file: Path, row: Row) -> bool:
    if row.get("outcome") in ("aligned", "cropped"):
        try:
            return file.stat().st_size == row.get("bytes")
        except OSError:
            return False
    return row.get("outcome") == "missed"


def _difference(before: Row, now: Row) -> str:
    if not before:
        return f"{LOG} is damaged"
    if before.get("source") != now["source"] or before.get("fingerprint") != now["fingerprint"]:
        same = before.get("source") == now["source"]
        return f"was begun with {'other images of ' if same else ''}{before.get('source')}, not with {now['source']} as it is now"
    key = next((key for key in now if before.get(key) != now[key]), "settings")
    return f"was begun with {key} {_plain(before.get(key))}, not {_plain(now.get(key))}"


def _plain(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)


def _report(folder: Path, dataset: Dataset, names: Sequence[str], begins: NDArray[np.int64]) -> Alignment:
    """Write the table, and sum it up."""
    called = dataset.attributes.get("file")
    outcomes, profiles, several = dict.fromkeys(OUTCOMES, 0), 0, 0
    left = np.zeros(dataset.num_identities, dtype=bool)
    misses, broken = [], []
    with (
        (folder / LOG).open("rb") as log,
        atomic_path(folder / TABLE) as temporary,
        temporary.open("w", encoding="utf-8", errors="replace", newline="") as file,
    ):
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for number, begin in enumerate(begins.tolist()):
            log.seek(begin)
            row = _row(log.readline())
            identity = int(dataset.identities[number])
            places = [*row.get("box", [""] * 4), *row.get("landmarks", [""] * 10)]
            rest = [row.get(key, "") for key in COLUMNS[-7:]]
            photo = str(called[number]) if called is not None else image_name(dataset.images, number)
            outcome = row["outcome"]
            written = names[number] if outcome in ("aligned", "cropped") else ""
            table.writerow([photo, written, dataset.identity_names[identity], outcome, row.get("found", ""), *places, *rest])
            outcomes[outcome] += 1
            profiles += bool(row.get("profile"))
            several += row.get("found", 0) > 1
            left[identity] |= bool(written)
            if outcome in ("cropped", "missed"):
                misses.append(photo)
            elif outcome == "broken":
                broken.append((photo, str(row["reason"])))
    lost = [dataset.identity_names[identity] for identity in np.flatnonzero(~left).tolist()]
    return Alignment(folder, len(dataset), outcomes, profiles, several, lost, misses, broken)


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_SHOWN]) + (", ..." if len(names) > MOST_SHOWN else "")


def _listed(names: Sequence[str]) -> list[str]:
    """The first of them, a line each, and how many more there are."""
    more = len(names) - MOST_SHOWN
    return [f"  {name}" for name in names[:MOST_SHOWN]] + ([f"  ... and {more:,} more, see {TABLE}"] if more > 0 else [])


def _unwritable(folder: Path, error: OSError) -> WorkbenchError:
    return WorkbenchError(f"{folder}: cannot be written ({error.strerror or error}); what is finished is kept")
