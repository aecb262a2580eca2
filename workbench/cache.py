"""The folder for data that are downloaded or computed once."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Returns the cache folder of the workbench, which may not exist yet.

    Returns:
        The folder in the environment variable `WORKBENCH_CACHE` if it is set, else
        `margin-workbench` in the user's cache folder (`XDG_CACHE_HOME`, by default `~/.cache`).
    """
    configured = os.environ.get("WORKBENCH_CACHE")
    if configured:
        return Path(configured).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "margin-workbench"
