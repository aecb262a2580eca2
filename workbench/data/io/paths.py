"""Paths that come out of files and specs: kept inside their folder, split from the options behind them."""

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
    """`name` relative to `root`, with "/" between folders; None where it leads out of `root`. Links are resolved only for that.

    An absolute path, `..` and a link are all right as long as they stay inside. The file need not be there.
    """
    try:
        os.fsencode(name)
    except (
        UnicodeEncodeError
    ):  # half a pair of surrogates, which JSON can spell and no file is called
        return None
    if "\0" in name:
        return None
    whole = os.path.normpath(os.path.join(root, name))  # an absolute name replaces the root
    folder, file = os.path.split(whole)
    base = _real_folder(os.path.abspath(root))
    real = os.path.join(
        _real_folder(folder), file
    )  # most files share a folder, which is resolved once
    if os.path.islink(real):
        real = os.path.realpath(real)
    if not real.startswith(os.path.join(base, "")):
        return None
    relative = os.path.relpath(whole, root)
    return (os.path.relpath(real, base) if relative.startswith("..") else relative).replace(
        os.sep, "/"
    )


def with_options(path: str, kind: str, known: Sequence[str]) -> tuple[str, dict[str, str]]:
    """`PATH,NAME=VALUE,...` -> the path, and the options behind it.

    Raises:
        WorkbenchError: an option is unknown or given twice.
    """
    options: dict[str, str] = {}
    while (
        found := re.fullmatch(r"(.*),([a-z_]+)=([^,]*)", path, re.DOTALL)
    ) and not os.path.exists(os.path.expanduser(path)):
        path, name, value = found.groups()
        if name not in known:
            raise unknown_name(f"option of {kind}", name[:40], known)
        if name in options:
            raise WorkbenchError(f"{kind}: {name} is given twice")
        options[name] = value
    return path, options
