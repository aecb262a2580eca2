"""Training sets whose names come out of a run: relative paths are meant from the folder in which the run began."""

from __future__ import annotations

import glob
import os
import re

from workbench.data.dataset import Dataset
from workbench.data.io.commands import stored_names
from workbench.data.registry import Part, open, parts
from workbench.errors import WorkbenchError


def open_stored(spec: str, folder: str | None, stored_in: str, remedy: str) -> Dataset:
    """Open the training set that a file of a run names, also where the program now runs in another folder.

    A relative path is looked for in the folder in which the run began, then in the current one.

    Args:
        spec: as `open` takes it.
        folder: where the run began (`Run.data_folder`); None where it is not known.
        stored_in: the file that holds the name, for the message.
        remedy: how the reader can give another path, to end the message with.

    Raises:
        WorkbenchError: as `open`; the message says that the path was stored, what it is relative to, and ends with `remedy`.
    """
    with stored_names():
        try:
            return open(spec if folder is None else anchor(spec, folder))
        except WorkbenchError as error:
            relative = any(part.path and _is_relative(part) for part in parts(spec))
            began = f" of a run that began in {folder}" if relative and folder is not None else ""
            raise WorkbenchError(
                f"{error}; {spec!r} is stored in {stored_in}{began}; {remedy}"
            ) from None


def anchor(spec: str, folder: str) -> str:
    """The spec with its relative paths made absolute, those that lead to something in `folder`."""
    return "+".join(_anchored(part, folder) for part in parts(spec))


def _anchored(part: Part, folder: str) -> str:
    path = os.path.join(folder, part.path)
    path = path if part.path and _is_relative(part) and _leads_somewhere(path) else part.path
    return f"{part.kind}{':' * bool(path)}{path}{'@' * bool(part.options)}{part.options}"


def _is_relative(part: Part) -> bool:
    """Whether its path may be one from the current folder; `pipe:` and `https:` are no paths."""
    return not (
        os.path.isabs(part.path) or part.path.startswith("~") or re.match(r"[a-z0-9]+:", part.path)
    )


def _leads_somewhere(path: str) -> bool:
    """Whether there is a file or folder of that name, or files of that pattern or prefix."""
    if os.path.exists(path):
        return True
    without_options = re.sub(r"(,[a-z_]+=[^,]*)+$", "", path)
    pattern = re.sub(r"\{[^{}]*\}", "*", without_options)
    return bool(glob.glob(pattern if re.search(r"[*?[]", pattern) else f"{glob.escape(pattern)}*"))
