"""Renders a set of synthetic people in worker processes, one person at a time.

The images of each person are kept in a file of their own until all people are rendered. They are a
pure function of the settings, so neither the number of processes nor an interruption changes a byte
of the result.
"""

from __future__ import annotations

import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from tqdm.auto import tqdm

from workbench.data.jobs.processes import cores, work
from workbench.data.rendered.store import PARTS, RenderSettings
from workbench.data.sources.pack import ABOUT, PICTURES
from workbench.data.writers.pack import Pictures, finish
from workbench.errors import WorkbenchError
from workbench.files import atomic_path

Report = Callable[[int, int], object]
"""Function that is called with the number of rendered images and of all images."""


class Part(NamedTuple):
    """The images of one person."""

    jpegs: NDArray[np.uint8]  # the bytes of all JPEG files, one file after the other
    sizes: NDArray[np.int64]
    columns: dict[str, NDArray[Any]]


def ensure(
    settings: RenderSettings,
    *,
    workers: int | None = None,
    again: bool = False,
    progress: bool = True,
    report: Report | None = None,
) -> Path:
    """Render a set if it is not in the cache yet.

    People whom an earlier call has finished are not rendered again.

    Args:
        settings: The settings of the set.
        workers: Number of worker processes, which use one thread each. 0 renders in this process.
            The default is the number of CPU cores.
        again: Delete what is in the cache and render everything again.
        progress: Print what is rendered and where, and show a progress bar.
        report: Called with the number of rendered images and of all images, at the beginning and
            after each person. It is not called for a set that is in the cache.

    Returns:
        The folder of the set.

    Raises:
        WorkbenchError: If the disk has not enough space, the folder cannot be written, or the
            renderer fails.
        KeyboardInterrupt: If the user presses Ctrl-C. People who are finished are kept.
    """
    if workers is not None and workers < 0:
        raise WorkbenchError(f"workers must be 0 or more, got {workers}")
    folder = settings.folder
    if (folder / ABOUT).is_file() and not again:
        return folder
    try:
        (folder / PARTS).mkdir(parents=True, exist_ok=True)
        with _locked(folder, progress):
            if again:
                (folder / ABOUT).unlink(missing_ok=True)
                shutil.rmtree(folder)
            if not (folder / ABOUT).is_file():  # another process may have finished it meanwhile
                count = cores() if workers is None else workers
                _render(settings, folder, count, progress, report)
            shutil.rmtree(folder / PARTS, ignore_errors=True)
    except OSError as error:
        raise unwritable(folder, error) from None
    return folder


def unwritable(folder: Path, error: OSError) -> WorkbenchError:
    """The error for a folder that cannot be written."""
    return WorkbenchError(
        f"{folder}: cannot be written ({error.strerror or error}); what is finished is kept. "
        "Make room there, or set WORKBENCH_CACHE to another folder"
    )


