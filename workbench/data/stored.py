"""Training sets whose specs are stored in a run.

Relative paths in them are relative to the folder in which the run began.
"""

from __future__ import annotations

import glob
import os
import re

from workbench.data.dataset import Dataset
from workbench.data.io.commands import stored_names
from workbench.data.registry import Part, open, parts
from workbench.errors import WorkbenchError


def open_stored(spec: str, folder: str | None, stored_in: str, remedy: str) -> Dataset:
    """Opens the training set of a run, also if the program now runs in another folder.

    A relative path is looked up in the folder in which the run began, and then in the current one.

    Args:
        spec: as `open` takes it.
        folder: where the run began (`Run.data_folder`); None if it is unknown.
        stored_in: the file that contains the spec, for error messages.
        remedy: how a user can give another path, for error messages.

    Returns:
        The data set.

    Raises:
        WorkbenchError: as `open`. The message also says where the spec is stored and what a
            relative path is relative to, and ends with `remedy`.

    Example:
        >>> from workbench.data import open_stored
        >>> open_stored("folder:faces", "/work", "config.yaml", "use --data")  # doctest: +SKIP
        <Dataset faces: 400 images of 20 identities>
    """
    with stored_names():
        try:
            return open(spec if folder is None else anchor(spec, folder))
        except WorkbenchError as error:
            is_relative = any(part.path and _is_relative(part) for part in parts(spec))
            began = ""
            if is_relative and folder is not None:
                began = f" of a run that began in {folder}"
            raise WorkbenchError(
                f"{error}; {spec!r} is stored in {stored_in}{began}; {remedy}"
            ) from None


def anchor(spec: str, folder: str) -> str:
    """Returns the spec with those relative paths made absolute that exist in `folder`.

    Args:
        spec: as `open` takes it.
        folder: an absolute path.
    """
    return "+".join(_anchored(part, folder) for part in parts(spec))


def _anchored(part: Part, folder: str) -> str:
    path = part.path
    if path and _is_relative(part):
        in_folder = os.path.join(folder, path)
        path = in_folder if _leads_somewhere(in_folder) else path
    spec = f"{part.kind}:{path}" if path else part.kind
    return f"{spec}@{part.options}" if part.options else spec


def _is_relative(part: Part) -> bool:
    """Returns whether a path may be relative; `pipe:` and `https:` do not begin a path."""
    path = part.path
    return not (os.path.isabs(path) or path.startswith("~") or re.match(r"[a-z0-9]+:", path))


def _leads_somewhere(path: str) -> bool:
    """Returns whether a file or folder has that name, or files match that pattern or prefix."""
    if os.path.exists(path):
        return True
    without_options = re.sub(r"(,[a-z_]+=[^,]*)+$", "", path)
    pattern = re.sub(r"\{[^{}]*\}", "*", without_options)
    return bool(glob.glob(pattern if re.search(r"[*?[]", pattern) else f"{glob.escape(pattern)}*"))
