"""Paths from files and specs: checks that they stay in a folder, and splits options from them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from workbench.errors import WorkbenchError, unknown_name


@lru_cache(maxsize=4096)
def _real_folder(path: str) -> str:
    return os.path.realpath(path)


def inside(root: Path, name: str) -> str | None:
    """Returns `name` relative to `root`, or None if it leads out of `root`.

    An absolute path, `..` and a symbolic link are allowed as long as they lead to a place below
    `root`. The file does not have to exist. Links are resolved only to check where they lead.

    Args:
        root: the folder.
        name: a path from a file, relative to `root` or absolute.

    Returns:
        The path relative to `root`, with "/" between folders.

    Example:
        >>> inside(Path("/data/faces"), "anna/../bert/1.jpg")
        'bert/1.jpg'
        >>> inside(Path("/data/faces"), "../secret.jpg") is None
        True
    """
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return None  # a lone surrogate, which JSON can spell but no file name can contain
    if "\0" in name:
        return None
    whole = os.path.normpath(os.path.join(root, name))  # an absolute name replaces the root
    folder, file = os.path.split(whole)
    real_root = _real_folder(os.path.abspath(root))
    # Most files share a folder, so the folder is resolved once and cached.
    real = os.path.join(_real_folder(folder), file)
    if os.path.islink(real):
        real = os.path.realpath(real)
    if not real.startswith(os.path.join(real_root, "")):
        return None
    relative = os.path.relpath(whole, root)
    if relative.startswith(".."):
        relative = os.path.relpath(real, real_root)
    return relative.replace(os.sep, "/")


def with_options(path: str, kind: str, names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Splits `PATH,NAME=VALUE,...` into the path and its options.

    A path that exists as it stands is not split.

    Args:
        path: what follows `KIND:` in a spec.
        kind: of the source or benchmark, for error messages.
        names: names of the options that exist.

    Returns:
        The path, and the options as a dict.

    Raises:
        WorkbenchError: if an option is unknown or given twice.

    Example:
        >>> with_options("faces,list=train.txt", "folder", ("list", "path"))
        ('faces', {'list': 'train.txt'})
    """
    options: dict[str, str] = {}
    while not os.path.exists(os.path.expanduser(path)):
        match = re.fullmatch(r"(.*),([a-z_]+)=([^,]*)", path, re.DOTALL)
        if match is None:
            break
        path, name, value = match.groups()
        if name not in names:
            raise unknown_name(f"option of {kind}", name[:40], names)
        if name in options:
            raise WorkbenchError(f"{kind}: {name} is given twice")
        options[name] = value
    return path, options