@contextmanager
def _locked(folder: Path, progress: bool) -> Iterator[None]:
    """Hold the lock of the set. The operating system releases it if the process dies."""
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if progress:
            tqdm.write(f"waiting for the process that is rendering {folder}", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _render(
    settings: RenderSettings, folder: Path, workers: int, progress: bool, report: Report | None
) -> None:
    parts = folder / PARTS
    parts.mkdir(parents=True, exist_ok=True)
    missing = [person for person in settings.numbers if read_part(parts, settings, person) is None]
    total = settings.people * settings.images
    remaining = len(missing) * settings.images
    # An estimate in bytes. Measured at 112 pixels: 2,600 (album wild) to 3,900 (other albums).
    per_image = 10 * settings.size**1.25
    if progress:
        existing = f" ({total - remaining:,} exist already)" if total > remaining else ""
        set_size = f"{total:,} images of {settings.people:,} people"
        tqdm.write(
            f"rendering {set_size}, about {_bytes(total * per_image)}, into {folder}{existing}",
            file=sys.stderr,
        )
    # The parts and the pack exist together until the pack is finished.
    needed, free = (total + remaining) * per_image, shutil.disk_usage(folder).free
    if free < needed:
        raise WorkbenchError(
            f"{folder}: {_bytes(free)} are free, but rendering {total:,} images needs about "
            f"{_bytes(needed)}; make room, or set WORKBENCH_CACHE to another folder"
        )
    with tqdm(
        total=total,
        initial=total - remaining,
        desc="rendering",
        unit="image",
        disable=not progress,
        dynamic_ncols=True,
    ) as bar:
        done = total - remaining

        def rendered(_: object = None, images: int = settings.images) -> None:
            nonlocal done
            done += images
            bar.update(images)
            if report is not None:
                report(done, total)

        rendered(images=0)
        work(
            Renderer(settings, parts),
            missing,
            rendered,
            workers=workers,
            called=lambda person: f"person {person}",
        )
    _join(settings, folder)


def _bytes(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{max(count / 1e6, 1):.0f} MB"


def write_part(parts: Path, settings: RenderSettings, person: int) -> None:
    """Render one person and write the images into a file of the folder `parts`."""
    portraits = import_module(settings.renderer).portraits(
        person, images=settings.images, album=settings.album, seed=settings.seed, size=settings.size
    )
    if len(portraits) != settings.images:
        raise WorkbenchError(
            f"{settings.renderer}: returned {len(portraits)} images of person {person}, "
            f"expected {settings.images}"
        )
    arrays: dict[str, NDArray[Any]] = {
        "jpegs": np.frombuffer(b"".join(portrait.jpeg for portrait in portraits), dtype=np.uint8),
        "sizes": np.array([len(portrait.jpeg) for portrait in portraits], dtype=np.int64),
        "landmarks": np.array([portrait.landmarks for portrait in portraits], dtype=np.float32),
        **{
            key: np.array([portrait.attributes[key] for portrait in portraits])
            for key in portraits[0].attributes
        },
    }
    with atomic_path(_part_path(parts, person)) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_part(parts: Path, settings: RenderSettings, person: int) -> Part | None:
    """Read the images of one person.

    Returns:
        The images, or None if the file is missing, truncated or damaged. The file has a CRC-32 of
        each array.
    """
    path = _part_path(parts, person)
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            columns = {key: archive[key] for key in archive.files}
        part = Part(columns.pop("jpegs"), columns.pop("sizes"), columns)
    except Exception:  # A damaged archive can raise almost any error.
        return None
    whole = part.sizes.shape == (settings.images,) and part.sizes.sum() == len(part.jpegs)
    return part if whole else None


def _part_path(parts: Path, person: int) -> Path:
    return parts / f"{person:07d}.npz"


@dataclass(frozen=True)
class Renderer:
    """The function that a worker process applies to the number of a person."""

    settings: RenderSettings
    parts: Path

    def __call__(self, person: int) -> None:
        try:
            write_part(self.parts, self.settings, person)
        except WorkbenchError:
            raise
        except OSError as error:
            raise unwritable(self.parts.parent, error) from None
        except Exception as error:
            traceback.print_exc()  # The user also gets one line; this helps to mend the renderer.
            reason = " ".join(repr(error).split())[:300]
            raise WorkbenchError(
                f"{self.settings.renderer} failed on person {person}: {reason}"
            ) from None


def _join(settings: RenderSettings, folder: Path) -> None:
    """Join the parts into one file, then write the index and about.json.

    Only the index is held in memory.
    """
    columns: list[dict[str, NDArray[Any]]] = []
    with atomic_path(folder / PICTURES) as temporary, Pictures(temporary) as pictures:
        for person in settings.numbers:
            part = read_part(folder / PARTS, settings, person)
            if part is None or (columns and part.columns.keys() != columns[0].keys()):
                raise WorkbenchError(
                    f"{_part_path(folder / PARTS, person)}: was changed during rendering; try again"
                )
            begin = 0
            for size in part.sizes.tolist():
                pictures.add(part.jpegs[begin : begin + size].tobytes())
                begin += size
            columns.append(part.columns)
    joined = {key: np.concatenate([part[key] for part in columns]) for key in columns[0]}
    finish(folder, pictures, joined, settings.about, compress=True)
