"""Copies run directories into a folder, and brings copies of an earlier version up to date."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from workbench.errors import WorkbenchError
from workbench.files import check_writable, writing
from workbench.runs import CALIBRATION, EVALUATION, MODEL, read_json, write_json

MARK = "reference.json"
"""File in a copy that names its original and has the digest of each file that was copied."""
LOCK = ".reference.lock"
MEASURED = (f"{EVALUATION}/", f"{CALIBRATION}/")
"""Folders of files that belong to the weights."""
EARLIER, ANOTHER = "earlier", "reference"
"""Endings of the names of a copy that is kept aside, and of one whose name is in use."""

Digests = dict[str, str]
"""{path of a file, relative to the run directory: SHA-256 of its content}."""


@dataclass(frozen=True)
class _Copy:
    """A copy of a run.

    Attributes:
        path: Its directory.
        files: Digests of the files as they were when they were copied.
    """

    path: Path
    files: Digests


def copy_into(folder: Path, originals: Sequence[Path]) -> list[Path]:
    """Copies run directories, or brings earlier copies of them up to date.

    Args:
        folder: The folder of the copies. It is created if it is missing.
        originals: The run directories.

    Returns:
        The directories of the copies, in the order of `originals`.

    Raises:
        WorkbenchError: if the folder cannot be written to, but something must be copied.
    """
    shipped = {path.name: _digests(path) for path in originals}
    copies = _copies_in(folder)
    if any(not _is_current(copies.get(name), files) for name, files in shipped.items()):
        needed = sum(path.stat().st_size for original in originals for path in _files(original))
        check_writable(folder, needed)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / LOCK):
                copies = _copies_in(folder)  # another process may have copied in the meantime
                # Lists of runs begin with the newest, so the first one is copied last.
                for original in reversed(originals):
                    if not _is_current(copies.get(original.name), shipped[original.name]):
                        _bring(folder, original, copies.get(original.name), shipped[original.name])
        copies = _copies_in(folder)
    return [copies[path.name].path for path in originals]


def _files(directory: Path) -> list[Path]:
    """Returns all files in a directory and its subdirectories, without the mark of a copy."""
    return sorted(
        path
        for path in directory.rglob("*")
        if path.is_file() and path.relative_to(directory).as_posix() != MARK
    )


def _digests(directory: Path) -> Digests:
    return {path.relative_to(directory).as_posix(): _digest(path) for path in _files(directory)}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _copies_in(folder: Path) -> dict[str, _Copy]:
    """Returns the copies in a folder by the names of their originals."""
    copies = {}
    for mark in sorted(folder.glob(f"*/{MARK}")):
        try:
            content: dict[str, Any] = read_json(mark)
            name, files = str(content["name"]), dict(content["files"])
        except (WorkbenchError, KeyError, TypeError, ValueError):
            continue  # a damaged mark: its directory counts as a run of the user's own
        copies[name] = _Copy(mark.parent, files)
    return copies


def _is_current(copy: _Copy | None, shipped: Digests) -> bool:
    return (
        copy is not None
        and copy.files == shipped
        and all((copy.path / file).is_file() for file in shipped)
    )


def _bring(folder: Path, original: Path, copy: _Copy | None, shipped: Digests) -> None:
    """Makes a copy, or replaces an earlier one by a copy with the additions of the user."""
    new = Path(tempfile.mkdtemp(prefix=f".{original.name}.", dir=folder))
    try:
        shutil.copytree(original, new, dirs_exist_ok=True, copy_function=shutil.copyfile)
        new.chmod(0o755)
        write_json(new / MARK, {"name": original.name, "files": shipped})
        if copy is None:
            new.rename(_unused(folder, original.name, ANOTHER))
            return
        additions = _additions(copy)
        other_weights = copy.files.get(MODEL) != shipped.get(MODEL)
        if other_weights and any(file.startswith(MEASURED) for file in additions):
            (copy.path / MARK).unlink()
            copy.path.rename(_unused(folder, f"{copy.path.name}-{EARLIER}", "2"))
        else:
            for file in additions:
                if file not in shipped or not other_weights:
                    (new / file).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(copy.path / file, new / file)
            old = Path(tempfile.mkdtemp(prefix=f".{original.name}.", dir=folder)) / "old"
            copy.path.rename(old)
            shutil.rmtree(old.parent, ignore_errors=True)
        new.rename(copy.path)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _additions(copy: _Copy) -> list[str]:
    """Returns the files of a copy that the user added or changed."""
    return [file for file, digest in _digests(copy.path).items() if copy.files.get(file) != digest]


def _unused(folder: Path, name: str, ending: str) -> Path:
    """Returns a path of this name that does not exist, with an ending or a number if needed."""
    candidates = [name, f"{name}-{ending}", *(f"{name}-{ending}-{n}" for n in range(2, 1000))]
    return next(folder / one for one in candidates if not (folder / one).exists())
